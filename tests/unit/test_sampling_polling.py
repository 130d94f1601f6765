"""When `xray` polls: the schedule alone, with a clock and a chance that the tests choose."""

from __future__ import annotations

import random

import pytest

from spanwell.sampling.polling import RULES, TARGETS, Schedule

SEEDED = random.Random(3).random


def never() -> float:
    return 0.0


def nearly_one() -> float:
    return 1 - 2**-53


def test_the_first_polls_come_after_their_jitter() -> None:
    """A fleet that starts at once does not ask at once."""
    starts = [Schedule(300.0, SEEDED, 1000.0).wait(1000.0) for _ in range(500)]
    assert 0 <= min(starts) < 0.5
    assert 4.5 < max(starts) < 5.0
    early = Schedule(300.0, never, 0.0)
    assert early.due(0.0) == RULES
    early.succeeded(RULES, 0.0)
    assert (early.due(9.9), early.due(10.0)) == ("", TARGETS)


def test_rules_every_interval_and_targets_every_ten_seconds_or_as_told() -> None:
    late = Schedule(300.0, nearly_one, 0.0)
    late.succeeded(RULES, 10.0)
    late.succeeded(TARGETS, 10.0)
    assert late.wait(10.0) == pytest.approx(10.1)
    late.succeeded(TARGETS, 20.0, 25.0)
    assert late.wait(20.0) == pytest.approx(25.1)
    late.succeeded(TARGETS, 50.0)
    assert late.wait(50.0) == pytest.approx(25.1)
    late.succeeded(TARGETS, 1000.0, 300.0)
    assert (late.due(314.9), late.due(315.0)) == ("", RULES)


@pytest.mark.parametrize(("told", "used"), [(0, 1), (0.001, 1), (1, 1), (10, 10), (1e9, 300)])
def test_the_service_cannot_ask_for_a_flood_or_for_silence(told: float, used: float) -> None:
    schedule = Schedule(1000.0, never, 0.0)
    schedule.succeeded(RULES, 0.0)
    schedule.succeeded(TARGETS, 0.0, told)
    assert schedule.wait(0.0) == used


@pytest.mark.parametrize("what", [RULES, TARGETS])
def test_failures_come_back_later_and_later_but_never_later_than_a_refresh_would(what: str) -> None:
    longest, shortest = Schedule(300.0, nearly_one, 0.0), Schedule(300.0, never, 0.0)
    other = TARGETS if what == RULES else RULES
    waits = []
    for schedule in (longest, shortest):
        turns = []
        for _ in range(100):
            schedule.failed(what, 0.0)
            schedule._due[other] = 1e9
            turns.append(schedule.wait(0.0))
        waits.append(turns)
    assert waits[0][:7] == pytest.approx([10, 20, 40, 80, 160, 300, 300])
    assert waits[1][:7] == pytest.approx([5, 10, 20, 40, 80, 150, 150])
    assert waits[0][99] == pytest.approx(300)
    longest.succeeded(what, 0.0)
    longest.failed(what, 0.0)
    assert longest.wait(0.0) == pytest.approx(10)


def test_a_modification_is_fetched_at_once_but_not_while_fetching_fails() -> None:
    schedule = Schedule(300.0, never, 0.0)
    schedule.succeeded(RULES, 0.0)
    schedule.hurry(1.0)
    assert schedule.due(1.0) == RULES
    schedule.failed(RULES, 1.0)
    schedule.hurry(2.0)
    assert (schedule.due(2.0), schedule.due(6.0)) == ("", RULES)
    schedule.succeeded(RULES, 6.0)
    assert schedule.due(6.0) == ""
