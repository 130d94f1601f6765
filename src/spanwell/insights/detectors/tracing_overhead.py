"""Tracing that costs too much or loses spans: judged from its own numbers (`insights.health`), not from traces.

| what | default |
| --- | --- |
| the queue of an exporter | at least 80 % full |
| spans dropped since the last look | any |
| 99th percentile of an export's time | over 5 s, the usual pause between two exports |
| one span's on_start and on_end, sampled | over 250 us |
"""

from __future__ import annotations

from spanwell.insights import wording
from spanwell.insights.model import WARNING, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.health import Health
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds

NAME = "tracing_overhead"
DEFAULTS = {
    "tracing_overhead.queue_ratio": 0.8,
    "tracing_overhead.dropped": 1,
    "tracing_overhead.export_ms": 5_000,
    "tracing_overhead.span_us": 250,
}


def may(hints: Hints) -> bool:
    """No trace shows it."""
    return False


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """No trace shows it: see `judge`."""
    return ()


def judge(health: Health, thresholds: Thresholds) -> list[Insight]:
    """What is wrong with the tracing of this process, worst first. Odd numbers count as nothing wrong."""
    found = []
    if health.dropped >= max(1, thresholds.get("tracing_overhead.dropped")):
        found.append(
            _insight(
                "dropped",
                f"{health.dropped} spans were dropped before they were exported: raise SPANWELL_EXPORT_BUFFER_MB "
                "(OTEL_BSP_MAX_QUEUE_SIZE if it is set), "
                "sample less, or see why the exporter is slow or refused.",
                {"dropped": health.dropped},
            )
        )
    ratio = health.queue / health.queue_limit if health.queue_limit > 0 else 0.0
    if ratio >= thresholds.get("tracing_overhead.queue_ratio"):
        found.append(
            _insight(
                "queue",
                f"The queue of spans that wait for export is {min(ratio, 1.0):.0%} full: spans will be dropped soon; "
                "raise SPANWELL_EXPORT_BUFFER_MB (OTEL_BSP_MAX_QUEUE_SIZE if it is set), sample less, or make the "
                "exporter's endpoint faster.",
                {"queue": health.queue, "queue_limit": health.queue_limit},
            )
        )
    export_ms = health.export_seconds_p99 * 1_000
    if export_ms > thresholds.get("tracing_overhead.export_ms"):
        found.append(
            _insight(
                "export",
                f"One export in a hundred takes {wording.duration(export_ms)} or longer: see whether the exporter's "
                "endpoint is reachable, near and not overloaded.",
                {"export_ms": export_ms},
            )
        )
    span_us = health.span_seconds * 1_000_000
    if span_us > thresholds.get("tracing_overhead.span_us"):
        found.append(
            _insight(
                "span",
                f"Every span costs the application {span_us:.0f} us: take out span processors of your own, switch "
                "off enrichment that is not needed, or trace fewer libraries.",
                {"span_us": span_us},
            )
        )
    return found


def _insight(what: str, sentence: str, values: dict[str, float]) -> Insight:
    return Insight(NAME, WARNING, sentence, (what,), (), values)
