"""A clock that tests move."""

from __future__ import annotations


class FakeClock:
    """Seconds that pass only when told to: ``clock()`` reads, ``clock.advance(1.5)`` moves, back with a minus."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = float(start)

    def __call__(self) -> float:
        """The time now, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move by `seconds`, which may be negative."""
        self.now += seconds
