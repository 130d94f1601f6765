"""An OTLP/HTTP receiver on loopback that hands back the spans of each run, and their comparable form.

A run posts to its own endpoint (`receiver.endpoint("flask-lazy")`), so that several can run at the same time.
"""

from __future__ import annotations

import collections
import contextlib
import gzip
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.servers import http_stub

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")

# Differ from run to run by their nature.
VARYING = re.compile(
    r"(^|\.)(port|pid|id|request_id|request_ids|thread\.name|delivery_tag|hostname|origin|reply_to|correlation_id"
    r"|message\.id|message_id|ephemeral_.*)$"
)
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+|(?<=localhost:)\d+|(?<=::1\]:)\d+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Seen(NamedTuple):
    """What two runs must agree on about a span."""

    scope: str
    name: str
    kind: str
    status: str
    parent: str
    links: int
    attributes: tuple[tuple[str, str], ...]


class Receiver:
    """Spans by run, as protobuf (scope name, Span) pairs."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self._runs: dict[str, list[tuple[str, Any]]] = collections.defaultdict(list)
        self._bytes: dict[str, bytes] = collections.defaultdict(bytes)
        self._requests: dict[str, list[tuple[int, bytes]]] = collections.defaultdict(list)

    def endpoint(self, run: str) -> str:
        """The value of OTEL_EXPORTER_OTLP_TRACES_ENDPOINT for `run`."""
        return f"{self.url}/{run}/v1/traces"

    def take(self, run: str, body: bytes) -> None:
        """Keep the spans of one export request."""
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            (scope.scope.name, span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._runs[run] += found
            self._bytes[run] += body
            self._requests[run].append((time.time_ns(), body))

    def requests(self, run: str) -> list[tuple[int, bytes]]:
        """(wall clock in ns, body) of every export request of `run` so far, unpacked."""
        with self._lock:
            return list(self._requests[run])

    def received(self, run: str) -> bytes:
        """The bodies of all requests of `run`, unpacked."""
        with self._lock:
            return self._bytes[run]

    def spans(self, run: str) -> list[tuple[str, Any]]:
        """(scope name, protobuf span) of everything that `run` exported so far."""
        with self._lock:
            return list(self._runs[run])

    def wait(self, run: str, number: int) -> None:
        """Wait until `run` has exported `number` spans, ten seconds at most."""
        for _ in range(200):
            if len(self.spans(run)) >= number:
                return
            time.sleep(0.05)

    def seen(self, run: str, *names: str) -> collections.Counter[Seen]:
        """The comparable form of `run`; each of `names` (its own temporary names) is blotted out."""
        return comparable(self.spans(run), names)


def comparable(spans: Iterable[tuple[str, Any]], names: Iterable[str] = ()) -> collections.Counter[Seen]:
    """Spans without what varies by nature: ids, ports, times, and the texts `names`."""
    pairs = list(spans)
    by_id = {span.span_id: span for _, span in pairs}
    blots = tuple(names)

    def form(scope: str, span: Any) -> Seen:
        parent = by_id.get(span.parent_span_id)
        kept = tuple(
            sorted(
                (item.key, _blot(_value(item.value), blots))
                for item in span.attributes
                if not VARYING.search(item.key)
            )
        )
        above = parent.name if parent is not None else ("(remote)" if span.parent_span_id else "")
        return Seen(
            scope,
            _blot(span.name, blots),
            KINDS[span.kind],
            str(span.status.code),
            _blot(above, blots),
            len(span.links),
            kept,
        )

    return collections.Counter(form(scope, span) for scope, span in pairs)


def stored(path: Path, *names: str) -> collections.Counter[Seen]:
    """The comparable form of what the `sqlite` exporter wrote to `path`."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT span_id, parent_id, scope, name, kind, status, attributes, links FROM span"
        ).fetchall()
    by_id = {row[0]: row[3] for row in rows}

    def form(row: tuple[Any, ...]) -> Seen:
        _, parent, scope, name, kind, status, attributes, links = row
        kept = tuple(
            sorted(
                (key, _blot(json.dumps(value), names))
                for key, value in json.loads(attributes or "{}").items()
                if not VARYING.search(key)
            )
        )
        above = _blot(by_id.get(parent, "(remote)"), names) if parent else ""
        return Seen(scope, _blot(name, names), kind.upper(), status, above, len(json.loads(links or "[]")), kept)

    return collections.Counter(map(form, rows))


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return str([_value(item) for item in value.array_value.values])
    return f"{kind}:{getattr(value, kind)}" if kind else ""


def _blot(text: str, names: tuple[str, ...]) -> str:
    for name in names:
        text = text.replace(name, "RUN")
    return _UUID.sub("UUID", _PORT.sub("PORT", text))


@contextlib.contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """A receiver that accepts OTLP over HTTP with protobuf, gzip or not, until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.take(self.path.split("/")[1], body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_stub(Handler) as url:
        receiver.url = url
        yield receiver
