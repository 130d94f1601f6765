"""A dependency refuses calls because they are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import AWS, error_type, is_throttled, outermost
from spanwell.insights.model import WARNING, Insight
from spanwell.insights.wording import called, evidence, operation, plural, subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.analysis.calls import Call
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "throttled_dependency"
DEFAULTS = {"throttled_dependency.count": 1}


def may(hints: Hints) -> bool:
    return hints.clients > 0 and (hints.throttled > 0 or hints.errors > 0)


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """One a call that was throttled."""
    found: dict[tuple[str, str], tuple[Call, list[SpanRecord]]] = {}
    tree = fragment.tree
    for position, call in outermost(tree):
        span = tree.spans[position]
        if is_throttled(span):
            found.setdefault((call.peer, call.operation), (call, []))[1].append(span)
    for call, spans in found.values():
        if len(spans) >= max(1, thresholds.get("throttled_dependency.count", fragment.operation)):
            yield _insight(fragment, call, spans)


def _insight(fragment: Fragment, call: Call, spans: list[SpanRecord]) -> Insight:
    kind = error_type(spans[0]) or "429"
    remedy = (
        "raise the limit or capacity, or retry with adaptive back-off (retries={'mode': 'adaptive'})"
        if call.family == AWS
        else "send less at a time, cache answers, or honour its Retry-After"
    )
    return Insight(
        NAME,
        WARNING,
        f"{call.peer or 'A dependency'} throttled {plural(len(spans), 'call')} of {subject(fragment)} "
        f"to {called(call)} ({kind}): {remedy}.",
        (operation(fragment), call.peer, call.operation),
        evidence(spans),
        {"count": len(spans), "peer": call.peer, "operation": call.operation, "error": kind},
    )
