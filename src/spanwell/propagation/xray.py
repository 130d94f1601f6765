"""The `X-Amzn-Trace-Id` header: a pure codec and the propagator on top of it.

The codec reads what AWS sends: `Root=1-…;Parent=…;Sampled=0|1|?;Lineage=…;Self=…`, any key missing but Root,
in any order and case, with spaces, a trailing `;` and keys it does not know. What it cannot read it
leaves out; a header without a readable Root is no header.
"""

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from opentelemetry.propagators.textmap import Getter, Setter

    CarrierT = TypeVar("CarrierT")

HEADER = "X-Amzn-Trace-Id"
API_GATEWAY = "x-amzn-apigateway-api-id"
# A full header has about 140 characters: what stands behind 4096 is noise or an attack.
LONGEST_HEADER = 4096
LONGEST_LINEAGE = 512
# Their `get` folds the case already. By name, because importing them costs more than it saves.
_FOLDING = frozenset({"WSGIGetter", "ASGIGetter"})
_LOW_96 = (1 << 96) - 1
_LOW_64 = (1 << 64) - 1
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class TraceHeader:
    """The fields of one header. root: trace id, not 0; parent: span id or 0; sampled: "0", "1", "?" or ""
    (absent); lineage: text or ""."""

    __slots__ = ("lineage", "parent", "root", "sampled")

    def __init__(self, root: int, parent: int = 0, sampled: str = "", lineage: str = "") -> None:
        self.root = root
        self.parent = parent
        self.sampled = sampled
        self.lineage = lineage

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceHeader) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"TraceHeader({format_header(self)!r})"

    def _key(self) -> tuple[int, int, str, str]:
        return self.root, self.parent, self.sampled, self.lineage


def parse(header: str) -> TraceHeader | None:
    """Read a header; None without a valid Root. Never raises; looks at the first 4096 characters only.

    Of a key that comes twice the first readable value counts.
    """
    return _usual(header) or _scan(header)


def _usual(header: str) -> TraceHeader | None:
    """What nearly every client writes, `Root=1-8-24;Parent=16;Sampled=0|1`, read in place: twice as fast."""
    if (
        len(header) != 74
        or header[:7] != "Root=1-"
        or header[40:48] != ";Parent="
        or header[64:73] != ";Sampled="
        or header[15] != "-"
        or header[73] not in "01"
    ):
        return None
    both = _hex(header[7:15] + header[16:40] + header[48:64], 24)
    root, parent = both >> 64, both & _LOW_64
    return TraceHeader(root, parent, header[73]) if root and parent else None


def _scan(header: str) -> TraceHeader | None:
    if len(header) > LONGEST_HEADER:
        header = header[:LONGEST_HEADER].rpartition(";")[0]  # not half a field
    root = parent = 0
    sampled = lineage = ""
    for field in header.split(";"):
        key, _, value = field.partition("=")
        key = key.strip().lower()
        value = value.strip()
        if key == "root":
            root = root or _trace_id(value)
        elif key == "parent":
            parent = parent or (_hex(value, 8) if len(value) == 16 else 0)
        elif key == "sampled":
            sampled = sampled or (value if value in ("0", "1", "?") else "")
        elif key == "lineage":
            lineage = lineage or _lineage(value)
    return TraceHeader(root, parent, sampled, lineage) if root else None


def format_header(header: TraceHeader) -> str:
    """The header's text; fields that are 0 or "" are left out."""
    text = format_root(header.root)
    if header.parent:
        text += f";Parent={header.parent:016x}"
    if header.sampled:
        text += f";Sampled={header.sampled}"
    if header.lineage:
        text += f";Lineage={header.lineage}"
    return text


def format_root(trace_id: int) -> str:
    """`Root=1-<8 hex digits>-<24 hex digits>`."""
    return f"Root=1-{trace_id >> 96:08x}-{trace_id & _LOW_96:024x}"


def _trace_id(value: str) -> int:
    if len(value) != 35 or value[:2] != "1-" or value[10] != "-":
        return 0
    return _hex(value[2:10] + value[11:], 16)


def _hex(digits: str, size: int) -> int:
    # Not int(digits, 16): that takes "0x", "_", "+", spaces and non-ASCII digits. fromhex skips spaces only,
    # and then the size gives it away.
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        return 0
    return int.from_bytes(found, "big") if len(found) == size else 0


def _lineage(value: str) -> str:
    # It is sent on in our own requests, so nothing that could end a header line gets through.
    if len(value) <= LONGEST_LINEAGE and value.isascii() and value.isprintable() and " " not in value:
        return value
    return ""


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
