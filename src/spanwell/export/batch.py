"""Batching: what ended waits in a bounded buffer, one worker thread exports it, exit is bounded.

Upstream's batch processors ignore the timeout of `force_flush`, join their worker for up to 30 s at shutdown
and do not tell how much they dropped (RATIONALE.md, "Our own batch processor").
"""

from __future__ import annotations

import threading
import time
from collections import deque
from sys import maxsize

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from spanwell._children import in_child
from spanwell._guard import failed, losses, warn_once
from spanwell._otel.spans import FLAGS, context_of
from spanwell.export.breaker import Breaker
from spanwell.export.buffer import ESTIMATE, Buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.context import Context

    from spanwell.export.guarded import GuardedExporter


MAX_NUMBER = 2048
"""Items that wait at most for an exporter that does not encode them, unless the user says otherwise."""

NAP = 0.0005
"""Seconds for which every 64th item in a backlog lets the worker run that builds the exporter."""

_FEW = 32
"""A bound below this is kept to the item; above, threads may get past it together by as many as they are."""


class Batch:
    """Hands items to `exporter` in batches, from its own thread, started by the first item.

    `max_bytes` bounds what waits for an `EncodingExporter` and `max_queue`, a number of items, what waits for any
    other (default 2048) or, if it is given, for both. Beyond, the oldest item goes, or with `drop_newest` the new
    one, counted. `max_batch` bounds one export; an `EncodingExporter` gets up to `backlog_batch` while more than two
    batches wait. `delay` is the pause between exports and `flush_timeout` the default of `force_flush`, both in
    seconds. `ready` is called by the worker before the first export and may wait for a short while, e.g. for the
    resource. `setting` and `buffer_setting` are the variables of `max_queue` and `max_bytes`, for the report.

    exported: items that arrived; exports: attempts so far; seconds: what the last 256 attempts took.
    """

    def __init__(
        self,
        exporter: GuardedExporter,
        *,
        max_queue: int | None = None,
        max_batch: int = 512,
        backlog_batch: int = 0,
        max_bytes: int = 32_000_000,
        drop_newest: bool = False,
        delay: float = 5.0,
        flush_timeout: float = 30.0,
        ready: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        setting: str = "OTEL_BSP_MAX_QUEUE_SIZE",
        buffer_setting: str = "SPANWELL_EXPORT_BUFFER_MB",
    ) -> None:
        self._exporter = exporter
        self._max_queue = max_queue
        self._max_bytes = max_bytes
        self._newest = drop_newest
        self._max_batch = max_batch if max_queue is None else min(max_batch, max_queue)
        self._backlog_batch = max(self._max_batch, backlog_batch)
        self._delay = delay
        self._flush_timeout = flush_timeout
        self._ready = ready
        self._clock = clock
        self._settings = setting, buffer_setting
        self._breaker = Breaker()
        self._closed = False
        self._finished = False
        self.exported = self.exports = 0
        self.seconds: deque[float] = deque(maxlen=256)
        self._reset()
        in_child(self._after_fork)

    def _reset(self) -> None:
        self._lock = threading.RLock()  # a finalizer that ends a span may come at any moment
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._flushes: list[_Flush] = []
        self._worker: threading.Thread | None = None
        self._ended = False
        self._prepared = threading.Event()
        self._taken = 0
        self._buffer = Buffer()
        self._set_bounds()

    def _after_fork(self) -> None:
        """In the child: what waits belongs to the parent, and so does the worker thread."""
        self.exported = self.exports = 0
        self.seconds.clear()
        self._reset()

    def _set_bounds(self) -> None:
        """The bounds, as far as it is known whether the exporter encodes."""
        encodes = self._exporter.encode is not None
        by_number = self._max_queue is not None or (self._prepared.is_set() and not encodes)
        number = (self._max_queue or MAX_NUMBER) if by_number else maxsize
        size = self._max_bytes if encodes or not by_number else maxsize
        self._full_batch = min(self._max_batch, max(1, size // ESTIMATE // 2))
        self._backlog = min(2 * self._max_batch, number // 2, size // ESTIMATE // 2)
        calm = self._worker is not None and not self._closed and self._backlog >= _FEW
        self._buffer.bound(number, size, self._backlog if calm else 0)

    @property
    def name(self) -> str:
        """The exporter's name, as the user wrote it."""
        return self._exporter.name

    @property
    def waiting(self) -> int:
        """Items in the buffer."""
        return len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of what waits, as far as it is encoded; the rest is estimated."""
        return self._buffer.bytes

    @property
    def limit(self) -> int:
        """Items that may wait; where bytes are the bound, as many as would fit if all were like those that wait."""
        waiting, size = self.waiting, self.waiting_bytes
        return min(self._buffer.max_number, self._buffer.max_bytes // (size // waiting or 1 if waiting else ESTIMATE))

    @property
    def _queue(self) -> deque[Any]:
        return self._buffer.queue

    # --- the application's threads ----------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Queue `item`. Never raises, and never waits for the exporter: for its being built, `NAP` at most."""
        buffer = self._buffer
        waiting = len(buffer.queue)
        if waiting < buffer.calm:
            buffer.queue.append(item)
            if waiting + 1 >= self._full_batch and not self._wake.is_set():
                self._wake.set()
        else:
            self._put(item, self._newest)
        if self._finished:  # while this thread was in here: nobody else will look into the queue again
            self._count_left()

    def _put(self, item: Any, newest: bool) -> None:
        """`put` where there is more to do: the first item, a backlog, a bound, the end."""
        if self._closed:
            losses.add(self._exporter.signal, "ended after shutdown", 1)
            return
        buffer = self._buffer
        if len(buffer.queue) >= self._backlog:
            item = self._encoded(item, newest)
        if item is None or buffer is not self._buffer:  # forked in the middle of that: the item is the parent's
            return
        dropped = buffer.add(item, newest)
        if dropped:
            self._lose(dropped, newest)
        if self._worker is None:
            self._start()
        if len(buffer.queue) >= self._full_batch and not self._wake.is_set():
            self._wake.set()
        if not dropped:
            self._nap(len(buffer.queue))

    def _encoded(self, item: Any, newest: bool) -> Any:
        """`item` as it waits in a backlog: encoded, as soon as that is possible; None if it is lost."""
        encode = self._exporter.encode
        if encode is None:
            return item
        if newest and self._buffer.full:
            self._lose(1, newest)
            return None
        try:
            encoded, size = encode(item)
        except Exception as error:
            self._exporter.refused(1, f"{type(error).__name__}: {error}")
            return None
        return encoded, size

    def _nap(self, waiting: int) -> None:
        """Let the worker run that builds the exporter.

        A loop that ends spans leaves it 5 ms in 10 at best, and less while it imports: a burst at the start of a
        process would fill the buffer with spans that nobody can encode yet.
        """
        if waiting > self._backlog and waiting % 64 == 0 and not self._prepared.is_set():
            self._prepared.wait(NAP)

    def _lose(self, dropped: int, newest: bool) -> None:
        signal, name, buffer = self._exporter.signal, self._exporter.name, self._buffer
        losses.add(signal, "queue full", dropped)
        by_number = len(buffer.queue) >= buffer.max_number
        warn_once(
            f"queue:{signal}:{name}",
            "spanwell: the queue to exporter %s is full (%s); the %s are dropped and counted (%s)",
            name,
            f"{buffer.max_number} {signal}" if by_number else f"{buffer.max_bytes / 1e6:g} MB",
            "newest" if newest else "oldest",
            self._settings[0 if by_number else 1],
        )

    def _start(self) -> None:
        with self._lock:
            worker = threading.Thread(target=self._run, name=f"spanwell-{self._exporter.name}", daemon=True)
            if self._worker is not None:
                return
            self._worker = worker
            try:
                worker.start()
            except RuntimeError:  # the interpreter is shutting down: `finish` counts what waits
                self._worker = None
            self._set_bounds()

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
        with self._lock:
            self._closed = True
            self._set_bounds()
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
        if worker is not None and worker is not threading.current_thread() and worker.is_alive():
            worker.join(max(0.0, timeout))
        self._finished = True
        self._count_left()
        self._exporter.shutdown(max(0.0, end - self._clock()))

    def shutdown(self) -> None:
        """`finish` with `flush_timeout`, for a provider that is shut down by hand."""
        self.finish(self._flush_timeout)

    def _count_left(self) -> None:
        """Empty the queue and count it as lost. Several threads may do so at once."""
        left = self._buffer.clear()
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
        arrived, end = True, self._taken + len(self._queue)
        while self._taken < end and self._queue:
            if self._finished:
                return False
            if not self._breaker.allows(self._clock()) and not self._closed:
                return False
            arrived = self._export() and arrived
        return arrived

    def _export(self) -> bool:
        """Export one batch; True if all of it arrived."""
        self._prepare()
        batch = self._take()
        self._taken += len(batch)
        begun = self._clock()
        arrived, reached = self._exporter.hand_over(batch, len(batch))
        self.seconds.append(self._clock() - begun)
        self.exports += 1
        self.exported += arrived
        if reached:
            self._breaker.succeeded()
        else:
            self._breaker.failed(self._clock())
            if self._closed:  # one failed attempt is enough: the rest would fail the same way
                self._count_left()
        return arrived == len(batch)

    def _prepare(self) -> None:
        # Built first: while `ready` waits, `put` can encode already.
        if not self._prepared.is_set():
            self._exporter.prepare()
            with self._lock:
                self._prepared.set()
                self._set_bounds()
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def _take(self) -> list[Any]:
        """A batch; a quarter of the bytes at most, so that what is under way stays small beside what waits."""
        backlog = self._exporter.encode is not None and len(self._queue) > 2 * self._max_batch
        number = self._backlog_batch if backlog else self._max_batch
        return self._buffer.take(number, self._buffer.max_bytes // 4)


class BatchProcessor(Batch, SpanProcessor):
    """A `Batch` of the sampled spans, and of those that are promoted one by one."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span counts when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue `span` if it is sampled, as `put` does."""
        context = context_of(span)
        if context is not None and context[FLAGS] & 1:
            self.put(span)

    def promote(self, span: ReadableSpan) -> None:
        """Queue `span`, which ended unsampled, as `put` does.

        A full queue takes it not: a sampled span, which other services were told of, would have to go for it.
        """
        if self.waiting < self._buffer.calm:
            self.put(span)
            return
        self._put(span, True)
        if self._finished:
            self._count_left()


class _Flush:
    """One waiting `force_flush`."""

    __slots__ = ("arrived", "done")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.arrived = False
