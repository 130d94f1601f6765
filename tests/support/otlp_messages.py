"""OTLP requests as upstream reads and writes them: protobuf's classes, and JSON through protobuf's own parser."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from spanwell.export import otlp_json, otlp_protobuf


def items(encoder: Any, spans: list[ReadableSpan]) -> list[Any]:
    return [(span.resource, span.instrumentation_scope, encoder.encode_span(span)) for span in spans]


def parsed(body: bytes) -> Any:
    return ExportTraceServiceRequest.FromString(body)


def ours(spans: list[ReadableSpan]) -> Any:
    return parsed(otlp_protobuf.request(items(otlp_protobuf, spans)))


def ours_through_json(spans: list[ReadableSpan]) -> Any:
    return parsed_json(otlp_json.request(items(otlp_json, spans)))


def parsed_json(body: bytes) -> Any:
    """OTLP writes ids in hexadecimal where protobuf's JSON has base64: the one difference."""
    tree = json.loads(body, parse_constant=_refuse)
    for resource in tree["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for holder in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId"):
                        if name in holder:
                            holder[name] = b64encode(bytes.fromhex(holder[name])).decode()
    return ParseDict(tree, ExportTraceServiceRequest())


def upstreams(spans: list[ReadableSpan]) -> Any:
    return encode_spans(spans)


def spans_of(message: Any) -> list[Any]:
    return [span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]


def canonical(message: Any) -> bytes:
    """Equal for equal messages; NaN, which is not equal to itself, included."""
    return bytes(message.SerializeToString(deterministic=True))


def value_of(any_value: Any) -> Any:
    """The Python value of an AnyValue."""
    field = any_value.WhichOneof("value")
    if field is None:
        return None
    content = getattr(any_value, field)
    if field == "array_value":
        return [value_of(each) for each in content.values]
    if field == "kvlist_value":
        return attributes_of(content.values)
    return content


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in pairs}


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")
