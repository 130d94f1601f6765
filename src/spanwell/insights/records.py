"""Ended spans as records, made only where a detector looks at them: ids as text cost more than all else here."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from spanwell._otel.spans import FLAGS, REMOTE, SPAN_ID, STATE, TRACE_ID
from spanwell.record import EventRecord, LinkRecord, SpanRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from spanwell._otel.spans import Ended

KINDS = ("internal", "server", "client", "producer", "consumer")
"""By the value of a SpanKind."""

SENDING = (SpanKind.CLIENT, SpanKind.PRODUCER)

_REMOTE_KNOWN, _REMOTE = 0x100, 0x200


def records(spans: Iterable[Ended], service: str, resource: Mapping[str, Any] | None = None) -> list[SpanRecord]:
    """The records of ended spans of `service`."""
    made: list[SpanRecord] = []
    add, new, resource = made.append, tuple.__new__, resource or {}
    trace_id, trace = -1, ""  # most spans here are of one trace
    for context, parent, name, kind, start, end, status, attributes, events, links, description, scope in spans:
        if context[TRACE_ID] != trace_id:
            trace_id = context[TRACE_ID]
            trace = f"{trace_id:032x}"
        flags = context[FLAGS] & 0xFF
        if parent is not None:
            flags |= _REMOTE_KNOWN | _REMOTE if parent[REMOTE] else _REMOTE_KNOWN
        state = context[STATE]
        add(
            new(
                SpanRecord,
                (
                    trace,
                    f"{context[SPAN_ID]:016x}",
                    None if parent is None else f"{parent[SPAN_ID]:016x}",
                    name,
                    KINDS[kind.value],
                    service,
                    start,
                    end,
                    status,
                    description,
                    attributes,
                    _events(events) if events else (),
                    _links(links) if links else (),
                    resource,
                    scope.name if scope else "",
                    (scope.version or "") if scope else "",
                    state.to_header() if state else "",
                    flags,
                    0,
                    0,
                    0,
                ),
            )
        )
    return made


def _events(events: Sequence[Any]) -> tuple[EventRecord, ...]:
    return tuple(EventRecord(each.name, each.timestamp or 0, each.attributes or {}) for each in events)


def _links(links: Sequence[Any]) -> tuple[LinkRecord, ...]:
    return tuple(
        LinkRecord(f"{each.context.trace_id:032x}", f"{each.context.span_id:016x}", each.attributes or {})
        for each in links
    )
