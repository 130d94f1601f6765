"""Insights of stored traces, the same problem gathered into one.

A problem of a trace comes from one scope only, or it would count twice. The scope is the whole trace: the detectors
judge what all processes stored, with the thresholds given here. What a process wrote on its local root counts where
the whole cannot judge: insights of a type that needs more than one trace or comes from a user's detector, and those
of a trace of which parts are missing, if the rest shows nothing of that type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spanwell.insights.drift import Drift
from spanwell.insights.model import ERROR, INFO, WARNING, Fragment
from spanwell.insights.written import read

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from spanwell.explore.model import Trace
    from spanwell.insights.model import Insight, Thresholds
    from spanwell.record import SpanRecord

    Detect = Callable[[Fragment, Thresholds], Iterable[Insight]]

SEVERITIES = (ERROR, WARNING, INFO)
EXAMPLES = 3
_MOST_SERVICES = 200


class Finding(NamedTuple):
    """An insight about one trace, at `time_ns`. `services`: those of the evidence, at least the one that found it."""

    fingerprint: str
    type: str
    severity: str
    sentence: str
    services: tuple[str, ...]
    trace_id: str
    time_ns: int


class Judge:
    """Finds the insights of traces. `failed`: detectors that raised, with the error; they are not asked again."""

    def __init__(self, detectors: Mapping[str, Detect], thresholds: Thresholds) -> None:
        self._detectors = dict(detectors)
        self._thresholds = thresholds
        self._judged = frozenset(detectors)
        self.failed: dict[str, str] = {}

    def findings(self, trace: Trace) -> list[Finding]:
        """What is the matter with `trace`."""
        found = self._whole(trace)
        complete = bool(trace.roots) and not trace.orphans and not trace.loops
        settled = self._judged if complete else {finding.type for finding in found}
        return [*found, *(each for each in _written(trace) if each.type not in settled)]

    def _whole(self, trace: Trace) -> list[Finding]:
        root = trace.root
        if root is None:
            return []
        fragment = Fragment(sorted(trace.spans, key=lambda span: span.end_ns), root, whole=True)
        services = {span.span_id: span.service for span in trace.spans}
        found: dict[str, Finding] = {}
        for name in tuple(self._detectors):
            for insight in self._ask(name, fragment):
                blamed = [services[each] for each in insight.evidence if each in services]
                finding = Finding(
                    insight.fingerprint(root.service),
                    insight.type,
                    insight.severity,
                    insight.sentence,
                    tuple(dict.fromkeys(blamed)) or (root.service,),
                    trace.trace_id,
                    trace.start_ns,
                )
                found.setdefault(finding.fingerprint, finding)
        return list(found.values())

    def _ask(self, name: str, fragment: Fragment) -> list[Insight]:
        try:
            return list(self._detectors[name](fragment, self._thresholds))
        except Exception as error:
            self.failed[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            del self._detectors[name]
            self._judged -= {name}
            return []


class History:
    """Watches how long the operations of each service take, from trace to trace: the oldest must come first."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._services: dict[str, Drift] = {}
        self._next_due = 0.0

    def findings(self, trace: Trace) -> list[Finding]:
        """What has changed by the time of `trace`."""
        now = trace.end_ns / 1e9
        for span in _entries(trace):
            drift = self._services.get(span.service)
            if drift is None:
                if len(self._services) >= _MOST_SERVICES:
                    continue
                drift = self._services[span.service] = Drift(self._thresholds)
            if not span.is_error:
                drift.observe(span.name, (span.duration / 1e9,), span.end_ns / 1e9)
        if now < self._next_due:
            return []
        self._next_due = now + 1.0
        return [
            Finding(
                insight.fingerprint(service),
                insight.type,
                insight.severity,
                insight.sentence,
                (service,),
                trace.trace_id,
                trace.end_ns,
            )
            for service, drift in self._services.items()
            for insight in drift.due(now)
        ]


def _entries(trace: Trace) -> Iterable[SpanRecord]:
    """The spans with which a service takes part: no parent is there, or it belongs to another service."""
    for span, parent in zip(trace.spans, trace.parents, strict=True):
        if parent is None or trace.spans[parent].service != span.service:
            yield span


def _written(trace: Trace) -> list[Finding]:
    """What processes wrote on their local roots; the same insight of several of them once."""
    found: dict[str, Finding] = {}
    for span in trace.spans:
        for each in read(span.attributes):
            finding = Finding(
                each.fingerprint,
                each.type,
                each.severity,
                each.sentence,
                (span.service,),
                trace.trace_id,
                span.start_ns,
            )
            found.setdefault(each.fingerprint, finding)
    return list(found.values())


class Problem(NamedTuple):
    """One problem: the insights of one fingerprint. Times are Unix nanoseconds.

    severity: the worst; sentence: the latest; times: in how many traces; services: in alphabetical order; examples:
    ids of the latest traces, the latest first.
    """

    fingerprint: str
    type: str
    severity: str
    sentence: str
    first_ns: int
    last_ns: int
    times: int
    services: tuple[str, ...]
    examples: tuple[str, ...]


class Problems:
    """Gathers findings: `list()` for the problems. Memory grows with the number of different problems only."""

    def __init__(self) -> None:
        self._found: dict[str, Problem] = {}

    def add(self, finding: Finding) -> None:
        """One more finding; in any order of time."""
        known = self._found.get(finding.fingerprint)
        self._found[finding.fingerprint] = _new(finding) if known is None else _more(known, finding)

    def list(self, *, service: str | None = None, types: Collection[str] = ()) -> list[Problem]:
        """The problems, the worst first, then the most frequent; of this service and of these types if any are
        given.
        """
        chosen = [
            problem
            for problem in self._found.values()
            if (service is None or service in problem.services) and (not types or problem.type in types)
        ]
        return sorted(chosen, key=_rank)


def _rank(problem: Problem) -> tuple[int, int, int, str]:
    return _gravity(problem.severity), -problem.times, -problem.last_ns, problem.fingerprint


def _new(finding: Finding) -> Problem:
    return Problem(
        finding.fingerprint,
        finding.type,
        finding.severity,
        finding.sentence,
        finding.time_ns,
        finding.time_ns,
        1,
        tuple(sorted(finding.services)),
        (finding.trace_id,),
    )


def _more(known: Problem, finding: Finding) -> Problem:
    latest = finding.time_ns >= known.last_ns
    examples = (finding.trace_id, *known.examples) if latest else (*known.examples, finding.trace_id)
    return known._replace(
        severity=min(known.severity, finding.severity, key=_gravity),
        sentence=finding.sentence if latest else known.sentence,
        first_ns=min(known.first_ns, finding.time_ns),
        last_ns=max(known.last_ns, finding.time_ns),
        times=known.times + 1,
        services=tuple(sorted({*known.services, *finding.services})),
        examples=tuple(dict.fromkeys(examples))[:EXAMPLES],
    )


def _gravity(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def problem_json(problem: Problem) -> dict[str, object]:
    """The JSON form: `fingerprint`, `type`, `severity`, `sentence`, `first_seen_ns`, `last_seen_ns`, `count`,
    `services`, `traces`. Fields may be added, none is renamed or removed.
    """
    return {
        "fingerprint": problem.fingerprint,
        "type": problem.type,
        "severity": problem.severity,
        "sentence": problem.sentence,
        "first_seen_ns": problem.first_ns,
        "last_seen_ns": problem.last_ns,
        "count": problem.times,
        "services": list(problem.services),
        "traces": list(problem.examples),
    }
