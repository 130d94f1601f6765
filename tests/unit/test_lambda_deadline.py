"""The watcher of a function's time limit: it calls in time, once, and what ended in time it leaves alone."""

from __future__ import annotations

import os
import threading

import pytest

from spanwell.aws_lambda.deadline import LEAD, Deadline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_late_is_called_once() -> None:
    called = threading.Event()
    watcher, number = Deadline(), []
    number.append(watcher.watch(0.02, called.set))
    assert called.wait(30)
    called.clear()
    watcher.release(number[0])
    second = threading.Event()
    watcher.watch(0.0, second.set)
    assert second.wait(30)
    assert not called.is_set()


def test_what_ended_in_time_is_not_called() -> None:
    clock = Clock()
    watcher = Deadline(clock)
    called, other = threading.Event(), threading.Event()
    number = watcher.watch(60.0, called.set)
    watcher.release(number)
    clock.now = 100.0
    watcher.watch(0.0, other.set)  # wakes it: it is earlier than what it sleeps for
    assert other.wait(30)
    assert not called.is_set()


def test_the_time_is_well_before_the_limit() -> None:
    clock = Clock()
    watcher = Deadline(clock)
    called, never = threading.Event(), threading.Event()
    watcher.watch(3.0, called.set)
    clock.now = 3.0 - LEAD
    watcher.watch(-1.0, never.set)
    assert called.wait(30)


def test_an_error_of_ours_stays_in_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanwell._guard.strict", False)
    watcher, called = Deadline(), threading.Event()
    watcher.watch(0.0, lambda: 1 / 0)
    watcher.watch(0.0, called.set)
    assert called.wait(30)


def test_several_at_once_are_all_watched() -> None:
    watcher = Deadline()
    events = [threading.Event() for _ in range(20)]
    for number, event in enumerate(events):
        watcher.watch(0.001 * (number % 7), event.set)
    assert all(event.wait(30) for event in events)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_watches_its_own() -> None:
    watcher, called = Deadline(), threading.Event()
    watcher.watch(3600.0, called.set)
    pid = os.fork()
    if pid == 0:
        mine = threading.Event()
        watcher.watch(0.0, mine.set)
        os._exit(0 if mine.wait(30) and not called.is_set() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
