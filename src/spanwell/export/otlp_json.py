"""Ended spans as the text of an OTLP ExportTraceServiceRequest in OTLP's JSON: the names of otlp_protobuf.

Ids are hexadecimal, 64-bit numbers and times texts, enums numbers, bytes base64, NaN and infinities texts
(opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding").
"""

from __future__ import annotations

import json
from base64 import b64encode
from math import isfinite
from typing import Any

from spanwell._otel.span_fields import any_event_fields, any_link_fields, any_span_fields
from spanwell.export.otlp_grouping import Layout
from spanwell.export.otlp_values import (
    ARRAY,
    BOOL,
    BYTES,
    DOUBLE,
    INT,
    NOTHING,
    PAIRS,
    REMOTE,
    REMOTE_KNOWN,
    TEXT,
    Values,
    check_ids,
    count,
    dropped_of,
    sound_event,
    sound_span,
)
from spanwell.values import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, TraceState

    from spanwell.export.otlp_grouping import Groups

    Json = dict[str, Any]

_FIELDS = {
    TEXT: "stringValue",
    BOOL: "boolValue",
    INT: "intValue",
    DOUBLE: "doubleValue",
    ARRAY: "arrayValue",
    PAIRS: "kvlistValue",
    BYTES: "bytesValue",
}
_ODD_FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False).encode


def encode_span(span: ReadableSpan) -> bytes:
    """`span` as one object of the array `spans`. Otherwise as `otlp_protobuf.encode_span`."""
    context, parent, name, kind, start, end, code, said, attributes, dropped, events, no_events, links, no_links = (
        sound_span(any_span_fields(span))
    )
    made: Json = {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"}
    if parent is not None:
        made["parentSpanId"] = f"{parent.span_id:016x}"
    made |= _state(context.trace_state)
    made |= {
        "flags": _flags(context, parent),
        "name": name,
        "kind": kind + 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "status": ({"message": said} if said else {}) | ({"code": code} if code else {}),
    }
    made |= _attributes(attributes, dropped)
    made |= _each("events", "droppedEventsCount", events, _event, no_events)
    made |= _each("links", "droppedLinksCount", links, _link, no_links)
    return _bytes(made)


def _bytes(made: Json) -> bytes:
    return _text(made).encode()


def _flags(context: SpanContext, origin: SpanContext | None) -> int:
    remote = REMOTE if origin is not None and origin.is_remote else 0
    return int(context.trace_flags) & 0xFF | REMOTE_KNOWN | remote


def _state(state: TraceState | None) -> Json:
    return {"traceState": text(state.to_header())} if state else {}


def _event(event: Any) -> Json:
    name, at, attributes, dropped = sound_event(any_event_fields(event))
    return {"timeUnixNano": str(at), "name": name} | _attributes(attributes, dropped)


def _link(link: Any) -> Json:
    context, attributes, dropped = any_link_fields(link)
    check_ids(context)
    made: Json = {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"}
    made |= _state(context.trace_state)
    made["flags"] = _flags(context, context)
    return made | _attributes(attributes, dropped)


def _each(name: str, name_dropped: str, things: Iterable[Any], encode: Callable[[Any], Json], dropped: int) -> Json:
    """Events or links, and how many are not among them."""
    made = []
    for thing in things:
        try:
            made.append(encode(thing))
        except Exception:
            dropped += 1
    return ({name: made} if made else {}) | ({name_dropped: count(dropped)} if dropped else {})


def _attributes(attributes: Mapping[str, Any], dropped: int) -> Json:
    made = []
    for key, value in dict(attributes).items():
        try:
            made.append({"key": text(key), "value": _value(value, Values())})
        except Exception:
            dropped += 1
    return ({"attributes": made} if made else {}) | ({"droppedAttributesCount": count(dropped)} if dropped else {})


def _value(value: Any, values: Values, depth: int = 0) -> Json:
    field, content = values.said(value, depth)
    if field == NOTHING:
        return {}
    if field == INT:
        content = str(content)
    elif field == DOUBLE and not isfinite(content):
        content = _ODD_FLOATS[repr(content)]
    elif field == BYTES:
        content = b64encode(content).decode()
    elif field == ARRAY:
        content = {"values": [_value(each, values, depth + 1) for each in content]}
    elif field == PAIRS:
        content = {"values": [{"key": key, "value": _value(each, values, depth + 1)} for key, each in content]}
    return {_FIELDS[field]: content}


def _resource(resource: Resource) -> bytes:
    """The members `resource` and `schemaUrl`, as an object that is still open."""
    attributes = resource.attributes
    return _open({"resource": _attributes(attributes, dropped_of(attributes))}, resource.schema_url)


def _scope(scope: InstrumentationScope | None) -> bytes:
    """The members `scope` and `schemaUrl`, as an object that is still open."""
    if scope is None:
        return _open({"scope": {}}, None)
    attributes = {} if scope.attributes is None else scope.attributes
    made: Json = {"name": text(scope.name)} | ({"version": text(scope.version)} if scope.version else {})
    return _open({"scope": made | _attributes(attributes, dropped_of(attributes))}, scope.schema_url)


def _open(made: Json, schema_url: str | None) -> bytes:
    return _bytes(made | ({"schemaUrl": text(schema_url)} if schema_url else {}))[:-1]


def _join(groups: Groups) -> bytes:
    resources = [
        resource
        + b',"scopeSpans":['
        + b",".join([scope + b',"spans":[' + b",".join(spans) + b"]}" for scope, spans in scopes.items()])
        + b"]}"
        for resource, scopes in groups.items()
    ]
    return b'{"resourceSpans":[' + b",".join(resources) + b"]}"


_layout = Layout(
    _resource,
    _scope,
    _join,
    around_group=len(',"scopeSpans":[]},'),
    around_span=len(","),
    around=len('{"resourceSpans":[]}'),
)
request = _layout.request
"""Items as one request: see `Layout.request`."""
requests = _layout.requests
"""Items as requests within limits: see `Layout.requests`."""
