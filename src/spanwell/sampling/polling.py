"""When X-Ray is asked for rules and targets, and the thread that asks."""

from __future__ import annotations

import atexit
import threading
import time
import weakref

from spanwell import _guard
from spanwell._forks import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from spanwell.sampling.centralized import Centralized, StatisticsReport
    from spanwell.sampling.rules import Rule

    Say = Callable[[str], object]

    class Client(Protocol):
        """The two calls. Both raise on any failure, with one line; `seconds`, if given, bounds the call."""

        def rules(self, report: Say, *, seconds: float | None = None) -> list[object]: ...

        def targets(
            self, statistics: list[dict[str, Any]], boosts: list[dict[str, Any]], *, seconds: float | None = None
        ) -> Mapping[str, Any]: ...

        def close(self) -> None: ...


RULES, TARGETS = "rules", "targets"

RETRY = 10.0
"""Seconds after the first failure; each further one doubles them, up to the polling interval."""

TARGETS_INTERVAL = 10.0
SHORTEST, LONGEST = 1.0, 300.0
"""Bounds of the interval between reports that the service may ask for, in seconds."""

LAST_REPORT = 0.3
"""Seconds that the end of the process may wait for the last statistics; their sending gets a little less."""


class Schedule:
    """What is due when. Pure: `now` is seconds of any clock that runs steadily, `random` gives 0 <= x < 1.

    Every delay has its jitter, the first one too: a fleet that starts at once must not ask at once.
    """

    def __init__(self, interval: float, random: Callable[[], float], now: float) -> None:
        self._interval = interval
        self._random = random
        self._targets_interval = TARGETS_INTERVAL
        self._failures = {RULES: 0, TARGETS: 0}
        self._due = {RULES: now + random() * interval / 60, TARGETS: now + TARGETS_INTERVAL + random() / 10}

    def due(self, now: float) -> str:
        """RULES, TARGETS, or "" for nothing yet."""
        for what, at in self._due.items():
            if now >= at:
                return what
        return ""

    def wait(self, now: float) -> float:
        """Seconds until something is due."""
        return max(0.0, min(self._due.values()) - now)

    def succeeded(self, what: str, now: float, interval: float | None = None) -> None:
        """`what` was asked, or needed no asking; `interval`: what the service wants between reports."""
        self._failures[what] = 0
        if what == RULES:
            self._due[RULES] = now + self._interval + self._random() * self._interval / 60
            return
        if interval is not None:
            self._targets_interval = min(LONGEST, max(SHORTEST, interval))
        self._due[TARGETS] = now + self._targets_interval + self._random() / 10

    def failed(self, what: str, now: float) -> None:
        """`what` failed: again later, each time later, at random times because the whole fleet has failed."""
        self._failures[what] += 1
        first = min(RETRY if what == RULES else self._targets_interval, self._interval)
        delay = min(self._interval, first * 2 ** min(self._failures[what] - 1, 20))
        self._due[what] = now + delay * (0.5 + self._random() / 2)

    def hurry(self, now: float) -> None:
        """The service says that the rules have changed: ask now, unless asking fails anyway."""
        if not self._failures[RULES]:
            self._due[RULES] = now


class Poller:
    """Keeps `central` up to date, from one daemon thread that `start` starts.

    make_client: called in that thread. interval: seconds between refreshes of the rules. `failures` and
    `successes` count polls of RULES and TARGETS.
    """

    def __init__(
        self,
        central: Centralized,
        make_client: Callable[[], Client],
        *,
        interval: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] | None = None,
    ) -> None:
        self._central = central
        self._make_client = make_client
        self._interval = interval
        self._clock = clock
        self._wall = wall
        self._random = random
        self._at_exit = False
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self.failures = {RULES: 0, TARGETS: 0}
        self.successes = {RULES: 0, TARGETS: 0}
        self.schedule: Schedule | None = None
        self.idle = not self._closed
        self._client: Client | None = None
        self._last: list[StatisticsReport] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def after_fork(self) -> None:
        """In the child: no thread, no client, a poll under way is the parent's affair; `start` starts anew."""
        self._reset()

    # --- the application's threads ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, unless it runs or the process ends. Never raises."""
        with self._lock:
            if not self.idle:
                return
            self.idle = False
            thread = threading.Thread(target=self._run, name="spanwell-xray-sampling", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if "shutdown" not in str(error):  # of the interpreter, which nobody needs to hear of
                    _guard.failed("the thread of X-Ray sampling", error)
                return
            self._thread = thread
            if not self._at_exit:
                self._at_exit = True
                end = weakref.WeakMethod(self._end)
                atexit.register(lambda: (method := end()) and method())

    def begin_shutdown(self) -> None:
        """Let the thread report what there is and end. Does not wait."""
        self._closed, self.idle = True, False
        self._wake.set()

    def finish(self, seconds: float) -> None:
        """Wait for the last report, at most `seconds` and LAST_REPORT."""
        self.begin_shutdown()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, min(seconds, LAST_REPORT)))
            left, self._last = self._last, []
            lost = sum(counts.requests for report in tuple(left) for _, counts in report.taken)
            if lost:
                _guard.losses.add("sampling statistics", "exit", lost)

    def _end(self) -> None:
        """At exit, for configurators that do not know of samplers."""
        with _guard.guard("last sampling statistics"):
            self.finish(LAST_REPORT)

    # --- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with _guard.guard("X-Ray sampling"), _suppressed():
            wake = self._wake
            while not self._closed:
                wake.wait(self.turn())
            self._last_report()

    def turn(self) -> float:
        """Do what is due; the seconds until something else is."""
        now = self._clock()
        if self.schedule is None:
            self.schedule = Schedule(self._interval, self._random or _random(), now)
        what = self.schedule.due(now)
        if what:
            poll = self._poll_rules if what == RULES else self._poll_targets
            try:
                poll(self.schedule)
            except Exception as error:
                self._failed(what, error)
                self.schedule.failed(what, self._clock())
        return self.schedule.wait(self._clock())

    def _poll_rules(self, schedule: Schedule) -> None:
        with whole:
            from spanwell.sampling.rules import parse
        rules: list[Rule] = parse(self._connected().rules(_say), _say)
        if not rules:
            raise ValueError("the answer has no usable rule")
        now = self._clock()
        self._central.apply_rules(rules, now)
        self.successes[RULES] += 1
        schedule.succeeded(RULES, now)

    def _poll_targets(self, schedule: Schedule) -> None:
        reports = self._central.take_reports(self._wall())
        intervals = []
        while reports:
            try:
                refresh, interval = self._deliver(reports[0])
            except Exception:
                for report in reports:
                    self._central.give_back(report)
                raise
            del reports[0]
            if refresh:
                schedule.hurry(self._clock())
            if interval is not None:
                intervals.append(interval)
        schedule.succeeded(TARGETS, self._clock(), min(intervals, default=None))

    def _deliver(self, report: StatisticsReport, seconds: float | None = None) -> tuple[bool, float | None]:
        response = self._connected().targets(report.statistics, report.boosts, seconds=seconds)
        self.successes[TARGETS] += 1
        return self._central.apply_targets(report, response, _say, self._clock(), self._wall())

    def _last_report(self) -> None:
        end = self._clock() + 0.8 * LAST_REPORT
        left = self._last = self._central.take_reports(self._wall())
        try:
            while left:
                self._deliver(left[0], max(0.01, end - self._clock()))
                del left[0]
        except Exception as error:
            self._failed(TARGETS, error)
        if self._client is not None:
            self._client.close()

    def _connected(self) -> Client:
        if self._client is None:
            with whole:
                self._client = self._make_client()
        return self._client

    def _failed(self, what: str, error: Exception) -> None:
        self.failures[what] += 1
        if self._closed:
            return  # a daemon thread must not write to a log while the interpreter ends: `finish` counts the loss
        kind = f"{type(error).__name__}:{getattr(error, 'status', '')}:{type(error.__cause__).__name__}"
        _guard.warn_once(
            f"xray:{what}:{kind}",
            "spanwell: X-Ray sampling %s: %s; what was known stays in use, %s",
            what,
            " ".join(str(error).split())[:400] or type(error).__name__,
            "for at most an hour" if what == RULES else "and the statistics are sent again later",
        )


def _say(line: str) -> None:
    _guard.warn_once(f"xray:{line}", "spanwell: %s", line)


def _suppressed() -> Any:
    from spanwell._otel.exporting import suppressed

    return suppressed()


def _random() -> Callable[[], float]:
    with whole:
        from random import Random
    # Its own, seeded from the system: the application's seed must not make a fleet poll in step.
    return Random().random
