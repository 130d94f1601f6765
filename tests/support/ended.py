"""Ended spans as the insights' stages see them, without a provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.trace import SpanContext, SpanKind

from spanwell.insights import hints
from spanwell.insights.hints import Limits
from spanwell.insights.records import SENDING
from spanwell.insights.red import Red
from spanwell.record import SpanRecord

CONTEXT = SpanContext(1, 2, False)


def ended(
    name: str, kind: str, nanoseconds: int, failed: bool, attributes: Mapping[str, Any], *, root: bool = True
) -> Any:
    """What `_otel.spans.ended` gives for such a span."""
    status = "error" if failed else "unset"
    parent = None if root else CONTEXT
    return (CONTEXT, parent, name, SpanKind[kind.upper()], 0, nanoseconds, status, attributes, (), (), "", None)


def count(red: Red, name: str, kind: str, root: bool, nanoseconds: int, failed: bool, attributes: Any) -> None:
    """Let `red` count one span."""
    red.spans([ended(name, kind, nanoseconds, failed, attributes, root=root)])


def healthy(spans: Iterable[SpanRecord], limits: Limits, root_attributes: Mapping[str, Any]) -> bool:
    """Whether the gate stays shut for these records."""
    as_ended = [(*[None] * 3, SpanKind[each.kind.upper()], *hints.as_ended(each)[4:], (), "", None) for each in spans]
    return hints.healthy(as_ended, limits, root_attributes, SENDING)
