"""The CONSUMER `process` span of one received message (semantic conventions for messaging)."""

from __future__ import annotations

from opentelemetry.context import get_current
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, get_current_span, set_span_in_context

from spanwell.propagation.xray import HEADER, XRayPropagator, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue


def server_attributes(endpoint_url: str | None) -> dict[str, AttributeValue]:
    """`server.address` and, if it is given, `server.port` of a client's endpoint."""
    from urllib.parse import urlsplit

    attributes: dict[str, AttributeValue] = {}
    try:
        parts = urlsplit(endpoint_url or "")
        if parts.hostname:
            attributes["server.address"] = parts.hostname
        if parts.port:
            attributes["server.port"] = parts.port
    except ValueError:
        pass
    return attributes


class ProcessSpans:
    """Starts the spans of one response's messages: an `Opener` of `messages.Messages`.

    `system` is `messaging.system`, `destination` the queue's or topic's name, `server` what
    `server_attributes` gave.
    """

    __slots__ = ("_attributes", "_name", "_tracer")

    def __init__(self, tracer: Tracer, system: str, destination: str, server: dict[str, AttributeValue]) -> None:
        self._tracer = tracer
        self._name = f"process {destination}" if destination else "process"
        self._attributes: dict[str, AttributeValue] = {
            "messaging.system": system,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            **server,
        }
        if destination:
            self._attributes["messaging.destination.name"] = destination

    def __call__(self, message: dict[str, Any], header: str | None) -> tuple[Span, Context]:
        """Start the span of `message`: child of the current span, else of the message's creation context, and
        in both cases linked to that. Returns the span and the context to make current."""
        parent = get_current()
        if header and not get_current_span(parent).get_span_context().is_valid:
            parent = _propagator.extract({HEADER: header}, parent)
        attributes = self._attributes
        message_id = message.get("MessageId")
        if isinstance(message_id, str):
            attributes = {**attributes, "messaging.message.id": message_id}
        creator = creation_context(header) if header else None
        links = () if creator is None else (Link(creator),)
        span = self._tracer.start_span(self._name, parent, SpanKind.CONSUMER, attributes, links)
        return span, set_span_in_context(span, parent)


_propagator = XRayPropagator()


def creation_context(header: str) -> SpanContext | None:
    """The span that `header` names, or None when it names none."""
    fields = parse(header)
    if fields is None or not fields.parent:
        return None
    flags = TraceFlags.DEFAULT if fields.sampled == "0" else TraceFlags.SAMPLED
    return SpanContext(fields.root, fields.parent, True, TraceFlags(flags))


def current_header() -> str | None:
    """The current span as an X-Ray header, Lineage kept; None without a valid span."""
    if not get_current_span().get_span_context().is_valid:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(HEADER)
