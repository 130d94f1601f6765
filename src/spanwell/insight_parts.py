"""Settings to insights: the detectors, their thresholds, and where findings go. No algorithms here."""

from __future__ import annotations

from spanwell import _installed
from spanwell._guard import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from opentelemetry.trace import SpanContext

    from spanwell.configurator import Wiring
    from spanwell.insights.loading import Loaded
    from spanwell.insights.model import Insight, OverTime, Thresholds
    from spanwell.insights.stage import Insights
    from spanwell.insights.vitals import Vitals
    from spanwell.settings import Settings


def detectors(settings: Settings, report: Callable[[str], object]) -> Loaded:
    """The detectors that `settings` and installed plug-ins ask for; `report` gets a line for what cannot be used."""
    from spanwell.insights.loading import load

    return load(
        chosen=settings.insight_thresholds,
        disabled=settings.insights_disabled,
        plugins=plugins(),
        report=report,
    )


def plugins() -> list[Any]:
    """The entry points of users' detectors."""
    installed = _installed.scanned()
    if installed.complete:
        return list(installed.detectors)
    from spanwell._otel import registry

    return registry.entry_points_of("spanwell_insight_detector")


def insights(settings: Settings, wiring: Wiring) -> Insights:
    """What looks at local roots, with the outputs that this process has."""
    from spanwell.insights.events import Events, emit
    from spanwell.insights.stage import Insights

    resource = wiring.resource
    red = wiring.red
    tell: list[Any] = []
    if red is not None:
        tell.append(_counted(red.insight))
    if wiring.has_logs:
        tell.append(Events(emit))
    loaded = detectors(settings, lambda problem: warn_once(problem, "spanwell: insights: %s", problem))
    return Insights(
        loaded,
        resource=lambda: {} if resource is None else resource.attributes,
        tell=tell,
        over_time=lambda: over_time(loaded, wiring.vitals),
    )


def over_time(loaded: Loaded, vitals: Vitals | None) -> Iterator[OverTime]:
    """What judges operations, and tracing itself, over time."""
    if "latency_degradation" in loaded.over_time:
        from spanwell.insights.drift import Drift

        yield Drift(loaded.thresholds)
    if "tracing_overhead" in loaded.over_time and vitals is not None:
        yield Overhead(vitals, loaded.thresholds)


class Overhead:
    """Judges tracing itself once a minute: what is wrong counts once for each of them."""

    def __init__(self, vitals: Vitals, thresholds: Thresholds) -> None:
        self._vitals = vitals
        self._thresholds = thresholds
        self._next = 0.0

    def observe(self, operation: str, seconds: Sequence[float], now: float) -> None:
        """Nothing: no trace shows it."""

    def due(self, now: float) -> list[Insight]:
        """What is wrong, if a minute has passed."""
        if now < self._next:
            return []
        self._next = now + 60.0
        from spanwell.insights.detectors.tracing_overhead import judge

        return judge(self._vitals.look(), self._thresholds)


def _counted(count: Callable[[str, str], object]) -> Callable[[Insight, str, SpanContext | None], object]:
    return lambda insight, _fingerprint, _context: count(insight.type, insight.severity)
