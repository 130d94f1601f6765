"""What waits for one exporter, bounded by number and by bytes."""

from __future__ import annotations

import threading
from collections import deque
from sys import maxsize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ESTIMATE = 4_000
"""Bytes that a span which is not encoded is counted as: measured, with ten attributes (docs/benchmarks.md)."""


class Buffer:
    """A queue of entries: things as they came, or `(item, bytes)` tuples once they are encoded.

    At most `max_number` entries and `max_bytes` bytes wait; no bound is `sys.maxsize`. What is taken out no longer
    counts. Thread-safe, and safe against being entered again by a finalizer or a signal handler that ends a span.

    calm: while fewer entries wait, one that is not encoded may be appended to `queue` by itself, which is cheap. Not
    while encoded ones wait, of which a few may have all the bytes.
    """

    __slots__ = ("_bytes", "_calm", "_encoded", "_lock", "calm", "max_bytes", "max_number", "queue")

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self._lock = threading.RLock()
        self._encoded = self._bytes = 0
        self.bound(maxsize, maxsize, 0)

    def bound(self, number: int, size: int, calm: int) -> None:
        """Set `max_number`, `max_bytes` and `calm`."""
        with self._lock:
            self.max_number, self.max_bytes, self._calm = number, size, calm
            self.calm = 0 if self._encoded else calm

    @property
    def bytes(self) -> int:
        """What the waiting entries take: the encoded ones as they said, the others by the estimate."""
        with self._lock:
            return self._size()

    def _size(self) -> int:
        return self._bytes + (len(self.queue) - self._encoded) * ESTIMATE

    @property
    def full(self) -> bool:
        """Whether it is not worth while to encode one more that must find room; up to 1 % of the bytes are free."""
        return not self._room(min(ESTIMATE, self.max_bytes // 100))

    def _room(self, size: int) -> bool:
        return len(self.queue) < self.max_number and self._size() + size <= self.max_bytes

    def add(self, entry: Any, newest: bool = False) -> int:
        """Take `entry` in and say how many were dropped for it: the oldest or, with `newest`, itself."""
        encoded = type(entry) is tuple
        size = entry[1] if encoded else ESTIMATE
        with self._lock:
            if size > self.max_bytes or (newest and not self._room(size)):
                return 1
            if encoded:
                self._encoded += 1
                self._bytes += size
                self.calm = 0
            self.queue.append(entry)
            dropped = 0
            while len(self.queue) > self.max_number or self._size() > self.max_bytes:
                self._pop()
                dropped += 1
            return dropped

    def _pop(self) -> Any:
        entry = self.queue.popleft()
        if type(entry) is tuple:
            self._encoded -= 1
            self._bytes -= entry[1]
            if not self._encoded:
                self.calm = self._calm
        return entry

    def take(self, number: int, most: int) -> list[Any]:
        """The oldest entries: at most `number`, and no further one once they have `most` bytes."""
        batch: list[Any] = []
        with self._lock:
            end = self._size() - most
            while self.queue and len(batch) < number and (self._size() > end or not batch):
                batch.append(self._pop())
        return batch

    def clear(self) -> int:
        """Drop everything; how many that was."""
        with self._lock:
            cleared = 0
            while self.queue:
                self._pop()
                cleared += 1
            return cleared
