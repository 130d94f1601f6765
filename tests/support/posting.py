"""An exporter whose spans wait encoded, and which posts them over a real connection."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from spanwell.export.encoding import EncodingExporter, Sent


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def framed(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(content)) + content


class PostingExporter(EncodingExporter):
    """Posts OTLP-shaped requests (ids, name and attributes of each span) to `port` on loopback.

    `send` tries `attempts` times with `pause` seconds in between, which `last_attempt` cuts short.
    """

    name = "posting"

    def __init__(self, port: int, *, attempts: int = 1, pause: float = 0.0) -> None:
        self.port = port
        self.attempts = attempts
        self.pause = pause
        self.hurry = threading.Event()
        self._connection: HTTPConnection | None = None

    def encode(self, span: ReadableSpan) -> tuple[Any, int]:
        context = span.context
        parts = [framed(1, context.trace_id.to_bytes(16, "big")), framed(2, context.span_id.to_bytes(8, "big"))]
        parts.append(framed(5, span.name.encode()))
        for key, value in (span.attributes or {}).items():
            parts.append(framed(9, framed(1, key.encode()) + framed(2, framed(1, str(value).encode()))))
        encoded = framed(2, b"".join(parts))
        return (span.resource, encoded), len(encoded)

    def send(self, items: list[Any]) -> Sent:
        body = framed(1, framed(2, b"".join(encoded for _, encoded in items)))
        problem = ""
        for attempt in range(self.attempts):
            if attempt and self.hurry.wait(self.pause):
                break
            problem = self._post(body)
            if not problem:
                return Sent()
        return Sent(len(items), problem, reached=False)

    def _post(self, body: bytes) -> str:
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            self._connection.request("POST", "/v1/traces", body)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            self._connection = None
            return type(error).__name__
        return "" if answer.status == 200 else f"it answers {answer.status}"

    def last_attempt(self) -> None:
        self.hurry.set()


def span_ids(bodies: Sequence[bytes]) -> list[int]:
    """The ids of the spans in what `PostingExporter` posted."""
    return [
        int.from_bytes(fields[2][0], "big")
        for body in bodies
        for scopes in _fields(body).get(1, [])
        for spans in _fields(scopes).get(2, [])
        for span in _fields(spans).get(2, [])
        for fields in (_fields(span),)
    ]


def _fields(message: bytes) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        field, size, shift = message[at] >> 3, 0, 0
        while True:
            at += 1
            size |= (message[at] & 0x7F) << shift
            shift += 7
            if message[at] < 0x80:
                break
        found.setdefault(field, []).append(message[at + 1 : at + 1 + size])
        at += 1 + size
    return found
