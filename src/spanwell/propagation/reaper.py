"""Ends spans whose owner does not come back: after a time limit, or when a finaliser hands them over.

One daemon thread for the whole process, started with the first span watched and gone when none is open. A
finaliser may run inside any lock of any library, so it must neither take a lock nor end a span itself (a span
processor would take its own): it only puts the span into a `SimpleQueue`, whose `put` is re-entrant.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from queue import Empty, SimpleQueue

from spanwell._guard import guard, losses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opentelemetry.trace import Span

LIMIT = 300.0
_MAX_OPEN = 10_000


class Reaper:
    """Watches open spans; each is ended exactly once, by whoever takes it out of `_open` first."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._keys = itertools.count()
        self.forget()

    def forget(self) -> None:
        """Start empty. After a fork the open spans are the parent's: it ends them, the child must not."""
        self._lock = threading.Lock()
        # Insertion order is deadline order, for the limit is the same for all.
        self._open: dict[int, tuple[Span, float]] = {}
        self._inbox: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def watch(self, span: Span) -> int:
        """Take care of `span` until `end` is called with the key returned, `limit` seconds at most."""
        if len(self._open) >= _MAX_OPEN:
            self._evict()
        key = next(self._keys)
        self._open[key] = (span, time.monotonic() + self._limit)
        if self._thread is None:
            with guard("start of the span reaper"):
                self._start()
        return key

    def end(self, key: int, end_time: int | None = None) -> None:
        """End the span of `key`, at `end_time` (ns since the epoch) or now. Ended before: nothing happens."""
        entry = self._open.pop(key, None)
        if entry is not None:
            entry[0].end(end_time)

    def hand_over(self, key: int) -> None:
        """End the span of `key` as of now, soon and in another thread. Safe in a finaliser."""
        self._inbox.put((key, time.time_ns()))

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="spanwell-reaper", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            wait = self._end_overdue()
            if wait is None:
                with self._lock:
                    if not self._open:
                        self._thread = None
                        return
                continue
            try:
                key, end_time = self._inbox.get(timeout=wait)
            except Empty:
                continue
            with guard("end of a process span"):
                self.end(key, end_time)

    def _end_overdue(self) -> float | None:
        """End what is past its limit; the seconds until the next is, or None when nothing is open."""
        while True:
            try:
                key = next(iter(self._open))
                deadline = self._open[key][1]
            except StopIteration:
                return None
            except (KeyError, RuntimeError):
                continue  # another thread took it, or changed the dict, meanwhile
            wait = deadline - time.monotonic()
            if wait > 0:
                return wait
            self._end_early(key, "time limit")

    def _end_early(self, key: int, why: str) -> None:
        entry = self._open.pop(key, None)
        if entry is not None:
            with guard("end of a process span"):
                entry[0].set_attribute("spanwell.ended_by", why)
                entry[0].end()

    def _evict(self) -> None:
        with guard("bound of open process spans"):
            losses.add("process spans", "ended early: too many open", 1)
            self._end_early(next(iter(self._open)), "too many open")


reaper = Reaper()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reaper.forget)
