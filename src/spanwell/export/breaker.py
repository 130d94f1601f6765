"""A circuit breaker: after a failed export the destination rests, twice as long each time. Pure: `now` comes in."""

from __future__ import annotations


class Breaker:
    """Closed after a success; after each failure open for 1, 2, 4 … 64 seconds.

    `first` and `longest` are the rests in seconds. Times are monotonic seconds.
    """

    def __init__(self, first: float = 1.0, longest: float = 64.0) -> None:
        self._first = first
        self._longest = longest
        self._rest = 0.0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Whether an attempt may be made at `now`."""
        return self.rest(now) == 0.0

    def rest(self, now: float) -> float:
        """The seconds that are left of the rest at `now`; 0 if an attempt may be made."""
        return 0.0 if self._rest == 0.0 else max(0.0, self._until - now)

    def succeeded(self) -> None:
        """The destination answered: it is trusted again."""
        self._rest = 0.0

    def failed(self, now: float) -> None:
        """The destination failed at `now`."""
        self._rest = min(self._longest, self._rest * 2 if self._rest else self._first)
        self._until = now + self._rest
