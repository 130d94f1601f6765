"""A watcher: shortly before the function's time limit, what is open is exported. Lambda kills without a word."""

from __future__ import annotations

import _thread
import threading
import time
from itertools import count

from spanwell._children import in_child
from spanwell._guard import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER = float("inf")
LEAD = 0.15
"""Seconds before the limit; half of what is left where that is less than twice as much."""


class Deadline:
    """Calls what it is given when its time has come, in one daemon thread, started by the first `watch`.

    clock: monotonic seconds. The thread sleeps to the earliest time that it knows, so that an invocation which ends
    in time need not wake it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: no thread, nothing to watch."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._waiting: dict[int, tuple[float, Callable[[], object]]] = {}
        self._numbers = count(1)
        self._sleeps_until = _NEVER
        self._runs = False

    def watch(self, remaining: float, late: Callable[[], object]) -> int:
        """Call `late` once, `LEAD` before `remaining` seconds are over, unless `release` comes first with the number
        that this gives."""
        due = self._clock() + remaining - min(LEAD, remaining / 2)
        number = next(self._numbers)
        self._waiting[number] = due, late
        if not self._runs:
            self._start()
        elif due < self._sleeps_until:
            self._wake.set()
        return number

    def release(self, number: int) -> None:
        """It is over in time."""
        self._waiting.pop(number, None)

    def _start(self) -> None:
        with self._lock:
            if self._runs:
                self._wake.set()
                return
            try:
                # Not a Thread, whose first start is when the instrumentor of threads is imported.
                _thread.start_new_thread(self._run, ())
            except RuntimeError:  # no thread to be had: the time limit is not watched
                return
            self._runs = True

    def _run(self) -> None:
        wake = self._wake
        while True:
            wake.clear()
            self._sleeps_until = _NEVER  # who comes while this looks around wakes it once more
            earliest = _NEVER
            now = self._clock()
            for number, (due, _) in self._waiting.copy().items():
                if due > now:
                    earliest = min(earliest, due)
                else:
                    self._call(number)
            self._sleeps_until = earliest
            wake.wait(None if earliest == _NEVER else max(0.0, earliest - self._clock()))

    def _call(self, number: int) -> None:
        found = self._waiting.pop(number, None)
        if found is not None:  # not released meanwhile
            with guard("the export before a time limit"):
                found[1]()
