"""An ended OpenTelemetry span as a row of the sqlite tables."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from spanwell.values import MAX_TREE, cut, dumps, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.trace.span import TraceState

    Row = tuple[Any, ...]

_KINDS = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")
_MAX_INTEGER = 2**63 - 1
_MAX_RESOURCES = 64

REMOTE_KNOWN, REMOTE = 0x100, 0x200
"""OTLP's span flags beside the eight W3C trace flags."""


class RowEncoder:
    """Turns spans into rows of `schema.SPAN_COLUMNS`; remembers the resources it has met."""

    def __init__(self) -> None:
        self._resources: dict[int, tuple[Resource, tuple[str, str, str]]] = {}
        self.service = ""
        """The service of the latest span."""

    def row(self, span: ReadableSpan, resources: dict[str, tuple[str, str]]) -> Row:
        """One row; notes its resource, id -> (service, JSON), in `resources` for `schema.insert`.

        Raises if `span` is so odd that it has no place in a trace, e.g. it has no context.
        """
        resource_id, service, body = self.resource(span.resource)
        resources[resource_id] = service, body
        return row_of(span, service, resource_id)

    def resource(self, resource: Resource) -> tuple[str, str, str]:
        """(id, service, attributes as JSON) of a resource."""
        # By identity first: hashing a resource costs more than the rest of the row. The tuple keeps it
        # alive, so that its id is not given to another.
        known = self._resources.get(id(resource))
        if known is None:
            if len(self._resources) >= _MAX_RESOURCES:  # an application has one, rarely a few
                self._resources = {}
            attributes = dict(resource.attributes)
            body = dumps(attributes)
            key = blake2b(body.encode(), digest_size=8).hexdigest()
            service = _name(attributes.get("service.name") or "unknown_service")
            known = self._resources[id(resource)] = (resource, (key, service, body))
        self.service = known[1][1]
        return known[1]


def row_of(span: ReadableSpan, service: str, resource_id: str) -> Row:
    """One row of a span whose resource is known by now. Raises as `RowEncoder.row`."""
    context = span.context
    if context is None:
        raise ValueError("a span without a context")
    parent, status, scope = span.parent, span.status, span.instrumentation_scope
    attributes = span.attributes  # once: each access builds a new view
    flags = int(context.trace_flags) & 0xFF
    if parent is not None:
        flags |= REMOTE_KNOWN | REMOTE if parent.is_remote else REMOTE_KNOWN
    start = _time(span.start_time)
    events, lost_events = _events(span.events)
    links, lost_links = _links(span.links)
    return (
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        None if parent is None else f"{parent.span_id:016x}",
        _name(span.name),
        _KINDS[span.kind.value],
        service,
        _name(scope.name) if scope else None,
        _name(scope.version) if scope and scope.version else None,
        start,
        _time(span.end_time, start),
        _STATUSES[status.status_code.value],
        _name(status.description) if status.description else None,
        dumps(_copy(attributes)) if attributes else None,
        events,
        links,
        resource_id,
        _state(context.trace_state),
        flags,
        span.dropped_attributes,
        span.dropped_events + lost_events,
        span.dropped_links + lost_links,
    )


def _copy(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    # The SDK's view copies its inner dictionary at once; iterating it runs Python code for every key.
    copy = getattr(attributes, "copy", None)
    return copy() if copy is not None else dict(attributes)


def _name(value: object) -> str:
    return cut(text(value))


def _time(value: int | None, default: int = 0) -> int:
    return default if value is None else max(0, min(int(value), _MAX_INTEGER))


def _state(state: TraceState | None) -> str | None:
    return text(state.to_header()) if state else None


def _events(events: Sequence[Event]) -> tuple[str | None, int]:
    return _list(
        (dumps({"name": event.name, "time_ns": _time(event.timestamp)}), event.attributes) for event in events
    )


def _links(links: Sequence[Link]) -> tuple[str | None, int]:
    return _list((dumps(_link(link.context)), link.attributes) for link in links)


def _link(context: SpanContext) -> dict[str, str]:
    head = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    state = _state(context.trace_state)
    if state:
        head["trace_state"] = state
    return head


def _list(items: Iterable[tuple[str, Mapping[str, Any] | None]]) -> tuple[str | None, int]:
    """Events or links as JSON text, and how many were left out because the text passed 1 MiB."""
    parts: list[str] = []
    size = left_out = 0
    for head, attributes in items:
        if size > MAX_TREE:
            left_out += 1
            continue
        body = dumps(_copy(attributes)) if attributes else "{}"
        parts.append(f'{head[:-1]},"attributes":{body}}}')
        size += len(parts[-1])
    return (f"[{','.join(parts)}]" if parts else None), left_out
