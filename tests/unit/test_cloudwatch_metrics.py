"""What the `cloudwatch` metrics exporter makes of metric points, and what it keeps; no network."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from spanwell._guard import losses
from spanwell.analysis.quantiles import Histogram as Aggregate
from spanwell.export.cloudwatch_metrics import CloudWatchMetricExporter
from spanwell.export.cloudwatch_names import DEFAULT, Chosen, most, parse
from spanwell.export.cloudwatch_values import merged, values_of
from spanwell.insights.points import Collected, exponential
from spanwell.insights.red import Red
from support.ended import count

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
NOW = 1_700_000_000_000_000_000


def data(*metrics: Metric, service: str = "shop") -> MetricsData:
    scope = ScopeMetrics(InstrumentationScope("x"), list(metrics), "")
    return MetricsData([ResourceMetrics(Resource({"service.name": service}), [scope], "")])


def insights(*counts: tuple[str, str, int]) -> Metric:
    points = [
        NumberDataPoint({"spanwell.insight.type": kind, "spanwell.insight.severity": severity}, 0, NOW, number)
        for kind, severity, number in counts
    ]
    return Metric("spanwell.insights", "", "{insight}", Sum(points, DELTA, is_monotonic=True))


def chosen(*listed: str) -> Chosen:
    return parse(listed, pytest.fail)


class Cloud:
    """A client that keeps what it is sent, or fails with one of `failures`."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.requests: list[list[dict[str, Any]]] = []

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        assert Namespace == "DistributedTracing/Insights"
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.requests.append(MetricData)

    @property
    def totals(self) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
        found: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        for datum in (datum for request in self.requests for datum in request):
            key = datum["MetricName"], tuple((each["Name"], each["Value"]) for each in datum["Dimensions"])
            found[key] += sum(v * n for v, n in zip(datum["Values"], datum["Counts"], strict=True))
        return found


class Refusal(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code}}


def exporter(cloud: Cloud, *listed: str) -> CloudWatchMetricExporter:
    return CloudWatchMetricExporter(chosen(*listed), client=lambda: cloud)


def test_the_three_required_metrics_go_by_default_and_nothing_else() -> None:
    cloud = Cloud()
    red = Red()
    count(red, "x", "server", True, 5, False, {})
    counts = insights(
        ("slow_trace", "warning", 3),
        ("trace_errors", "error", 2),
        ("high_service_count", "info", 1),
        ("n_plus_one", "warning", 9),
    )
    assert exporter(cloud).export(Collected(red).attach(delta=True).add(data(counts))) is MetricExportResult.SUCCESS
    assert cloud.totals == {
        ("slow_trace", (("Severity", "warning"), ("ServiceName", "shop"))): 3,
        ("trace_errors", (("Severity", "error"), ("ServiceName", "shop"))): 2,
        ("high_service_count", (("Severity", "info"), ("ServiceName", "shop"))): 1,
    }
    (request,) = cloud.requests
    assert {datum["Unit"] for datum in request} == {"Count"}
    assert {datum["Timestamp"].timestamp() for datum in request} == {NOW / 1e9}


def test_without_anything_to_tell_no_client_is_made() -> None:
    made = CloudWatchMetricExporter(client=lambda: pytest.fail("a client"))
    assert made.export(data()) is MetricExportResult.SUCCESS
    assert made.export(data(insights(("n_plus_one", "warning", 1)))) is MetricExportResult.SUCCESS


def test_metrics_by_list_and_by_dimension() -> None:
    red, cloud = Red(), Cloud()
    for route, nanoseconds in (("/a", 10), ("/a", 20), ("/b", 30)):
        attributes = {"http.request.method": "GET", "http.route": route}
        count(red, "x", "server", True, nanoseconds * 10**9, False, attributes)
    sent = exporter(cloud, "entry.duration", "insights")
    sent.export(Collected(red).attach(delta=True).add(data(insights(("n_plus_one", "warning", 4)))))
    totals = cloud.totals
    assert totals["spanwell.entry.duration", (("ServiceName", "shop"),)] == pytest.approx(60, rel=0.01)
    assert totals["n_plus_one", (("Severity", "warning"), ("ServiceName", "shop"))] == 4
    count(red, "x", "server", True, 10**9, False, {"http.request.method": "GET", "http.route": "/a"})
    cloud = Cloud()
    exporter(cloud, "entry.duration:operation").export(Collected(red).attach(delta=True).add(data()))
    assert list(cloud.totals) == [("spanwell.entry.duration", (("Operation", "GET /a"), ("ServiceName", "shop")))]
    assert cloud.requests[0][0]["Unit"] == "Seconds"


def test_other_metrics_have_their_own_namespace_and_sets_of_dimensions() -> None:
    sent: list[tuple[str, str, tuple[str, ...], float]] = []

    class Client:
        def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
            for datum in MetricData:
                named = tuple(f"{each['Name']}={each['Value']}" for each in datum["Dimensions"])
                total = sum(v * n for v, n in zip(datum["Values"], datum["Counts"], strict=True))
                sent.append((Namespace, datum["MetricName"], named, total))

    wanted = parse(["a.*"], pytest.fail, dimensions=("x+y", "service"), namespace="Shop")
    points = [NumberDataPoint({"x": x, "y": "1"}, 0, NOW, value) for x, value in (("p", 2), ("q", 3))]
    metric = Metric("a.b", "", "", Sum(points, DELTA, is_monotonic=True))
    exporter = CloudWatchMetricExporter(wanted, client=Client)
    assert exporter.export(data(metric, insights(("slow_trace", "warning", 4)))) is MetricExportResult.SUCCESS
    assert sorted(sent) == [
        ("DistributedTracing/Insights", "slow_trace", ("Severity=warning", "ServiceName=shop"), 4.0),
        ("Shop", "a.b", ("ServiceName=shop",), 5.0),
        ("Shop", "a.b", ("x=p", "y=1", "ServiceName=shop"), 2.0),
        ("Shop", "a.b", ("x=q", "y=1", "ServiceName=shop"), 3.0),
    ]


def test_what_fails_goes_with_the_next_export_once() -> None:
    cloud = Cloud(Refusal("Throttling"), OSError("no route"), None)
    sent = exporter(cloud)
    results = [sent.export(data(insights(("slow_trace", "warning", number)))).name for number in (1, 10, 100, 1000)]
    assert results == ["FAILURE", "FAILURE", "SUCCESS", "SUCCESS"]
    assert sum(cloud.totals.values()) == 1111
    assert len(cloud.requests) == 2


def test_of_several_requests_only_those_that_failed_are_repeated() -> None:
    cloud = Cloud(None, OSError("gone"))
    sent = exporter(cloud, "insights")
    counts = insights(*((f"t{number}", "info", 1) for number in range(1500)))
    assert sent.export(data(counts)) is MetricExportResult.FAILURE
    assert [len(request) for request in cloud.requests] == [1000]
    assert sent.export(data()) is MetricExportResult.SUCCESS
    assert [len(request) for request in cloud.requests] == [1000, 500]
    assert set(cloud.totals.values()) == {1}


def test_what_cloudwatch_refuses_for_good_is_counted_and_does_not_block() -> None:
    losses.reset()
    cloud = Cloud(Refusal("InvalidParameterValue"))
    sent = exporter(cloud)
    assert sent.export(data(insights(("slow_trace", "warning", 1)))) is MetricExportResult.SUCCESS
    assert losses.snapshot() == {("metrics", "refused (cloudwatch)"): 1}
    sent.export(data(insights(("slow_trace", "warning", 5))))
    assert sum(cloud.totals.values()) == 5


def test_what_waits_is_bounded_and_counted_at_the_end() -> None:
    losses.reset()
    sent = exporter(Cloud(*[OSError("gone")] * 9), "insights")
    for start in range(0, 9000, 1000):
        sent.export(data(insights(*((f"t{start + number}", "info", 1) for number in range(1000)))))
    sent.shutdown()
    assert losses.snapshot() == {
        ("metrics", "too many wait (cloudwatch)"): 5000,
        ("metrics", "exit (cloudwatch)"): 4000,
    }
    losses.reset()


def test_dimensions_are_what_cloudwatch_takes() -> None:
    cloud = Cloud()
    exporter(cloud).export(data(insights(("slow_trace", "", 1)), service=":dienst\n\N{SNOWMAN}" + "x" * 2000))
    ((_, dimensions),) = cloud.totals
    assert dimensions[0] == ("Severity", "-")
    assert dimensions[1][1].startswith("_dienst??x")
    assert len(dimensions[1][1]) <= 1024


def test_requests_stay_within_cloudwatchs_limits() -> None:
    cloud = Cloud()
    metrics = []
    for number in range(300):
        each = Aggregate()
        for step in range(400):
            each.observe(1.05**step)
        point = exponential({"route": f"r{number}"}, each, 0, NOW)
        metrics.append(point)
    from opentelemetry.sdk.metrics.export import ExponentialHistogram

    sent = exporter(cloud, "my.metric:route")
    sent.export(data(Metric("my.metric", "", "ms", ExponentialHistogram(metrics, DELTA))))
    assert len(cloud.requests) > 1
    for request in cloud.requests:
        assert len(request) <= 1000
        assert all(len(datum["Values"]) == len(datum["Counts"]) <= 150 for datum in request)
        assert len(json.dumps(request, default=str)) < 1_000_000
    assert sum(sum(datum["Counts"]) for request in cloud.requests for datum in request) == 300 * 400


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=200))
def test_a_histograms_values_keep_the_count_and_nearly_the_sum(values: list[float]) -> None:
    each = Aggregate()
    for value in values:
        each.observe(value)
    found = values_of(type("Data", (), {"aggregation_temporality": DELTA})(), exponential({}, each, 0, NOW))
    assert sum(found.values()) == len(values)
    # Half a bucket at the scale that 18 decades need.
    assert sum(value * count for value, count in found.items()) == pytest.approx(sum(values), rel=0.25)
    assert min(found) == pytest.approx(min(values), rel=0.25)
    assert all(each.min * 0.999 <= value <= each.max * 1.001 for value in found)


@given(st.lists(st.dictionaries(st.floats(-1e6, 1e6), st.integers(1, 100), max_size=200), min_size=1, max_size=8))
def test_merging_keeps_the_count_and_the_sum_within_bounds(parts: list[dict[float, float]]) -> None:
    total: dict[float, float] = {}
    for part in parts:
        total = merged(total, part)
    assert len(total) <= 600
    assert sum(total.values()) == sum(sum(part.values()) for part in parts)
    expected = math.fsum(value * count for part in parts for value, count in part.items())
    assert math.fsum(value * count for value, count in total.items()) == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_points_that_cannot_be_told_once_are_left_out() -> None:
    point = NumberDataPoint({}, 0, NOW, 7)
    assert values_of(Sum([point], CUMULATIVE, is_monotonic=True), point) == {}
    assert values_of(Sum([point], DELTA, is_monotonic=True), point) == {7.0: 1}
    assert values_of(Sum([point], CUMULATIVE, is_monotonic=False), point) == {7.0: 1}
    assert values_of(Gauge([point]), point) == {7.0: 1}
    for bad in (math.nan, math.inf, 1e300):
        point = NumberDataPoint({}, 0, NOW, bad)
        assert values_of(Gauge([point]), point) == {}


def test_a_histogram_with_fixed_buckets() -> None:
    point = HistogramDataPoint({}, 0, NOW, 6, 99.0, [1, 2, 0, 3], [1.0, 2.0, 5.0], 0.5, 9.0)
    assert values_of(Histogram([point], DELTA), point) == {0.75: 1, 1.5: 2, 7.0: 3}
    assert values_of(Histogram([point], CUMULATIVE), point) == {}


def test_what_may_be_listed() -> None:
    problems: list[str] = []
    found = parse(
        ["slow_db", "entry.duration:operation+outcome", "spanwell.queue.size", "entry.duration:", ":x", "a.b:c"],
        problems.append,
    )
    assert found.insights == {*DEFAULT, "slow_db"}
    assert found.metrics == {
        "spanwell.entry.duration": (("spanwell.operation", "spanwell.outcome"),),
        "spanwell.queue.size": ((),),
        "a.b": (("c",),),
    }
    assert [problem.startswith("SPANWELL_CLOUDWATCH_METRICS: ") for problem in problems] == [True, True]
    assert most(found) == 4 + 101 * 3 + 2
    assert most(chosen()) == 3
    assert chosen("insights").insights is None
