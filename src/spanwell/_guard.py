"""The application always wins: an error inside spanwell costs telemetry, never a request, an import or an exit.

`guard` is the one place where our own exceptions stop; `losses` is the one place where lost telemetry is
counted. Tests set `strict` (see `spanwell.testing`), and then a guarded error is raised again.
"""

from __future__ import annotations

import os
import threading
from logging import getLogger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

logger = getLogger("spanwell")

strict = False

_MAX_KEYS = 1024
_warned: set[str] = set()


def warn_once(key: str, message: str, *args: object) -> bool:
    """Log `message % args` at WARNING the first time `key` is seen in this process; tell whether it was.

    The memory is bounded: past 1024 keys nothing further is logged.
    """
    if key in _warned or len(_warned) >= _MAX_KEYS:
        return False
    _warned.add(key)
    logger.warning(message, *args)
    return True


class guard:  # noqa: N801 - used as a statement: `with guard("sqlite export"):`
    """Swallow any `Exception` of the block, saying once what failed and that the application goes on.

    `what` names the work in the log line and in the loss counters, e.g. ``"instrument flask"``.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if strict:
            return False
        failed(self._what, error)
        return True


def failed(what: str, error: BaseException) -> None:
    """Count and, once for each `what`, report an error of our own that the application must not see."""
    losses.add("errors", what, 1)
    warn_once(
        f"failed:{what}",
        "spanwell: %s failed (%s: %s); the application goes on without it",
        what,
        type(error).__name__,
        error,
    )
    logger.debug("spanwell: %s failed", what, exc_info=error)


class Losses:
    """Counts of telemetry that did not arrive: (signal, reason) -> number. Bounded, thread-safe, fork-safe.

    `said` is how many of them a log line has told already.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may lose a span while its thread counts another
        self._counts: dict[tuple[str, str], int] = {}
        self.said = 0

    def add(self, signal: str, reason: str, number: int) -> None:
        """Add `number` lost items of `signal` ("spans", "errors") for `reason`."""
        with self._lock:
            if (signal, reason) not in self._counts and len(self._counts) >= _MAX_KEYS:
                reason = "other"
            self._counts[signal, reason] = self._counts.get((signal, reason), 0) + number

    def total(self, signal: str) -> int:
        """How many items of `signal` were lost in this process so far."""
        with self._lock:
            return sum(number for (kind, _), number in self._counts.items() if kind == signal)

    def everything(self) -> int:
        """How many items of all signals were lost, our own errors aside."""
        with self._lock:
            return sum(number for (kind, _), number in self._counts.items() if kind != "errors")

    def tell(self, number: int) -> None:
        """A log line has told of `number` lost items."""
        with self._lock:
            self.said += number

    def snapshot(self) -> dict[tuple[str, str], int]:
        """A copy of every count."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Start again from nothing: after a fork the losses so far belong to the parent."""
        self._lock = threading.RLock()
        self._counts = {}
        self.said = 0


losses = Losses()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=losses.reset)
