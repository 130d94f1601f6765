"""Tells the caller that asked with `Sampled=?` what was decided."""

from __future__ import annotations

from opentelemetry.instrumentation.propagators import ResponsePropagator, default_setter
from opentelemetry.trace import get_current_span

from spanwell import _guard, incoming
from spanwell.propagation.xray import HEADER, format_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.context import Context


class XRayResponsePropagator(ResponsePropagator):
    """Writes `X-Amzn-Trace-Id: Root=…;Sampled=0|1` on a response whose request asked.

    Made for the flask, django, falcon, tornado and asgi (starlette, fastapi) instrumentors, which call it;
    the plain wsgi one calls no response propagator.
    """

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = default_setter) -> None:
        """Write the header if the request asked and the span in `context` belongs to the trace it named."""
        # The asgi instrumentor passes a context with nothing but the span in it; the request's is current.
        came = incoming.of(context) or incoming.of(None)
        if came is None or came.sampled != "?" or _without_headers(carrier):
            return
        span = get_current_span(context).get_span_context()
        if not span.is_valid or span.trace_id != came.trace_id or span is came.undecided:
            return
        decision = ";Sampled=1" if span.trace_flags & 1 else ";Sampled=0"
        try:
            setter.set(carrier, HEADER, format_root(span.trace_id) + decision)
        except Exception as error:
            _guard.failed(f"writing {HEADER} on a response", error)


def _without_headers(carrier: object) -> bool:
    # The asgi instrumentor calls for every message of a response; only its start has headers.
    if not isinstance(carrier, dict):
        return False
    kind = carrier.get("type")
    return (
        isinstance(kind, str)
        and kind.startswith(("http.", "websocket."))
        and not kind.endswith((".start", ".accept"))
    )
