"""Spans as X-Ray segment documents, one a line: what X-Ray shows in its blocks, all the rest in the metadata.

A span is a segment if it has no parent, serves, or has another service than its parent; else a subsegment of its own.
The namespace `otel` says what a document has no field for, so that reading it back gives the same span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spanwell.explore.formats.common import dumps, named
from spanwell.explore.formats.xray_spans import DEFAULT, LISTED, OTEL
from spanwell.values import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from spanwell.record import SpanRecord

_SYMBOLS = frozenset("_.:/%&#=+\\-@")
_SHORT = 250
_MAX_NAME = 200
_MAX_ANNOTATIONS = 50
_MAX_EXCEPTIONS = 10
_CALLED = ("peer.service", "service.peer.name", "rpc.service", "server.address", "net.peer.name", "messaging.system")
_HTTP: dict[str, dict[str, tuple[str, ...]]] = {
    "request": {
        "method": ("http.request.method", "http.method"),
        "url": ("url.full", "http.url", "url.path", "http.target"),
        "user_agent": ("user_agent.original", "http.user_agent"),
        "client_ip": ("client.address", "http.client_ip"),
    },
    "response": {
        "status": ("http.response.status_code", "http.status_code"),
        "content_length": ("http.response.body.size", "http.response_content_length"),
    },
}
_NUMBERS = ("status", "content_length")
_AWS = {
    "operation": ("rpc.method", "aws.operation"),
    "region": ("cloud.region", "aws.region"),
    "request_id": ("aws.request_id",),
    "queue_url": ("aws.sqs.queue.url", "aws.queue_url"),
}
_SQL = {
    "database_type": ("db.system.name", "db.system"),
    "user": ("db.user",),
    "sanitized_query": ("db.query.text", "db.statement"),
}


def write(traces: Iterable[list[SpanRecord]]) -> Iterator[str]:
    """One document a line."""
    for spans in traces:
        services = {span.span_id: span.service for span in spans}
        for span in spans:
            parent = span.parent_id
            segment = parent is None or span.kind == "server" or services.get(parent) != span.service
            yield dumps(_document(span, segment)) + "\n"


def _document(span: SpanRecord, segment: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "trace_id": f"1-{span.trace_id[:8]}-{span.trace_id[8:]}",
        "id": span.span_id,
        "name": clean(span.service if segment else _dependency(span)),
        "start_time": span.start_ns / 1e9,
        "end_time": max(span.start_ns, span.end_ns) / 1e9,
    }
    made |= {"parent_id": span.parent_id} if span.parent_id else {}
    made |= {} if segment else {"type": "subsegment"}
    told = span.attributes
    call = "aws-api" in (told.get("rpc.system"), told.get("rpc.system.name"))
    if not segment and span.kind in ("client", "producer"):
        made["namespace"] = "aws" if call else "remote"
    http = {name: block for name, fields in _HTTP.items() if (block := _block(fields, told))}
    made |= {"http": http} if http else {}
    made |= {"aws": block} if call and not segment and (block := _block(_AWS, told)) else {}
    made |= {"sql": block} if not segment and (block := _block(_SQL, told)) else {}
    made |= _flags(span)
    exceptions = [_exception(span, number, each) for number, each in enumerate(_thrown(span))]
    made |= {"cause": {"exceptions": exceptions}} if exceptions else {}
    annotations = _annotations(told)
    made |= {"annotations": annotations} if annotations else {}
    if span.links:
        made["links"] = [
            {
                "trace_id": f"1-{link.trace_id[:8]}-{link.trace_id[8:]}",
                "id": link.span_id,
                "attributes": plain(link.attributes)
                | ({"otel.trace_state": link.trace_state} if link.trace_state else {}),
            }
            for link in span.links
        ]
    made["metadata"] = {DEFAULT: plain(told), OTEL: _own(span)}
    return made


def _own(span: SpanRecord) -> dict[str, Any]:
    own: dict[str, Any] = {
        "whole": True,
        "name": span.name,
        "kind": span.kind.upper(),
        "service": span.service,
        "start_ns": str(span.start_ns),
        "end_ns": str(span.end_ns),
        "resource": plain(span.resource),
    }
    own |= {"status": span.status} if span.status != "unset" else {}
    told = {"status_message": span.status_message, "scope": span.scope, "scope_version": span.scope_version}
    own |= {key: value for key, value in {**told, "trace_state": span.trace_state}.items() if value}
    own |= {"flags": span.flags} if span.flags else {}
    if span.events:
        own["events"] = [
            {"name": event.name, "time_ns": str(event.time_ns), "attributes": plain(event.attributes)}
            for event in span.events
        ]
    dropped = [span.dropped_attributes, span.dropped_events, span.dropped_links]
    return own | ({"dropped": dropped} if any(dropped) else {})


def clean(name: str) -> str:
    """`name` in the letters that X-Ray allows, 200 of them at most."""
    kept = "".join(c if c.isalnum() or c in _SYMBOLS else " " if c.isspace() else "" for c in name[: 5 * _MAX_NAME])
    return kept[:_MAX_NAME].strip() or "span"


def _dependency(span: SpanRecord) -> str:
    if span.kind not in ("client", "producer"):
        return span.name
    told = span.attributes
    found = next((told[key] for key in _CALLED if isinstance(told.get(key), str) and told[key]), "")
    host = _host(named(told.get("url.full") or told.get("http.url"))) if not found else ""
    return found or host or span.name


def _host(url: str) -> str:
    """The host of `url`; "" for what is no URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _block(fields: Mapping[str, tuple[str, ...]], told: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for field, keys in fields.items():
        value = next((told[key] for key in keys if told.get(key) is not None), None)
        if field in _NUMBERS:
            if type(value) is int:
                made[field] = value
        elif isinstance(value, str) and value:
            made[field] = value[:_SHORT]
    return made


def _flags(span: SpanRecord) -> dict[str, bool]:
    code = next((span.attributes[key] for key in _HTTP["response"]["status"] if key in span.attributes), None)
    if type(code) is int and 400 <= code <= 499:
        return {"error": True, "throttle": True} if code == 429 else {"error": True}
    if span.is_error or (type(code) is int and 500 <= code <= 599):
        return {"fault": True}
    return {}


def _thrown(span: SpanRecord) -> list[dict[str, str]]:
    found = [
        {"message": named(event.attributes.get("exception.message")), "type": named(event.attributes.get(_TYPE))}
        for event in span.events
        if event.name == "exception"
    ]
    if not found and span.is_error and span.status_message:
        found = [{"message": span.status_message, "type": named(span.attributes.get("error.type"))}]
    return found[:_MAX_EXCEPTIONS]


_TYPE = "exception.type"


def _exception(span: SpanRecord, number: int, told: dict[str, str]) -> dict[str, Any]:
    made = {"id": f"{int(span.span_id, 16) ^ (number + 1):016x}"}
    made |= {key: value[:_SHORT] for key, value in told.items() if value}
    return made


def _annotations(told: Mapping[str, Any]) -> dict[str, Any]:
    listed = told.get(LISTED)
    if not isinstance(listed, (list, tuple)):
        return {}
    return {
        "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in key[:500]): plain({"": told[key]})[
            ""
        ]
        for key in listed[:_MAX_ANNOTATIONS]
        if isinstance(key, str) and isinstance(told.get(key), (str, bool, int, float))
    }
