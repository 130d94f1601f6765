"""Our aggregates against the SDK's exponential histogram, over several readers and collections."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricsData,
    ResourceMetrics,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from spanwell.analysis.quantiles import Histogram
from spanwell.insights.points import Collected
from spanwell.insights.red import Red
from support.ended import count

durations = st.lists(st.integers(1, 10**13), max_size=80)
EMPTY = MetricsData([ResourceMetrics(Resource({}), [], "")])


class Pair:
    """The same observations in our aggregate and in the SDK's."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self.reader = InMemoryMetricReader(
            preferred_temporality={HistogramInstrument: temporality},
            preferred_aggregation={HistogramInstrument: ExponentialBucketHistogramAggregation()},
        )
        self._provider = MeterProvider(metric_readers=[self.reader])
        self._histogram = self._provider.get_meter("x").create_histogram("h")
        self.red = Red(clock_ns=lambda: 1)
        self.feed = Collected(self.red).attach(delta=temporality is AggregationTemporality.DELTA)

    def observe(self, values: list[int]) -> None:
        for value in values:
            self._histogram.record(value / 1e9)
            count(self.red, "x", "server", True, value, False, {})

    def theirs(self) -> Any:
        data = self.reader.get_metrics_data()
        return None if data is None else data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]

    def ours(self) -> Any:
        scopes = self.feed.add(EMPTY).resource_metrics[0].scope_metrics
        return scopes[0].metrics[0].data.data_points[0] if scopes else None


def same(ours: Any, theirs: Any, scale: int) -> None:
    assert ours.count == theirs.count
    assert abs(ours.sum - theirs.sum) <= 1e-9 * abs(theirs.sum)
    assert (ours.min, ours.max, ours.zero_count) == (theirs.min, theirs.max, theirs.zero_count)
    assert at(ours, scale) == at(theirs, scale)
    assert not any(theirs.negative.bucket_counts)
    assert not any(ours.negative.bucket_counts)


def at(point: Any, scale: int) -> dict[int, int]:
    """The buckets at a coarser scale."""
    found: dict[int, int] = {}
    for position, number in enumerate(point.positive.bucket_counts):
        if number:
            index = (point.positive.offset + position) >> (point.scale - scale)
            found[index] = found.get(index, 0) + number
    return found


@given(durations.filter(bool))
def test_one_collection_is_what_the_sdk_would_export(values: list[int]) -> None:
    pair = Pair(AggregationTemporality.DELTA)
    pair.observe(values)
    ours, theirs = pair.ours(), pair.theirs()
    assert ours.scale == theirs.scale
    same(ours, theirs, ours.scale)
    assert len(ours.positive.bucket_counts) <= 160


@settings(max_examples=50)
@given(st.lists(durations, min_size=2, max_size=4))
def test_cumulative_points_hold_everything_since_the_start(parts: list[list[int]]) -> None:
    pair = Pair(AggregationTemporality.CUMULATIVE)
    for values in parts:
        pair.observe(values)
        ours, theirs = pair.ours(), pair.theirs()
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.scale == theirs.scale
            same(ours, theirs, ours.scale)


@settings(max_examples=50)
@given(st.lists(durations, min_size=2, max_size=4))
def test_delta_points_hold_what_is_new(parts: list[list[int]]) -> None:
    """The SDK goes on with the scale of its last collection; ours starts at the finest again."""
    pair = Pair(AggregationTemporality.DELTA)
    for values in parts:
        pair.observe(values)
        ours, theirs = pair.ours(), pair.theirs()
        assert (ours is None) == (theirs is None) == (not values)
        if ours is not None:
            assert ours.scale >= theirs.scale
            same(ours, theirs, theirs.scale)


@given(durations, durations, durations)
def test_merging_does_not_depend_on_the_order(a: list[int], b: list[int], c: list[int]) -> None:
    def of(values: list[int]) -> Histogram:
        found = Histogram()
        for value in values:
            found.observe(value / 1e9)
        return found

    left = of(a)
    left.merge(of(b))
    left.merge(of(c))
    right = of(b)
    right.merge(of(c))
    first = of(a)
    first.merge(right)
    whole = of([*c, *a, *b])
    for each in (first, whole):
        assert each.buckets() == left.buckets()
        assert (each.count, each.zero_count, each.min, each.max) == (left.count, left.zero_count, left.min, left.max)
        assert each.scale == left.scale
