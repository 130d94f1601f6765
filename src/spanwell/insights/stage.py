"""Looks at every local root that has ended, and says what it found: on the root, to counters, as log events."""

from __future__ import annotations

import threading
import time
from itertools import islice

from spanwell import _guard
from spanwell._children import in_child
from spanwell._otel import spans as otel_spans
from spanwell.insights import detectors as table
from spanwell.insights.hints import Hints, healthy
from spanwell.insights.labels import entry_operation
from spanwell.insights.model import Fragment
from spanwell.insights.records import KINDS, SENDING, records
from spanwell.insights.written import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

    from spanwell._otel.spans import Ended
    from spanwell.insights.loading import Loaded
    from spanwell.insights.model import Detector, Insight, OverTime

    Tell = Callable[[Insight, str, SpanContext | None], object]
    """Called with an insight, its fingerprint, and the context of the local root if it is about one."""

_EACH = 20
"""Insights that one detector may find in one trace."""

_PAUSE = 1.0
_TOGETHER = 32
_CLIENT, _PRODUCER = SENDING


class Insights:
    """What looks at local roots for a `Buffer`.

    resource: the attributes of the process's resource. tell: called with each insight, once for each local root and
    fingerprint. over_time: makes what judges operations over time; called again in a forked child.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        resource: Callable[[], Mapping[str, Any]] = dict,
        tell: Iterable[Tell] = (),
        over_time: Callable[[], Iterable[OverTime]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._thresholds = loaded.thresholds
        self._limits = loaded.limits
        self._use(loaded.local)
        self._resource = resource
        self._tell = tuple(tell)
        self._make_over_time = over_time
        self._clock = clock
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child, which has seen no operation yet."""
        self._next_due = float("-inf")
        self._due_ns = 0
        self._looking = threading.Lock()  # held by whoever follows operations, and never waited for
        self._ended: list[Ended] = []
        self._over_time: list[OverTime] = list(self._make_over_time())

    def _use(self, detectors: Sequence[Detector]) -> None:
        self._all = tuple(detectors)
        self._users = tuple(each for each in detectors if each.NAME not in table.NAMES)

    # --- a local root has ended ---------------------------------------------------------------------------------

    def __call__(self, spans: Sequence[Ended], rest: Hints | None, span: ReadableSpan) -> None:
        """A local root has ended, which is `span` and the last of `spans`; rest: of those that are not here."""
        root = spans[-1]
        asked = self._all
        if rest is None and healthy(spans, self._limits, root[7], SENDING):
            asked = self._users
        if asked:
            self._ask(asked, spans, rest, span)
        if self._over_time and root[3] is not _CLIENT and root[3] is not _PRODUCER:
            waiting = self._ended
            waiting.append(root)
            # Its end instead of a clock: to know that nothing is due is all that most of them need.
            if len(waiting) >= _TOGETHER or root[5] >= self._due_ns:
                self._follow()

    def _ask(
        self, detectors: Sequence[Detector], spans: Sequence[Ended], rest: Hints | None, span: ReadableSpan
    ) -> None:
        context, _, name, kind, start, end, status, attributes, _, _, _, _ = spans[-1]
        hints, dropped = rest or Hints(), 0 if rest is None else rest.spans
        hints.count(spans, SENDING)
        hints.thresholds = self._thresholds
        hints.end(name, KINDS[kind.value], end - start if end > start else 0, status == "error", attributes)
        found = self._detect(detectors, spans, dropped, hints)
        if found:
            otel_spans.write(span, write(found.items()))
            self._tell_all(found, context)

    def _detect(
        self, detectors: Sequence[Detector], ended: Sequence[Ended], dropped: int, hints: Hints
    ) -> dict[str, Insight]:
        """Fingerprint -> insight. The records are made once a detector wants them."""
        asked = []
        for detector in detectors:
            try:
                if detector.may(hints):
                    asked.append(detector)
            except Exception as problem:
                self._switch_off(detector, problem)
        if not asked:
            return {}
        resource = self._resource()
        service = str(resource.get("service.name") or "")
        spans = records(ended, service, resource)
        fragment = Fragment(spans, spans[-1], dropped=dropped)
        found: dict[str, Insight] = {}
        for detector in asked:
            try:
                for insight in islice(detector.detect(fragment, self._thresholds), _EACH):
                    found.setdefault(insight.fingerprint(service), insight)
            except Exception as problem:
                self._switch_off(detector, problem)
        return found

    def _switch_off(self, detector: Detector, problem: Exception) -> None:
        self._use([each for each in self._all if each is not detector])
        _failed(f"the insight detector {detector.NAME}", problem)

    # --- over time ----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """What has ended since the last time: one by one each would cost twice as much."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            ended = self._taken()
            now = self._clock()
            due = now >= self._next_due
            if due:
                self._next_due = now + _PAUSE
            if ended:
                self._due_ns = ended[-1][5] + int((self._next_due - now) * 1e9)
            operations = _served(ended)
            for each in self._over_time:
                try:
                    for operation, seconds in operations.items():
                        each.observe(operation, seconds, now)
                    if due:
                        self.report(each.due(now))
                except Exception as problem:
                    self._over_time = [one for one in self._over_time if one is not each]
                    _failed(f"the insight detector {type(each).__name__}", problem)
        finally:
            self._looking.release()

    def _taken(self) -> list[Ended]:
        waiting = self._ended
        number = len(waiting)
        ended = waiting[:number]
        del waiting[:number]
        return ended

    def report(self, insights: Iterable[Insight]) -> None:
        """Tell of insights that are not about one trace."""
        service = str(self._resource().get("service.name") or "")
        self._tell_all({insight.fingerprint(service): insight for insight in insights}, None)

    def _tell_all(self, found: dict[str, Insight], context: SpanContext | None) -> None:
        for fingerprint, insight in found.items():
            for tell in self._tell:
                with _guard.guard("telling of an insight"):
                    tell(insight, fingerprint, context)


def _served(ended: Iterable[Ended]) -> dict[str, list[float]]:
    """Operation -> the seconds that its requests took. Not of those that failed: these fail fast, or time out."""
    operations: dict[str, list[float]] = {}
    for one in ended:
        if one[6] != "error":
            operation = entry_operation(one[2], one[7])
            seconds = max(0, one[5] - one[4]) / 1e9
            if operation in operations:
                operations[operation].append(seconds)
            else:
                operations[operation] = [seconds]
    return operations


def _failed(what: str, problem: Exception) -> None:
    if _guard.strict:
        raise problem
    _guard.failed(what, problem)
