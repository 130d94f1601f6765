"""What waits for an exporter: bounded by number and bytes, exact about what goes."""

from __future__ import annotations

import pytest

from spanwell.export.buffer import ESTIMATE, Buffer


def encoded(name: str, size: int) -> tuple[str, int]:
    return name, size


def test_bytes_are_those_of_the_encoded_and_an_estimate_of_the_others() -> None:
    buffer = Buffer()
    buffer.add("raw")
    buffer.add(encoded("a", 120))
    buffer.queue.append("appended without the lock")
    assert buffer.bytes == 2 * ESTIMATE + 120
    assert buffer.take(1, 10**9) == ["raw"]
    assert buffer.bytes == ESTIMATE + 120
    assert buffer.clear() == 2
    assert buffer.bytes == 0


@pytest.mark.parametrize(
    ("newest", "left", "dropped"),
    [(False, ["c", "d"], [0, 0, 1, 1]), (True, ["a", "b"], [0, 0, 1, 1])],
)
def test_at_the_bound_of_bytes_the_oldest_or_the_newest_go(newest: bool, left: list[str], dropped: list[int]) -> None:
    buffer = Buffer()
    buffer.max_bytes = 250
    assert [buffer.add(encoded(name, 100), newest) for name in "abcd"] == dropped
    assert [name for name, _ in buffer.queue] == left


@pytest.mark.parametrize("newest", [False, True])
def test_at_the_bound_of_the_number(newest: bool) -> None:
    buffer = Buffer()
    buffer.max_number = 2
    assert [buffer.add(item, newest) for item in (1, 2, 3)] == [0, 0, 1]
    assert list(buffer.queue) == ([1, 2] if newest else [2, 3])


def test_a_large_one_drops_as_many_as_it_needs_and_one_that_never_fits_drops_itself() -> None:
    buffer = Buffer()
    buffer.max_bytes = 1000
    for name in "abcd":
        buffer.add(encoded(name, 250))
    assert buffer.add(encoded("large", 600)) == 3
    assert buffer.add(encoded("larger", 1001)) == 1
    assert [name for name, _ in buffer.queue] == ["d", "large"]


def test_a_batch_ends_with_the_item_that_makes_it_large_enough() -> None:
    buffer = Buffer()
    for name in "abcde":
        buffer.add(encoded(name, 100))
    assert len(buffer.take(10, 250)) == 3
    assert len(buffer.take(1, 10_000)) == 1
    assert len(buffer.take(10, 0)) == 1
    assert buffer.take(10, 0) == []


def test_full_is_told_before_the_last_hundredth() -> None:
    buffer = Buffer()
    buffer.max_bytes = 10_000
    buffer.add(encoded("a", 9_900))
    assert not buffer.full
    buffer.add(encoded("b", 1))
    assert buffer.full


def test_a_finalizer_that_adds_while_its_owner_is_dropped_neither_hangs_nor_breaks_the_sums() -> None:
    buffer = Buffer()
    buffer.max_bytes = 100

    class Ends:
        def __del__(self) -> None:
            buffer.add(encoded("from the finalizer", 30))

    buffer.add((Ends(), 60))
    buffer.add(encoded("b", 60))
    assert buffer.bytes == sum(size for _, size in buffer.queue) == 90


def test_it_is_calm_while_nothing_encoded_waits() -> None:
    buffer = Buffer()
    buffer.bound(100, 10_000, 20)
    assert buffer.calm == 20
    buffer.add("raw")
    assert buffer.calm == 20
    buffer.add(encoded("a", 100))
    buffer.add(encoded("b", 100))
    buffer.take(2, 10_000)
    assert buffer.calm == 0
    buffer.bound(100, 10_000, 30)
    assert buffer.calm == 0
    buffer.take(1, 10_000)
    assert buffer.calm == 30
