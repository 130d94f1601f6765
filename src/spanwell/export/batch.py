"""Batching: what ended waits in a bounded queue, one worker thread exports it, exit is bounded.

Upstream's batch processors ignore the timeout of `force_flush`, join their worker for up to 30 s at shutdown
and do not tell how much they dropped (RATIONALE.md, "Our own batch processor").
"""

from __future__ import annotations

import threading
import time
from collections import deque

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from spanwell._children import in_child
from spanwell._guard import failed, losses, warn_once
from spanwell.export.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.context import Context

    from spanwell.export.guarded import GuardedExporter


class Batch:
    """Hands items to `exporter` in batches, from its own thread, started by the first item.

    `max_queue` bounds what waits (beyond it the oldest item goes, counted), `max_batch` one export, `delay`
    is the pause between exports and `flush_timeout` the default of `force_flush`, both in seconds. `ready` is
    called by the worker before the first export and may wait for a short while, e.g. for the resource. `setting`
    is the variable that sets `max_queue`, for the report.

    exported: items that arrived; exports: attempts so far; seconds: what the last 256 attempts took.
    """

    def __init__(
        self,
        exporter: GuardedExporter,
        *,
        max_queue: int = 2048,
        max_batch: int = 512,
        delay: float = 5.0,
        flush_timeout: float = 30.0,
        ready: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        setting: str = "OTEL_BSP_MAX_QUEUE_SIZE",
    ) -> None:
        self._exporter = exporter
        self._max_queue = max_queue
        self._max_batch = min(max_batch, max_queue)
        self._delay = delay
        self._flush_timeout = flush_timeout
        self._ready = ready
        self._clock = clock
        self._setting = setting
        self._breaker = Breaker()
        self._queue: deque[Any] = deque()
        self._closed = False
        self._finished = False
        self.exported = self.exports = 0
        self.seconds: deque[float] = deque(maxlen=256)
        self._reset()
        in_child(self._after_fork)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._flushes: list[_Flush] = []
        self._worker: threading.Thread | None = None
        self._ended = False

    def _after_fork(self) -> None:
        """In the child: what waits belongs to the parent, and so does the worker thread."""
        self._queue.clear()
        self.exported = self.exports = 0
        self.seconds.clear()
        self._reset()

    @property
    def name(self) -> str:
        """The exporter's name, as the user wrote it."""
        return self._exporter.name

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return len(self._queue)

    @property
    def limit(self) -> int:
        """Items that the queue holds at most."""
        return self._max_queue

    # --- the application's threads ----------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Queue `item`. Never blocks and never raises."""
        queue = self._queue
        if self._closed:
            losses.add(self._exporter.signal, "ended after shutdown", 1)
            return
        queue.append(item)
        if len(queue) > self._max_queue:
            self._drop_oldest()
        if self._worker is None:
            self._start()
        if len(queue) >= self._max_batch and not self._wake.is_set():
            self._wake.set()
        if self._finished:  # while this thread was in here: nobody else will look into the queue again
            self._count_left()

    def _drop_oldest(self) -> None:
        dropped = 0
        try:
            while len(self._queue) > self._max_queue:
                self._queue.popleft()
                dropped += 1
        except IndexError:
            pass
        if dropped:
            self._lose(dropped)

    def _lose(self, dropped: int) -> None:
        losses.add(self._exporter.signal, "queue full", dropped)
        warn_once(
            f"queue:{self._exporter.signal}:{self._exporter.name}",
            "spanwell: the queue to exporter %s is full (%d %s); the oldest are dropped and counted (%s)",
            self._exporter.name,
            self._max_queue,
            self._exporter.signal,
            self._setting,
        )

    def _start(self) -> None:
        with self._lock:
            if self._worker is not None:
                return
            worker = threading.Thread(target=self._run, name=f"spanwell-{self._exporter.name}", daemon=True)
            try:
                worker.start()
            except RuntimeError:  # the interpreter is shutting down: `finish` counts what waits
                return
            self._worker = worker

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Export what waits now; True if all of it arrived within `timeout_millis` (default: flush_timeout)."""
        timeout = self._flush_timeout if timeout_millis is None else timeout_millis / 1000
        flush = _Flush()
        with self._lock:
            if self._worker is None or self._closed or self._ended:
                return not self._queue
            self._flushes.append(flush)
        self._hurry()
        return flush.done.wait(timeout) and flush.arrived

    def begin_shutdown(self) -> None:
        """Take nothing more and let the worker export what waits, one attempt a batch."""
        if self._closed:
            return
        self._closed = True
        self._exporter.last_attempt()
        self._hurry()

    def _hurry(self) -> None:
        self._urgent.set()
        self._wake.set()

    def finish(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the worker, then let go; what did not arrive is counted. Idempotent."""
        end = self._clock() + timeout
        self.begin_shutdown()
        if self._finished:
            return
        worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join(max(0.0, timeout))
        self._finished = True
        self._count_left()
        self._exporter.shutdown(max(0.0, end - self._clock()))

    def shutdown(self) -> None:
        """`finish` with `flush_timeout`, for a provider that is shut down by hand."""
        self.finish(self._flush_timeout)

    def _count_left(self) -> None:
        """Empty the queue and count it as lost. Several threads may do so at once."""
        left = 0
        try:
            while True:
                self._queue.popleft()
                left += 1
        except IndexError:
            pass
        if left:
            self._exporter.lost(left, "exit")

    # --- the worker thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            rest = self._breaker.rest(self._clock())
            if rest:
                # A full batch is no reason to get up now. `_wake` stays set, so `put` does not touch it either.
                self._urgent.wait(rest)
            else:
                self._wake.wait(self._delay)
            self._wake.clear()
            self._urgent.clear()
            self._turn()
        self._turn()
        with self._lock:
            self._ended = True
        self._answer(False)  # a flush that came after the last turn

    def _turn(self) -> None:
        with self._lock:
            asked = len(self._flushes)
        arrived = False
        try:
            arrived = self._drain()
        except Exception as error:
            failed(f"export to {self._exporter.name}", error)
        self._answer(arrived, asked)

    def _answer(self, arrived: bool, number: int | None = None) -> None:
        with self._lock:
            flushes, self._flushes = self._flushes[:number], [] if number is None else self._flushes[number:]
        for flush in flushes:
            flush.arrived = arrived
            flush.done.set()

    def _drain(self) -> bool:
        """Export batch after batch while the destination takes them; True if nothing is left and all arrived."""
        arrived = True
        for _ in range(1 + len(self._queue) // self._max_batch):
            if self._finished:
                return False
            if not self._queue:
                break
            if not self._breaker.allows(self._clock()) and not self._closed:
                return False
            arrived = self._export() and arrived
        return arrived

    def _export(self) -> bool:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()
        batch = self._take()
        begun = self._clock()
        arrived = self._exporter.deliver(batch, len(batch))
        self.seconds.append(self._clock() - begun)
        self.exports += 1
        if arrived:
            self.exported += len(batch)
            self._breaker.succeeded()
        else:
            self._breaker.failed(self._clock())
            if self._closed:  # one failed attempt is enough: the rest would fail the same way
                self._count_left()
        return arrived

    def _take(self) -> list[Any]:
        batch: list[Any] = []
        try:
            while len(batch) < self._max_batch:
                batch.append(self._queue.popleft())
        except IndexError:
            pass
        return batch


class BatchProcessor(Batch, SpanProcessor):
    """A `Batch` of the sampled spans, and of those that are promoted one by one."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span counts when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue `span` if it is sampled. Never blocks and never raises."""
        context = span.context
        if context is not None and context.trace_flags & 1:
            self.put(span)

    def promote(self, span: ReadableSpan) -> None:
        """Queue `span`, which ended unsampled. Never blocks and never raises.

        A full queue takes it not: a sampled span, which other services were told of, would have to go for it.
        """
        if len(self._queue) < self._max_queue:
            self.put(span)
        else:
            self._lose(1)


class _Flush:
    """One waiting `force_flush`."""

    __slots__ = ("arrived", "done")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.arrived = False
