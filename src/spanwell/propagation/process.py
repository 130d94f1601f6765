"""The CONSUMER `process` span of one received message (semantic conventions for messaging)."""

from __future__ import annotations

from opentelemetry.context import get_current
from opentelemetry.trace import Link, SpanKind, get_current_span, set_span_in_context

from spanwell import incoming
from spanwell.incoming import Incoming
from spanwell.propagation import carried
from spanwell.propagation.carried import Carried
from spanwell.propagation.xray import header_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer
    from opentelemetry.util.types import AttributeValue

PROBLEM = "spanwell.context.problem"
"""The attribute that says why a message's context could not be used."""


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
    `server_attributes` gave. `carry(message, header)` reads what a message carries.
    """

    __slots__ = ("_attributes", "_carry", "_name", "_tracer")

    def __init__(
        self,
        tracer: Tracer,
        system: str,
        destination: str,
        server: dict[str, AttributeValue],
        carry: Callable[[Any, str | None], Carried] = carried.sqs_polled,
    ) -> None:
        self._tracer = tracer
        self._carry = carry
        self._name = f"process {destination}" if destination else "process"
        self._attributes: dict[str, AttributeValue] = {
            "messaging.system": system,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            **server,
        }
        if destination:
            self._attributes["messaging.destination.name"] = destination

    def __call__(self, message: Any, header: str | None) -> tuple[Span, Context]:
        """Start the span of `message`: child of the current span, else of the message's creation context, and
        in both cases linked to that. Returns the span and the context to make current."""
        try:
            found = self._carry(message, header)
        except Exception as error:  # bad input, not an error of ours
            found = Carried(problem=f"unreadable message ({type(error).__name__})")
        parent = get_current()
        if get_current_span(parent).get_span_context().is_valid:
            creators = carried.contexts([found])
        else:
            parent, creators = entered(found, parent)
        attributes = self._attributes
        if found.message_id:
            attributes = {**attributes, "messaging.message.id": found.message_id}
        if found.problem:
            attributes = {**attributes, PROBLEM: found.problem}
        links = [Link(each) for each in creators]
        span = self._tracer.start_span(self._name, parent, SpanKind.CONSUMER, attributes, links)
        return span, set_span_in_context(span, parent)


def entered(message: Carried, context: Context) -> tuple[Context, list[SpanContext]]:
    """`context` with the parent that `message` carries, and every span context it names."""
    context = carried.default_propagator().extract(message.carrier, context)
    creators = carried.creators(context)
    came = incoming.of(context)
    if came is not None and len(creators) > 1:
        # The second becomes a link here; `enrich.links` is not to add it again.
        context = incoming.put(context, Incoming(came.trace_id, sampled=came.sampled, lineage=came.lineage))
    return context, creators


def current_header() -> str | None:
    """The current span as an X-Ray header, Lineage kept; None without a valid span."""
    context = get_current()
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return None
    return header_text(span, f"{span.trace_id:032x}", f"{span.span_id:016x}", incoming.of(context))
