"""The end of the process: everything that exports is told at once, and together it gets one time budget."""

from __future__ import annotations

import atexit
import sys
import time

from spanwell._guard import guard, logger, losses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Exit:
    """Runs `begin` of every part, then `finish(seconds left)`, then `record(seconds left)`, once.

    All of it takes at most `timeout` seconds. The parts work in their own threads: `begin` only wakes them, so that
    slow ones do not wait for each other. `record` keeps what all parts lost.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout = timeout
        self._clock = clock
        self._parts: list[tuple[Callable[[], None], Callable[[float], None]]] = []
        self._records: list[Callable[[float], None]] = []
        self._done = False

    def add(
        self,
        begin: Callable[[], None],
        finish: Callable[[float], None],
        record: Callable[[float], None] | None = None,
    ) -> None:
        """Add a part; `finish` and `record` get the seconds that are left for them."""
        self._parts.append((begin, finish))
        if record is not None:
            self._records.append(record)

    def install(self) -> None:
        """Run at the end of this process, and of multiprocessing children, which skip exit handlers."""
        global _current
        _current = self
        atexit.register(self.run)
        if "multiprocessing.util" in sys.modules:
            self.follow_multiprocessing()

    def follow_multiprocessing(self) -> None:
        """A forked multiprocessing child ends with os._exit after its own finalizers: be one of them."""
        from multiprocessing import process, util

        util.register_after_fork(self, Exit._in_child)
        if process.parent_process() is not None:  # set up in a child that was forked already
            self._in_child()

    def _in_child(self) -> None:
        from multiprocessing import util

        util.Finalize(None, self.run, exitpriority=0)

    def run(self) -> None:
        """Shut everything down, within the budget."""
        if self._done:
            return
        self._done = True
        end = self._clock() + self.timeout
        for begin, _ in self._parts:
            with guard("shutdown"):
                begin()
        for _, finish in self._parts:
            with guard("shutdown"):
                finish(max(0.0, end - self._clock()))
        if losses.everything():
            for record in self._records:
                with guard("shutdown"):
                    record(max(0.0, end - self._clock()))
        _say()
        _keep_interrupt()


_current: Exit | None = None


def follow_multiprocessing() -> None:
    """multiprocessing has been imported: from now on its children export what they have before they end."""
    if _current is not None:
        _current.follow_multiprocessing()


def end_process() -> None:
    """Export what waits, within the budget, where a process ends without running exit handlers."""
    if _current is not None:
        _current.run()


def _keep_interrupt() -> None:
    """After an unhandled KeyboardInterrupt a script ends by SIGINT (status 130 in a shell), not with status 1.

    The interpreter holds that in a flag that every `exec` of a text clears, and modules that are imported for the
    last export do that (dataclasses, namedtuple). An interrupt that passes through an `exec` sets it again.
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass


def _say() -> None:
    if losses.everything() > losses.said:
        logger.warning("spanwell: lost in this process: %s", describe(losses.snapshot()))


def describe(counts: dict[tuple[str, str], int]) -> str:
    """Lost telemetry as text: ``12 spans (queue full), 3 spans (exit (otlp))``."""
    return ", ".join(f"{number} {signal} ({reason})" for (signal, reason), number in sorted(counts.items()))
