"""latency_degradation: what Drift says, once each, and what it keeps."""

from __future__ import annotations

import math
import os
import random

from spanwell.insights.detectors.latency_degradation import DEFAULTS, NAME
from spanwell.insights.drift import LONGEST_WINDOW, MOST_OPERATIONS, WINDOW, Drift, _Window
from spanwell.insights.model import Insight, Thresholds


class Traffic:
    """Minutes of requests to one operation that all take the same."""

    def __init__(self, drift: Drift | None = None) -> None:
        self.drift = drift or Drift()
        self.now = 1_000.0

    def pass_by(self, minutes: int, seconds: float, *, requests: int = 20, name: str = "GET /") -> list[Insight]:
        found = []
        for _ in range(minutes):
            for each in range(requests):
                self.drift.observe(name, [seconds], self.now + each * WINDOW / requests)
            self.now += WINDOW
            found += self.drift.due(self.now)
        return found


def states(insights: list[Insight]) -> list[str]:
    return [insight.values["state"] for insight in insights]


def test_a_warning_then_an_error_then_resolved_as_one_problem() -> None:
    traffic = Traffic()
    assert traffic.pass_by(60, 0.3) == []
    worse = traffic.pass_by(60, 0.9)
    better = traffic.pass_by(120, 0.3)
    assert states(worse) == ["started", "escalated"]
    assert [insight.severity for insight in worse] == ["warning", "error"]
    assert states(better) == ["resolved"]
    assert better[0].severity == "info"
    assert len({insight.fingerprint("shop") for insight in worse + better}) == 1


def test_it_tells_from_what_to_what() -> None:
    traffic = Traffic()
    traffic.pass_by(60, 0.3)
    (started, _) = traffic.pass_by(60, 0.9)
    assert math.isclose(started.values["before_ms"], 300, rel_tol=0.15)
    assert started.values["now_ms"] >= started.values["before_ms"] + 200
    assert started.subject == ("GET /",)


def test_nothing_is_said_before_there_are_points_enough() -> None:
    traffic = Traffic()
    assert traffic.pass_by(12, 0.3) + traffic.pass_by(5, 3.0) == []
    assert states(traffic.pass_by(10, 3.0)) == ["started", "escalated"]


def test_a_change_below_either_bound_is_none() -> None:
    small, relative = Traffic(), Traffic()
    assert small.pass_by(60, 0.1) + small.pass_by(200, 0.28) == []  # 180 ms
    assert relative.pass_by(60, 3.0) + relative.pass_by(200, 3.3) == []  # 10 %


def test_days_of_slow_growth() -> None:
    traffic = Traffic()
    found = [insight for step in range(600) for insight in traffic.pass_by(1, 0.3 + step / 1_000)]
    assert states(found)[0] == "started"


def test_noise_is_no_change() -> None:
    luck, drift, now = random.Random(7), Drift(), 0.0
    found = []
    for _ in range(1_000):
        for _ in range(20):
            drift.observe("GET /", [luck.lognormvariate(0.5, 0.8)], now)
            now += WINDOW / 20
        found += drift.due(now)
    assert found == []


def test_quiet_hours_change_nothing() -> None:
    traffic = Traffic()
    traffic.pass_by(60, 0.3)
    for _ in range(30):
        traffic.now += 3_600
        assert traffic.drift.due(traffic.now) == []
    assert states(traffic.pass_by(60, 0.9)) == ["started", "escalated"]


def test_a_window_goes_on_until_it_has_requests_enough_but_not_for_ever() -> None:
    slow = Traffic()
    slow.pass_by(60, 0.3)
    assert states(slow.pass_by(600, 0.9, requests=5)) == ["started", "escalated"]
    rare = Traffic()
    rare.pass_by(60, 0.3)
    assert WINDOW * 20 > LONGEST_WINDOW
    assert rare.pass_by(600, 0.9, requests=1) == []


def test_nonsense_does_not_count() -> None:
    traffic = Traffic()
    traffic.pass_by(60, 0.3)
    for _ in range(60):
        traffic.drift.observe("GET /", [math.nan, math.inf, -1.0] * 30, traffic.now)
        assert traffic.pass_by(1, 0.3) == []


def test_a_clock_that_goes_backwards() -> None:
    traffic = Traffic()
    traffic.pass_by(60, 0.3)
    traffic.now -= 100_000
    assert traffic.pass_by(30, 0.3) == []


def test_many_requests_a_minute_are_thinned_evenly() -> None:
    traffic = Traffic()
    assert traffic.pass_by(60, 0.3, requests=40) == []
    window = _Window()
    for start in range(0, 100_000, 7):
        window.add([(start + each) % 1_000 / 1_000 for each in range(7)])
    assert window.count == 100_002
    assert 500 <= len(window._values) <= 1_000
    assert math.isclose(window.quantile(0.95), 0.95, abs_tol=0.01)
    window = _Window()
    window.add([0.1, 0.2, 0.3])
    assert (window.quantile(0.5), window.quantile(0.95), window.count) == (0.2, 0.3, 3)


def test_thresholds_of_one_operation() -> None:
    drift = Drift(Thresholds(DEFAULTS, {f"{NAME}.change_ms@GET /": 10_000}))
    own, other = Traffic(drift), Traffic(drift)
    found = own.pass_by(60, 0.3) + own.pass_by(60, 0.9)
    found += other.pass_by(60, 0.3, name="GET /other") + other.pass_by(60, 0.9, name="GET /other")
    assert {insight.subject for insight in found} == {("GET /other",)}


def test_there_are_at_most_a_hundred_operations_and_idle_ones_make_room() -> None:
    drift = Drift()
    for number in range(3 * MOST_OPERATIONS):
        drift.observe(f"GET /{number}", [0.1], 0.0)
    assert drift.ignored == 2 * MOST_OPERATIONS
    traffic = Traffic(drift)
    traffic.now = 10_000.0
    traffic.pass_by(60, 0.3)
    assert states(traffic.pass_by(60, 0.9)) == ["started", "escalated"]


def test_a_forked_child_begins_anew() -> None:
    traffic = Traffic()
    traffic.pass_by(60, 0.3)
    with traffic.drift._lock:
        child = os.fork()
        if child == 0:  # the lock that was held at the fork is not held here
            traffic.drift.observe("GET /", [0.3], traffic.now)
            os._exit(0 if traffic.drift.due(traffic.now) == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
