"""A consumer of what the `kinesis` exporter sends: a Lambda handler, and the decoder that any consumer needs.

A record's data is an OTLP ExportTraceServiceRequest of one trace, as protobuf or JSON, gzip or not.
Protobuf needs `pip install opentelemetry-proto`. See docs/kinesis.md for the event-source mapping.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Span(NamedTuple):
    """What this example needs of a span. Ids are hexadecimal, times Unix nanoseconds, status 2 is an error."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    start_ns: int
    end_ns: int
    status: int


def spans_of(data: bytes) -> Iterator[Span]:
    """Every span of one record. The same span may come again, in this record's next delivery or in another record."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    yield from (_from_json(json.loads(data)) if data[:1] == b"{" else _from_protobuf(data))


def _from_json(request: dict[str, Any]) -> Iterator[Span]:
    for each in request.get("resourceSpans", []):
        attributes = {pair["key"]: pair.get("value", {}) for pair in each.get("resource", {}).get("attributes", [])}
        service = attributes.get("service.name", {}).get("stringValue", "")
        for span in (span for scope in each.get("scopeSpans", []) for span in scope.get("spans", [])):
            ids = (span["traceId"], span["spanId"], span.get("parentSpanId", ""))
            times = (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]))
            yield Span(*ids, service, span.get("name", ""), *times, span.get("status", {}).get("code", 0))


def _from_protobuf(data: bytes) -> Iterator[Span]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for each in ExportTraceServiceRequest.FromString(data).resource_spans:
        attributes = {pair.key: pair.value for pair in each.resource.attributes}
        service = attributes["service.name"].string_value if "service.name" in attributes else ""
        for span in (span for scope in each.scope_spans for span in scope.spans):
            ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
            times = (span.start_time_unix_nano, span.end_time_unix_nano)
            yield Span(*ids, service, span.name, *times, span.status.code)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's: stops at the first record that fails, so that Lambda begins there the next time."""
    seen: set[tuple[str, str]] = set()
    for record in event["Records"]:
        kinesis = record["kinesis"]
        try:
            for span in spans_of(base64.b64decode(kinesis["data"])):
                if (span.trace_id, span.span_id) not in seen:
                    seen.add((span.trace_id, span.span_id))
                    use(span)
        except Exception as error:
            print(f"record {kinesis['sequenceNumber']} failed: {type(error).__name__}: {error}")
            return {"batchItemFailures": [{"itemIdentifier": kinesis["sequenceNumber"]}]}
    return {"batchItemFailures": []}


def use(span: Span) -> None:
    """Yours. It must do no harm when the same span comes twice."""
    print(f"{span.trace_id} {span.service}: {span.name} took {(span.end_ns - span.start_ns) / 1e6:.1f} ms")
