"""The request to the CloudWatch agent: equal to what the SDK and upstream's encoder make of the same values; and what
becomes of it when the agent is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality as Temporality
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from spanwell._guard import losses
from spanwell.enrich.signal_counts import SignalCounts, Totals
from spanwell.export.signals import SignalsExporter
from spanwell.export.signals_otlp import requests
from support.metrics_receiver import MetricsReceiver, metrics_receiver
from support.servers import free_port

RESOURCE = {"service.name": "shop", "service.instance.id": "i", "process.pid": 7, "tags": ("a", "b")}
LABELS = (("aws.local.service", "shop"), ("aws.local.operation", "GET /é"), ("aws.span.kind", "LOCAL_ROOT"))
START, END = 10**18, 10**18 + 60 * 10**9

observations = st.lists(
    st.tuples(st.floats(1e-6, 1e6), st.sampled_from(["ok", "ok", "error", "fault"])), min_size=1, max_size=60
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("spanwell._guard._warned", set())
    losses.reset()
    yield
    losses.reset()


def of_the_sdk(observed: list[tuple[float, str]]) -> Any:
    """The request as ADOT's processor, the SDK and upstream's exporter make it."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

    reader = InMemoryMetricReader(
        preferred_temporality={Histogram: AggregationTemporality.DELTA},
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
    )
    provider = MeterProvider(metric_readers=[reader], resource=Resource(RESOURCE), shutdown_on_exit=False)
    meter = provider.get_meter("AwsSpanMetricsProcessor")
    latency = meter.create_histogram("Latency", unit="Milliseconds")
    error, fault = meter.create_histogram("Error"), meter.create_histogram("Fault")
    for value, outcome in observed:
        error.record(int(outcome == "error"), dict(LABELS))
        fault.record(int(outcome == "fault"), dict(LABELS))
        latency.record(value, dict(LABELS))
    data = reader.get_metrics_data()
    provider.shutdown()
    return encode_metrics(data)


def ours(observed: list[tuple[float, str]]) -> Any:
    totals = Totals()
    for value, outcome in observed:
        totals.latency.observe(value)
        totals.errors += outcome == "error"
        totals.faults += outcome == "fault"
    ((body, number),) = requests(RESOURCE, [(LABELS, totals)], START, END)
    assert number == 1
    return ExportMetricsServiceRequest.FromString(body)


def at(point: Any, scale: int) -> dict[int, int]:
    """The bucket counts by index, at a coarser scale."""
    found: dict[int, int] = {}
    for position, count in enumerate(point.positive.bucket_counts):
        if count:
            index = (point.positive.offset + position) >> (point.scale - scale)
            found[index] = found.get(index, 0) + count
    return found


@given(observations)
@settings(max_examples=40, deadline=None)
def test_the_request_says_what_the_sdks_would(observed: list[tuple[float, str]]) -> None:
    mine, theirs = ours(observed).resource_metrics[0], of_the_sdk(observed).resource_metrics[0]
    assert mine.resource == theirs.resource
    (scope,), (their_scope,) = mine.scope_metrics, theirs.scope_metrics
    assert scope.scope.name == their_scope.scope.name == "AwsSpanMetricsProcessor"
    # The SDK makes names lower-case, and the agent gives them back their capital.
    by_name = {metric.name.capitalize(): metric for metric in their_scope.metrics}
    assert {metric.name for metric in scope.metrics} == set(by_name) == {"Latency", "Error", "Fault"}
    for metric in scope.metrics:
        other = by_name[metric.name]
        assert metric.unit == other.unit
        histogram, expected = metric.exponential_histogram, other.exponential_histogram
        assert histogram.aggregation_temporality == expected.aggregation_temporality
        assert histogram.aggregation_temporality == Temporality.AGGREGATION_TEMPORALITY_DELTA
        (point,), (their,) = histogram.data_points, expected.data_points
        assert sorted(map(str, point.attributes)) == sorted(map(str, their.attributes))
        assert (point.count, point.zero_count, point.min, point.max) == (
            *(their.count, their.zero_count, their.min, their.max),
        )
        assert point.sum == pytest.approx(their.sum)
        assert (point.start_time_unix_nano, point.time_unix_nano) == (START, END)
        scale = min(point.scale, their.scale)
        assert at(point, scale) == at(their, scale)


def test_many_sets_of_attributes_become_several_requests() -> None:
    totals = Totals()
    for number in range(200):
        totals.latency.observe(1.1**number)
    found = [(((*LABELS, ("n", str(number)))), totals) for number in range(2000)]
    made = list(requests(RESOURCE, found, START, END))
    assert len(made) > 1
    assert sum(number for _, number in made) == 2000
    parsed = [ExportMetricsServiceRequest.FromString(body) for body, _ in made]
    assert (
        sum(
            len(each.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points)
            for each in parsed
        )
        == 2000
    )
    assert max(len(body) for body, _ in made) < 1_100_000


def exporter_for(url: str, counts: SignalCounts, **options: Any) -> SignalsExporter:
    made = SignalsExporter(url, counts.drain, lambda: RESOURCE, interval=3600, seconds=5, **options)
    counts.first = made.begin
    return made


def count(counts: SignalCounts, number: int, operation: str = "o") -> None:
    from opentelemetry.trace import SpanKind

    from support.spans import make_span

    names = {"aws.span.kind": "LOCAL_ROOT", "aws.local.service": "s", "aws.local.operation": operation}
    for _ in range(number):
        counts.on_end(make_span(kind=SpanKind.SERVER, attributes=names))


@pytest.fixture
def receiver() -> Iterator[MetricsReceiver]:
    with metrics_receiver() as made:
        yield made


def sums(receiver: MetricsReceiver) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for each in receiver.points():
        key = each.metric, each.attributes["aws.local.operation"]
        found[key] = found.get(key, 0) + each.point.count
    return found


def test_the_end_sends_what_was_counted(receiver: MetricsReceiver) -> None:
    counts = SignalCounts()
    exporter = exporter_for(receiver.endpoint, counts)
    count(counts, 70)
    exporter.begin_shutdown()
    exporter.finish(10)
    assert sums(receiver) == {("Latency", "o"): 70, ("Error", "o"): 70, ("Fault", "o"): 70}
    assert losses.snapshot() == {}


def test_with_nothing_counted_nothing_is_sent(receiver: MetricsReceiver) -> None:
    counts = SignalCounts()
    exporter = exporter_for(receiver.endpoint, counts)
    exporter.begin_shutdown()
    exporter.finish(10)
    assert receiver.requests == []


def test_what_does_not_arrive_goes_with_the_next_once(
    receiver: MetricsReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    counts = SignalCounts()
    exporter = exporter_for(receiver.endpoint, counts)
    counts.first = None
    receiver.statuses = [503, 429]
    count(counts, 10)
    assert not exporter.export()
    count(counts, 5)
    count(counts, 1, "p")
    assert not exporter.export()
    count(counts, 100)
    assert exporter.export()
    assert sums(receiver)["Latency", "o"] == 115
    assert sums(receiver)["Latency", "p"] == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "it answers 503; they go with the next export" in said[0]
    assert losses.snapshot() == {}


def test_what_the_endpoint_refuses_is_counted_once(
    receiver: MetricsReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    counts = SignalCounts()
    exporter = exporter_for(receiver.endpoint, counts)
    receiver.statuses = [400]
    count(counts, 10)
    assert exporter.export()
    count(counts, 3)
    assert exporter.export()
    assert losses.snapshot() == {("metrics", "refused (application signals)"): 3}
    assert "is it a CloudWatch agent?" in caplog.text
    assert sums(receiver)["Latency", "o"] == 3
    exporter.finish(5)


def test_without_an_agent_the_loss_is_said_and_counted_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    counts = SignalCounts()
    exporter = exporter_for(f"http://user:secret@127.0.0.1:{free_port()}/v1/metrics", counts)
    count(counts, 10)
    assert not exporter.export()
    exporter.begin_shutdown()
    exporter.finish(10)
    assert losses.snapshot() == {("metrics", "exit (application signals)"): 3}
    assert "did not reach http://127.0.0.1:" in caplog.text
    assert "Connection refused" in caplog.text
    assert "secret" not in caplog.text


def test_an_address_that_is_none_is_said(caplog: pytest.LogCaptureFixture) -> None:
    counts = SignalCounts()
    counts.first = None
    exporter = SignalsExporter("localhost:4316", counts.drain, lambda: RESOURCE)
    count(counts, 1)
    assert not exporter.export()
    assert "not an HTTP address" in caplog.text
