"""`traceparent`, `tracestate` and `X-Amzn-Trace-Id` in one pass.

What `tracecontext` directly followed by our `xray` do one after the other, in half the time: a carrier is looked at
once and one context is made. Headers in their usual form are read here; anything else is given to the API's own
propagator, so that there is no second opinion on what a valid `traceparent` is.
"""

from __future__ import annotations

from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import default_getter, default_setter
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanwell import _guard, incoming
from spanwell.incoming import Incoming
from spanwell.propagation import trace_header, xray
from spanwell.propagation.xray import HEADER, XRayPropagator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator

    from spanwell.propagation.xray import CarrierT, TraceHeader

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_LOW_64 = (1 << 64) - 1
_FLAGS = tuple(TraceFlags(number) for number in range(256))
_EMPTY = Context()
# The name under which the API keeps the span in a context, found out without its private constant.
(_SPAN_KEY,) = set_span_in_context(INVALID_SPAN, _EMPTY)
# Every version of the API reads a `tracestate` up to this length alike; a longer one is for the API to judge.
_LONGEST_STATE = 512
_W3C = TraceContextTextMapPropagator()
# The last states read, by their text: most requests of a service carry the same few.
_MOST_STATES = 64
_states: dict[str, TraceState] = {}


class TraceHeadersPropagator(XRayPropagator):
    """Equal to `CompositePropagator([TraceContextTextMapPropagator(), XRayPropagator(...)])`, except that a carrier,
    getter or setter that raises costs the context and not the request."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """`context` with the parent that the headers name; never raises."""
        if context is None:
            context = _EMPTY
        if getter is default_getter and type(carrier) is dict:
            w3c, text = _of_dict(carrier)
        else:
            w3c, text = _w3c(carrier, getter), xray._read(carrier, getter, HEADER)
        header = xray.parse(text) if text else None
        if header is None:
            incoming.forget_root()
            context = incoming.without(context)
            return context if w3c is None else Context({**context, _SPAN_KEY: NonRecordingSpan(w3c)})
        if w3c is not None:
            if header.parent and header.root == w3c.trace_id and not self._corrects(w3c, header, carrier, getter):
                incoming.forget_root()
                return _followed(context, w3c, header)
            context = Context({**context, _SPAN_KEY: NonRecordingSpan(w3c)})
        if header.parent:
            incoming.forget_root()
            return self._child(header, context, carrier, getter)
        return self._root(header, context, carrier, getter)

    def _corrects(self, w3c: SpanContext, header: TraceHeader, carrier: CarrierT, getter: Getter[CarrierT]) -> bool:
        """Whether X-Ray's parent takes the place of W3C's, in the trace that both name."""
        if header.parent == w3c.span_id:
            return False
        return self._prefer_xray or bool(xray._read(carrier, getter, xray.API_GATEWAY))

    def _follows(self, carrier: CarrierT, getter: Getter[CarrierT]) -> SpanContext | None:
        return None  # traceparent has been read

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the headers for the span in `context`; an X-Ray header nobody acted on is passed on as it came."""
        if context is None:
            context = get_current()
        span = get_current_span(context).get_span_context()
        if not span.is_valid:
            if span != INVALID_SPAN_CONTEXT:
                with _guard.guard("writing traceparent"):
                    _W3C.inject(carrier, context, setter)
            super().inject(carrier, context, setter)
            return
        trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
        came = context.get(incoming.KEY)
        text = xray.header_text(span, trace_id, span_id, came if isinstance(came, Incoming) else None)
        try:
            setter.set(carrier, TRACEPARENT, f"00-{trace_id}-{span_id}-{span.trace_flags:02x}")
            if span.trace_state:
                setter.set(carrier, TRACESTATE, span.trace_state.to_header())
            setter.set(carrier, HEADER, text)
        except Exception as error:
            _guard.failed("writing trace headers", error)

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` writes."""
        return {TRACEPARENT, TRACESTATE, HEADER}


def join(propagators: Iterable[TextMapPropagator]) -> list[TextMapPropagator]:
    """`propagators` with one for both in the place of each `tracecontext` that our `xray` follows directly."""
    joined: list[TextMapPropagator] = []
    for each in propagators:
        if type(each) is XRayPropagator and joined and type(joined[-1]) is TraceContextTextMapPropagator:
            joined[-1] = TraceHeadersPropagator(prefer_xray=each._prefer_xray, monotonic=each._monotonic)
        else:
            joined.append(each)
    return joined


def _followed(context: Context, span: SpanContext, header: TraceHeader) -> Context:
    """Both headers name a parent in one trace, and W3C's, `span`, is taken."""
    came = Incoming(header.root, sampled=header.sampled, lineage=header.lineage)
    return Context({**context, _SPAN_KEY: NonRecordingSpan(span), incoming.KEY: came})


def _of_dict(carrier: Any) -> tuple[SpanContext | None, str]:
    """What `_w3c` and `xray._read` find in a plain dict."""
    value = carrier.get(HEADER)
    text = value if type(value) is str else xray._read(carrier, default_getter, HEADER)
    value = carrier.get(TRACEPARENT)
    if value is None:
        return None, text
    if type(value) is not str:
        return _w3c(carrier, default_getter), text
    state = carrier.get(TRACESTATE)
    if state is None:
        found = _usual(value, None)
    elif type(state) is str and len(state) <= _LONGEST_STATE:
        found = _usual(value, state)
    else:
        found = None
    return found or _as_the_api_does(carrier, default_getter), text


def _w3c(carrier: CarrierT, getter: Getter[CarrierT]) -> SpanContext | None:
    """The valid parent that `traceparent` names."""
    try:
        values = getter.get(carrier, TRACEPARENT)
        if not values:
            return None
        value = values[0]
        states = getter.get(carrier, TRACESTATE) if type(value) is str else None
    except Exception as error:
        _guard.failed("reading traceparent", error)
        return None
    found = None
    if type(value) is str and type(values) is list:
        if states is None:
            found = _usual(value, None)
        elif type(states) is list and len(states) == 1 and type(states[0]) is str:
            found = _usual(value, states[0]) if len(states[0]) <= _LONGEST_STATE else None
    return found or _as_the_api_does(carrier, getter)


def _usual(text: str, state: str | None) -> SpanContext | None:
    """Version 00 without spaces; None for anything else, valid or not."""
    if len(text) != 55 or text[:3] != "00-" or text[35] != "-" or text[52] != "-":
        return None
    digits = text[3:35] + text[36:52] + text[53:]
    number = trace_header.hexadecimal(digits, 25)
    trace_id, span_id = number >> 72, number >> 8 & _LOW_64
    if not trace_id or not span_id or digits != digits.lower():
        return None
    return SpanContext(trace_id, span_id, True, _FLAGS[number & 255], None if state is None else _state(state))


def parents(carrier: dict[str, str]) -> list[SpanContext]:
    """The span contexts that the headers in `carrier`, of a message, name: none, one, or two if they are of different
    traces, the one first that `extract` takes. No context is made, and no root is expected."""
    w3c, text = _of_dict(carrier)
    header = xray.parse(text) if text else None
    found = [] if w3c is None else [w3c]
    if header is not None and header.parent and (w3c is None or w3c.trace_id != header.root):
        found.append(SpanContext(header.root, header.parent, True, _FLAGS[header.sampled != "0"]))
    return found


def traceparent(text: str) -> SpanContext | None:
    """The parent that the text of a `traceparent` names, or None."""
    return _usual(text, None) or _as_the_api_does({TRACEPARENT: text}, default_getter)


def _state(text: str) -> TraceState:
    found = _states.get(text)
    if found is None:
        found = TraceState.from_header([text])
        if len(_states) >= _MOST_STATES:
            _states.clear()
        _states[text] = found
    return found


def _as_the_api_does(carrier: CarrierT, getter: Getter[CarrierT]) -> SpanContext | None:
    try:
        found = get_current_span(_W3C.extract(carrier, _EMPTY, getter)).get_span_context()
    except Exception as error:
        _guard.failed("reading traceparent", error)
        return None
    return found if found.is_valid else None
