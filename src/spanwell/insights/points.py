"""The aggregates of `Red` as metric points of OpenTelemetry, added to what a metrics reader has collected.

Each reader gets every observation once, as it prefers: since its last collection (delta) or since the start
(cumulative). Imports the SDK's metrics: only where metrics are exported.
"""

from __future__ import annotations

import threading
from bisect import bisect_left

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Buckets as BucketsPoint
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from spanwell import _guard
from spanwell._children import in_child
from spanwell._guard import guard
from spanwell.analysis.names import DEPENDENCY, ENTRY, INSIGHTS, SEVERITY, TYPE
from spanwell.analysis.quantiles import Histogram as Aggregate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from spanwell.insights.red import Labels, Red

    Table: TypeAlias = "dict[tuple[str, Labels], Aggregate]"

SCOPE = "spanwell.insights"
# Those of the collector's spanmetrics connector.
BOUNDS = (0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.4, 2.0, 5.0, 10.0, 15.0)
_DESCRIPTIONS = {
    ENTRY: "How long requests, messages and jobs took that this process served",
    DEPENDENCY: "How long calls of this process to others took",
}
_DELTA, _CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE


class Collected:
    """What `red` counted, for as many readers as are attached. `version` becomes that of the scope."""

    def __init__(self, red: Red, version: str = "") -> None:
        self._red = red
        self.scope = InstrumentationScope(SCOPE, version)
        self._feeds: list[Feed] = []
        self._lock = threading.Lock()
        in_child(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for feed in self._feeds:
            feed.reset()

    def attach(self, *, delta: bool, delta_counts: bool | None = None, explicit: bool = False) -> Feed:
        """What adds the points for one more reader, with the temporality of its histograms and of its counters.

        explicit: with the fixed buckets of `BOUNDS`, for readers that know no exponential histograms.
        """
        feed = Feed(self, self._red, delta=delta, delta_counts=delta if delta_counts is None else delta_counts)
        feed.explicit = explicit
        with self._lock:
            self._feeds.append(feed)
        return feed

    def metrics(self, feed: Feed) -> list[Metric]:
        """Hand what was observed meanwhile to every feed; the metrics for `feed`."""
        with self._lock:
            for series, histogram in self._red.drain():
                for each in self._feeds:
                    each.take((series.metric, series.labels), histogram)
            return list(feed.metrics())


class Feed:
    """The sums that one reader has not got yet, or all sums for a reader of cumulative ones."""

    def __init__(self, collected: Collected, red: Red, *, delta: bool, delta_counts: bool) -> None:
        self.explicit = False
        self._collected = collected
        self._red = red
        self._delta = delta
        self._delta_counts = delta_counts
        self.reset()

    def reset(self) -> None:
        """Start from nothing."""
        self._table: Table = {}
        self._told: dict[tuple[str, str], int] = {}
        self._last = 0

    def add(self, data: MetricsData) -> MetricsData:
        """`data` with our metrics in one more scope of its first resource. Never raises."""
        resources = list(data.resource_metrics)
        if not resources:  # whose they are is not known
            return data
        try:
            metrics = self._collected.metrics(self)
        except Exception as error:
            if _guard.strict:
                raise
            _guard.failed("metrics of insights", error)
            return data
        if not metrics:
            return data
        first = resources[0]
        ours = ScopeMetrics(scope=self._collected.scope, metrics=metrics, schema_url="")
        resources[0] = ResourceMetrics(first.resource, [*first.scope_metrics, ours], first.schema_url)
        return MetricsData(resources)

    def take(self, key: tuple[str, Labels], histogram: Aggregate) -> None:
        """Add what was observed of one series. `histogram` is shared: only read."""
        with guard("metrics of insights"):
            if key not in self._table:
                self._table[key] = Aggregate()
            self._table[key].merge(histogram)

    def metrics(self) -> Iterator[Metric]:
        """All metrics with at least one point."""
        start = self._red.start_ns
        since = max(start, self._last)
        now = max(self._red.clock_ns(), since)
        self._last = now
        yield from self._durations(since if self._delta else start, now)
        points = list(self._counts(since if self._delta_counts else start, now))
        if points:
            data = Sum(points, _DELTA if self._delta_counts else _CUMULATIVE, is_monotonic=True)
            yield Metric(INSIGHTS, "Insights: what is slow, failing, retried or degrading", "{insight}", data)

    def _durations(self, start: int, now: int) -> Iterator[Metric]:
        table = self._table
        if self._delta:
            self._table = {}
        temporality = _DELTA if self._delta else _CUMULATIVE
        for name, description in _DESCRIPTIONS.items():
            mine = [(dict(named), each) for (metric, named), each in table.items() if metric == name]
            if not mine:
                continue
            data: Histogram | ExponentialHistogram
            if self.explicit:
                data = Histogram([_explicit(named, each, start, now) for named, each in mine], temporality)
            else:
                data = ExponentialHistogram(
                    [exponential(named, each, start, now) for named, each in mine], temporality
                )
            yield Metric(name, description, "s", data)

    def _counts(self, start: int, now: int) -> Iterator[NumberDataPoint]:
        totals = self._red.insights()
        told, self._told = self._told, totals
        for (kind, severity), total in totals.items():
            number = total - told.get((kind, severity), 0) if self._delta_counts else total
            if number:
                yield NumberDataPoint({TYPE: kind, SEVERITY: severity}, start, now, number)


def exponential(named: dict[str, str], each: Aggregate, start: int, now: int) -> ExponentialHistogramDataPoint:
    """An aggregate as OpenTelemetry's exponential histogram. `start` and `now` are Unix nanoseconds."""
    offset, counts = each.buckets()
    return ExponentialHistogramDataPoint(
        attributes=named,
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=each.count,
        sum=each.sum,
        scale=each.scale,
        zero_count=each.zero_count,
        positive=BucketsPoint(offset, counts),
        negative=BucketsPoint(0, []),
        flags=0,
        min=each.min,
        max=each.max,
    )


def _explicit(named: dict[str, str], each: Aggregate, start: int, now: int) -> HistogramDataPoint:
    counts = [0] * (len(BOUNDS) + 1)
    for value, count in each.values():
        counts[bisect_left(BOUNDS, value)] += count
    return HistogramDataPoint(named, start, now, each.count, each.sum, counts, BOUNDS, each.min, each.max)
