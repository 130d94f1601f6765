"""tracing_overhead: what is wrong with the tracing of a process, by its numbers."""

from __future__ import annotations

import math

import pytest

from spanwell.insights.detectors.tracing_overhead import DEFAULTS, judge
from spanwell.insights.health import Health
from spanwell.insights.model import Thresholds

FINE = Health(100, 2_048, 0, 0.1, 20e-6)


@pytest.mark.parametrize(
    ("health", "subjects"),
    [
        (FINE, []),
        (Health(), []),
        (FINE._replace(queue=1_639), ["queue"]),
        (FINE._replace(dropped=1), ["dropped"]),
        (FINE._replace(export_seconds_p99=5.1), ["export"]),
        (FINE._replace(span_seconds=0.3e-3), ["span"]),
        (Health(2_048, 2_048, 7, 9.0, 1e-3), ["dropped", "queue", "export", "span"]),
        (Health(5, 0, -3, -1.0, -1.0), []),
        (Health(1, 10, 0, math.nan, math.nan), []),
    ],
)
def test_what_is_wrong(health: Health, subjects: list[str]) -> None:
    insights = judge(health, Thresholds(DEFAULTS))
    assert [insight.subject for insight in insights] == [(subject,) for subject in subjects]
    assert all(insight.severity == "warning" for insight in insights)


def test_thresholds_may_be_chosen() -> None:
    thresholds = Thresholds(DEFAULTS, {"tracing_overhead.queue_ratio": 0.01, "tracing_overhead.dropped": 5})
    assert [insight.subject for insight in judge(FINE._replace(dropped=4), thresholds)] == [("queue",)]
