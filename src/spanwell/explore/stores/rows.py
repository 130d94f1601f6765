"""A stored row (`schema.SPAN_COLUMNS`) as the span that it was: the same from every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwell.record import EventRecord, LinkRecord, SpanRecord
from spanwell.values import loads, loads_list

if TYPE_CHECKING:
    from collections.abc import Mapping


def record_of(row: tuple[Any, ...], resource: Mapping[str, Any]) -> SpanRecord:
    """The span of `row`. Raises ValueError for JSON that no exporter of ours wrote."""
    (
        trace_id,
        span_id,
        parent_id,
        name,
        kind,
        service,
        scope,
        scope_version,
        start_ns,
        end_ns,
        status,
        message,
        attributes,
        events,
        links,
        _,
        trace_state,
        flags,
        dropped_attributes,
        dropped_events,
        dropped_links,
    ) = row
    return SpanRecord(
        trace_id,
        span_id,
        parent_id,
        name,
        kind,
        service,
        start_ns,
        end_ns,
        status,
        message or "",
        loads(attributes),
        _events(events),
        _links(links),
        resource,
        scope or "",
        scope_version or "",
        trace_state or "",
        flags,
        dropped_attributes,
        dropped_events,
        dropped_links,
    )


def _events(encoded: str | None) -> tuple[EventRecord, ...]:
    return tuple(EventRecord(item["name"], item["time_ns"], item["attributes"]) for item in loads_list(encoded))


def _links(encoded: str | None) -> tuple[LinkRecord, ...]:
    return tuple(
        LinkRecord(item["trace_id"], item["span_id"], item["attributes"], item.get("trace_state", ""))
        for item in loads_list(encoded)
    )
