"""What a daemon or an OTLP receiver got from a function, as plain values."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.daemon import HEADER, Daemon

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


class Seen(NamedTuple):
    """A span that arrived, ids in hexadecimal. Of an X-Ray document: kind and links are empty."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    status: str
    """UNSET, OK or ERROR; of an X-Ray document ERROR if it has error, fault or throttle."""
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[tuple[str, str]]
    start_ns: int
    end_ns: int
    received_ns: int
    sampled: bool
    scope: str
    raw: Any
    """The protobuf span, or the X-Ray document."""


def from_daemon(daemon: Daemon) -> list[Seen]:
    """Every span that arrived by UDP, OTLP or X-Ray documents; fails on what a daemon would not understand."""
    found = []
    for received, datagram in list(daemon.arrived):
        assert datagram.startswith(HEADER), datagram[:60]
        body = datagram[len(HEADER) :]
        if body[:3] in (b"T1S", b"T1U"):
            found += from_request(base64.b64decode(body[3:]), received, sampled=body[2:3] == b"S")
        else:
            found += [_from_document(json.loads(part), received) for part in body.split(b"\n") if part]
    return found


def from_receiver(receiver: Any, run: str) -> list[Seen]:
    """Every span that arrived by OTLP over HTTP."""
    return [each for received, body in receiver.requests(run) for each in from_request(body, received)]


def from_request(body: bytes, received: int, *, sampled: bool = True) -> list[Seen]:
    """The spans of an OTLP export request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _from_span(span, _attributes(resource.resource.attributes), scope.scope.name, received, sampled)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _from_span(span: Any, resource: dict[str, Any], scope: str, received: int, sampled: bool) -> Seen:
    return Seen(
        span.name,
        KINDS[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        ("UNSET", "OK", "ERROR")[span.status.code],
        _attributes(span.attributes),
        resource,
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        received,
        sampled,
        scope,
        span,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def _from_document(document: dict[str, Any], received: int) -> Seen:
    failed = any(document.get(key) for key in ("error", "fault", "throttle"))
    return Seen(
        document["name"],
        "",
        document["trace_id"][2:].replace("-", ""),
        document["id"],
        document.get("parent_id", ""),
        "ERROR" if failed else "UNSET",
        {**document.get("annotations", {}), **document.get("metadata", {}).get("default", {})},
        {},
        [],
        int(document["start_time"] * 1e9),
        int(document.get("end_time", 0) * 1e9),
        received,
        True,
        "",
        document,
    )
