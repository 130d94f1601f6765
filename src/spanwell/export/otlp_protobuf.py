"""Ended spans as the bytes of an OTLP ExportTraceServiceRequest, written by hand.

Upstream builds protobuf objects and serialises them: 26 us a span. Here a span is joined from pieces, most of which
were met before: keys, short texts and small numbers with their keys, names. Nothing of a resource is remembered, as
it may get attributes until the first export; resource and scope are encoded once for each call of `request` or
`requests`. opentelemetry-proto: trace/v1/trace.proto, common/v1/common.proto.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from opentelemetry.trace import DEFAULT_TRACE_STATE

from spanwell._otel.span_fields import (
    any_event_fields,
    any_link_fields,
    any_span_fields,
    event_fields,
    link_fields,
    span_fields,
)
from spanwell.export.otlp_grouping import Layout
from spanwell.export.otlp_pairs import Pairs, framed, varint
from spanwell.export.otlp_values import REMOTE, REMOTE_KNOWN, count, dropped_of, sound_event, sound_span
from spanwell.values import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import TraceState

    from spanwell.export.otlp_grouping import Groups

_REMOTE = REMOTE_KNOWN | REMOTE
_LOW = 2**64 - 1
_MAX_NAMES = 1024
_MAX_NAME = 128
_MAX_STATES = 64
_STATUS = (b"\x7a\x00", b"\x7a\x02\x18\x01", b"\x7a\x02\x18\x02")

# Ids are big-endian byte strings, numbers of fixed width little-endian; the tags between them are written so too.
_root_ids = Struct(">HQQHQ").pack  # trace_id (1), span_id (2)
_child_ids = Struct(">HQQHQHQ").pack  # and parent_span_id (4)
_numbers = Struct("<BQBQHIBB").pack  # start (7), end (8), flags (16), kind (6)
_event_time = Struct("<BQ").pack
_link_flags = Struct("<BI").pack

_of_span = Pairs(0x4A, 4096)
_pair = _of_span.pair
_of_event = Pairs(0x1A)
_of_link = Pairs(0x22)
_of_scope = Pairs(0x1A)
_of_resource = Pairs(0x0A)


class _Names(dict[str, bytes]):
    """Names of spans, or of events, as the field `tag`."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, name: str) -> bytes:
        made = framed(self._tag, name.encode())
        if len(name) <= _MAX_NAME:
            if len(self) >= _MAX_NAMES:
                self.clear()
            self[name] = made
        return made


_names = _Names(b"\x2a")
_event_names = _Names(b"\x12")
_states: dict[int, tuple[TraceState, bytes]] = {}


def encode_span(span: ReadableSpan) -> bytes:
    """`span` as the field `spans` of ScopeSpans: tag, length and message, so that joining spans is concatenation.

    Attributes, events and links that cannot be said are dropped, and counted in the message. Raises ValueError for
    a span without a context or with ids out of range.
    """
    try:
        return _span(span_fields(span))
    except Exception:
        return _span(sound_span(any_span_fields(span)))


def _span(fields: tuple[Any, ...]) -> bytes:
    context, parent, name, kind, start, end, code, said, attributes, dropped, events, lost, links, cut = fields
    trace_id, span_id, _, flags, state, _ = context
    if parent is None:
        flags = flags & 0xFF | REMOTE_KNOWN
        ids = _root_ids(0x0A10, trace_id >> 64, trace_id & _LOW, 0x1208, span_id)
    else:
        flags = flags & 0xFF | (_REMOTE if parent[2] else REMOTE_KNOWN)
        ids = _child_ids(0x0A10, trace_id >> 64, trace_id & _LOW, 0x1208, span_id, 0x2208, parent[1])
    numbers = _numbers(0x39, start, 0x41, end, 0x0185, flags, 0x30, kind + 1)
    try:
        made = [ids, _names[name], numbers, _STATUS[code], *map(_pair, attributes.items())]
    except Exception:
        pairs, unsaid = _of_span.one_by_one(attributes)
        dropped += unsaid
        made = [ids, _names[name], numbers, _STATUS[code], pairs]
    if said:
        made[3] = _status(code, said)
    if state is not DEFAULT_TRACE_STATE:
        made.append(_state(state))
    if dropped:
        made.append(b"\x50" + varint(count(dropped)))
    if events or lost:
        made.append(_each(b"\x5a", events, _event, b"\x60", lost))
    if links or cut:
        made.append(_each(b"\x6a", links, _link, b"\x70", cut))
    message = b"".join(made)
    return framed(b"\x12", message)


def _status(code: int, said: str) -> bytes:
    message = framed(b"\x12", text(said).encode())
    return framed(b"\x7a", message + b"\x18" + varint(code))


def _state(state: TraceState) -> bytes:
    """The field `trace_state` (3), of a span and of a link."""
    known = _states.get(id(state))
    if known is None:
        header = text(state.to_header()).encode() if state is not None else b""
        if len(_states) >= _MAX_STATES:
            _states.clear()
        # Holding the state keeps its id from being given to another.
        known = _states[id(state)] = state, framed(b"\x1a", header) if header else b""
    return known[1]


def _each(
    tag: bytes, things: Iterable[Any], encode: Callable[[Any], bytes], tag_dropped: bytes, dropped: int
) -> bytes:
    """Events or links, and how many are not among them."""
    made = []
    for thing in things:
        try:
            made.append(framed(tag, encode(thing)))
        except Exception:
            dropped += 1
    if dropped:
        made.append(tag_dropped + varint(count(dropped)))
    return b"".join(made)


def _event(event: Any) -> bytes:
    try:
        return _event_of(event_fields(event))
    except Exception:
        return _event_of(sound_event(any_event_fields(event)))


def _event_of(fields: tuple[Any, ...]) -> bytes:
    name, at, attributes, dropped = fields
    pairs, unsaid = _of_event.joined(attributes)
    made = _event_time(0x09, at) + _event_names[name] + pairs
    return made + b"\x20" + varint(count(dropped + unsaid)) if dropped or unsaid else made


def _link(link: Any) -> bytes:
    try:
        fields = link_fields(link)
    except AttributeError:
        fields = any_link_fields(link)
    (trace_id, span_id, remote, flags, state, _), attributes, dropped = fields
    pairs, unsaid = _of_link.joined(attributes)
    made = _root_ids(0x0A10, trace_id >> 64, trace_id & _LOW, 0x1208, span_id) + _state(state) + pairs
    made += _link_flags(0x35, flags & 0xFF | (_REMOTE if remote else REMOTE_KNOWN))
    return made + b"\x28" + varint(count(dropped + unsaid)) if dropped or unsaid else made


def _resource(resource: Resource) -> bytes:
    """The fields `resource` and `schema_url` of ResourceSpans."""
    attributes = resource.attributes
    pairs, unsaid = _of_resource.joined(attributes)
    return framed(b"\x0a", pairs + _dropped(b"\x10", attributes, unsaid)) + _text(b"\x1a", resource.schema_url)


def _scope(scope: InstrumentationScope | None) -> bytes:
    """The fields `scope` and `schema_url` of ScopeSpans."""
    if scope is None:
        return b"\x0a\x00"
    attributes = {} if scope.attributes is None else scope.attributes
    pairs, unsaid = _of_scope.joined(attributes)
    made = _text(b"\x0a", scope.name) + _text(b"\x12", scope.version) + pairs
    return framed(b"\x0a", made + _dropped(b"\x20", attributes, unsaid)) + _text(b"\x1a", scope.schema_url)


def _dropped(tag: bytes, attributes: Any, unsaid: int) -> bytes:
    number = dropped_of(attributes) + unsaid
    return tag + varint(count(number)) if number else b""


def _text(tag: bytes, value: str | None) -> bytes:
    return framed(tag, text(value).encode()) if value else b""


def _join(groups: Groups) -> bytes:
    made: list[bytes] = []
    for resource, scopes in groups.items():
        inner: list[bytes] = [resource]
        size = len(resource)
        for scope, spans in scopes.items():
            length = len(scope) + sum(map(len, spans))
            head = b"\x12" + varint(length)
            inner += (head, scope)
            inner += spans
            size += len(head) + length
        made.append(b"\x0a" + varint(size))
        made += inner
    return b"".join(made)


# A tag and a length of at most 35 bits.
_layout = Layout(_resource, _scope, _join, around_group=6)
request = _layout.request
"""Items as one request: see `Layout.request`."""
requests = _layout.requests
"""Items as requests within limits: see `Layout.requests`."""
