"""Aggregates added to what metric readers collect, and the health of tracing as metrics."""

from __future__ import annotations

import os
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricReader,
    MetricsData,
    ResourceMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from spanwell import _guard, metrics
from spanwell._guard import losses
from spanwell.cli.metric_findings import metric_findings
from spanwell.enrich.processor import MeasuredProcessor
from spanwell.export.batch import Batch
from spanwell.export.guarded import GuardedExporter
from spanwell.insights.buffer import Buffer
from spanwell.insights.points import BOUNDS, Collected
from spanwell.insights.red import Red
from spanwell.insights.vitals import Vitals, p99
from spanwell.settings import Settings
from support.ended import count

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
EMPTY = MetricsData([ResourceMetrics(Resource({}), [], "")])


class Clock:
    now = 1000

    def __call__(self) -> int:
        return self.now


class ForeignReader(MetricReader):
    """As another package may have one: it pulls, and knows no exponential histograms."""

    data: Any = None

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        self.data = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass


def metric(data: Any, name: str) -> Any:
    """The data of one metric, or None."""
    scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
    return next((each.data for scope in scopes for each in scope.metrics if each.name == name), None)


def values(data: Any, name: str) -> dict[tuple[str, ...], float]:
    found = metric(data, name)
    return {} if found is None else {tuple(point.attributes.values()): point.value for point in found.data_points}


def test_each_reader_gets_every_observation_as_it_prefers() -> None:
    red = Red()
    readers = [
        InMemoryMetricReader(preferred_temporality={Histogram: DELTA, Counter: DELTA}),
        InMemoryMetricReader(),
        InMemoryMetricReader(preferred_temporality={Histogram: DELTA}),
    ]
    metrics.add_counted(readers, red)
    provider = MeterProvider(metric_readers=readers, shutdown_on_exit=False)
    Vitals(red=red).register(provider.get_meter("spanwell"))
    counts: list[list[tuple[int, float]]] = [[], [], []]
    for number in (1, 2, 3):
        for _ in range(number):
            count(red, "x", "server", True, 10**9, False, {})
            red.insight("slow_trace", "warning")
        for reader, seen in zip(readers, counts, strict=True):
            data = reader.get_metrics_data()
            durations = metric(data, "spanwell.entry.duration")
            assert durations.data_points[0].sum == durations.data_points[0].count
            seen.append((durations.data_points[0].count, values(data, "spanwell.insights")["slow_trace", "warning"]))
    assert counts == [[(1, 1), (2, 2), (3, 3)], [(1, 1), (3, 3), (6, 6)], [(1, 1), (2, 3), (3, 6)]]
    temporality = [metric(reader.get_metrics_data(), "spanwell.insights") for reader in readers]
    assert [each and each.aggregation_temporality for each in temporality] == [None, CUMULATIVE, CUMULATIVE]


def test_the_times_of_points_join_and_never_go_back() -> None:
    clock = Clock()
    red = Red(clock_ns=clock)
    collected = Collected(red)
    delta, cumulative = collected.attach(delta=True), collected.attach(delta=False)
    times = []
    for now in (2000, 1500, 3000):
        clock.now = now
        count(red, "x", "server", True, 1, False, {})
        for feed in (delta, cumulative):
            point = metric(feed.add(EMPTY), "spanwell.entry.duration").data_points[0]
            times.append((point.start_time_unix_nano, point.time_unix_nano))
    assert times[::2] == [(1000, 2000), (2000, 2000), (2000, 3000)]
    assert times[1::2] == [(1000, 2000), (1000, 2000), (1000, 3000)]


def test_a_reader_of_another_package_gets_fixed_buckets() -> None:
    red, reader = Red(), ForeignReader()
    metrics.add_counted([reader], red)
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    Vitals(red=red).register(provider.get_meter("spanwell"))
    for milliseconds in (1, 3, 3, 20_000):
        count(red, "x", "server", True, milliseconds * 10**6, False, {})
    reader.collect()
    (point,) = metric(reader.data, "spanwell.entry.duration").data_points
    assert point.explicit_bounds == BOUNDS
    assert [point.bucket_counts[0], point.bucket_counts[1], point.bucket_counts[-1]] == [1, 2, 1]
    assert sum(point.bucket_counts) == point.count == 4


def test_nothing_is_added_where_nothing_was_counted_or_nobody_knows_whose_it_is() -> None:
    red = Red()
    feed = Collected(red).attach(delta=True)
    assert feed.add(EMPTY) is EMPTY
    count(red, "x", "server", True, 1, False, {})
    assert feed.add(MetricsData([])) == MetricsData([])
    assert metric(feed.add(EMPTY), "spanwell.entry.duration").data_points[0].count == 1


def test_an_error_of_ours_costs_the_readers_own_metrics_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    red = Red()
    monkeypatch.setattr(red, "drain", lambda: 1 / 0)
    assert Collected(red).attach(delta=True).add(EMPTY) is EMPTY
    assert losses.snapshot()["errors", "metrics of insights"] == 1
    losses.reset()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_tells_of_its_own_alone() -> None:
    red = Red()
    feed = Collected(red).attach(delta=False)
    count(red, "x", "server", True, 1, False, {})
    feed.add(EMPTY)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        count(red, "x", "server", True, 1, False, {})
        os.write(writing, str(metric(feed.add(EMPTY), "spanwell.entry.duration").data_points[0].count).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 10) == b"1"


# --- health -----------------------------------------------------------------------------------------------------


class Slow:
    """An exporter that takes as long as the clock is told, and fails when it shall."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.fails = False

    def export(self, batch: Any) -> Any:
        self.clock[0] += self.seconds
        return type("Result", (), {"name": "FAILURE" if self.fails else "SUCCESS"})

    def shutdown(self) -> None:
        pass


def test_health_is_that_of_the_worst_exporter_since_the_last_look() -> None:
    losses.reset()
    clock = [0.0]
    slow = Slow(clock)
    batches = [
        Batch(GuardedExporter(name, lambda: slow), max_queue=limit, clock=lambda: clock[0])
        for name, limit in (("wide", 100), ("narrow", 4))
    ]
    vitals = Vitals(destinations=batches)
    for batch in batches:
        batch._start = lambda: None  # type: ignore[method-assign]  # exported by hand below
        for item in range(5):
            batch.put(item)
    health = vitals.look()
    assert (health.queue, health.queue_limit, health.dropped) == (4, 4, 1)
    assert (health.export_seconds_p99, health.span_seconds) == (0.0, 0.0)
    slow.seconds = 2.5
    assert batches[0]._export()
    slow.fails = True
    assert not batches[1]._export()
    health = vitals.look()
    assert (health.queue, health.dropped, health.export_seconds_p99) == (0, 4, 2.5)
    assert vitals.look() == (0, 100, 0, 0.0, 0.0)
    assert [(batch.exported, batch.exports) for batch in batches] == [(5, 1), (0, 1)]
    losses.reset()


def test_p99_is_by_nearest_rank() -> None:
    assert p99([]) == 0.0
    assert p99([3.0]) == 3.0
    assert p99([float(number) for number in range(1, 101)]) == 99.0
    assert p99([float(number) for number in range(1, 201)]) == 198.0


def test_a_measured_processor_counts_every_span_and_times_some() -> None:
    class Stage:
        ends = 0

        def on_start(self, span: Any, parent_context: Any) -> None:
            pass

        def on_end(self, span: Any) -> None:
            self.ends += 1

    stage = Stage()
    processor = MeasuredProcessor([stage])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("x")
    for _ in range(63):
        tracer.start_span("x").end()
    assert (processor.started, processor.ended, processor.seconds) == (63, 63, 0.0)
    for _ in range(100):
        tracer.start_span("x").end()
    tracer.start_span("open")
    assert (processor.started, processor.ended, stage.ends) == (164, 163, 163)
    assert 0 < processor.seconds < 1


def test_the_health_of_tracing_as_metrics() -> None:
    losses.reset()
    red = Red()
    batch = Batch(GuardedExporter("otlp", lambda: Slow([0.0])), max_queue=2)
    batch._start = lambda: None  # type: ignore[method-assign]
    buffer = Buffer(lambda: lambda *_: None)
    processor = MeasuredProcessor([buffer])
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    Vitals(processor, [batch], buffer, red).register(meters.get_meter("spanwell"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("x")
    with tracer.start_as_current_span("root"):
        left = tracer.start_span("left open")
    left.end()
    for item in range(3):
        batch.put(item)
    batch._export()
    batch.put(1)
    data = reader.get_metrics_data()
    assert {
        name: values(data, f"spanwell.{name}")
        for name in (
            *("spans.started", "spans.ended", "spans.exported", "spans.dropped", "spans.unfinished", "spans.late"),
            *("queue.size", "queue.bytes", "queue.capacity", "metrics.series"),
        )
    } == {
        "spans.started": {(): 2},
        "spans.ended": {(): 2},
        "spans.exported": {("otlp",): 2},
        "spans.dropped": {("queue full",): 1},
        "spans.unfinished": {(): 1},
        "spans.late": {(): 1},
        "queue.size": {("otlp",): 1},
        "queue.bytes": {("otlp",): 4_000},
        "queue.capacity": {("otlp",): 2},
        "metrics.series": {(): 0},
    }
    losses.reset()


# --- spanwell doctor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exporters", "listed", "expected"),
    [
        ("none", "", []),
        ("otlp", "", ["at most 2,000 series for each process", "$600 a month"]),
        ("cloudwatch", "", ["at most 3 metrics in DistributedTracing/Insights", "$0.90 a month"]),
        ("cloudwatch", "entry.duration:operation", ["at most 104 metrics", "$31.20 a month"]),
        ("cloudwatch,otlp", "slow_db", ["at most 4 metrics", "$1.20 a month", "at most 2,000 series"]),
        ("emf", "entry.duration:operation/service", ["at most 105 metrics", "$31.50 a month", "writes to stdout"]),
        ("emf", "http.*", ["one for each metric and set of dimensions that http.* stands for"]),
        ("cloudwatch,emf", "", ["cloudwatch: for each", "emf: for each", "values count twice"]),
        ("cloudwatch", "a.b:", ["SPANWELL_CLOUDWATCH_METRICS: 'a.b:' is left out", "at most 3 metrics"]),
    ],
)
def test_doctor_tells_the_number_of_series_and_what_they_cost(
    exporters: str, listed: str, expected: list[str]
) -> None:
    env = {"OTEL_METRICS_EXPORTER": exporters, "SPANWELL_CLOUDWATCH_METRICS": listed, "SPANWELL_INSIGHTS": "true"}
    settings = Settings.from_env(env)
    said = "\n".join(text for _, text in metric_findings(settings))
    assert all(text in said for text in expected)
    assert bool(said) == bool(expected)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"SPANWELL_APPLICATION_SIGNALS": "true"}, "http://localhost:4316/v1/metrics"),
        ({"OTEL_AWS_APPLICATION_SIGNALS_ENABLED": "true"}, "at most 2,000 sets of attributes"),
        (
            {
                "SPANWELL_APPLICATION_SIGNALS": "true",
                "OTEL_AWS_APPLICATION_SIGNALS_EXPORTER_ENDPOINT": "http://u:secret@h/v1/metrics",
            },
            "http://h/v1/metrics",
        ),
        (
            {"SPANWELL_APPLICATION_SIGNALS": "true", "OTEL_AWS_APPLICATION_SIGNALS_EXPORTER_ENDPOINT": "none"},
            "no metrics",
        ),
    ],
)
def test_doctor_tells_where_the_metrics_of_application_signals_go(env: dict[str, str], expected: str) -> None:
    [(level, text)] = metric_findings(Settings.from_env(env))
    assert level == "ok"
    assert expected in text
    assert "secret" not in text
    [(_, text)] = metric_findings(Settings.from_env(env), on_lambda=True)
    assert "on Lambda no metrics are sent" in text


def test_doctor_minds_no_insights_where_other_metrics_are_chosen() -> None:
    env = {"OTEL_METRICS_EXPORTER": "emf", "SPANWELL_CLOUDWATCH_METRICS": "http.server.*"}
    assert [level for level, _ in metric_findings(Settings.from_env(env))] == ["ok", "ok"]


def test_doctor_tells_that_cloudwatch_has_nothing_to_send_without_insights() -> None:
    settings = Settings.from_env({"OTEL_METRICS_EXPORTER": "cloudwatch"})
    [(level, text)] = metric_findings(settings)
    assert level == "problem"
    assert "SPANWELL_INSIGHTS=true" in text
