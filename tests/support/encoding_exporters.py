"""An exporter whose spans wait encoded and whose behaviour a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from spanwell.export.encoding import EncodingExporter, Sent


class ListEncodingExporter(EncodingExporter):
    """Keeps the names of what it takes. A name that starts with "bad" has no encoding, and one with digits at its end
    takes so many bytes, else 100. `answer(number of the send, items)` says what becomes of a batch; it may raise.

    encoders: the threads that encoded, in order.
    """

    name = "list"

    def __init__(self, answer: Callable[[int, list[Any]], Sent] = lambda _number, _items: Sent()) -> None:
        self.answer = answer
        self.batches: list[list[str]] = []
        self.encoders: list[threading.Thread] = []
        self.sends = self.shutdowns = self.last_attempts = 0

    def encode(self, span: ReadableSpan) -> tuple[Any, int]:
        self.encoders.append(threading.current_thread())
        if span.name.startswith("bad"):
            raise ValueError(f"{span.name} is no name")
        digits = span.name.rpartition(":")[2]
        return span.name, int(digits) if digits.isdigit() else 100

    def send(self, items: list[Any]) -> Sent:
        self.sends += 1
        sent = self.answer(self.sends, items)
        if sent.lost < len(items):
            self.batches.append(items[sent.lost :])
        return sent

    def last_attempt(self) -> None:
        self.last_attempts += 1

    def shutdown(self) -> None:
        self.shutdowns += 1

    @property
    def names(self) -> list[str]:
        """The names that arrived, in order."""
        return [name for batch in self.batches for name in batch]


class Held:
    """An answer that waits inside `send` until `release` is set."""

    def __init__(self, then: Sent | None = None) -> None:
        self.then = then or Sent()
        self.inside = threading.Event()
        self.release = threading.Event()

    def __call__(self, _number: int, _items: list[Any]) -> Sent:
        self.inside.set()
        self.release.wait(60)
        return self.then
