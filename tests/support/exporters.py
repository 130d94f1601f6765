"""Small span exporters whose behaviour a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class ListExporter(SpanExporter):
    """Keeps what it takes. `answer(number of the export)` says what becomes of a batch; it may also raise."""

    def __init__(self, answer: Callable[[int], SpanExportResult] = lambda _: SUCCESS) -> None:
        self.answer = answer
        self.batches: list[list[ReadableSpan]] = []
        self.exports = 0
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exports += 1
        answer = self.answer(self.exports)
        if answer is SUCCESS:
            self.batches.append(list(spans))
        return answer

    def shutdown(self) -> None:
        self.shutdowns += 1

    @property
    def spans(self) -> list[ReadableSpan]:
        """What it took, in order."""
        return [span for batch in self.batches for span in batch]


class HangingExporter(ListExporter):
    """Does not come back from an export before `release` is set, and then fails."""

    def __init__(self) -> None:
        super().__init__(self._hang)
        self.inside = threading.Event()
        self.release = threading.Event()

    def _hang(self, _: int) -> SpanExportResult:
        self.inside.set()
        self.release.wait(60)
        return FAILURE
