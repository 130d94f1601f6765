"""Looks at every local root that has ended, and says what it found: on the root, to counters, as log events."""

from __future__ import annotations

import threading
import time
from itertools import islice

from opentelemetry.trace import SpanKind

from spanwell import _guard
from spanwell._children import in_child
from spanwell._otel import spans as otel_spans
from spanwell.insights import detectors as table
from spanwell.insights.labels import entry_operation
from spanwell.insights.model import Fragment
from spanwell.insights.records import KINDS, records
from spanwell.insights.written import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

    from spanwell._otel.spans import Ended
    from spanwell.insights.buffer import Local
    from spanwell.insights.loading import Loaded
    from spanwell.insights.model import Detector, Insight, OverTime

    Tell = Callable[[Insight, str, SpanContext | None], object]
    """Called with an insight, its fingerprint, and the context of the local root if it is about one."""

_EACH = 20
"""Insights that one detector may find in one trace."""

_PAUSE = 1.0
_TOGETHER = 32
_CLIENT, _PRODUCER = SpanKind.CLIENT, SpanKind.PRODUCER


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
        self._looking = threading.Lock()  # held by whoever follows operations, and never waited for
        self._ended: list[tuple[str, Mapping[str, Any], int, bool]] = []
        self._over_time: list[OverTime] = list(self._make_over_time())

    def _use(self, detectors: Sequence[Detector]) -> None:
        self._all = tuple(detectors)
        self._users = tuple(each for each in detectors if each.NAME not in table.NAMES)

    # --- a local root has ended ---------------------------------------------------------------------------------

    def __call__(self, local: Local, root: Ended, span: ReadableSpan) -> None:
        """`span` has ended, and with it `local`, whose last span is `root`."""
        context, _, name, kind, start, end, status, attributes, _, _, _, _ = root
        hints = local.hints
        asked = self._users if hints.healthy(self._limits, attributes) else self._all
        if asked:
            hints.thresholds = self._thresholds
            hints.end(name, KINDS[kind.value], end - start if end > start else 0, status == "error", attributes)
            found = self._detect(asked, local)
            if found:
                otel_spans.write(span, write(found.items()))
                self._tell_all(found, context)
        if self._over_time and not (kind is _CLIENT or kind is _PRODUCER):
            self._ended.append((name, attributes, end - start, status == "error"))
            now = self._clock()
            if now >= self._next_due or len(self._ended) >= _TOGETHER:
                self._follow(now)

    def _detect(self, detectors: Sequence[Detector], local: Local) -> dict[str, Insight]:
        """Fingerprint -> insight. The records are made once a detector wants them."""
        asked = []
        for detector in detectors:
            try:
                if detector.may(local.hints):
                    asked.append(detector)
            except Exception as problem:
                self._switch_off(detector, problem)
        if not asked:
            return {}
        resource = self._resource()
        service = str(resource.get("service.name") or "")
        spans = records(local.spans, service, resource)
        fragment = Fragment(spans, spans[-1], dropped=local.dropped)
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

    def _follow(self, now: float) -> None:
        """What has ended since the last time: one by one each would cost twice as much."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            number = len(self._ended)
            ended = self._ended[:number]
            del self._ended[:number]
            due = now >= self._next_due
            if due:
                self._next_due = now + _PAUSE
            for each in self._over_time:
                try:
                    for name, attributes, nanoseconds, error in ended:
                        each.observe(entry_operation(name, attributes), max(0, nanoseconds) / 1e9, error, now)
                    if due:
                        self.report(each.due(now))
                except Exception as problem:
                    self._over_time = [one for one in self._over_time if one is not each]
                    _failed(f"the insight detector {type(each).__name__}", problem)
        finally:
            self._looking.release()

    def report(self, insights: Iterable[Insight]) -> None:
        """Tell of insights that are not about one trace."""
        service = str(self._resource().get("service.name") or "")
        self._tell_all({insight.fingerprint(service): insight for insight in insights}, None)

    def _tell_all(self, found: dict[str, Insight], context: SpanContext | None) -> None:
        for fingerprint, insight in found.items():
            for tell in self._tell:
                with _guard.guard("telling of an insight"):
                    tell(insight, fingerprint, context)


def _failed(what: str, problem: Exception) -> None:
    if _guard.strict:
        raise problem
    _guard.failed(what, problem)
