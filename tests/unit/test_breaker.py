"""The circuit breaker: rests double up to the longest one, one success ends them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanwell.export.breaker import Breaker


def test_a_new_breaker_lets_everything_through() -> None:
    assert Breaker().allows(0.0)
    assert Breaker().allows(-5.0)


def test_the_rests_are_1_2_4_up_to_64_seconds() -> None:
    breaker, now, rests = Breaker(), 100.0, []
    for _ in range(9):
        breaker.failed(now)
        rest = next(seconds for seconds in range(1, 1000) if breaker.allows(now + seconds))
        rests.append(rest)
        now += rest
    assert rests == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_after_a_rest_one_failed_attempt_starts_a_longer_one() -> None:
    breaker = Breaker()
    breaker.failed(0.0)
    assert not breaker.allows(0.99)
    assert breaker.allows(1.0)
    breaker.failed(1.0)
    assert not breaker.allows(2.99)
    assert breaker.allows(3.0)


def test_a_success_forgets_every_failure() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(0.0)
    breaker.succeeded()
    assert breaker.allows(0.0)
    breaker.failed(10.0)
    assert not breaker.allows(10.5)
    assert breaker.allows(11.0)


@given(
    first=st.floats(0.01, 10),
    times=st.floats(1, 100),
    outcomes=st.lists(st.booleans(), max_size=40),
    start=st.floats(0, 1e6),
)
def test_a_rest_is_the_first_doubled_by_each_failure_in_a_row_and_never_more_than_the_longest(
    first: float, times: float, outcomes: list[bool], start: float
) -> None:
    longest = first * times
    breaker, now, row = Breaker(first, longest), start, 0
    for arrived in outcomes:
        if arrived:
            breaker.succeeded()
            row = 0
            assert breaker.allows(now)
            continue
        breaker.failed(now)
        rest = min(longest, first * 2**row)
        row += 1
        assert not breaker.allows(now + rest * 0.99 - 1e-6) or rest < 1e-4
        assert breaker.allows(now + rest * 1.01 + 1e-6)
        now += rest
