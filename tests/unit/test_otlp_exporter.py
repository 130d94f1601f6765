"""The OTLP exporter against a real receiver on loopback: every answer, what is tried again, what counts as lost."""

from __future__ import annotations

import email.utils
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace.export import SpanExportResult

from spanwell import _guard
from spanwell.export.encoding import Sent
from spanwell.export.otlp import OtlpSpanExporter
from spanwell.export.otlp_http import Trust
from support.collector import Behaviour, Collector, Handler, collector, drip, hang, ok, reset, status
from support.spans import make_span


@pytest.fixture
def otlp() -> Iterator[Collector]:
    _guard.losses.reset()
    _guard._warned.clear()
    with collector() as made:
        yield made
    _guard.losses.reset()


def exporter(url: str, **options: Any) -> OtlpSpanExporter:
    return OtlpSpanExporter(f"{url}/v1/traces", **{"jitter": lambda: 0.001, "timeout": 5.0, **options})


def send(made: OtlpSpanExporter, number: int = 3, **of_span: Any) -> Sent:
    return made.send([made.encode(make_span(name=f"span {each}", **of_span))[0] for each in range(number)])


def script(*behaviours: Behaviour) -> Behaviour:
    """One after the other; then everything is taken."""
    left = list(behaviours)

    def behave(handler: Handler) -> None:
        (left.pop(0) if left else ok)(handler)

    return behave


def reply(code: int, body: bytes = b"", kind: str = "application/x-protobuf", **headers: str) -> Behaviour:
    def behave(handler: Handler) -> None:
        if code == 200:
            handler.collector.accepted.append(handler.post)
        handler.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def rejecting(number: int, said: str = "") -> ExportTraceServiceResponse:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = number
    answer.partial_success.error_message = said
    return answer


# --- what is sent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_spans_arrive_over_one_connection(otlp: Collector, encoding: str, compression: str) -> None:
    made = exporter(otlp.url, encoding=encoding, compression=compression, headers={"X-Tenant": "räksmörgås"})
    for _ in range(3):
        assert send(made, 2) == Sent()
    made.shutdown()
    assert otlp.spans() == ["span 0", "span 1"] * 3
    assert otlp.connections == 1
    headers = otlp.posts[0].headers
    assert headers["content-type"] == {"protobuf": "application/x-protobuf", "json": "application/json"}[encoding]
    assert headers.get("content-encoding", "none") == compression
    assert headers["x-tenant"].encode("latin-1").decode() == "räksmörgås"
    assert headers["user-agent"].startswith("spanwell/")


def test_credentials_of_the_url_are_sent_as_upstream_does(otlp: Collector) -> None:
    assert send(exporter(otlp.url.replace("://", "://user:p%40ss@"))) == Sent()
    assert otlp.posts[0].headers["authorization"] == "Basic dXNlcjpwQHNz"


def test_a_path_is_percent_encoded_once() -> None:
    paths: list[str] = []

    def note(handler: Handler) -> None:
        paths.append(handler.path)
        handler.answer(200)

    with collector(note) as otlp:
        for path in ("/a b/ä", "/a%20b/%C3%A4", "/x?token=1&b=c d", ""):
            assert send(OtlpSpanExporter(otlp.url + path)) == Sent()
    assert paths == ["/a%20b/%C3%A4", "/a%20b/%C3%A4", "/x?token=1&b=c%20d", "/"]


def test_a_large_batch_is_split_by_bytes_and_nothing_comes_twice(otlp: Collector) -> None:
    assert send(exporter(otlp.url, max_bytes=20_000), 100, attributes={"k": "x" * 1000}) == Sent()
    assert sorted(otlp.spans()) == sorted(f"span {each}" for each in range(100))
    assert len(otlp.posts) >= 5
    assert all(int(post.headers["content-length"]) <= 20_000 for post in otlp.posts)


def test_a_span_larger_than_a_request_goes_alone(otlp: Collector) -> None:
    assert send(exporter(otlp.url, max_bytes=1000), 2, attributes={"k": "x" * 5000}) == Sent()
    assert len(otlp.posts) == 2


# --- what is tried again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_passing_trouble_is_tried_again(otlp: Collector, code: int) -> None:
    otlp.behave(script(status(code), status(code)))
    assert send(exporter(otlp.url)) == Sent()
    assert len(otlp.posts) == 3
    assert len(otlp.spans()) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 408, 422, 500, 501, 301, 308])
def test_any_other_refusal_is_final(otlp: Collector, code: int) -> None:
    otlp.behave(status(code))
    sent = send(exporter(otlp.url))
    assert (sent.lost, len(otlp.posts)) == (3, 1)
    assert sent.reason.startswith(f"it answers {code} ")
    assert sent.reached == (code in (400, 422))


def test_the_message_of_the_server_is_told(otlp: Collector) -> None:
    made = exporter(otlp.url)
    for behaviour, said in (
        (reply(400, b"\x08\x03\x12\x07no span"), "no span"),
        (reply(400, json.dumps({"code": 3, "message": "no\nspan"}).encode(), "application/json"), "no span"),
        (reply(500, b"out of disk", "text/plain"), "out of disk"),
        (reply(500, b"<html><body>oops", "text/html"), ""),
    ):
        otlp.behave(behaviour)
        assert send(made).reason.partition(": ")[2] == said


def test_a_redirect_is_not_followed_and_says_where_to(otlp: Collector) -> None:
    otlp.behave(reply(307, Location="https://user:secret@elsewhere/v1/traces"))
    reason = send(exporter(otlp.url)).reason
    assert reason == "it answers 307 Temporary Redirect, to https://elsewhere/v1/traces, which is not followed"


def waits(otlp: Collector, answer: str, now: Callable[[], float] = time.time) -> list[float]:
    """What is waited for after an answer with this Retry-After."""
    otlp.behave(script(status(429, Retry_After=answer)))
    made = exporter(otlp.url, now=now, timeout=1000.0)
    waited: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    made._ending = Event()
    assert send(made) == Sent()
    return waited


def test_retry_after_is_obeyed(otlp: Collector) -> None:
    assert waits(otlp, "7") == [7.0]
    assert waits(otlp, email.utils.formatdate(1_000_030, usegmt=True), lambda: 1_000_000.0) == [30.0]
    assert waits(otlp, email.utils.formatdate(999_000, usegmt=True), lambda: 1_000_000.0) == [0.0]
    for nonsense in ("soon", "nan", "1e400", ""):
        assert waits(otlp, nonsense) == [0.001]


def test_pauses_grow_and_vary(otlp: Collector) -> None:
    otlp.behave(script(*[status(503)] * 4))
    made = exporter(otlp.url, timeout=1000.0, jitter=lambda: 1.25)
    waited: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    made._ending = Event()
    assert send(made) == Sent()
    assert waited == [1.25, 2.5, 5.0, 10.0]


def test_what_asks_for_more_time_than_there_is_ends_the_export_at_once(otlp: Collector) -> None:
    otlp.behave(status(503, Retry_After="3600"))
    assert send(exporter(otlp.url)) == Sent(3, "it answers 503 Service Unavailable", False)
    assert len(otlp.posts) == 1


def test_the_last_attempt_ends_a_wait_and_there_is_no_other(otlp: Collector) -> None:
    otlp.behave(status(503, Retry_After="50"))
    made = exporter(otlp.url, timeout=60.0)
    found: list[Sent] = []
    worker = threading.Thread(target=lambda: found.append(send(made)))
    worker.start()
    otlp.wait(lambda: len(otlp.posts) == 1)
    made.last_attempt()
    worker.join(30)
    assert found == [Sent(3, "it answers 503 Service Unavailable", False)]
    assert send(made, 1).lost == 1
    assert len(otlp.posts) == 2


# --- troubles of the connection ---------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [hang, drip], ids=["hang", "drip"])
def test_a_server_that_does_not_answer_costs_the_timeout(otlp: Collector, behaviour: Behaviour) -> None:
    otlp.behave(behaviour)
    assert send(exporter(otlp.url, timeout=0.2)) == Sent(3, "no answer in time", False)


def test_a_reset_is_tried_again(otlp: Collector) -> None:
    otlp.behave(script(reset, reset))
    assert send(exporter(otlp.url)) == Sent()
    assert len(otlp.posts) == 3


def test_a_connection_that_the_server_closed_meanwhile_is_no_attempt(otlp: Collector) -> None:
    def last(handler: Handler) -> None:
        ok(handler)
        handler.close_connection = True

    made = exporter(otlp.url)
    made.last_attempt()  # so a second attempt would not be made
    otlp.behave(last)
    assert send(made) == Sent()
    assert send(made) == Sent()
    assert send(made) == Sent()
    assert (otlp.connections, len(otlp.spans())) == (3, 9)


def test_a_connection_that_breaks_as_it_is_used_again_is_no_attempt(otlp: Collector) -> None:
    made = exporter(otlp.url)
    made.last_attempt()
    otlp.behave(script(ok, reset))
    assert send(made) == Sent()
    assert send(made) == Sent()
    assert otlp.connections == 2


def test_an_answer_that_breaks_off_after_its_status_is_an_answer(otlp: Collector) -> None:
    def cut(handler: Handler) -> None:
        handler.collector.accepted.append(handler.post)
        handler.send_response(200)
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        handler.close_connection = True

    otlp.behave(cut)
    made = exporter(otlp.url)
    assert send(made) == Sent()
    assert send(made) == Sent()
    assert len(otlp.spans()) == 6


def test_what_is_said_beyond_an_answer_is_not_the_next_one(otlp: Collector) -> None:
    def talks(handler: Handler) -> None:
        handler.collector.accepted.append(handler.post)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\x0a\x00and more")

    otlp.behave(talks)
    made = exporter(otlp.url)
    assert send(made) == Sent()
    assert send(made) == Sent()
    assert len(otlp.spans()) == 6


def test_an_endless_answer_is_cut(otlp: Collector) -> None:
    otlp.behave(script(reply(200, b"\x00" * 5_000_000)))
    made = exporter(otlp.url)
    assert send(made) == Sent()
    assert send(made) == Sent()
    assert otlp.connections == 2


def test_nobody_listens() -> None:
    made = exporter("http://127.0.0.1:1")
    made.last_attempt()
    assert send(made) == Sent(3, "Connection refused", False)


def test_something_else_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            client, _ = listener.accept()
            client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            client.recv(65536)
            client.close()

        threading.Thread(target=greet, daemon=True).start()
        sent = send(exporter(f"http://127.0.0.1:{listener.getsockname()[1]}"))
    assert sent == Sent(3, "not an HTTP answer", False)


# --- partial success --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/x-protobuf", "application/json"])
def test_rejected_spans_are_lost_with_the_reason(otlp: Collector, kind: str) -> None:
    body = (
        rejecting(2, "too old").SerializeToString()
        if kind.endswith("protobuf")
        else b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}'
    )
    otlp.behave(reply(200, body, kind))
    assert send(exporter(otlp.url)) == Sent(2, "it rejected 2 of 3 spans: too old", True)


def test_no_more_are_lost_than_were_sent(otlp: Collector) -> None:
    for number in (-5, 0, 99):
        otlp.behave(reply(200, rejecting(number, "").SerializeToString()))
        assert send(exporter(otlp.url)).lost == (3 if number == 99 else 0)


def test_a_message_without_rejections_is_said_once(otlp: Collector, caplog: pytest.LogCaptureFixture) -> None:
    otlp.behave(reply(200, rejecting(0, "please upgrade").SerializeToString()))
    made = exporter(otlp.url)
    assert send(made) == Sent()
    assert send(made) == Sent()
    [record] = caplog.records
    assert record.getMessage().endswith("took the spans and says: please upgrade")


def test_what_is_too_large_is_halved_once(otlp: Collector) -> None:
    def small(handler: Handler) -> None:
        length = int(handler.headers["Content-Length"])
        handler.answer(413 if length > 4000 else 200)

    otlp.behave(small)
    made = exporter(otlp.url)
    assert send(made, 6, attributes={"k": "x" * 1000}) == Sent()
    assert [len(post.message.resource_spans[0].scope_spans[0].spans) for post in otlp.posts] == [6, 3, 3]
    sent = send(made, 16, attributes={"k": "x" * 1000})
    assert (sent.lost, sent.reached) == (16, True)
    assert sent.reason.startswith("it answers 413 ")
    assert send(made, 1, attributes={"k": "x" * 9000}).lost == 1


def test_an_answer_that_comes_before_the_request_has_been_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            client, _ = listener.accept()
            client.recv(100)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 20):
                pass
            client.close()

        threading.Thread(target=refuse, daemon=True).start()
        made = exporter(f"http://127.0.0.1:{listener.getsockname()[1]}", max_bytes=1 << 30)
        assert send(made, 30, attributes={"k": "x" * 100_000}).reason == "it answers 400 Bad Request"


def test_every_span_is_taken_or_lost_once_when_a_later_part_fails(otlp: Collector) -> None:
    otlp.behave(script(ok, ok, status(401)))
    made = exporter(otlp.url, max_bytes=10_000)
    sent = send(made, 50, attributes={"k": "x" * 1000})
    assert sent.lost + len(otlp.spans()) == 50
    assert 0 < sent.lost < 50
    assert sent.reason == "it answers 401 Unauthorized"


# --- what is never sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "X-Honeycomb-Team-Token", "cookie"])
def test_credentials_are_not_sent_in_plain_text_over_a_network(name: str) -> None:
    sent = send(OtlpSpanExporter("http://collector.test:4318/v1/traces", headers={name: "s3cret"}))
    assert sent.lost == 3
    assert "https://" in sent.reason
    assert "OTEL_EXPORTER_OTLP_INSECURE=true" in sent.reason
    assert "s3cret" not in sent.reason
    assert "plain text" in send(OtlpSpanExporter("http://user:s3cret@collector.test/v1/traces")).reason


def test_what_is_no_credential_may_go_in_plain_text_and_loopback_takes_all(otlp: Collector) -> None:
    assert not OtlpSpanExporter("http://collector.test:4318/v1/traces", headers={"x-tenant": "a"})._problem
    assert not OtlpSpanExporter("http://c.test/v1/traces", headers={"authorization": "a"}, insecure=True)._problem
    assert send(exporter(otlp.url, headers={"authorization": "Bearer x"})) == Sent()
    assert send(exporter(otlp.url.replace("127.0.0.1", "localhost"), headers={"api-key": "x"})) == Sent()


def test_a_header_that_http_cannot_carry_is_named_without_its_value() -> None:
    sent = send(OtlpSpanExporter("http://127.0.0.1:1/v1/traces", headers={"x-a": "b\r\nsecret: c"}))
    assert sent.lost == 3
    assert "'x-a'" in sent.reason
    assert "secret" not in sent.reason


def test_a_missing_file_is_named() -> None:
    for trust, name in (
        (Trust("/nowhere/ca.pem"), "OTEL_EXPORTER_OTLP_CERTIFICATE='/nowhere/ca.pem'"),
        (Trust(certfile="/nowhere/c.pem"), "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE='/nowhere/c.pem'"),
        (Trust(keyfile="/nowhere/k.pem"), "OTEL_EXPORTER_OTLP_CLIENT_KEY='/nowhere/k.pem'"),
    ):
        sent = send(OtlpSpanExporter("https://127.0.0.1:1/v1/traces", trust=trust))
        assert sent == Sent(3, f"{name} cannot be read", False)


def test_after_shutdown_everything_is_lost(otlp: Collector) -> None:
    made = exporter(otlp.url)
    assert made.export([make_span()]) is SpanExportResult.SUCCESS
    made.shutdown()
    made.shutdown()
    assert made.export([make_span(), make_span()]) is SpanExportResult.FAILURE
    assert _guard.losses.total("spans") == 2
    assert len(otlp.spans()) == 1


def test_a_forked_child_has_a_connection_of_its_own(otlp: Collector) -> None:
    made = exporter(otlp.url)
    assert send(made, 1) == Sent()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if send(made, 2) == Sent() else 2
            made.shutdown()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert send(made, 1) == Sent()
    assert (otlp.connections, len(otlp.spans())) == (2, 4)
