"""`xray_local`: sampling rules from a file, decided on in this process alone."""

from __future__ import annotations

import threading
import time

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

from spanwell import _guard
from spanwell._children import in_child
from spanwell.sampling.outcome import REASON, dropped, kept
from spanwell.sampling.parentbased import RootSampler
from spanwell.sampling.probability import randomness, threshold, with_threshold
from spanwell.sampling.reservoir import TokenBucket
from spanwell.sampling.rules import Rule, RuleSet
from spanwell.sampling.rules_file import RulesFile, read_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanKind, TraceState

    from spanwell.sampling.build import Making
    from spanwell.sampling.parentbased import Surroundings

    Report = Callable[[str], object]

__all__ = ["LocalSampler", "RulesSampler", "from_argument", "read_rules", "standard_fallback"]

INTERVAL = 5.0
"""Seconds between two looks at the file."""

_NOTHING: Mapping[str, Any] = {}
_ROOT = Context()  # without a span in it


class _Plan:
    """What one rule does: `bucket` traces a second, and of the others those whose randomness reaches `threshold`."""

    __slots__ = ("bucket", "key", "name", "state", "threshold")

    def __init__(self, rule: Rule, carried: Mapping[tuple[str, int], TokenBucket]) -> None:
        self.name = rule.name
        self.key = (rule.name, rule.reservoir_size)
        self.bucket = carried.get(self.key) or TokenBucket(rule.reservoir_size)
        self.threshold = threshold(rule.fixed_rate)
        self.state = with_threshold(None, self.threshold)  # made once: a TraceState costs microseconds


class _Bound:
    """Rules, resolved for one resource, and their plans, one each. Never changed, so that decisions need no lock."""

    __slots__ = ("plans", "resource", "rules")

    def __init__(
        self, rules: Iterable[Rule], resource: Mapping[str, Any], carried: Mapping[tuple[str, int], TokenBucket]
    ) -> None:
        self.rules = RuleSet(rules, resource)
        self.plans = [_Plan(rule, carried) for rule in self.rules.rules]
        self.resource = resource


class RulesSampler(RootSampler):
    """Decides by the first rule that matches: its reservoir first, then its rate.

    fallback: decides on what no rule matches; without one that is dropped. reason: what kept roots carry instead of
    "reservoir" and "rate". clock: seconds that run steadily.
    """

    kind = "rules"

    def __init__(
        self,
        rules: Iterable[Rule],
        fallback: Sampler | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        reason: str = "",
    ) -> None:
        super().__init__()
        self.consistent = fallback is None or (isinstance(fallback, RootSampler) and fallback.consistent)
        self._fallback = fallback
        self._clock = clock
        self._reservoir, self._rate = (reason, reason) if reason else ("reservoir", "rate")
        self._resource: Callable[[], Mapping[str, Any]] = lambda: _NOTHING
        self._lock = threading.Lock()
        self._bound = _Bound(rules, _NOTHING, {})
        in_child(self._after_fork)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in use, in order."""
        return self._bound.rules.rules

    def replace(self, rules: Iterable[Rule] | None = None) -> None:
        """Use these rules, or the same with the resource as it is now. Reservoirs that stay the same go on."""
        with self._lock:
            old = self._bound
            carried = {plan.key: plan.bucket for plan in old.plans}
            self._bound = _Bound(old.rules.rules if rules is None else rules, self._resource(), carried)

    def connect(self, around: Surroundings) -> None:
        """Learn the resource, which rules match too."""
        super().connect(around)
        self._resource = around.resource
        if isinstance(self._fallback, RootSampler):
            self._fallback.connect(around)

    def nested(self) -> tuple[Sampler, ...]:
        """The fallback, if there is one."""
        return (self._fallback,) if self._fallback is not None else ()

    def begin_shutdown(self) -> None:
        """Tell the fallback."""
        if isinstance(self._fallback, RootSampler):
            self._fallback.begin_shutdown()

    def finish(self, seconds: float) -> None:
        """Wait for the fallback, at most `seconds`."""
        if isinstance(self._fallback, RootSampler):
            self._fallback.finish(seconds)

    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """The reservoir first, then chance, so that counts by weight are unbiased; only chance carries a weight."""
        bound = self._bound
        if bound.resource is not self._resource():
            self.replace()
            bound = self._bound
        index = bound.rules.match(attributes)
        if index < 0:
            return self._unmatched(trace_id, name, kind, attributes, state)
        plan = bound.plans[index]
        if plan.bucket.take(self._clock()):
            self.decisions.add(plan.name, self._reservoir)
            return kept(attributes, self._reservoir, plan.name, with_threshold(state, None))
        if randomness(trace_id, state) >= plan.threshold:
            self.decisions.add(plan.name, self._rate)
            carried = with_threshold(state, plan.threshold) if state else plan.state
            return kept(attributes, self._rate, plan.name, carried)
        self.decisions.add(plan.name, "dropped")
        return dropped(with_threshold(state, None))

    def _unmatched(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        if self._fallback is None:
            self.decisions.add("", "dropped")
            return dropped(with_threshold(state, None))
        result = self._fallback.should_sample(_ROOT, trace_id, name, kind, attributes, None, state)
        if result.decision is not Decision.RECORD_AND_SAMPLE:
            self.decisions.add("", "dropped")
            return result
        self.decisions.add("", "fallback")
        if REASON in result.attributes:
            return result
        return kept(result.attributes or attributes, "fallback", state=result.trace_state)

    def get_description(self) -> str:
        """Name and number of rules."""
        return f"{self.kind}{{{len(self.rules)} rules}}"

    def _after_fork(self) -> None:
        """In the child: another thread may have held any of the locks."""
        self._lock = threading.Lock()
        self._bound = _Bound(self.rules, self._bound.resource, {})
        self.decisions.reset()


class LocalSampler(RulesSampler):
    """Decides by the rules in the file at `path`, read at the first decision and again when it has changed.

    fallback: decides while no good file was ever read, and on what no rule matches; by default one trace a second,
    then 5 %. interval: seconds between two looks at the file, which decisions take on the way: no thread is needed.
    report: takes one line about the file; by default it is logged.
    """

    kind = "xray_local"

    def __init__(
        self,
        path: str,
        fallback: Sampler | None = None,
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        report: Report | None = None,
    ) -> None:
        super().__init__((), fallback or standard_fallback(clock), clock=clock)
        self.path = path
        self._file = RulesFile(path, report)
        self._interval = interval
        self._looking = threading.Lock()
        self._next = float("-inf")
        self._refreshed: float | None = None

    def connect(self, around: Surroundings) -> None:
        """Learn the resource, and read the file for the first time."""
        super().connect(around)
        self._look()

    def figures(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """How long ago the rules were read, once they were."""
        return {"rules.age": [] if self._refreshed is None else [({}, self._clock() - self._refreshed)]}

    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """As by its rules, after a look at the file when that is due."""
        if self._clock() >= self._next:
            self._look()
        return super().decide(trace_id, name, kind, attributes, state)

    def get_description(self) -> str:
        """Name and file."""
        return f"xray_local{{{self.path}}}"

    def _look(self) -> None:
        # Only the first time, when there is nothing to go by yet, others wait for the thread that looks.
        if not self._looking.acquire(blocking=self._next == float("-inf")):
            return
        try:
            if self._clock() < self._next:
                return
            with _guard.guard("sampling rules file"):
                rules = self._file.changed()
                if rules is not None:
                    self.replace(rules)
                    self._refreshed = self._clock()
                    _guard.logger.info("spanwell: %d sampling rules from %s", len(rules), self.path)
        finally:
            self._next = self._clock() + self._interval
            self._looking.release()

    def _after_fork(self) -> None:
        super()._after_fork()
        if self._looking.locked():  # the parent was in the middle of it, and may have got half way
            self._looking = threading.Lock()
            self._file.forget()
            self._next = float("-inf")


def standard_fallback(clock: Callable[[], float] = time.monotonic) -> RulesSampler:
    """What the X-Ray SDKs do without rules: one trace a second, then 5 %."""
    return RulesSampler([Rule("")], clock=clock, reason="fallback")


def from_argument(argument: str, making: Making) -> LocalSampler:
    """`rules_file=`, `polling_interval=`, `fallback=`; or the path of the file alone."""
    from spanwell.sampling.arguments import nested, number
    from spanwell.sampling.arguments import parse as parse_argument

    if argument and not set(argument) & set("=,;()"):
        argument = f"rules_file={argument}"
    known: Mapping[str, Callable[[str], Any]] = {
        "rules_file": str,
        "polling_interval": number(0.1, what="a number of seconds from 0.1"),
        "fallback": nested,
    }
    values = parse_argument("xray_local", argument, known, making.report)
    fallback: Sampler = standard_fallback(making.clock)
    if "fallback" in values:
        fallback = making.nested(values["fallback"], fallback)
    path = values.get("rules_file", "")
    if not path:
        making.report("sampler xray_local: rules_file= is missing; set it to the path of a file of sampling rules")
    return LocalSampler(path, fallback, interval=values.get("polling_interval", INTERVAL), clock=making.clock)
