"""The end of the process: one budget for all parts, each told first, none stopped by another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwell import _guard
from spanwell._guard import losses
from spanwell.exit import Exit, describe


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_guard, "strict", False)
    monkeypatch.setattr(_guard, "_warned", set())
    losses.reset()
    yield
    losses.reset()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taking(clock: Clock, seconds: float, given: list[float]) -> Callable[[float], None]:
    """A part's `finish` that notes its budget and takes `seconds` of it, as far as it goes."""

    def finish(left: float) -> None:
        given.append(left)
        clock.now += min(seconds, left)

    return finish


def nothing() -> None:
    pass


@given(timeout=st.floats(0, 60), takes=st.lists(st.floats(0, 60), max_size=8))
def test_the_parts_share_one_budget(timeout: float, takes: list[float]) -> None:
    clock, given = Clock(), []
    end = Exit(timeout, clock)
    for seconds in takes:
        end.add(nothing, taking(clock, seconds, given))
    end.run()
    assert clock.now - 1000.0 <= timeout + 1e-6
    assert len(given) == len(takes)
    assert all(0 <= left <= timeout + 1e-6 for left in given)
    assert given == sorted(given, reverse=True)


def test_every_part_begins_before_any_finishes() -> None:
    said: list[str] = []
    end = Exit(1.0)
    for name in "ab":
        end.add(lambda name=name: said.append(f"begin {name}"), lambda _, name=name: said.append(f"finish {name}"))  # type: ignore[misc]
    end.run()
    assert said == ["begin a", "begin b", "finish a", "finish b"]


def test_a_part_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []

    def broken(*args: object) -> None:
        raise RuntimeError("broken")

    end = Exit(1.0)
    end.add(broken, broken, broken)
    end.add(lambda: said.append("begin"), lambda _: said.append("finish"), lambda _: said.append("record"))
    losses.add("spans", "exit", 1)
    end.run()
    assert said == ["begin", "finish", "record"]
    assert sum("shutdown failed" in record.getMessage() for record in caplog.records) == 1


def test_it_runs_once() -> None:
    said: list[str] = []
    end = Exit(1.0)
    end.add(nothing, lambda _: said.append("finish"))
    end.run()
    end.run()
    assert said == ["finish"]


def test_a_part_that_ends_the_process_again_is_not_run_twice() -> None:
    said: list[str] = []
    end = Exit(1.0)
    end.add(end.run, lambda _: said.append("finish"))
    end.run()
    assert said == ["finish"]


def test_the_record_comes_last_with_what_all_parts_lost() -> None:
    recorded: list[dict[tuple[str, str], int]] = []
    end = Exit(1.0)
    end.add(nothing, lambda _: None, lambda _: recorded.append(losses.snapshot()))
    end.add(nothing, lambda _: losses.add("spans", "exit (otlp)", 3))
    end.run()
    assert recorded == [{("spans", "exit (otlp)"): 3}]


def test_without_losses_nothing_is_recorded_or_said(caplog: pytest.LogCaptureFixture) -> None:
    recorded: list[float] = []
    end = Exit(1.0)
    end.add(nothing, lambda _: None, recorded.append)
    end.run()
    assert not recorded
    assert not caplog.records


def test_the_record_gets_what_is_left_of_the_budget() -> None:
    clock, given, recorded = Clock(), [], []
    end = Exit(1.0, clock)
    losses.add("spans", "queue full", 1)
    end.add(nothing, taking(clock, 0.75, given), recorded.append)
    end.run()
    assert given == [1.0]
    assert recorded == [0.25]


def test_what_was_lost_and_not_said_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    losses.add("spans", "queue full", 12)
    losses.add("metrics", "export failed (otlp)", 3)
    Exit(1.0).run()
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == ["spanwell: lost in this process: 3 metrics (export failed (otlp)), 12 spans (queue full)"]


def test_what_was_said_is_not_said_again(caplog: pytest.LogCaptureFixture) -> None:
    losses.add("spans", "export failed (otlp)", 12)
    losses.tell(12)
    Exit(1.0).run()
    assert not caplog.records


def test_describe() -> None:
    assert describe({("spans", "b"): 2, ("logs", "a"): 1}) == "1 logs (a), 2 spans (b)"
    assert describe({}) == ""
