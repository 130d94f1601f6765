"""Every document of `emf` is valid, and values with counts keep what a histogram knew, whatever was observed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from spanwell.analysis.quantiles import Histogram
from spanwell.export.cloudwatch_names import parse
from spanwell.export.cloudwatch_points import Point, points, preferences
from spanwell.export.cloudwatch_values import values_of
from spanwell.export.emf_documents import documents
from support.emf import check, totals

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
scalars = texts | st.integers() | st.floats() | st.booleans() | st.none()
attributes = st.dictionaries(texts, scalars | st.lists(scalars, max_size=5), max_size=6)
numbers = st.floats(1e-6, 1e9)
limits = st.sampled_from([4094, 20_000, 200_000])


@st.composite
def any_point(draw: Any) -> Point:
    service = (
        "ServiceName",
        draw(st.text("ab :~", min_size=1, max_size=9).map(lambda text: text.strip(" :") or "-")),
    )
    operation = ("Operation", draw(st.text("xyz/{}", min_size=1, max_size=60)))
    return Point(
        draw(st.sampled_from(["N", "DistributedTracing/Insights"])),
        draw(st.sampled_from(["a.b", "slow_trace", 'odd "name\\'])),
        draw(st.sampled_from(["", "Seconds", "Count"])),
        draw(st.dictionaries(st.floats(-1e9, 1e9), st.integers(1, 10**6), min_size=1, max_size=350)),
        draw(st.integers(0, 4 * 10**18)),
        draw(st.sampled_from([((service,),), ((operation, service),), ((operation, service), (service,))])),
        draw(attributes),
    )


@given(st.lists(any_point(), max_size=8), limits)
@settings(max_examples=150, deadline=None)
def test_every_document_is_valid_and_nothing_is_lost_or_doubled(found: list[Point], limit: int) -> None:
    expected_counts: dict[Any, float] = defaultdict(float)
    expected_sums: dict[Any, float] = defaultdict(float)
    for point in found:
        for dimensions in point.sets:
            key = point.namespace, point.name, dimensions
            expected_counts[key] += sum(point.values.values())
            expected_sums[key] += math.fsum(value * count for value, count in point.values.items())
    made = list(documents(found, max_bytes=limit))
    assert all(len(document.line) <= limit for document in made)
    assert all(document.line.isascii() for document in made)
    sent = totals(each for document in made for each in check(document.line))
    assert {key: count for key, (count, _) in sent.items()} == expected_counts
    for key, (_, total) in sent.items():
        scale = max(sum(abs(v) * n for p in found for v, n in p.values.items()), 1.0)
        assert total == pytest.approx(expected_sums[key], rel=1e-6, abs=1e-9 * scale)


@given(st.lists(st.lists(numbers, min_size=1, max_size=120), min_size=1, max_size=3), attributes)
@settings(max_examples=60, deadline=None)
def test_from_the_sdks_histogram_to_the_document(collections: list[list[float]], named: dict[str, Any]) -> None:
    """Count, sum and quantiles survive, within the error of the histogram's buckets."""
    reader = InMemoryMetricReader(**preferences())
    provider = MeterProvider(
        metric_readers=[reader], resource=Resource({"service.name": "s"}), shutdown_on_exit=False
    )
    histogram = provider.get_meter("x").create_histogram("a.b", unit="ms")
    found: list[tuple[float, float]] = []
    for values in collections:
        for value in values:
            histogram.record(value)
        collected = reader.get_metrics_data()
        assert collected is not None
        for document in documents(points(collected, parse(["a.b"], pytest.fail)), max_bytes=4094):
            assert json.loads(document.line)["ServiceName"] == "s"
            for each in check(document.line):
                assert each.unit == "Milliseconds"
                found += each.values
    provider.shutdown()
    truth = sorted(value for values in collections for value in values)
    assert sum(count for _, count in found) == len(truth)
    # The scale that the widest of the collections needed bounds the error of one value: half a bucket.
    spread = max(math.log2(max(values) / min(values)) for values in collections)
    error = 2.0 ** (max(spread, 1e-6) / 80) * 1.00001
    assert sum(value * count for value, count in found) == pytest.approx(math.fsum(truth), rel=error - 1)
    ordered = [value for value, count in sorted(found) for _ in range(int(count))]
    for q in (0.0, 0.5, 0.9, 0.99, 1.0):
        rank = min(len(truth) - 1, int(q * len(truth)))
        assert truth[rank] / error <= ordered[rank] <= truth[rank] * error


@given(st.lists(numbers, min_size=1, max_size=200))
def test_our_own_histograms_keep_their_quantiles(values: list[float]) -> None:
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    from spanwell.insights.points import exponential

    each = Histogram()
    for value in values:
        each.observe(value)
    data = type("Data", (), {"aggregation_temporality": AggregationTemporality.DELTA})()
    found = values_of(data, exponential({}, each, 0, 0))
    ordered = [value for value, count in sorted(found.items()) for _ in range(int(count))]
    base = 2.0 ** (2.0**-each.scale) * 1.00001
    for truth, sent in zip(sorted(values), ordered, strict=True):
        assert truth / base <= sent <= truth * base
