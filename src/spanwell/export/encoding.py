"""What the exporters of this room share: a span is encoded once, waits as bytes, and leaves in a batch."""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanwell._guard import logger, losses, warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan


class Sent(NamedTuple):
    """What became of a batch: how many of its spans are lost for good, and why.

    `reached` is False if the destination took nothing at all: then it is left alone for a while.
    """

    lost: int = 0
    reason: str = ""
    reached: bool = True


class EncodingExporter(SpanExporter):
    """An exporter whose spans can wait in their encoded form. `name` is its entry point's.

    A batch processor of ours calls `encode` and `send` and counts what is lost; any other calls `export`, which
    counts and reports by itself. `encode` is called from any thread, `send` from one at a time.
    """

    name = ""
    counts_losses = True
    time_left = float("inf")
    """Seconds that the next `send` may take, where something waits for it; not every exporter heeds it."""

    def encode(self, span: ReadableSpan) -> tuple[Any, int]:
        """What `send` takes for `span`, and the bytes it keeps waiting. Raises for a span that has no encoding."""
        raise NotImplementedError

    def send(self, items: list[Any]) -> Sent:
        """Deliver what `encode` made, with all its retries. May raise: then the whole batch is lost."""
        raise NotImplementedError

    def last_attempt(self) -> None:
        """The process ends: no more waiting between attempts, neither now nor later."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode and send `spans`; SUCCESS if all arrived. Never raises; losses are counted, and said once."""
        items = []
        for span in spans:
            try:
                items.append(self.encode(span)[0])
            except Exception as error:
                self._lost(Sent(1, f"a span cannot be encoded: {error}"))
        if not items:
            return SpanExportResult.FAILURE if spans else SpanExportResult.SUCCESS
        try:
            sent = self.send(items)
        except Exception as error:
            logger.debug("spanwell: export to %s failed", self.name, exc_info=error)
            sent = Sent(len(items), f"{type(error).__name__}: {error}", False)
        if sent.lost:
            self._lost(sent)
        whole = sent.reached and not sent.lost and len(items) == len(spans)
        return SpanExportResult.SUCCESS if whole else SpanExportResult.FAILURE

    def _lost(self, sent: Sent) -> None:
        losses.add("spans", f"export failed ({self.name})", sent.lost)
        if warn_once(
            f"lost:spans:{self.name}",
            "spanwell: %d spans did not reach exporter %s: %s; further losses are counted",
            sent.lost,
            self.name,
            sent.reason,
        ):
            losses.tell(sent.lost)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return True
