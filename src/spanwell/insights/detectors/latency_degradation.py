"""An operation that has become slower, at once or over days. Its state is `insights.drift`; no single trace shows it.

| threshold | default | |
| --- | --- | --- |
| ratio | 0.15 | so much slower than before, and |
| change_ms | 200 | by at least so much: a warning |
| escalate_ratio | 0.75 | so much slower than before: an error |
| resolve_ratio | 0.10 | less than so much slower: resolved |
| points | 18 | windows before anything is said |
| requests | 20 | successful requests that make a window |
"""

from __future__ import annotations

from spanwell.insights import wording
from spanwell.insights.model import ERROR, INFO, WARNING, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds

NAME = "latency_degradation"
DEFAULTS = {
    "latency_degradation.ratio": 0.15,
    "latency_degradation.change_ms": 200,
    "latency_degradation.escalate_ratio": 0.75,
    "latency_degradation.resolve_ratio": 0.10,
    "latency_degradation.points": 18,
    "latency_degradation.requests": 20,
}

STARTED, ESCALATED, RESOLVED = "started", "escalated", "resolved"
_SEVERITIES = {STARTED: WARNING, ESCALATED: ERROR, RESOLVED: INFO}


def may(hints: Hints) -> bool:
    """No single trace shows it."""
    return False


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """No single trace shows it: see `insights.drift`."""
    return ()


def insight(operation: str, state: str, before_ms: float, now_ms: float) -> Insight:
    """What has happened to `operation`: STARTED, ESCALATED or RESOLVED. before_ms, now_ms: its 95th percentile."""
    before, now = wording.duration(before_ms), wording.duration(now_ms)
    ratio = now_ms / before_ms - 1 if before_ms > 0 else 0.0
    if state == RESOLVED:
        sentence = f"{operation} is back to normal: its 95th percentile is {now}, {before} is usual; nothing to do."
    else:
        still = "has become still slower" if state == ESCALATED else "has become slower"
        sentence = (
            f"{operation} {still}: its 95th percentile is {now}, {ratio:.0%} over the {before} before; see which "
            "dependency takes longer in traces of now and then, and what was deployed or has grown since."
        )
    values = {"state": state, "before_ms": before_ms, "now_ms": now_ms, "ratio": round(ratio, 4)}
    return Insight(NAME, _SEVERITIES[state], sentence, (operation,), (), values)
