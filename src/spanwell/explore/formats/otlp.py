"""OTLP's JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): requests, alone or one a line."""

from __future__ import annotations

from base64 import b64decode, b64encode
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING, Any

from spanwell.explore.formats.common import (
    KINDS,
    STATUSES,
    UNKNOWN_SERVICE,
    RefusedError,
    clamped,
    dumps,
    integer,
    listed,
    mapped,
    named,
    nanoseconds,
    parent_id,
    shown,
    span_id,
    trace_id,
    why,
)
from spanwell.record import EventRecord, LinkRecord, SpanRecord
from spanwell.values import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from spanwell.explore.formats.common import Refuse

MANY = "resourceSpans"
_KINDS: dict[Any, str] = {None: "internal", 0: "internal", **{number + 1: kind for number, kind in enumerate(KINDS)}}
_KINDS |= {"SPAN_KIND_UNSPECIFIED": "internal", **{f"SPAN_KIND_{kind.upper()}": kind for kind in KINDS}}
_STATUSES: dict[Any, str] = {None: "unset", **dict(enumerate(STATUSES))}
_STATUSES |= {f"STATUS_CODE_{status.upper()}": status for status in STATUSES}
_MAX_DEPTH = 16
_SAFE = 20
_ODD_FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def matches(value: dict[str, Any]) -> bool:
    """Whether `value` is an OTLP request, or what Jaeger's and Tempo's interfaces wrap around one."""
    return MANY in value or "batches" in value or _inner(value) is not None


def _inner(value: dict[str, Any]) -> dict[str, Any] | None:
    for key in ("result", "trace"):
        inner = value.get(key)
        if isinstance(inner, dict) and (MANY in inner or "batches" in inner):
            return inner
    return None


class OtlpReader:
    """Reads requests; see `common.Reader`."""

    left_out = 0

    def feed(self, value: Any, where: str, refuse: Refuse) -> Iterator[SpanRecord]:
        """The spans of one ExportTraceServiceRequest."""
        request = _inner(value) or value
        try:
            groups = listed(request.get(MANY, request.get("batches")), MANY)
        except RefusedError as error:
            refuse(where, str(error))
            return
        for number, given in enumerate(groups):
            place = f"{where}, {MANY}[{number}]" if len(groups) > 1 else where
            try:
                group = mapped(given, "it")
                resource = attributes(mapped(group.get("resource"), "resource").get("attributes"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                refuse(place, f"the resource cannot be read: {why(error)}")
                continue
            yield from _scopes(group, resource, place, refuse)

    def end(self, refuse: Refuse) -> Iterable[SpanRecord]:
        """Nothing is held."""
        return ()


def _scopes(group: dict[str, Any], resource: dict[str, Any], place: str, refuse: Refuse) -> Iterator[SpanRecord]:
    service = named(resource.get("service.name")) or UNKNOWN_SERVICE
    scopes = group.get("scopeSpans", group.get("instrumentationLibrarySpans"))
    try:
        for number, spans in enumerate(listed(scopes, "scopeSpans")):
            scope = mapped(spans.get("scope", spans.get("instrumentationLibrary")), "scope")
            name, version = named(scope.get("name")), named(scope.get("version"))
            for position, span in enumerate(listed(spans.get("spans"), "spans")):
                try:
                    found = _span(span, service, resource, name, version)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    inner = f"scopeSpans[{number}].spans[{position}]"
                    refuse(f"{place}, {inner}", why(error))
                else:
                    yield found
    except (RefusedError, AttributeError) as error:
        refuse(place, why(error))


def _span(span: dict[str, Any], service: str, resource: dict[str, Any], scope: str, version: str) -> SpanRecord:
    get = span.get
    start = nanoseconds(get("startTimeUnixNano", 0), "startTimeUnixNano")
    if not start:
        raise RefusedError("startTimeUnixNano is missing")
    status, message = get("status"), ""
    code = "unset"
    if status:
        code, message = _STATUSES[status.get("code")], named(status.get("message"))
    told, events, links = get("attributes"), get("events"), get("links")
    return SpanRecord(
        trace_id(get("traceId")),
        span_id(get("spanId")),
        parent_id(get("parentSpanId")),
        named(get("name")),
        _KINDS[get("kind")],
        service,
        start,
        nanoseconds(get("endTimeUnixNano", 0), "endTimeUnixNano") or start,
        code,
        message,
        attributes(told) if told else {},
        tuple(map(_event, listed(events, "events"))) if events else (),
        tuple(map(_link, listed(links, "links"))) if links else (),
        resource,
        scope,
        version,
        named(get("traceState")),
        _count(get("flags")),
        _count(get("droppedAttributesCount")),
        _count(get("droppedEventsCount")),
        _count(get("droppedLinksCount")),
    )


def _count(value: Any) -> int:
    return clamped(integer(value, "a count")) if value else 0


def _event(event: dict[str, Any]) -> EventRecord:
    at = nanoseconds(event.get("timeUnixNano", 0), "timeUnixNano")
    return EventRecord(named(event.get("name")), at, attributes(event.get("attributes")))


def _link(link: dict[str, Any]) -> LinkRecord:
    ids = trace_id(link.get("traceId")), span_id(link.get("spanId"))
    return LinkRecord(*ids, attributes(link.get("attributes")), named(link.get("traceState")))


def attributes(pairs: Any) -> dict[str, Any]:
    """A list of OTLP's KeyValue as a dictionary. Raises `RefusedError`, AttributeError, TypeError, KeyError."""
    made: dict[str, Any] = {}
    for pair in pairs or ():
        value = pair.get("value")
        if value:  # the usual two first
            found = value.get("stringValue")
            if found.__class__ is str:
                made[pair["key"]] = found
                continue
            found = value.get("intValue")
            if found.__class__ is str and len(found) < _SAFE and found.isdecimal():
                made[pair["key"]] = int(found)
                continue
        made[pair["key"]] = any_value(value)
    return made


def any_value(value: Any, depth: int = 0) -> Any:
    """OTLP's AnyValue; None for one without a value."""
    if not value:
        return None
    if depth > _MAX_DEPTH:
        raise RefusedError(f"a value is nested deeper than {_MAX_DEPTH} levels")
    ((field, content), *_) = mapped(value, "a value").items()
    read = _VALUES.get(field)
    if read is None:
        raise RefusedError(f"a value has the unknown type {shown(field)}")
    return read(content, depth)


def _bool(content: Any, _: int) -> bool:
    if not isinstance(content, bool):
        raise RefusedError(f"boolValue {shown(content)} is no boolean")
    return content


def _float(content: Any, _: int) -> float:
    return float(content)


def _list(content: Any, depth: int) -> list[Any]:
    return [any_value(each, depth + 1) for each in listed(mapped(content, "arrayValue").get("values"), "values")]


def _pairs(content: Any, depth: int) -> dict[str, Any]:
    pairs = listed(mapped(content, "kvlistValue").get("values"), "values")
    return {each["key"]: any_value(each.get("value"), depth + 1) for each in pairs}


_VALUES: dict[str, Callable[[Any, int], Any]] = {
    "stringValue": lambda content, _: named(content),
    "boolValue": _bool,
    "intValue": lambda content, _: integer(content, "intValue"),
    "doubleValue": _float,
    "arrayValue": _list,
    "kvlistValue": _pairs,
    "bytesValue": lambda content, _: b64decode(content),
}


# --- writing --------------------------------------------------------------------------------------------------------


def write(traces: Iterable[list[SpanRecord]]) -> Iterator[str]:
    """One request a line, each a trace: as the collector's file exporter writes them."""
    for spans in traces:
        groups = []
        for _, group in groupby(spans, key=lambda span: id(span.resource)):
            of_resource = list(group)
            scopes = []
            for (name, version), some in groupby(of_resource, key=lambda span: (span.scope, span.scope_version)):
                scope = {"name": name, "version": version} if name or version else {}
                scopes.append({"scope": scope, "spans": [_json(span) for span in some]})
            resource = _pairs_json(_with_service(of_resource[0]))
            groups.append({"resource": {"attributes": resource}, "scopeSpans": scopes})
        yield dumps({MANY: groups}) + "\n"


def _with_service(span: SpanRecord) -> Mapping[str, Any]:
    if "service.name" in span.resource or span.service == UNKNOWN_SERVICE:
        return span.resource
    return {"service.name": span.service, **span.resource}


def _json(span: SpanRecord) -> dict[str, Any]:
    made: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    made |= {"parentSpanId": span.parent_id} if span.parent_id else {}
    made |= {"traceState": span.trace_state} if span.trace_state else {}
    made |= {"flags": span.flags} if span.flags else {}
    made |= {
        "name": span.name,
        "kind": KINDS.index(span.kind) + 1,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _pairs_json(span.attributes),
        "events": [
            {"timeUnixNano": str(event.time_ns), "name": event.name, "attributes": _pairs_json(event.attributes)}
            for event in span.events
        ],
        "links": [_link_json(link) for link in span.links],
        "status": {"code": STATUSES.index(span.status), "message": span.status_message},
    }
    dropped = {
        "droppedAttributesCount": span.dropped_attributes,
        "droppedEventsCount": span.dropped_events,
        "droppedLinksCount": span.dropped_links,
    }
    return made | {key: number for key, number in dropped.items() if number}


def _link_json(link: LinkRecord) -> dict[str, Any]:
    made: dict[str, Any] = {"traceId": link.trace_id, "spanId": link.span_id}
    made |= {"traceState": link.trace_state} if link.trace_state else {}
    return made | {"attributes": _pairs_json(link.attributes)}


def _pairs_json(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": text(key), "value": _value_json(value)} for key, value in attributes.items()]


def _value_json(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if isfinite(value) else _ODD_FLOATS[repr(value)]}
    if isinstance(value, bytes):
        return {"bytesValue": b64encode(value).decode()}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value_json(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _pairs_json(value)}}
    return {}
