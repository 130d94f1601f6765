"""Jaeger's JSON, as its page and its HTTP interface give it: `{"data": [trace, …]}`, traces with spans and processes.

Tags become attributes as the OpenTelemetry specification maps them (specification/trace/sdk_exporters/jaeger.md): the
kind, the status and the instrumentation scope are tags too.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from math import isfinite
from typing import TYPE_CHECKING, Any

from spanwell.explore.formats.common import (
    KINDS,
    UNKNOWN_SERVICE,
    RefusedError,
    as_text,
    clamped,
    dumps,
    duration,
    integer,
    listed,
    mapped,
    named,
    nanoseconds,
    parent_id,
    span_id,
    trace_id,
    why,
)
from spanwell.record import EventRecord, LinkRecord, SpanRecord
from spanwell.values import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from spanwell.explore.formats.common import Refuse

MANY = "data"
_MICRO = 1_000
_DROPPED = tuple(f"otel.dropped_{each}_count" for each in ("attributes", "events", "links"))
_SCOPE = ("otel.scope.name", "otel.library.name")
_SCOPE_VERSION = ("otel.scope.version", "otel.library.version")


def matches(value: dict[str, Any]) -> bool:
    """Whether `value` is an answer of Jaeger's interface, a trace, or a span with its process in it."""
    found = value.get(MANY)
    if isinstance(found, list):
        return not found or (isinstance(found[0], dict) and "traceID" in found[0])
    return "traceID" in value


class JaegerReader:
    """Reads traces; see `common.Reader`."""

    left_out = 0

    def feed(self, value: Any, where: str, refuse: Refuse) -> Iterator[SpanRecord]:
        """The spans of one answer, trace or span."""
        traces = value.get(MANY) or [] if MANY in value else [value]
        for number, trace in enumerate(traces):
            place = f"{where}, {MANY}[{number}]" if len(traces) > 1 else where
            try:
                if "spans" not in trace:
                    yield _span(trace, {}, trace)
                    continue
                spans = listed(trace["spans"], "spans")
                processes = {key: _process(each) for key, each in mapped(trace.get("processes"), "processes").items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                refuse(place, why(error))
                continue
            for position, span in enumerate(spans):
                try:
                    yield _span(span, processes, trace)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    refuse(f"{place}, spans[{position}]", why(error))

    def end(self, refuse: Refuse) -> Iterable[SpanRecord]:
        """Nothing is held."""
        return ()


def _process(process: Any) -> tuple[str, dict[str, Any]]:
    service = named(process.get("serviceName")) or UNKNOWN_SERVICE
    return service, {"service.name": service, **_tags(process.get("tags"))}


def _span(
    span: dict[str, Any], processes: dict[str, tuple[str, dict[str, Any]]], trace: dict[str, Any]
) -> SpanRecord:
    get = span.get
    told = _tags(get("tags"))
    inside = get("process")
    service, resource = _process(inside) if inside else processes.get(get("processID", ""), _NOBODY)
    trace_of = trace_id(get("traceID") or trace.get("traceID"))
    start = nanoseconds(span["startTime"], "startTime", _MICRO)
    parent, links = _references(get("references"), trace_of)
    status, message = _status(told)
    return SpanRecord(
        trace_of,
        span_id(get("spanID")),
        parent or parent_id(get("parentSpanID")),
        named(get("operationName")),
        _kind(told.pop("span.kind", None)),
        service,
        start,
        clamped(start + duration(get("duration", 0), "duration", _MICRO)),
        status,
        message,
        told,
        tuple(map(_event, listed(get("logs"), "logs"))),
        links,
        resource,
        _first(told, _SCOPE),
        _first(told, _SCOPE_VERSION),
        named(told.pop("w3c.tracestate", "")),
        clamped(integer(get("flags") or 0, "flags")),
        *(clamped(integer(told.pop(key, 0), key)) for key in _DROPPED),
    )


_NOBODY: tuple[str, dict[str, Any]] = (UNKNOWN_SERVICE, {"service.name": UNKNOWN_SERVICE})


def _kind(value: Any) -> str:
    kind = named(value).lower()
    return kind if kind in KINDS else "internal"


def _status(told: dict[str, Any]) -> tuple[str, str]:
    """The status, and what it says; what told it leaves the tags."""
    code = named(told.pop("otel.status_code", "")).lower()
    message = named(told.pop("otel.status_description", ""))
    failed = told.get("error") in (True, "true", "True", "1", 1)
    if failed:
        del told["error"]
    status = code if code in ("ok", "error") else "error" if failed else "unset"
    return status, message


def _first(told: dict[str, Any], keys: Iterable[str]) -> str:
    found = [named(told.pop(key)) for key in keys if key in told]
    return found[0] if found else ""


def _references(references: Any, trace_of: str) -> tuple[str | None, tuple[LinkRecord, ...]]:
    """The parent, as Jaeger chooses it: CHILD_OF goes before FOLLOWS_FROM; every other reference is a link."""
    found = [
        (named(each.get("refType")).upper(), trace_id(each.get("traceID") or trace_of), span_id(each.get("spanID")))
        for each in listed(references, "references")
    ]
    parent = None
    for wanted in ("CHILD_OF", "FOLLOWS_FROM"):
        chosen = next((each for each in found if each[0] == wanted and each[1] == trace_of), None)
        if chosen is not None:
            found.remove(chosen)
            parent = chosen[2]
            break
    return parent, tuple(
        LinkRecord(trace, span, {"opentracing.ref_type": kind.lower()}) for kind, trace, span in found
    )


def _event(log: dict[str, Any]) -> EventRecord:
    told = _tags(log.get("fields"))
    name = told.pop("event", None)
    return EventRecord(
        named(name if name is not None else told.pop("message", "log")),
        nanoseconds(log["timestamp"], "timestamp", _MICRO),
        told,
    )


def _tags(tags: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for tag in tags or ():
        value = tag.get("value")
        if value.__class__ is not str:
            made[tag["key"]] = value
            continue
        read = _TYPES.get(tag.get("type"))
        made[tag["key"]] = value if read is None else read(value)
    return made


def _bool(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RefusedError(f"the tag value {value!r} is no boolean")
    return value.lower() == "true"


_TYPES: dict[Any, Callable[[str], Any]] = {"bool": _bool, "int64": int, "float64": float, "binary": b64decode}


# --- writing --------------------------------------------------------------------------------------------------------


def write(traces: Iterable[list[SpanRecord]]) -> Iterator[str]:
    """`{"data": [trace, …]}`, as Jaeger's page opens it."""
    yield '{"data":['
    for number, spans in enumerate(traces):
        yield ("," if number else "") + "\n" + dumps(_trace(spans))
    yield "\n]}\n"


def _trace(spans: list[SpanRecord]) -> dict[str, Any]:
    processes: dict[str, dict[str, Any]] = {}
    known: dict[str, str] = {}
    made = []
    for span in spans:
        tags = [_tag(key, value) for key, value in span.resource.items() if key != "service.name"]
        process = {"serviceName": span.service, "tags": tags}
        key = known.setdefault(dumps(process), f"p{len(known) + 1}")
        processes[key] = process
        made.append(_span_json(span, key))
    return {"traceID": spans[0].trace_id, "spans": made, "processes": processes, "warnings": None}


def _span_json(span: SpanRecord, process: str) -> dict[str, Any]:
    references = [_reference("CHILD_OF", span.trace_id, span.parent_id)] if span.parent_id else []
    references += [_reference(_ref_type(link.attributes), link.trace_id, link.span_id) for link in span.links]
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "flags": span.flags & 0xFF,
        "operationName": span.name,
        "references": references,
        "startTime": span.start_ns // _MICRO,
        "duration": max(0, span.end_ns // _MICRO - span.start_ns // _MICRO),
        "tags": [*(_tag(key, value) for key, value in span.attributes.items()), *_own_tags(span)],
        "logs": [
            {
                "timestamp": event.time_ns // _MICRO,
                "fields": [_tag("event", event.name), *(_tag(*each) for each in event.attributes.items())],
            }
            for event in span.events
        ],
        "processID": process,
        "warnings": None,
    }


def _own_tags(span: SpanRecord) -> Iterator[dict[str, Any]]:
    """What Jaeger has no field for."""
    yield _tag("span.kind", span.kind)
    if span.status != "unset":
        yield _tag("otel.status_code", span.status.upper())
    if span.is_error:
        yield _tag("error", True)
    told = {
        "otel.status_description": span.status_message,
        _SCOPE[0]: span.scope,
        _SCOPE_VERSION[0]: span.scope_version,
    }
    dropped = span.dropped_attributes, span.dropped_events, span.dropped_links
    told |= {"w3c.tracestate": span.trace_state, **dict(zip(_DROPPED, map(str, dropped), strict=True))}
    for key, value in told.items():
        if key in _DROPPED:
            if value != "0":
                yield _tag(key, int(value))
        elif value:
            yield _tag(key, value)


def _ref_type(attributes: Mapping[str, Any]) -> str:
    return "CHILD_OF" if attributes.get("opentracing.ref_type") == "child_of" else "FOLLOWS_FROM"


def _reference(kind: str, trace_of: str, span: str) -> dict[str, str]:
    return {"refType": kind, "traceID": trace_of, "spanID": span}


def _tag(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": text(key), "type": "bool", "value": value}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"key": text(key), "type": "int64", "value": value}
    if isinstance(value, float) and isfinite(value):
        return {"key": text(key), "type": "float64", "value": value}
    if isinstance(value, bytes):
        return {"key": text(key), "type": "binary", "value": b64encode(value).decode()}
    return {"key": text(key), "type": "string", "value": as_text(value)}
