"""X-Ray's centralized sampling as state: rules, what the service granted, and the statistics it is told. No I/O.

`now` is monotonic seconds, `wall` seconds since the epoch, needed only where the service speaks of points in time.
Decisions may be made by several threads at once; rules, targets and reports belong to one, the poller.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from opentelemetry.trace import TraceState

from spanwell.sampling.adaptive import RULE_HASH, rule_hash
from spanwell.sampling.probability import threshold, with_threshold
from spanwell.sampling.reservoir import Reservoir
from spanwell.sampling.rules import RuleSet
from spanwell.sampling.targets import read_targets, read_time, read_unprocessed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from spanwell.sampling.rules import Rule
    from spanwell.sampling.targets import Say, Target

EXPIRY = 3600.0
"""Seconds after which rules that could not be refreshed are no longer used."""

CHUNK = 25
"""The most statistics documents in one request, and the most boost documents."""

MAX_REMOVED = 1000
"""The most removed rules whose statistics wait for their last report."""


class Counts(NamedTuple):
    """What happened under one rule between two reports."""

    requests: int
    sampled: int
    borrowed: int
    total: int = 0
    anomalies: int = 0
    sampled_anomalies: int = 0


class Statistics:
    """Running `Counts` of one rule, and the lock of all its decisions. It outlives a change of the rule."""

    __slots__ = ("anomalies", "borrowed", "lock", "requests", "sampled", "sampled_anomalies", "total")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """From nothing, with a new lock: in a forked child another thread's may be held for ever."""
        # Re-entrant: a finalizer or a signal handler may start or end a span while this thread is in here.
        self.lock = threading.RLock()
        self.requests = self.sampled = self.borrowed = self.total = self.anomalies = self.sampled_anomalies = 0

    def take(self) -> Counts | None:
        """The counts since the last time; None if there are none."""
        with self.lock:
            if not self.requests and not self.total:
                return None
            taken = Counts(
                self.requests, self.sampled, self.borrowed, self.total, self.anomalies, self.sampled_anomalies
            )
            self.requests = self.sampled = self.borrowed = self.total = self.anomalies = self.sampled_anomalies = 0
            return taken

    def give_back(self, counts: Counts, *, requests: bool = True, boost: bool = True) -> None:
        """Add what was taken but not delivered, of both kinds or one."""
        with self.lock:
            if requests:
                self.requests += counts.requests
                self.sampled += counts.sampled
                self.borrowed += counts.borrowed
            if boost:
                self.total += counts.total
                self.anomalies += counts.anomalies
                self.sampled_anomalies += counts.sampled_anomalies


class Pick:
    """One outcome of a rule: why ("" = not sampled), the threshold of a pick by chance, and the tracestate for it."""

    __slots__ = ("_hashed", "_threshold", "reason", "state")

    def __init__(self, reason: str, hashed: str, limit: int | None = None) -> None:
        self.reason = reason
        self._hashed = hashed
        self._threshold = limit
        # Built once, for it costs as much as the rest of a decision together.
        self.state = TraceState([(RULE_HASH, hashed)])
        if limit is not None:
            self.state = self._with(self.state, limit)

    def combined(self, came: TraceState | None) -> TraceState:
        """The tracestate of a root: ours, and what else `came` with the request."""
        if not came:
            return self.state
        rest = self._with(came, self._threshold)
        if RULE_HASH in rest:
            return rest.update(RULE_HASH, self._hashed)
        return rest.add(RULE_HASH, self._hashed)

    @staticmethod
    def _with(state: TraceState, limit: int | None) -> TraceState:
        return with_threshold(state, limit) or TraceState()


class RuleState:
    """One rule at work: decides, counts, and takes what the service grants. Also an `adaptive.BoostCounter`."""

    def __init__(self, rule: Rule, statistics: Statistics | None = None, reservoir: Reservoir | None = None) -> None:
        self.rule = rule
        self.name = rule.name
        self.hashed = rule_hash(rule.name)
        self.boosted = rule.boost is not None
        self.statistics = statistics or Statistics()
        self._reservoir = reservoir or Reservoir(rule.reservoir_size)
        self.dropped = Pick("", self.hashed)
        self._reserved = Pick("reservoir", self.hashed)
        self._borrowed = Pick("borrowed", self.hashed)
        self._limit = threshold(rule.fixed_rate)
        self._rate = Pick("rate", self.hashed, self._limit)
        self._boost, self._boost_limit, self._boost_until = self._rate, self._limit, float("-inf")

    def pick(self, randomness: int, now: float) -> Pick:
        """Decide on one root, and count it."""
        statistics = self.statistics
        with statistics.lock:
            statistics.requests += 1
            how = self._reservoir.take(now)
            if how:
                statistics.sampled += 1
                if how == "reservoir":
                    return self._reserved
                statistics.borrowed += 1
                return self._borrowed
            if now < self._boost_until and self._boost_limit < self._limit:
                limit, pick = self._boost_limit, self._boost
            else:
                limit, pick = self._limit, self._rate
            if randomness < limit:
                return self.dropped
            statistics.sampled += 1
            return pick

    @property
    def default_detection(self) -> bool:
        """Whether an anomaly is also what the conditions of the configuration do not name."""
        return self.rule.default_anomaly_detection

    def count(self, *, anomalous: bool, sampled: bool) -> None:
        """One more trace that this rule decided on has ended here."""
        statistics = self.statistics
        with statistics.lock:
            statistics.total += 1
            if anomalous:
                statistics.anomalies += 1
                if sampled:
                    statistics.sampled_anomalies += 1

    def apply(self, target: Target, now: float, wall: float) -> None:
        """Follow `target` from now on. A boost that it does not mention lasts until its own end."""
        with self.statistics.lock:
            limit = threshold(target.fixed_rate)
            if limit != self._limit:
                self._limit, self._rate = limit, Pick("rate", self.hashed, limit)
            if target.quota is not None:
                self._reservoir.grant(target.quota, _deadline(target.quota_until, now, wall))
            if target.boost is not None:
                self._boost_limit = threshold(target.boost)
                self._boost = Pick("boost", self.hashed, self._boost_limit)
                self._boost_until = _deadline(target.boost_until, now, wall)

    def successor(self, rule: Rule) -> RuleState:
        """The state of `rule`, by which the service has replaced this one of the same name."""
        if rule == self.rule:
            return self
        same_size = rule.reservoir_size == self.rule.reservoir_size
        return RuleState(rule, self.statistics, self._reservoir if same_size else None)

    def after_fork(self) -> None:
        """In the child: the counts and the quota belong to the parent, the rates hold."""
        self.statistics.reset()
        self._reservoir = Reservoir(self.rule.reservoir_size)


class Table(NamedTuple):
    """What decisions look at, replaced as a whole."""

    rules: RuleSet
    states: tuple[RuleState, ...]  # as rules.rules
    resource: Mapping[str, Any]  # what `rules` was made with
    expires: float
    boosts: Mapping[str, RuleState]


class StatisticsReport(NamedTuple):
    """One request's worth of statistics: its documents, and where they came from."""

    statistics: list[dict[str, Any]]
    boosts: list[dict[str, Any]]
    taken: list[tuple[RuleState, Counts]]


class Heard(NamedTuple):
    """What a response to statistics asks for: rules at once; the next report in `interval` seconds, if it says."""

    refresh: bool
    interval: float | None


class Centralized:
    """All rules of one process, as the service and the local decisions know them. Also the `adaptive.Boosts`.

    resource: gives the resource's attributes as known by now, the same object while they do not change. refreshed:
    when the rules came, None while there are none.
    """

    def __init__(self, resource: Callable[[], Mapping[str, Any]]) -> None:
        self.client_id = os.urandom(12).hex()
        self.resource = resource
        self.refreshed: float | None = None
        self.table = Table(RuleSet((), {}), (), {}, float("-inf"), {})
        self._lock = threading.Lock()  # of writers of `table`
        self._removed: list[RuleState] = []
        self._modified: float | None = None

    # --- decisions --------------------------------------------------------------------------------------------

    def bound(self) -> Table:
        """The table for the resource as it is now, if that has become known or has changed since the rules came."""
        with self._lock:
            resource = self.resource()
            if self.table.resource is not resource:
                old = self.table
                self._set(
                    [state.rule for state in old.states], resource, {s.name: s for s in old.states}, old.expires
                )
            return self.table

    @property
    def any_boost(self) -> bool:
        """Whether any rule has a SamplingRateBoost."""
        return bool(self.table.boosts)

    def for_hash(self, hashed_rule_name: str) -> RuleState | None:
        """The rule with a SamplingRateBoost of that hash."""
        return self.table.boosts.get(hashed_rule_name)

    # --- rules ------------------------------------------------------------------------------------------------

    def apply_rules(self, rules: Sequence[Rule], now: float) -> None:
        """Use `rules`, as received at `now`. What an unchanged rule holds stays, and nobody's statistics are lost."""
        with self._lock:
            known = {state.name: state for state in (*self._removed, *self.table.states)}
            present = {rule.name for rule in rules}
            self._set(rules, self.resource(), known, now + EXPIRY)
            self._removed = [state for name, state in known.items() if name not in present][-MAX_REMOVED:]
            self.refreshed = now

    def _set(
        self, rules: Iterable[Rule], resource: Mapping[str, Any], known: Mapping[str, RuleState], expires: float
    ) -> None:
        matcher = RuleSet(rules, resource)
        states = tuple(
            known[rule.name].successor(rule) if rule.name in known else RuleState(rule) for rule in matcher.rules
        )
        boosts = {state.hashed: state for state in states if state.boosted}
        self.table = Table(matcher, states, resource, expires, boosts)

    # --- statistics -------------------------------------------------------------------------------------------

    def take_reports(self, wall: float) -> list[StatisticsReport]:
        """The statistics since the last time, in requests of at most CHUNK documents of each kind."""
        taken = [
            (state, counts)
            for state in (*self.table.states, *self._removed)
            if (counts := state.statistics.take()) is not None
        ]
        reported = {id(state) for state, _ in taken}
        # One that counted is looked at once more: a thread may still decide with the rules from before.
        self._removed = [state for state in self._removed if id(state) in reported]
        service = str(self.resource().get("service.name") or "unknown_service")[:64]
        return [self._report(taken[at : at + CHUNK], service, wall) for at in range(0, len(taken), CHUNK)]

    def _report(self, taken: list[tuple[RuleState, Counts]], service: str, wall: float) -> StatisticsReport:
        statistics = [
            {
                "RuleName": state.name,
                "ClientID": self.client_id,
                "Timestamp": wall,
                "RequestCount": counts.requests,
                "SampledCount": counts.sampled,
                "BorrowCount": counts.borrowed,
            }
            for state, counts in taken
        ]
        boosts = [
            {
                "RuleName": state.name,
                "ServiceName": service,
                "Timestamp": wall,
                "AnomalyCount": counts.anomalies,
                "TotalCount": counts.total,
                "SampledAnomalyCount": counts.sampled_anomalies,
            }
            for state, counts in taken
            if state.boosted and counts.total
        ]
        return StatisticsReport(statistics, boosts, taken)

    def give_back(self, report: StatisticsReport) -> None:
        """`report` did not arrive: its counts join the next one."""
        for state, counts in report.taken:
            state.statistics.give_back(counts)

    # --- targets ----------------------------------------------------------------------------------------------

    def apply_targets(
        self, sent: StatisticsReport, response: Mapping[str, Any], say: Say, now: float, wall: float
    ) -> Heard:
        """Follow the service's answer to `sent`. Each target counts by itself: `say` gets what is wrong with it.

        Raises ValueError for what is no answer; then nothing has changed.
        """
        states = {state.name: state for state in self.table.states}
        intervals = []
        for target in read_targets(response, say):
            if target.name in states:
                states[target.name].apply(target, now, wall)
            if target.interval is not None:
                intervals.append(target.interval)
        refresh = self._is_newer(read_time(response, "LastRuleModification", say), now, wall)
        for name, again, boost in read_unprocessed(response):
            if not again:
                refresh = True
                continue
            for state, counts in sent.taken:
                if state.name == name:
                    state.statistics.give_back(counts, requests=not boost, boost=boost)
        return Heard(refresh, min(intervals, default=None))

    def _is_newer(self, modified: float | None, now: float, wall: float) -> bool:
        """Whether rules were modified since the last refresh. Only the first answer needs this machine's own time."""
        if modified is None:
            return False
        before, self._modified = self._modified, modified
        if before is None:
            before = wall - (now - self.refreshed) if self.refreshed is not None else modified
        return modified > before

    # --- fork -------------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In the child: another client, that keeps the rules and has nothing to report."""
        self.client_id = os.urandom(12).hex()
        self._lock = threading.Lock()
        self._removed = []
        for state in self.table.states:
            state.after_fork()


def _deadline(until: float, now: float, wall: float) -> float:
    # A wall clock far behind must not make a grant last longer than the rules could.
    return now + min(until - wall, EXPIRY)
