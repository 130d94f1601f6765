"""An OTLP/HTTP receiver of metrics on loopback; its messages are parsed by the official protobuf classes."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from support.servers import http_stub


class Point(NamedTuple):
    """One exponential histogram point as it came."""

    scope: str
    metric: str
    unit: str
    attributes: dict[str, Any]
    point: Any


class MetricsReceiver:
    """`statuses`: what the next requests are answered instead of 200."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.requests: list[Any] = []
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"{self.url}/v1/metrics"

    def take(self, body: bytes) -> int:
        with self._lock:
            status = self.statuses.pop(0) if self.statuses else 200
            if status == 200:
                self.requests.append(ExportMetricsServiceRequest.FromString(body))
            return status

    def points(self) -> list[Point]:
        """Every exponential histogram point that was taken, whatever its temporality (see `requests`)."""
        with self._lock:
            requests = list(self.requests)
        return [
            Point(scope.scope.name, metric.name, metric.unit, _plain(point.attributes), point)
            for request in requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.exponential_histogram.data_points
        ]

    def wait(self, number: int, seconds: float = 10.0) -> None:
        """Until so many requests were taken."""
        end = time.monotonic() + seconds
        while len(self.requests) < number and time.monotonic() < end:
            time.sleep(0.02)


def _plain(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


@contextlib.contextmanager
def metrics_receiver() -> Iterator[MetricsReceiver]:
    """A receiver until the block ends."""
    receiver = MetricsReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = receiver.take(body) if self.path == "/v1/metrics" else 404
            answer = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_stub(Handler) as url:
        receiver.url = url
        yield receiver
