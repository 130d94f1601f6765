"""A second real OTLP receiver (autotel-devtools, with its own parsers) reads from our bytes what was recorded."""

from __future__ import annotations

import base64
import json
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from spanwell import plugins
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from support import node
from support.destinations import variables
from support.exporters import ListExporter
from support.started import LAUNCHERS, clean, run

pytestmark = pytest.mark.slow

PROOF = "an OTLP receiver that is not ours, nor of protobuf's classes, reads our spans as they were"
BOTH = pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
ATTRIBUTES: dict[str, Any] = {
    "text": "größe 日本 \U0001f600",
    "empty": "",
    "control": '\x00\x1b\n"\\',
    "long": "x" * 70_000,
    "yes": True,
    "zero": 0,
    "negative": -(2**40),
    "large": 2**53 - 1,
    "half": 0.5,
    "texts": ("a", "b", ""),
    "numbers": (1, 2**40),
    "http.response.status_code": 200,
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    with node.autotel(PROOF) as url:
        yield url


def ask(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/traces", method=method), timeout=20) as answer:
        return json.load(answer)


def read(url: str) -> dict[str, Any]:
    """Span id -> the span as the receiver has it; none is there twice."""
    found = [span for trace in ask(url)["traces"] for span in trace["spans"]]
    assert len({span["spanId"] for span in found}) == len(found)
    return {span["spanId"]: span for span in found}


def record(*processors: Any) -> None:
    """A trace of every kind, with events, links, errors, and values of every type."""
    resource = Resource({"service.name": "shop", "deployment.environment.name": "tests"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for each in processors:
        provider.add_span_processor(each)
    tracer = provider.get_tracer("shop.orders", "1.2.3")
    other = SpanContext(0x7 << 64, 0x8, True, TraceFlags(1))
    links = [Link(other, {"why": "batched"}), Link(SpanContext(2**128 - 1, 2**64 - 1, True))]
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER, attributes=ATTRIBUTES, links=links) as span:
        span.add_event("empty")
        span.add_event("full", {"text": "ü", "number": 7, "list": ("x", "y")})
        for kind in SpanKind:
            with tracer.start_as_current_span(f"of kind {kind.name}", kind=kind) as child:
                child.set_status(Status(StatusCode.OK) if kind is SpanKind.CLIENT else Status(StatusCode.UNSET))
        with pytest.raises(ValueError, match="no such"), tracer.start_as_current_span("fails"):
            raise ValueError("no such order: é")
    provider.shutdown()


def expected(span: ReadableSpan) -> dict[str, Any]:
    """What a reader is to find of `span`."""
    assert span.context is not None
    made: dict[str, Any] = {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.name,
        "attributes": {**_plain(span.resource.attributes), **_plain(span.attributes)},
        "status": {"code": span.status.status_code.name},
        "events": [{"name": event.name, "attributes": _plain(event.attributes)} for event in span.events],
        "links": [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _plain(link.attributes),
            }
            for link in span.links
        ],
        "scope": {"name": "shop.orders", "version": "1.2.3"},
    }
    if span.parent is not None:
        made["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.status.description:
        made["status"]["message"] = span.status.description
    return made


def _plain(attributes: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in (attributes or {}).items()}


def told(span: dict[str, Any]) -> dict[str, Any]:
    """The same of what was read, without the times."""
    made = {key: value for key, value in span.items() if key not in ("startTime", "endTime", "duration")}
    made["events"] = [
        {"name": event["name"], "attributes": event.get("attributes") or {}} for event in span.get("events", ())
    ]
    made["links"] = [{**link, "attributes": link.get("attributes") or {}} for link in span.get("links", ())]
    return made


@BOTH
def test_what_is_read_back_is_what_was_recorded(receiver: str, protocol: str) -> None:
    ask(receiver, "DELETE")
    with variables({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}):
        exporter = plugins.OtlpSpanExporter()
    sent = ListExporter()
    batch = BatchProcessor(GuardedExporter("otlp", lambda: exporter))
    kept = BatchProcessor(GuardedExporter("kept", lambda: sent))
    record(batch, kept)
    found = read(receiver)
    assert len(found) == len(sent.spans) == 2 + len(SpanKind)
    for span in sent.spans:
        wanted = expected(span)
        got = found[wanted["spanId"]]
        assert told(got) == wanted
        assert span.start_time is not None
        assert span.end_time is not None
        assert abs(got["startTime"] - span.start_time / 1e6) < 0.01, "milliseconds"
        assert abs(got["endTime"] - span.end_time / 1e6) < 0.01
        assert all(
            abs(event["timestamp"] - recorded.timestamp / 1e6) < 0.01
            for event, recorded in zip(got["events"], span.events, strict=True)
        )


@BOTH
def test_what_only_our_encoder_sends_is_read_too(receiver: str, protocol: str) -> None:
    """Maps and bytes within attributes, as spans made by hand have them."""
    from support.spans import make_span

    ask(receiver, "DELETE")
    with variables({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}):
        exporter = plugins.OtlpSpanExporter()
    value = {"map": {"a": (1, {"b": "c"}), "none": None}, "bytes": b"\x00\xff"}
    span = make_span(trace_id=5, span_id=6, attributes=value)
    assert exporter.send([exporter.encode(span)[0]]) == (0, "", True)
    found = read(receiver)[f"{6:016x}"]["attributes"]
    assert found["map"]["a"] == [1, {"b": "c"}]
    assert base64.b64decode(found["bytes"]) == b"\x00\xff"


APPLICATION = """
from opentelemetry import trace
tracer = trace.get_tracer("shop")
with tracer.start_as_current_span("orders", attributes={"number": 0}):
    for number in range(1, 3000):
        with tracer.start_as_current_span("order", attributes={"number": number}):
            pass
"""


@BOTH
@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_from_a_process(receiver: str, protocol: str, launcher: str) -> None:
    ask(receiver, "DELETE")
    environment = clean(
        OTEL_SERVICE_NAME="shop",
        OTEL_PYTHON_DISTRO="spanwell",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="system_metrics",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        SPANWELL_SHUTDOWN_TIMEOUT="30",
    )
    done = run([sys.executable, "-c", APPLICATION], environment, launcher=launcher, timeout=60)
    assert done == (0, "", "")
    assert sorted(span["attributes"]["number"] for span in read(receiver).values()) == list(range(3000))
