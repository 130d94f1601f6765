"""Limits a second, pure: `now` is an argument, in seconds of any clock that runs steadily (`time.monotonic`).

Both start full, so the first second is not lost, and both survive a clock that steps back: the time that passes
backwards brings nothing and takes nothing. Both may be used by several threads at once.
"""

from __future__ import annotations

import threading


class TokenBucket:
    """At most `rate` takes a second on average and `burst` at once (default: a second's worth, at least one)."""

    __slots__ = ("_balance", "_burst", "_last", "_lock", "_rate")

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self._rate = max(0.0, rate)
        self._burst = (max(1.0, self._rate) if self._rate else 0.0) if burst is None else burst
        self._balance = self._burst
        self._last: float | None = None
        # Re-entrant: a finalizer or a signal handler may start or end a span while this thread is in here.
        self._lock = threading.RLock()

    def take(self, now: float) -> bool:
        """Whether one more fits at `now`; if so it is taken."""
        with self._lock:
            last, self._last = self._last, now
            if last is not None and now > last:
                self._balance = min(self._burst, self._balance + (now - last) * self._rate)
            if self._balance < 1.0:
                return False
            self._balance -= 1.0
            return True


class Reservoir:
    """X-Ray's reservoir of one rule: `size` traces a second before any percentage applies.

    Until the service grants a quota, and again when the quota has expired, one trace a second is borrowed if the
    rule has a reservoir at all, as the X-Ray SDKs do.
    """

    __slots__ = ("_borrow", "_granted", "_quota", "_until", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._borrow = TokenBucket(1.0 if size > 0 else 0.0)
        self._granted = 0.0
        self._quota = TokenBucket(0.0)
        self._until = float("-inf")

    def grant(self, quota: float, until: float) -> None:
        """Take up to `quota` traces a second until `until`. The same quota again brings no second burst."""
        if quota != self._granted:
            self._granted, self._quota = quota, TokenBucket(quota)
        self._until = until

    def take(self, now: float) -> str:
        """How one trace was taken at `now`: "reservoir" (of the quota), "borrowed", or "" for not at all."""
        if now < self._until:
            return "reservoir" if self._quota.take(now) else ""
        return "borrowed" if self._borrow.take(now) else ""
