"""Lambda: spans wait until the invocation flushes them, in its own thread, before the response is posted.

A worker thread would be frozen with the process as soon as the response is out, and what it holds would leave with
the next invocation, or never.
"""

from __future__ import annotations

import threading

from spanwell._otel.spans import SPAN_ID, context_of
from spanwell.export.batch import BatchProcessor
from spanwell.export.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from opentelemetry.sdk.trace import ReadableSpan


class SynchronousProcessor(BatchProcessor):
    """A `BatchProcessor` without a thread: `flush` exports what waits, in the thread that calls it.

    A span that ends later, in a thread of the application, goes out with the next flush. What waits is bounded as in
    a `Batch`, and so is what a destination that is down may cost: after a failed attempt it rests, while spans wait.

    left: the ids of spans that were exported while they were open.
    """

    left: Collection[int] = ()

    def _reset(self) -> None:
        super()._reset()
        self._turns = threading.Lock()

    def _set_bounds(self) -> None:
        super()._set_bounds()
        # `put` may append by itself: there is no worker to be started or woken.
        self._full_batch = self._buffer.max_number + 1
        if not self._closed:
            self._buffer.bound(self._buffer.max_number, self._buffer.max_bytes, max(0, self._backlog))

    def _start(self) -> None:
        """No thread."""

    def _nap(self, waiting: int) -> None:
        """Nobody else builds the exporter: a backlog waits encoded from here on."""
        if not self._prepared.is_set() and waiting >= self._backlog:
            self._prepare()

    def prepare(self) -> None:
        """Build the exporter now. Never raises."""
        self._prepare()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue `span` if it is sampled, unless a copy of it left while it was open."""
        if self.left:
            context = context_of(span)
            if context is not None and context[SPAN_ID] in self.left:
                return
        super().on_end(span)

    def put_copies(self, copies: Iterable[ReadableSpan]) -> None:
        """Queue what `OpenSpans.copies` gave."""
        for copy in copies:
            self.put(copy)

    def flush(self, seconds: float) -> bool:
        """Export what waits; True if nothing is left and all of it arrived. Takes about `seconds` at most: an attempt
        that has begun runs to its own limit."""
        end = self._clock() + seconds
        if not self._turns.acquire(timeout=max(0.0, seconds)):
            return False
        try:
            return self._flush(end)
        finally:
            self._turns.release()

    def _flush(self, end: float) -> bool:
        arrived, last = True, self._taken + len(self._queue)
        while self._taken < last and self._queue:
            now = self._clock()
            if self._finished or now > end or not (self._closed or self._breaker.allows(now)):
                return False
            self._prepare()
            self._exporter.limit(max(0.01, end - now))
            arrived = self._export() and arrived
        return arrived

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """`flush` within `timeout_millis` (default: flush_timeout)."""
        return self.flush(self._flush_timeout if timeout_millis is None else timeout_millis / 1000)

    def finish(self, timeout: float) -> None:
        """Export what waits, one attempt a batch, within `timeout` seconds; what is left is counted. Idempotent."""
        self.begin_shutdown()
        if not self._finished:
            end = self._clock() + timeout
            self.flush(timeout)
            super().finish(max(0.0, end - self._clock()))

    def renew(self) -> None:
        """After a snapshot was restored: the exporter's connections are another machine's, and so is what its clock
        says of the last failure. What waits stays."""
        self._turns = threading.Lock()
        self._breaker = Breaker()
        self._exporter.renew()
        self._prepared.clear()
        self._set_bounds()
