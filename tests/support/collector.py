"""An OTLP receiver on loopback whose behaviour a test chooses: it answers, hangs, fails, resets or drips.

with collector() as otlp:
    otlp.behave(unavailable)
    ... OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url ...
    assert otlp.spans() == ["work"]
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import socketserver
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}

Behaviour = Callable[["Handler"], None]


class Post(NamedTuple):
    """One request as it came, before it was answered; the names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    message: Any


class Collector:
    """What arrived; `behave` sets the answer to what comes next."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.posts: list[Post] = []
        self.accepted: list[Post] = []
        self.behaviour: Behaviour = ok
        self.released = threading.Event()
        self.lock = threading.Lock()

    def behave(self, behaviour: Behaviour) -> None:
        """From now on answer so."""
        self.behaviour = behaviour

    def spans(self) -> list[str]:
        """The names of all spans that were taken, in the order of arrival."""
        return [span.name for span in self.span_messages()]

    def span_messages(self) -> list[Any]:
        """All spans that were taken, as protobuf."""
        return [
            span
            for post in self.taken("/v1/traces")
            for resource in post.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self) -> list[str]:
        """The names of all metrics that were taken."""
        return [
            metric.name
            for post in self.taken("/v1/metrics")
            for resource in post.message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def logs(self) -> list[str]:
        """The bodies of all log records that were taken."""
        return [
            record.body.string_value
            for post in self.taken("/v1/logs")
            for resource in post.message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def taken(self, path: str) -> list[Post]:
        """The requests to `path` that were answered with 200."""
        with self.lock:
            return [post for post in self.accepted if post.path == path]

    def wait(self, done: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until `done()`; the test fails if that does not come."""
        for _ in range(int(seconds / 0.05)):
            if done():
                return
            time.sleep(0.05)
        raise AssertionError("did not arrive")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    collector: Collector

    def setup(self) -> None:
        super().setup()
        with self.collector.lock:
            self.collector.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.body = body
        encoding = self.headers.get("Content-Encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
        kind = REQUESTS.get(self.path)
        self.post = Post(
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            _message(kind, body, self.headers.get("Content-Type", "")) if kind else None,
        )
        with self.collector.lock:
            self.collector.posts.append(self.post)
        self.collector.behaviour(self)

    def answer(self, status: int, **headers: str) -> None:
        """Answer without a body."""
        if status == 200:
            with self.collector.lock:
                self.collector.accepted.append(self.post)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _message(kind: Any, body: bytes, content_type: str) -> Any:
    """A request in either encoding. In JSON, OTLP's ids are hexadecimal, where protobuf's own mapping has base64."""
    if content_type != "application/json":
        return kind.FromString(body)

    def based(value: Any) -> Any:
        if isinstance(value, list):
            return [based(each) for each in value]
        if not isinstance(value, dict):
            return value
        ids = {"traceId", "spanId", "parentSpanId"}
        return {
            key: base64.b64encode(bytes.fromhex(each)).decode() if key in ids else based(each)
            for key, each in value.items()
        }

    return json_format.ParseDict(based(json.loads(body)), kind())


def ok(handler: Handler) -> None:
    """Take it; 404 for a path that is none of OTLP's."""
    handler.answer(200 if handler.path in REQUESTS else 404)


def status(code: int, **headers: str) -> Behaviour:
    """Answer with `code`."""
    return lambda handler: handler.answer(code, **headers)


unavailable = status(503)


def hang(handler: Handler) -> None:
    """Say nothing until the collector ends."""
    handler.collector.released.wait()
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Break the connection with a TCP reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
    handler.wfile = open("/dev/null", "wb")  # noqa: SIM115 - the base class flushes and closes it


def drip(handler: Handler) -> None:
    """Send a byte of an endless header every tenth of a second."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not handler.collector.released.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()
    handler.close_connection = True


@contextlib.contextmanager
def collector(behaviour: Behaviour = ok) -> Iterator[Collector]:
    """Runs until the block ends; whatever hangs is let go then."""
    made = Collector()
    made.behave(behaviour)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"collector": made}))
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    with _serving(server):
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield made
        made.released.set()


@contextlib.contextmanager
def deaf_listener() -> Iterator[str]:
    """A listening socket that nobody reads from: connections are made, and then nothing; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def resetting_listener() -> Iterator[Resetting]:
    """Counts connections and resets each at once."""
    server = Resetting()
    with _serving(server):
        yield server


class Resetting(socketserver.ThreadingTCPServer):
    """A TCP server that breaks every connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.attempts = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.attempts += 1
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.close()


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
