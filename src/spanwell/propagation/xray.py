"""The propagator of the `X-Amzn-Trace-Id` header, on top of its codec (`trace_header`)."""

from __future__ import annotations

import time

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from spanwell import _guard, incoming
from spanwell.incoming import Incoming
from spanwell.propagation.trace_header import (
    LONGEST_HEADER,
    LONGEST_LINEAGE,
    TraceHeader,
    format_header,
    format_root,
    parse,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from opentelemetry.propagators.textmap import Getter, Setter

    CarrierT = TypeVar("CarrierT")

__all__ = [
    "API_GATEWAY",
    "HEADER",
    "LONGEST_HEADER",
    "LONGEST_LINEAGE",
    "TraceHeader",
    "XRayPropagator",
    "format_header",
    "format_root",
    "header_text",
    "parse",
]

HEADER = "X-Amzn-Trace-Id"
API_GATEWAY = "x-amzn-apigateway-api-id"
# Their `get` folds the case already. By name, because importing them costs more than it saves.
_FOLDING = frozenset({"WSGIGetter", "ASGIGetter"})
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class XRayPropagator(TextMapPropagator):
    """Reads and writes `X-Amzn-Trace-Id`. Meant to stand after `tracecontext`.

    A carrier with both headers: other traces -> W3C's is the parent and ours stands by as `Incoming.other`;
    one trace, two parents -> ours if `prefer_xray` or the request came through API Gateway, else W3C's.
    Before `tracecontext` only that last case differs: `tracecontext` then overwrites our parent with its own.

    A Root without a Parent gives no parent: the next root span takes that trace id (`spanwell.ids`). A Parent
    without a decision is marked sampled, so that a sampler that does not know better keeps the trace;
    `UndecidedSampler` applies the decision for roots.

    monotonic: clock in seconds for the age of an expected root.
    """

    def __init__(self, *, prefer_xray: bool = False, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._prefer_xray = prefer_xray
        self._monotonic = monotonic

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """`context` with what the header says; never raises, whatever the carrier or the getter does."""
        if context is None:
            context = Context()
        text = _read(carrier, getter, HEADER)
        header = parse(text) if text else None
        if header is None:
            incoming.forget_root()
            return incoming.without(context)
        if header.parent:
            incoming.forget_root()
            return self._child(header, context, carrier, getter)
        return self._root(header, context, carrier, getter)

    def _root(self, header: TraceHeader, context: Context, carrier: CarrierT, getter: Getter[CarrierT]) -> Context:
        if get_current_span(context).get_span_context().is_valid or self._w3c_decides(carrier, getter):
            incoming.forget_root()
        else:
            incoming.expect_root(header.root, self._monotonic())
        return _noted(context, header)

    def _child(self, header: TraceHeader, context: Context, carrier: CarrierT, getter: Getter[CarrierT]) -> Context:
        flags = _NOT_SAMPLED if header.sampled == "0" else _SAMPLED
        own = SpanContext(header.root, header.parent, True, flags)
        w3c = get_current_span(context).get_span_context()
        # A local span in the context is where the caller stands, not what another header said.
        if w3c.is_valid and w3c.is_remote:
            return self._beside(w3c, own, header, context, carrier, getter)
        follows = self._follows(carrier, getter)
        other = own if follows is not None and follows.trace_id != own.trace_id else None
        context = set_span_in_context(NonRecordingSpan(own), context)
        decided = header.sampled in ("0", "1")
        if decided and other is None and not header.lineage:
            return incoming.without(context)
        return _noted(context, header, undecided=None if decided else own, other=other)

    def _follows(self, carrier: CarrierT, getter: Getter[CarrierT]) -> SpanContext | None:
        """The valid W3C parent in `carrier` that a propagator after us will find."""
        return _traceparent(carrier, getter)

    def _w3c_decides(self, carrier: CarrierT, getter: Getter[CarrierT]) -> bool:
        """Whether `tracecontext` stands after us and will find a parent in `carrier`."""
        if self._follows(carrier, getter) is None:
            return False
        from opentelemetry.propagate import get_global_textmap

        return "traceparent" in get_global_textmap().fields

    def _beside(
        self,
        w3c: SpanContext,
        own: SpanContext,
        header: TraceHeader,
        context: Context,
        carrier: CarrierT,
        getter: Getter[CarrierT],
    ) -> Context:
        """Both headers named a parent."""
        if w3c.trace_id != own.trace_id:
            return _noted(context, header, other=own)
        if w3c.span_id == own.span_id:
            # Our own, when OTEL_PROPAGATORS holds both `xray` and `spanwell_xray`: then it stays undecided.
            before = incoming.of(context)
            ours = before is not None and before.undecided is w3c
            return _noted(context, header, undecided=w3c if ours else None)
        if self._prefer_xray or _read(carrier, getter, API_GATEWAY):
            context = set_span_in_context(NonRecordingSpan(_merged(own, header.sampled, w3c)), context)
        return _noted(context, header)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the header for the span in `context`; a header nobody acted on is passed on as it came."""
        span = get_current_span(context).get_span_context()
        came = incoming.of(context)
        if span.is_valid:
            text = header_text(span, f"{span.trace_id:032x}", f"{span.span_id:016x}", came)
        elif came is not None and came.parentless:
            text = format_header(TraceHeader(came.trace_id, 0, came.sampled, came.lineage))
        else:
            return
        try:
            setter.set(carrier, HEADER, text)
        except Exception as error:
            _guard.failed(f"writing {HEADER}", error)

    @property
    def fields(self) -> set[str]:
        """The header that `inject` writes."""
        return {HEADER}


def header_text(span: SpanContext, trace_id: str, span_id: str, came: Incoming | None) -> str:
    """The header that names `span`, its ids in hexadecimal, in a request that `came` is known of."""
    start = f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id}"
    if came is None:
        return start + (";Sampled=1" if span.trace_flags & 1 else ";Sampled=0")
    if span is not came.undecided:
        start += ";Sampled=1" if span.trace_flags & 1 else ";Sampled=0"
    elif came.sampled:
        start += ";Sampled=?"
    return f"{start};Lineage={came.lineage}" if came.lineage else start


def _noted(
    context: Context,
    header: TraceHeader,
    *,
    undecided: SpanContext | None = None,
    other: SpanContext | None = None,
) -> Context:
    came = Incoming(
        header.root,
        parentless=not header.parent,
        sampled=header.sampled,
        lineage=header.lineage,
        undecided=undecided,
        other=other,
    )
    return incoming.put(context, came)


def _merged(own: SpanContext, sampled: str, w3c: SpanContext) -> SpanContext:
    flags = int(w3c.trace_flags)
    if sampled in ("0", "1"):
        flags = flags & ~TraceFlags.SAMPLED | int(sampled)
    return SpanContext(own.trace_id, own.span_id, True, TraceFlags(flags), w3c.trace_state)


def _traceparent(carrier: CarrierT, getter: Getter[CarrierT]) -> SpanContext | None:
    """The valid W3C parent in `carrier`, if one is there."""
    try:
        if not getter.get(carrier, "traceparent"):
            return None
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract(carrier, Context(), getter)
    except Exception as error:
        _guard.failed("reading traceparent", error)
        return None
    found = get_current_span(context).get_span_context()
    return found if found.is_valid else None


def _read(carrier: CarrierT, getter: Getter[CarrierT], name: str) -> str:
    """The first value of the header `name`, whatever its case, or ""; at most 4097 characters."""
    try:
        values: object = getter.get(carrier, name)
        if not values and type(getter).__name__ not in _FOLDING:
            values = _any_case(carrier, getter, name.lower())
        return _first(values)
    except Exception as error:
        _guard.failed(f"reading {name}", error)
        return ""


def _any_case(carrier: CarrierT, getter: Getter[CarrierT], name: str) -> object:
    values = getter.get(carrier, name)
    if not values:
        for key in getter.keys(carrier):
            if len(key) == len(name) and key.lower() == name:
                return getter.get(carrier, key)
    return values


def _first(values: object) -> str:
    if isinstance(values, (list, tuple)):
        values = values[0] if values else ""
    if isinstance(values, bytes):
        return values[: LONGEST_HEADER + 1].decode("latin-1")
    return values if isinstance(values, str) else ""
