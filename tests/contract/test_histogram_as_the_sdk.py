"""Our exponential histogram counts as the SDK's does."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ExponentialHistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from spanwell.analysis.quantiles import Histogram


@pytest.mark.parametrize("spread", [0.0001, 0.05, 1.0, 6.0])
def test_the_same_values_in_the_same_buckets(spread: float) -> None:
    aggregation = ExponentialBucketHistogramAggregation(max_size=160, max_scale=20)
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader], views=[View(instrument_name="*", aggregation=aggregation)], shutdown_on_exit=False
    )
    instrument = provider.get_meter("tests").create_histogram("seconds")
    ours = Histogram()
    chance = random.Random(7)
    for value in [chance.lognormvariate(-3, spread) for _ in range(300)] + [0.25, 0.125, 0.0]:
        instrument.record(value)
        ours.observe(value)
    data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert isinstance(point, ExponentialHistogramDataPoint)
    offset, counts = ours.buckets()
    theirs = {
        point.positive.offset + place: count for place, count in enumerate(point.positive.bucket_counts) if count
    }
    assert {offset + place: count for place, count in enumerate(counts) if count} == theirs
    assert (ours.scale, ours.zero_count, ours.count) == (point.scale, point.zero_count, point.count)
    assert (ours.min, ours.max) == (point.min, point.max)
    assert ours.sum == pytest.approx(point.sum)
