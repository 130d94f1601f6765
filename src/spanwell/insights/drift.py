"""Whether operations become slower over time: a few numbers for each, whatever the traffic.

Every minute with enough successful requests gives one point, their 95th percentile; a minute with fewer goes on until
it has them, and is forgotten after a quarter of an hour. Quiet times change nothing. Three moving averages follow
the points: `short` (weight 2/21) and `long` (2/41), as in Sentry's endpoint regression, and `usual`, the mean of all
points, after some days of about the last week.

A sudden change lifts `short` over `long`. A gradual one never does, since both follow it: it lifts `long` over
`usual`. In either case it counts only if `short` is over `usual` by the ratio, by the least change, and by more than
points scatter. While something seems wrong `usual` hardly follows, so that there is something to come back to; a
level that stays for weeks becomes usual. A daily rhythm is a change like any other.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from math import ceil, inf

from spanwell.insights.detectors.latency_degradation import DEFAULTS, ESCALATED, NAME, RESOLVED, STARTED, insight
from spanwell.insights.model import ERROR, WARNING, Thresholds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwell.insights.model import Insight

WINDOW = 60.0
"""Seconds; windows with too few requests get longer."""
LONGEST_WINDOW = 900.0
MOST_OPERATIONS = 100
FORGOTTEN_AFTER = 3_600.0
"""Seconds without a request after which an operation makes room for a new one."""

_SHORT, _LONG = 2 / 21, 2 / 41
_WEEK, _DAY = 2 / 10_081, 2 / 1_441
# The mean of `short` over time deviates by 0.28 times the mean deviation of points: four times that is no chance.
_SURE = 1.1
_QUANTILE = 0.95
_MOST_VALUES = 1_000
_MOST_WAITING = 1_000


class Drift:
    """Watches the durations of at most 100 operations. Times are seconds of one clock that the caller has.

    ignored: requests of operations that there was no room for.
    """

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self._thresholds = thresholds if thresholds is not None else Thresholds(DEFAULTS)
        self._forget()
        if hasattr(os, "register_at_fork"):
            # A child serves other requests; and what it inherited, the parent will tell.
            reference = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(reference))

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._operations: dict[str, _Operation] = {}
        self._waiting: deque[Insight] = deque(maxlen=_MOST_WAITING)
        self._next_search = -inf
        self.ignored = 0

    def observe(self, operation: str, seconds: Sequence[float], now: float) -> None:
        """Requests, and how long they took; best without those that failed, which say nothing about the work."""
        with self._lock:
            found = self._operations.get(operation)
            if found is None:
                if len(self._operations) >= MOST_OPERATIONS and not self._make_room(now):
                    self.ignored += len(seconds)
                    return
                found = self._operations[operation] = _Operation(operation, now)
            elif now - found.opened >= WINDOW:
                self._close(found, now)
            if not found.window.count:
                found.opened = now
            found.window.add([each for each in seconds if 0 <= each < inf])
            found.seen = now

    def due(self, now: float) -> list[Insight]:
        """What has changed since the last call: once when it starts, gets worse, or is over."""
        with self._lock:
            for operation in self._operations.values():
                if now - operation.opened >= WINDOW:
                    self._close(operation, now)
            found = list(self._waiting)
            self._waiting.clear()
        return found

    def _close(self, operation: _Operation, now: float) -> None:
        count = operation.window.count
        if count and count >= self._thresholds.get(f"{NAME}.requests", operation.name):
            state = operation.point(operation.window.quantile(_QUANTILE), self._thresholds)
            if state:
                before, short = operation.usual * 1_000, operation.short * 1_000
                self._waiting.append(insight(operation.name, state, before, short))
        elif now - operation.opened < LONGEST_WINDOW:
            return
        operation.window = _Window()
        operation.opened = now

    def _make_room(self, now: float) -> bool:
        """Forget what has had no request for an hour. Searched once a window: others may come at any rate."""
        if now < self._next_search:
            return False
        self._next_search = now + WINDOW
        gone = [name for name, each in self._operations.items() if now - each.seen >= FORGOTTEN_AFTER]
        for name in gone:
            del self._operations[name]
        return bool(gone)


def _forget(reference: weakref.ref[Drift]) -> None:
    drift = reference()
    if drift is not None:
        drift._forget()


class _Window:
    """The durations of a while: all of them or, of many, every second, every fourth, ... in the order they came."""

    __slots__ = ("_step", "_values", "count")

    def __init__(self) -> None:
        self.count = 0
        self._step = 1
        self._values: list[float] = []

    def add(self, seconds: Sequence[float]) -> None:
        """Some more."""
        self._values.extend(seconds[-self.count % self._step :: self._step])
        self.count += len(seconds)
        while len(self._values) > _MOST_VALUES:
            del self._values[1::2]
            self._step *= 2

    def quantile(self, q: float) -> float:
        """By nearest rank."""
        return sorted(self._values)[max(0, ceil(q * len(self._values)) - 1)]


class _Operation:
    """Averages in seconds. scatter: how far points are from `long`, as a share of it, while all is well. tripped: a
    sudden change that has not gone. severity: of what was said and holds, or ""."""

    __slots__ = (
        *("long", "name", "opened", "points", "scatter", "seen", "severity", "short", "tripped", "usual", "window"),
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.window = _Window()
        self.opened = self.seen = now
        self.points = 0
        self.short = self.long = self.usual = self.scatter = 0.0
        self.tripped = False
        self.severity = ""

    def point(self, value: float, thresholds: Thresholds) -> str:
        """A window's quantile, and what follows from it: STARTED, ESCALATED, RESOLVED or ""."""
        self._average(value)
        factor = 1 + max(thresholds.get(f"{NAME}.ratio", self.name), _SURE * self.scatter)
        self.tripped = self.tripped or self.short >= self.long * factor
        if self.points < thresholds.get(f"{NAME}.points", self.name):
            return ""
        if max(self.short, self.long) < self.usual * (1 + thresholds.get(f"{NAME}.resolve_ratio", self.name)):
            self.tripped = False
            resolved, self.severity = bool(self.severity), ""
            return RESOLVED if resolved else ""
        if self.severity:
            return self._escalate(thresholds)
        if not self.tripped and self.long < self.usual * factor:
            return ""
        least = thresholds.get(f"{NAME}.change_ms", self.name) / 1_000
        if self.short < self.usual * factor or self.short - self.usual < least:
            return ""
        self.severity = WARNING
        return STARTED

    def _average(self, value: float) -> None:
        held = self.tripped or bool(self.severity)
        self.points += 1
        first = 1 / self.points
        if self.long > 0 and not held:
            # What is far out says little about how points scatter: it may be the change itself.
            away = min(abs(value / self.long - 1), 0.05 + 3 * self.scatter)
            self.scatter += (away - self.scatter) * max(_DAY, first)
        self.short += (value - self.short) * max(_SHORT, first)
        self.long += (value - self.long) * max(_LONG, first)
        if self.long < self.usual * 0.9:
            self.usual += (self.long - self.usual) * max(_DAY, first)  # it has become faster
        else:
            self.usual += (value - self.usual) * (_WEEK if held else max(_WEEK, first))

    def _escalate(self, thresholds: Thresholds) -> str:
        factor = 1 + thresholds.get(f"{NAME}.escalate_ratio", self.name)
        if self.severity == ERROR or self.short < self.usual * factor:
            return ""
        self.severity = ERROR
        return ESCALATED
