"""Exporter `xray_api`: botocore itself against a server that misbehaves, and against moto."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind

from spanwell import plugins
from spanwell._guard import losses
from spanwell.export import xray_api
from spanwell.export.xray_api import Document, XRayApiExporter
from support import segment_schema
from support.servers import free_port, http_stub, moto
from support.spans import make_span

Answer = tuple[int, dict[str, Any], dict[str, str]]
DONE: Answer = (200, {"UnprocessedTraceSegments": []}, {})


class XRay:
    """What a PutTraceSegments server was sent, and how it answers: one answer after the other, then success."""

    def __init__(self, *answers: Answer | Callable[[list[dict[str, Any]]], Answer]) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.authorization = ""
        self._answers = list(answers)

    def answer(self, body: bytes) -> Answer:
        documents = json.loads(body)["TraceSegmentDocuments"]
        self.requests.append([segment_schema.check(each.encode()) for each in documents])
        chosen = self._answers.pop(0) if self._answers else DONE
        return chosen(self.requests[-1]) if callable(chosen) else chosen

    @property
    def sizes(self) -> list[int]:
        return [len(each) for each in self.requests]


@contextlib.contextmanager
def serving(xray: XRay, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            xray.authorization = self.headers.get("Authorization", "")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/TraceSegments"
            status, answer, headers = xray.answer(body)
            made = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(made)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(made)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_stub(Handler) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_XRAY", url)
        yield


def refused(status: int, code: str, message: str = "no") -> Answer:
    return status, {"message": message, "Message": message}, {"x-amzn-ErrorType": code}


def unprocessed(code: str, *numbers: int) -> Callable[[list[dict[str, Any]]], Answer]:
    """Succeeds but for the documents with these numbers."""

    def answer(documents: list[dict[str, Any]]) -> Answer:
        told = [{"Id": documents[number]["id"], "ErrorCode": code, "Message": "because"} for number in numbers]
        return 200, {"UnprocessedTraceSegments": told}, {}

    return answer


def sent(exporter: XRayApiExporter, number: int, **span: Any) -> Any:
    spans = [make_span(trace_id=n % 7 + 1, parent=5, **span) for n in range(number)]
    return exporter.send([exporter.encode(each)[0] for each in spans])


def test_fifty_documents_a_request_and_traces_together(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay()
    with serving(xray, monkeypatch):
        assert sent(plugins.XRayApiSpanExporter(), 120) == (0, "", True)
    assert xray.sizes == [50, 50, 20]
    traces = [each["trace_id"] for request in xray.requests for each in request]
    assert traces == sorted(traces)
    assert "/eu-west-1/xray/aws4_request" in xray.authorization


def test_requests_are_split_by_bytes_and_spans_stay_whole() -> None:
    groups = [[Document(n, f"{n}{part}", "x" * 300) for part in range(1 + n % 2)] for n in range(100)]
    made = list(xray_api.requests(groups, size=3000))
    assert [each for request in made for each in request] == [each for group in groups for each in group]
    for request in made:
        assert sum(len(each.text) for each in request) <= 3000
        assert len(request) <= 50
    homes: dict[int, set[int]] = {}
    for number, request in enumerate(made):
        for each in request:
            homes.setdefault(each.span, set()).add(number)
    assert all(len(each) == 1 for each in homes.values())
    assert [len(request) for request in xray_api.requests([[Document(1, "1", "x" * 9000)]] * 2, size=3000)] == [1, 1]


def test_throttled_documents_are_sent_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(unprocessed("ThrottlingException", 1, 3), unprocessed("InternalFailure", 0))
    with serving(xray, monkeypatch):
        assert sent(XRayApiExporter(), 6) == (0, "", True)
    first, second, third = xray.requests
    assert [each["id"] for each in second] == [first[1]["id"], first[3]["id"]]
    assert [each["id"] for each in third] == [first[1]["id"]]


def test_documents_that_xray_cannot_read_are_lost_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(unprocessed("ParseError", 0, 2))
    with serving(xray, monkeypatch):
        lost, reason, reached = sent(XRayApiExporter(), 6)
    assert (lost, reached, xray.sizes) == (2, True, [6])
    assert reason == "X-Ray did not process it: ParseError because"


def test_an_answer_that_names_no_document_counts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay((200, {"UnprocessedTraceSegments": [{"ErrorCode": "ParseError"}, {"ErrorCode": "ParseError"}]}, {}))
    with serving(xray, monkeypatch):
        assert sent(XRayApiExporter(), 6)[0] == 2


def test_a_span_of_two_documents_is_lost_once(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(unprocessed("ParseError", 0, 1))
    with serving(xray, monkeypatch):
        exporter = XRayApiExporter()
        items = [exporter.encode(make_span(kind=SpanKind.CLIENT))[0] for _ in range(3)]
        assert exporter.send(items)[0] == 1
    assert xray.sizes == [6]


def test_a_span_that_cannot_be_finished_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Resource):
        @property
        def attributes(self) -> Any:
            raise RuntimeError("no attributes")

    xray = XRay()
    with serving(xray, monkeypatch):
        exporter = XRayApiExporter()
        items = [exporter.encode(make_span(resource=odd))[0] for odd in (None, Odd({}), None)]
        assert exporter.send(items) == (1, "a span cannot be encoded: no attributes", True)
    assert xray.sizes == [2]


def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(
        refused(429, "ThrottledException"), refused(503, "ServiceUnavailable"), refused(500, "InternalFailure")
    )
    with serving(xray, monkeypatch):
        assert sent(XRayApiExporter(seconds=30), 3) == (0, "", True)
    assert xray.sizes == [3, 3, 3, 3]


def test_the_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(*[refused(429, "ThrottledException", "slow down")] * 50)
    with serving(xray, monkeypatch):
        lost, reason, reached = sent(XRayApiExporter(seconds=0.3), 80)
    assert (lost, reached) == (80, False)
    assert reason == "ThrottledException: slow down"
    assert set(xray.sizes) == {50}  # the second request would fail in the same way


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (refused(403, "AccessDeniedException", "not allowed"), "allow xray:PutTraceSegments"),
        (refused(403, "UnrecognizedClientException", "token"), "AWS does not know these credentials"),
        (refused(403, "ExpiredTokenException", "expired"), "have expired: renew them"),
        (refused(403, "InvalidSignatureException", "Signature expired: now"), "the clock of this machine is wrong"),
    ],
)
def test_what_will_not_pass_is_said_with_its_remedy(
    answer: Answer, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    xray = XRay(*[answer] * 5)
    with serving(xray, monkeypatch):
        exporter = XRayApiExporter()
        exporter.export([make_span(parent=1) for _ in range(70)])
        exporter.export([make_span(parent=1)])
    assert xray.sizes == [50, 1]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "spanwell"]
    assert line.startswith("spanwell: 70 spans did not reach exporter xray_api: ")
    assert part in line
    assert losses.total("spans") == 71


def test_a_request_that_xray_finds_invalid_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(refused(400, "InvalidRequestException", "bad"))
    with serving(xray, monkeypatch):
        lost, reason, reached = sent(XRayApiExporter(), 80)
    assert (lost, reason, reached, xray.sizes) == (50, "InvalidRequestException: bad", True, [50, 30])


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_XRAY", f"http://127.0.0.1:{free_port()}")
    lost, reason, reached = sent(XRayApiExporter(seconds=0.2), 3)
    assert (lost, reached) == (3, False)
    assert "AWS_ENDPOINT_URL" in reason


def test_the_end_of_the_process_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    xray = XRay(*[refused(503, "ServiceUnavailable")] * 50)
    with serving(xray, monkeypatch):
        exporter = XRayApiExporter(seconds=600)
        threading.Timer(0.2, exporter.last_attempt).start()
        assert sent(exporter, 3)[0] == 3


@pytest.mark.parametrize(
    ("unset", "region", "part"),
    [
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "eu-west-1", "finds no AWS credentials"),
        (("AWS_DEFAULT_REGION",), "", "needs a region"),
        ((), "not a region!", "needs a region such as eu-west-1"),
    ],
)
def test_what_is_missing(unset: tuple[str, ...], region: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in unset:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    xray = XRay()
    with serving(xray, monkeypatch):
        lost, reason, reached = sent(XRayApiExporter(region), 3)
    assert (lost, reached, xray.requests) == (3, False, [])
    assert part in reason


def test_spans_of_the_past_are_sent_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    xray = XRay()
    with serving(xray, monkeypatch):
        assert sent(XRayApiExporter(), 2, start=1_000_000_000_000_000_000) == (0, "", True)
    assert [record.getMessage() for record in caplog.records if record.name == "spanwell"] == [
        "spanwell: spans that ended more than 30 days ago: X-Ray may not take them"
    ]


@pytest.mark.slow
def test_a_trace_comes_back_from_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    with moto() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        exporter = plugins.XRayApiSpanExporter()
        trace = 0x6AFFFFA375FFD247F389607C4796EFFD
        spans = [
            make_span(trace_id=trace, span_id=1, kind=SpanKind.SERVER, attributes={"größe": "日本 \ud800"}),
            *(make_span(trace_id=trace, span_id=n, parent=1, kind=SpanKind.CLIENT) for n in range(2, 80)),
        ]
        assert exporter.send([exporter.encode(span)[0] for span in spans]) == (0, "", True)
        client = boto3.client("xray", endpoint_url=url)
        (found,) = client.batch_get_traces(TraceIds=["1-6affffa3-75ffd247f389607c4796effd"])["Traces"]
    documents = [segment_schema.check(each["Document"].encode()) for each in found["Segments"]]
    assert sorted(int(each["id"], 16) for each in documents) == list(range(1, 80))
    (root,) = [each for each in documents if "type" not in each]
    assert root["metadata"]["default"]["größe"] == "日本 ?"
