"""What settings make of insights."""

from __future__ import annotations

from typing import Any

from spanwell.insight_parts import Overhead, detectors, over_time
from spanwell.insights.drift import Drift
from spanwell.insights.health import Health
from spanwell.insights.loading import load
from spanwell.settings import Settings


class Vitals:
    """Tracing that has dropped spans since the last look, always."""

    looks = 0

    def look(self) -> Health:
        self.looks += 1
        return Health(dropped=3)


def test_tracing_itself_is_judged_once_a_minute() -> None:
    vitals: Any = Vitals()
    overhead = Overhead(vitals, load(report=print).thresholds)
    found = [overhead.due(now) for now in (100.0, 101.0, 159.0, 160.0, 161.0)]
    assert [len(each) for each in found] == [1, 0, 0, 1, 0]
    assert found[0][0].type == "tracing_overhead"
    assert vitals.looks == 2


def test_what_is_switched_off_judges_nothing_over_time() -> None:
    vitals: Any = Vitals()
    problems: list[str] = []

    def made(**environ: str) -> list[type]:
        loaded = detectors(Settings.from_env(environ), problems.append)
        return [type(each) for each in over_time(loaded, vitals)]

    assert made() == [Drift, Overhead]
    assert made(SPANWELL_INSIGHTS_DISABLED="tracing_overhead") == [Drift]
    assert made(SPANWELL_INSIGHTS_DISABLED="latency_degradation,tracing_overhead") == []
    assert problems == []
