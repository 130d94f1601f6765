"""The guard: an error of ours costs telemetry, is said once and counted; losses are exact and bounded."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

import pytest

from spanwell import _guard
from spanwell._guard import Losses, failed, guard, losses, warn_once


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_guard, "strict", False)
    monkeypatch.setattr(_guard, "_warned", set())
    losses.reset()
    yield
    losses.reset()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_error_stops_at_the_guard_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with guard("some work"):
            raise ValueError("broken")
    assert warnings(caplog) == ["spanwell: some work failed (ValueError: broken); the application goes on without it"]
    assert losses.snapshot() == {("errors", "some work"): 3}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_passes(kind: type[BaseException]) -> None:
    def work() -> None:
        with guard("some work"):
            raise kind

    with pytest.raises(kind):
        work()
    assert losses.snapshot() == {}


def test_a_strict_guard_lets_errors_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", True)

    def work() -> None:
        with guard("some work"):
            raise ValueError("broken")

    with pytest.raises(ValueError):
        work()


def test_without_an_error_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    with guard("some work"):
        pass
    assert not caplog.records
    assert losses.snapshot() == {}


def test_different_work_is_said_each(caplog: pytest.LogCaptureFixture) -> None:
    failed("one", ValueError("x"))
    failed("two", ValueError("x"))
    assert len(warnings(caplog)) == 2


def test_the_memory_of_warnings_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    said = sum(warn_once(f"key {number}", "spanwell: %d", number) for number in range(3000))
    assert said == len(warnings(caplog)) == 1024


def test_losses_add_up_over_threads() -> None:
    def work() -> None:
        for number in range(500):
            losses.add("spans", f"reason {number % 3}", 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert losses.total("spans") == losses.everything() == 4 * 500 * 2
    assert len(losses.snapshot()) == 3


def test_errors_of_ours_are_no_lost_telemetry() -> None:
    losses.add("errors", "some work", 1)
    losses.add("metrics", "queue full", 2)
    assert losses.everything() == 2
    assert losses.total("errors") == 1
    assert losses.total("spans") == 0


def test_the_number_of_reasons_is_bounded_and_no_loss_is_forgotten() -> None:
    counts = Losses()
    for number in range(5000):
        counts.add("spans", f"reason {number}", 1)
    assert counts.total("spans") == 5000
    assert len(counts.snapshot()) <= 1025
    assert counts.snapshot()["spans", "other"] == 5000 - 1024


def test_a_snapshot_is_a_copy() -> None:
    losses.snapshot()["spans", "x"] = 1
    assert losses.snapshot() == {}


def test_a_forked_child_starts_from_nothing() -> None:
    losses.add("spans", "of the parent", 7)
    losses.tell(7)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if losses.snapshot() == {} and losses.said == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert losses.total("spans") == 7
