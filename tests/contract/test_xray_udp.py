"""Exporters `xray` and `xray_otlp_udp` against real sockets on loopback."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import socket
import sys
import threading
import time
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from spanwell import plugins
from spanwell._guard import losses
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from spanwell.export.otlp_udp import OtlpUdpExporter
from spanwell.export.udp import HEADER, MAX_DATAGRAM, UdpExporter, parse_address
from spanwell.export.xray_udp import XRayUdpExporter
from support import segment_schema
from support.daemon import Daemon, daemon
from support.servers import free_port
from support.spans import make_span
from support.tails import Tailed


def sent(exporter: UdpExporter, spans: list[ReadableSpan]) -> Any:
    return exporter.send([exporter.encode(span)[0] for span in spans])


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def requests(received: Daemon, number: int) -> list[tuple[bytes, ExportTraceServiceRequest]]:
    return [
        (body[:3], ExportTraceServiceRequest.FromString(base64.b64decode(body[3:], validate=True)))
        for body in received.bodies(number)
    ]


def ids(request: ExportTraceServiceRequest) -> list[int]:
    return [
        int.from_bytes(span.span_id, "big")
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def unsampled(span: ReadableSpan) -> ReadableSpan:
    old = span.context
    assert old is not None
    span._context = SpanContext(old.trace_id, old.span_id, False, TraceFlags(0))
    return span


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("127.0.0.1:2000", ("127.0.0.1", 2000)),
        ("xray-daemon:2001", ("xray-daemon", 2001)),
        ("udp:127.0.0.1:2000 tcp:127.0.0.2:2001", ("127.0.0.1", 2000)),
        ("tcp:127.0.0.2:2001 udp:127.0.0.1:2000", ("127.0.0.1", 2000)),
        ("[::1]:2000", ("::1", 2000)),
        ("udp:[::1]:2000", ("::1", 2000)),
    ],
)
def test_addresses(raw: str, address: tuple[str, int]) -> None:
    assert parse_address(raw) == address


@pytest.mark.parametrize(
    "raw", ["", "localhost", "a:b", "a:0", "a:70000", ":2000", "tcp:127.0.0.1:2000", "http://a:1"]
)
def test_what_is_no_address(raw: str) -> None:
    if raw == "http://a:1":  # a host that cannot be resolved, which is found out later
        assert parse_address(raw)[1] == 1
        return
    with pytest.raises(ValueError, match="is no address such as"):
        parse_address(raw)


@pytest.mark.parametrize("wrong", ["nowhere", "udp:x"])
def test_a_bad_variable_is_said_and_the_default_used(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", wrong)
    assert plugins.XRaySpanExporter().address == ("127.0.0.1", 2000)
    assert plugins.XRayOtlpUdpSpanExporter().address == ("127.0.0.1", 2000)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"spanwell: AWS_XRAY_DAEMON_ADDRESS='{wrong}' is no address such as 127.0.0.1:2000")


def test_documents_of_a_trace_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon() as received:
        monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", f"tcp:127.0.0.1:1 udp:{received.address}")
        spans = [
            make_span(trace_id=trace, span_id=number + 1, kind=SpanKind.SERVER)
            for number, trace in enumerate((1, 2, 1, 3, 2))
        ]
        assert sent(plugins.XRaySpanExporter(), spans) == (0, "", True)
        found = [segment_schema.check(body) for body in received.bodies(5)]
    assert [int(each["id"], 16) for each in found] == [1, 3, 2, 5, 4]


def test_what_is_huge_is_cut_to_fit_a_datagram() -> None:
    spans = [
        make_span(kind=SpanKind.SERVER, attributes={"v": "€" * 100_000, "w": "x" * 60_000, "small": 1}),
        make_span(kind=SpanKind.CLIENT, parent=3, attributes={f"k{n}": "y" * 900 for n in range(120)}),
    ]
    with daemon() as received:
        assert sent(XRayUdpExporter(received.address), spans) == (0, "", True)
        first, second = (segment_schema.check(body) for body in received.bodies(2))
        assert max(map(len, received.datagrams)) <= MAX_DATAGRAM
    assert first["metadata"]["default"]["small"] == 1
    assert first["name"] == "shop"
    assert second["metadata"]["default"]["spanwell.cut"] == "metadata"


def odd_resource() -> Resource:
    class Odd(Resource):
        @property
        def attributes(self) -> Any:
            raise RuntimeError("no attributes")

    return Odd({})


def test_a_span_that_cannot_be_finished_is_lost_alone() -> None:
    with daemon() as received:
        spans = [make_span(kind=SpanKind.SERVER), make_span(kind=SpanKind.SERVER, resource=odd_resource())]
        spans.append(make_span(kind=SpanKind.SERVER))
        assert sent(XRayUdpExporter(received.address), spans) == (1, "a span cannot be encoded: no attributes", True)
        received.bodies(2)


def test_a_system_that_takes_shorter_datagrams_only() -> None:
    class Small(XRayUdpExporter):
        """As on macOS, where 9,216 bytes are the most."""

        def _send(self, data: bytes) -> OSError | None:
            return OSError(errno.EMSGSIZE, "Message too long") if len(data) > 9_216 else super()._send(data)

    with daemon() as received:
        exporter = Small(received.address)
        assert sent(exporter, [make_span(attributes={f"k{n}": "z" * 500 for n in range(100)}, parent=1)]) == (
            0,
            "",
            True,
        )
        assert sent(exporter, [make_span(parent=1)]) == (0, "", True)
        assert len(received.bodies(2)[0]) <= 9_216


def test_a_burst_arrives_whole() -> None:
    spans = [make_span(trace_id=n // 10 + 1, parent=5, attributes={"a": "b" * 300}) for n in range(3000)]
    with daemon() as received:
        assert sent(XRayUdpExporter(received.address), spans) == (0, "", True)
        assert len({segment_schema.parse(body)["id"] for body in received.bodies(3000)}) == 3000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows how full a buffer is")
def test_what_a_daemon_does_not_read_is_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stuck:
        stuck.bind(("127.0.0.1", 0))
        stuck.settimeout(0.2)
        exporter = XRayUdpExporter(f"127.0.0.1:{stuck.getsockname()[1]}", seconds=0.3)
        lost, reason, reached = sent(
            exporter, [make_span(parent=1, attributes={"a": "b" * 500}) for _ in range(2000)]
        )
        assert not reached
        assert "its buffer is full" in reason
        arrived = 0
        with contextlib.suppress(TimeoutError):
            while stuck.recv(70_000):
                arrived += 1
    assert arrived + lost == 2000
    assert arrived > 0


@pytest.mark.parametrize("make", [XRayUdpExporter, OtlpUdpExporter])
def test_nobody_listens(make: type[UdpExporter]) -> None:
    exporter = make(f"127.0.0.1:{free_udp_port()}", seconds=0.3)
    lost, reason, reached = sent(exporter, [make_span(kind=SpanKind.CLIENT) for _ in range(7)])
    assert (lost, reached) == (7, False)
    assert "nobody listens at udp 127.0.0.1:" in reason
    assert "AWS_XRAY_DAEMON_ADDRESS" in reason


def test_a_daemon_that_starts_later_gets_everything() -> None:
    port = free_udp_port()
    result = []
    exporter = XRayUdpExporter(f"127.0.0.1:{port}", seconds=30)
    spans = [make_span(parent=1) for _ in range(5)]
    thread = threading.Thread(target=lambda: result.append(sent(exporter, spans)))
    thread.start()
    time.sleep(0.15)
    with daemon(port) as received:
        thread.join(30)
        assert result == [(0, "", True)]
        received.bodies(5)


def test_the_end_of_the_process_ends_the_waiting() -> None:
    exporter = XRayUdpExporter(f"127.0.0.1:{free_udp_port()}", seconds=600)
    exporter.last_attempt()
    assert sent(exporter, [make_span()]).lost == 1


def test_a_name_that_nobody_knows() -> None:
    exporter = XRayUdpExporter("no-such-host.invalid:2000", seconds=0)
    lost, reason, reached = sent(exporter, [make_span(), make_span()])
    assert (lost, reached) == (2, False)
    assert reason.startswith("no-such-host.invalid cannot be resolved")


def test_alone_it_counts_and_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    exporter = XRayUdpExporter(f"127.0.0.1:{free_udp_port()}", seconds=0)
    exporter.export([make_span(), make_span(trace_id=0)])
    assert losses.total("spans") == 2
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == ["spanwell"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_its_own_socket() -> None:
    with daemon() as received:
        exporter = XRayUdpExporter(received.address)
        sent(exporter, [make_span(span_id=1)])
        wire = exporter._socket
        child = os.fork()
        if child == 0:
            fine = exporter._socket is None and sent(exporter, [make_span(span_id=2)]) == (0, "", True)
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert exporter._socket is wire
        assert sent(exporter, [make_span(span_id=3)]) == (0, "", True)
        assert [int(segment_schema.parse(body)["id"], 16) for body in received.bodies(3)] == [1, 2, 3]


def test_behind_the_batch_processor() -> None:
    with daemon() as received:
        exporter = XRayUdpExporter(received.address)
        batch = BatchProcessor(GuardedExporter("xray", lambda: exporter), delay=60)
        for number in range(40):
            batch.on_end(make_span(trace_id=number % 4 + 1, parent=1))
        assert batch.force_flush(10_000)
        received.bodies(40)
        batch.finish(1)
    assert losses.total("spans") == 0


def test_what_a_tail_sampler_promotes_is_sent_whole() -> None:
    for make in (XRayUdpExporter, OtlpUdpExporter):
        with daemon() as received:
            tailed = Tailed(exporter=make(received.address))
            with tailed.tracer.start_as_current_span("failed") as root:
                tailed.tracer.start_span("child").end()
                root.set_status(Status(StatusCode.ERROR, "no"))
            assert tailed.batch.force_flush(10_000)
            tailed.batch.finish(1)
            if make is XRayUdpExporter:
                child, parent = (segment_schema.check(body) for body in received.bodies(2))
                assert child["parent_id"] == parent["id"]
                for each in (child, parent):
                    assert each["metadata"]["default"]["aws.trace.flag.sampled"] is False
            else:
                assert [(prefix, len(ids(request))) for prefix, request in requests(received, 1)] == [(b"T1S", 2)]


# --- OTLP over UDP --------------------------------------------------------------------------------------------


def test_otlp_in_datagrams() -> None:
    spans = [make_span(trace_id=n % 3 + 1, span_id=n + 1, attributes={"a": "x" * 1000}) for n in range(200)]
    with daemon() as received:
        assert sent(OtlpUdpExporter(received.address), spans) == (0, "", True)
        received.bodies(5)
        found = requests(received, 5)
        assert max(map(len, received.datagrams)) <= MAX_DATAGRAM
    assert {prefix for prefix, _ in found} == {b"T1S"}
    order = [span for _, request in found for span in ids(request)]
    assert sorted(order) == list(range(1, 201))
    assert order == sorted(order, key=lambda span: (span - 1) % 3)  # those of a trace together


def test_sampled_promoted_and_unsampled() -> None:
    spans = [
        make_span(span_id=1),
        unsampled(make_span(span_id=2, attributes={"aws.trace.flag.sampled": False})),
        unsampled(make_span(span_id=3)),
    ]
    with daemon() as received:
        assert sent(OtlpUdpExporter(received.address), spans) == (0, "", True)
        found = [(prefix, ids(request)) for prefix, request in requests(received, 2)]
    assert found == [(b"T1S", [1, 2]), (b"T1U", [3])]


def test_a_span_that_fits_into_no_datagram_is_lost_alone() -> None:
    spans = [make_span(span_id=1), make_span(span_id=2, attributes={"a": "x" * 50_000}), make_span(span_id=3)]
    with daemon() as received:
        lost, reason, reached = sent(OtlpUdpExporter(received.address), spans)
        assert (lost, reached) == (1, True)
        assert "does not fit into a datagram of 65507 bytes" in reason
        found = [span for _, request in requests(received, 2) for span in ids(request)]
    assert found == [1, 3]


def test_the_largest_that_fits() -> None:
    room = (MAX_DATAGRAM - len(HEADER) - 3) // 4 * 3
    exporter = OtlpUdpExporter(f"127.0.0.1:{free_port()}")
    with daemon() as received:
        exporter = OtlpUdpExporter(received.address)
        small = len(requests_of(exporter, 1000))
        assert sent(exporter, [make_span(span_id=9, attributes={"a": "x" * (1000 + room - small - 8)})]) == (
            0,
            "",
            True,
        )
        assert len(received.bodies(1)[0]) <= MAX_DATAGRAM - len(HEADER)


def requests_of(exporter: OtlpUdpExporter, length: int) -> bytes:
    from spanwell.export import otlp_protobuf

    item = exporter.encode(make_span(span_id=9, attributes={"a": "x" * length}))[0]
    return otlp_protobuf.request([(item.resource, item.scope, item.span)])
