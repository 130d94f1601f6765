"""`budget`: so many spans a second or a month, shared fairly over the operations.

Once a second, at a decision, what was seen since is turned into one probability for each operation; a decision
then depends on the past and on the trace's own randomness alone, so its weight (`ot=th`) is right. A process that is
forked starts afresh.
"""

from __future__ import annotations

import threading
import time
from itertools import count
from math import exp, sqrt

from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

from spanwell._children import in_child
from spanwell.sampling.arguments import number, parse, whole
from spanwell.sampling.outcome import REASON, dropped, kept
from spanwell.sampling.parentbased import RootSampler
from spanwell.sampling.probability import MAX, encode, randomness, threshold, with_threshold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opentelemetry.trace import SpanContext, SpanKind, TraceState

    from spanwell.sampling.build import Making

DAY = 86400.0
DAYS_A_MONTH = 30.44
MAX_OPERATIONS = 100
OTHER = "other"

_TICK = 1.0
_SMOOTHING = 10.0  # seconds in which an estimate of a rate follows a change that may be chance
_MEMORY = 30.0  # the same for the spans of a trace
_REPAY = 10.0  # seconds in which what was kept too much or too little is made good
_CREDIT = 3.0  # seconds of the budget that may be saved up
_LEAST = 0.05  # of the budget, for chance: at probability 0 no weight could tell of what is dropped
_PEAK = 10.0  # times the average of a monthly budget, at most
_IDLE = 60.0
_FIRST = 10  # traces after which a start, or a jump, is looked at before its second is over
_GUESS = (40.0, 5.0)  # spans of so many traces, for a start: a trace that has begun still seems small
_LONGEST_KEY = 200
_DEFAULT = 10.0


class BudgetSampler(RootSampler):
    """Keeps about `spans_per_second`, or `spans_per_month` spread over each day, in this process.

    spans_per_month: a day gets 1/30.44 of it, counted from the start of the process; what is not used early in the
    day may be used later in it, at up to ten times the average. With both, the smaller one counts. floor: in so many
    seconds each operation gets at least one trace, budget or not; 0 for no such promise. instances: how many
    processes share the budget in equal parts. clock: seconds that run steadily.

    Spans of traces that other services decided to keep count as well, and come first. Quiet operations are kept
    whole, the busy ones share the rest evenly. The reasons are "floor" (no weight) and "budget" (with weight). With a
    budget of 0 only the floor is kept. An operation is the method with the route, or with the first segment of the
    path, else the span's name; there are at most 100 at a time, and one that was not seen for a minute (or the
    floor's interval, if longer) makes place; what finds no place is the operation "other". Raises ValueError for
    numbers that make no sense.
    """

    kind = "budget"

    def __init__(
        self,
        spans_per_second: float | None = None,
        *,
        spans_per_month: float | None = None,
        floor: float = 60.0,
        instances: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if spans_per_second is None and spans_per_month is None:
            raise ValueError("a budget needs spans_per_second or spans_per_month")
        if min(spans_per_second or 0, spans_per_month or 0, floor) < 0 or instances < 1:
            raise ValueError("a budget's numbers are 0 or more, and its instances 1 or more")
        self._described = _described(spans_per_second, spans_per_month, floor, instances)
        self._spans_per_second = float("inf") if spans_per_second is None else spans_per_second / instances
        self._spans_per_day = None if spans_per_month is None else spans_per_month / DAYS_A_MONTH / instances
        self._floor = floor
        self._clock = clock
        self._start_afresh()
        in_child(self._start_afresh)

    def _start_afresh(self) -> None:
        self.decisions.reset()
        self._lock = threading.Lock()
        self._spans = count()  # kept spans; an iterator, because its step is atomic and much cheaper than a lock
        self._remote = count()
        self._read = [0, 0]
        self._operations: dict[str, _Operation] = {}
        self._other = _Operation()
        self._began: float | None = None
        self._ticked = self._next = float("-inf")
        self._day = 0
        self._left_today = self._spans_per_day or 0.0
        self._kept = self._floors = 0
        self._limit: float = _FIRST
        self._floor_rate = self._remote_rate = 0.0
        self._recent_spans, self._recent_traces = _GUESS
        self._spans_a_trace = self._recent_spans / self._recent_traces
        self._rate = self._balance = 0.0
        self._level = float("inf")

    def follow(self, parent: SpanContext, attributes: Mapping[str, Any] | None) -> SamplingResult:
        """As the parent; what is kept is counted."""
        # The base class's rule, in line: this runs for every span.
        if not parent.trace_flags & 1:
            return dropped(parent.trace_state)
        next(self._spans)
        if parent.is_remote:
            next(self._remote)
            attributes = {**(attributes or {}), REASON: "parent"}
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)

    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """Kept for the floor, or else by chance."""
        chance = randomness(trace_id, state)
        key = operation(name, attributes)
        now = self._clock()
        with self._lock:
            if now >= self._next or self._kept > self._limit or now < self._ticked:
                self._tick(now)
            found = self._operations.get(key) or self._admit(key)
            found.seen += 1
            floor = self._floor > 0 and now - found.kept_at >= self._floor
            if not floor and chance < found.threshold:
                reason = "dropped"
            else:
                reason = "floor" if floor else "budget"
                found.kept_at = now
                self._kept += 1
                self._floors += floor
                next(self._spans)
            weight = found.threshold
        self.decisions.add("", reason)
        if reason == "dropped":
            return dropped(with_threshold(state, None))
        if reason == "floor":
            return kept(attributes, reason, state=with_threshold(state, None))
        return kept(attributes, reason, state=with_threshold(state, weight) if state else found.state(weight))

    def probabilities(self) -> dict[str, float]:
        """The present probability of each operation that is known."""
        with self._lock:
            found = {key: 1.0 - each.threshold / MAX for key, each in self._operations.items()}
            return {**found, OTHER: 1.0 - self._other.threshold / MAX} if self._other.rate is not None else found

    def get_description(self) -> str:
        """Name and numbers."""
        return self._described

    # --- once a second, the lock being held -----------------------------------------------------------------

    def _tick(self, now: float) -> None:
        if self._began is None or now < self._ticked:  # the first decision, or the clock stepped back
            self._began = now if self._began is None else self._began - (self._ticked - now)
            self._ticked, self._next = now, now + _TICK
            self._rate = self._rate_at(now)
            self._share()
            return
        passed = now - self._ticked
        spans = self._take(0, self._spans)
        remote = self._take(1, self._remote)
        self._balance += self._rate * passed - spans
        self._left_today -= spans
        self._measure(max(passed, 0.01), spans, remote)
        self._forget(now)
        self._rate = self._rate_at(now)
        self._share()
        self._kept = self._floors = 0
        self._ticked, self._next = now, now + _TICK

    def _take(self, index: int, counter: count[int]) -> int:
        """How often `counter` stepped since the last time; reading it is a step as well."""
        value = next(counter)
        new = value - self._read[index]
        self._read[index] = value + 1
        return new

    def _measure(self, seconds: float, spans: int, remote: int) -> None:
        """Bring every estimate up to date with what `seconds` brought."""
        fades = exp(-seconds / _MEMORY)
        self._recent_spans = self._recent_spans * fades + spans
        self._recent_traces = self._recent_traces * fades + self._kept + remote
        if self._recent_traces > 1e-9:
            self._spans_a_trace = max(1.0, self._recent_spans / self._recent_traces)
        self._remote_rate = _followed(self._remote_rate, remote, seconds)
        over = max(self._floor, 1.0)  # floor picks come in bunches; only their average is foreseeable
        self._floor_rate += (self._floors / seconds - self._floor_rate) * (1.0 - exp(-seconds / over))
        for each in (*self._operations.values(), self._other):
            if each.rate is not None or each.seen:
                each.rate = each.seen / seconds if each.rate is None else _followed(each.rate, each.seen, seconds)

    def _forget(self, now: float) -> None:
        """Make place: operations that nobody asked for lately go."""
        gone = now - max(_IDLE, self._floor)
        for key, each in list(self._operations.items()):
            if each.seen:
                each.seen, each.seen_at = 0, now
            elif each.seen_at < gone:
                del self._operations[key]
        self._other.seen = 0

    def _rate_at(self, now: float) -> float:
        """Spans a second that the budget allows at `now`."""
        if self._spans_per_day is None:
            return self._spans_per_second
        day, passed = divmod(now - (self._began or 0.0), DAY)
        if day != self._day:
            self._day, self._left_today = int(day), self._spans_per_day
        average = self._spans_per_day / DAY
        steady = self._left_today / (DAY - passed)
        return min(self._spans_per_second, max(_LEAST * average, min(steady, _PEAK * average)))

    def _share(self) -> None:
        """Turn the budget into a probability for each operation."""
        few = (
            5.0 * self._spans_a_trace
        )  # where this is many seconds' budget, one trace must not look like a deviation
        most = max(_REPAY * self._rate, few)
        self._balance = min(max(_CREDIT * self._rate, few), max(-most, self._balance))
        spans = self._rate * (1.0 + self._balance / most)
        traces = spans / self._spans_a_trace - self._remote_rate - self._floor_rate
        traces = max(traces, _LEAST * self._rate / self._spans_a_trace)
        known = [each for each in (*self._operations.values(), self._other) if each.rate is not None]
        self._level = level(traces, [each.rate or 0.0 for each in known])
        for each in known:
            each.threshold = self._chance(each.rate or 0.0)
        if self._other.rate is None:
            self._other.threshold = self._chance(1.0)
        self._limit = max(_FIRST, 2.0 * traces * _TICK)

    def _chance(self, rate: float) -> int:
        """The threshold for an operation of so many traces a second."""
        if self._rate <= 0:
            return MAX
        return 0 if rate <= self._level else short(threshold(self._level / rate))

    def _admit(self, key: str) -> _Operation:
        if len(self._operations) >= MAX_OPERATIONS:
            return self._other
        added = self._operations[key] = _Operation()
        added.seen_at = self._ticked
        added.threshold = self._chance(1.0)  # as if it came once a second, until that is known
        return added


class _Operation:
    """What is known of one operation: its traces a second, the threshold made of that, when one was last kept."""

    __slots__ = ("_said", "kept_at", "rate", "seen", "seen_at", "threshold")

    def __init__(self) -> None:
        self.rate: float | None = None
        self.seen = 0
        self.seen_at = self.kept_at = float("-inf")
        self.threshold = 0
        self._said: tuple[int, TraceState | None] = (-1, None)

    def state(self, threshold: int) -> TraceState | None:
        """The tracestate that says `threshold`; making one takes longer than the rest of a decision."""
        said = self._said  # one object, so that no thread finds the one number with the other state
        if said[0] != threshold:
            said = self._said = threshold, with_threshold(None, threshold)
        return said[1]


def level(total: float, rates: Iterable[float]) -> float:
    """The max-min fair share: the largest L for which the sum of min(rate, L) stays within `total`."""
    ordered = sorted(rates)
    for index, rate in enumerate(ordered):
        share = total / (len(ordered) - index)
        if rate > share:
            return share
        total -= rate
    return float("inf")


def short(threshold: int) -> int:
    """`threshold` with three significant hexadecimal digits after its leading `f`; never one that keeps nothing."""
    digits = encode(min(threshold, MAX - 1))
    cut = 56 - 4 * min(14, len(digits) - len(digits.lstrip("f")) + 3)
    return min((threshold + (1 << cut >> 1)) >> cut << cut, MAX - (1 << cut))


def operation(name: str, attributes: Mapping[str, Any] | None) -> str:
    """What a span that starts so is counted under; never raises for odd values."""
    if attributes:
        path = attributes.get("http.route")
        if not path:
            path = attributes.get("url.path") or attributes.get("http.target")
            if path:
                path = "/" + str(path)[:_LONGEST_KEY].lstrip("/").partition("?")[0].partition("/")[0]
        if path:
            method = attributes.get("http.request.method") or attributes.get("http.method") or ""
            return f"{method} {path}"[:_LONGEST_KEY].lstrip()
    return str(name)[:_LONGEST_KEY]


def from_argument(argument: str, making: Making) -> BudgetSampler:
    """`spans_per_second=10`, `spans_per_month=1000000`, `floor=60`, `instances=1`; without a budget, 10 a second."""
    known = {"spans_per_second": number(), "spans_per_month": number(), "floor": number(), "instances": whole(1)}
    values = parse("budget", argument, known, making.report)
    if "spans_per_second" not in values and "spans_per_month" not in values:
        # Not an error that would leave the default sampler, which keeps everything: a budget was wanted.
        making.report(
            f"sampler budget: spans_per_second= or spans_per_month= is missing; using {_DEFAULT:g} a second"
        )
        values["spans_per_second"] = _DEFAULT
    return BudgetSampler(**values, clock=making.clock)


def _followed(rate: float, number: int, seconds: float) -> float:
    """The estimate of a rate after `number` in `seconds`: at once up where that is no chance, else smoothly."""
    expected = rate * seconds
    if number > expected + 3.0 * sqrt(expected) + 3.0:
        return number / seconds
    return rate + (number / seconds - rate) * (1.0 - exp(-seconds / _SMOOTHING))


def _described(second: float | None, month: float | None, floor: float, instances: int) -> str:
    said = {"spans_per_second": second, "spans_per_month": month, "floor": floor, "instances": instances}
    return f"budget{{{','.join(f'{key}={value:g}' for key, value in said.items() if value is not None)}}}"
