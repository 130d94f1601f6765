"""The values that CloudWatch (moto) tells back are the counted truth, through the SDK's own reader."""

from __future__ import annotations

import datetime
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from spanwell import metrics
from spanwell._otel import sdk
from spanwell.insights.red import Red
from spanwell.insights.vitals import Vitals
from support.ended import count
from support.servers import moto

pytestmark = pytest.mark.slow

NAMESPACE = "DistributedTracing/Insights"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def cloudwatch(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_CLOUDWATCH": endpoint,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client(
        "cloudwatch", endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def provider_with(red: Red, service: str) -> MeterProvider:
    """As `metrics.set_up` makes it, but not global, and exporting on demand only."""
    from spanwell.plugins import CloudWatchMetricExporter

    made = CloudWatchMetricExporter()
    guarded = metrics.GuardedMetricExporter("cloudwatch", lambda: made, rests=False, **sdk.preferences(made))
    reader = PeriodicExportingMetricReader(guarded, export_interval_millis=math.inf)
    metrics.add_counted([reader], red)
    provider = MeterProvider(
        resource=Resource({"service.name": service}), metric_readers=[reader], shutdown_on_exit=False
    )
    Vitals(red=red).register(provider.get_meter("spanwell"))
    return provider


def told(cloudwatch: Any, metric: str, dimensions: dict[str, str]) -> dict[str, float]:
    now = datetime.datetime.now(datetime.timezone.utc)
    found = cloudwatch.get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now + datetime.timedelta(hours=1),
        Period=86_400,
        Statistics=["Sum", "SampleCount", "Minimum", "Maximum"],
    )["Datapoints"]
    return {
        "Sum": sum(point["Sum"] for point in found),
        "SampleCount": sum(point["SampleCount"] for point in found),
        "Minimum": min((point["Minimum"] for point in found), default=0.0),
        "Maximum": max((point["Maximum"] for point in found), default=0.0),
    }


def names(cloudwatch: Any, service: str) -> set[str]:
    found = cloudwatch.list_metrics(Namespace=NAMESPACE, Dimensions=[{"Name": "ServiceName", "Value": service}])[
        "Metrics"
    ]
    return {each["MetricName"] for each in found}


def test_the_required_insights_are_counted_exactly(cloudwatch: Any) -> None:
    red = Red()
    provider = provider_with(red, "exact")
    truth: Counter[tuple[str, str]] = Counter()
    chance = random.Random(7)
    for _ in range(5):  # five exports
        for _ in range(chance.randrange(40)):
            found = chance.choice(
                [
                    ("slow_trace", "warning"),
                    ("trace_errors", "error"),
                    ("high_service_count", "info"),
                    ("slow_db", "info"),
                ]
            )
            truth[found] += 1
            red.insight(*found)
        count(red, "x", "server", True, 10**9, False, {})
        assert provider.force_flush()
    assert len(truth) == 4
    for (kind, severity), number in truth.items():
        sent = told(cloudwatch, kind, {"Severity": severity, "ServiceName": "exact"})
        assert sent["Sum"] == (number if kind != "slow_db" else 0)
    assert names(cloudwatch, "exact") == {"slow_trace", "trace_errors", "high_service_count"}
    provider.shutdown()


def test_durations_by_list_have_the_true_count_and_nearly_the_true_sum(
    cloudwatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANWELL_CLOUDWATCH_METRICS", "entry.duration,dependency.duration:peer")
    red = Red()
    provider = provider_with(red, "durations")
    chance = random.Random(11)
    entries: list[float] = []
    peers: Counter[str] = Counter()
    for _ in range(3):
        for _ in range(700):
            nanoseconds = int(chance.lognormvariate(17, 1))
            entries.append(nanoseconds / 1e9)
            route = {"http.request.method": "GET", "http.route": chance.choice(["/a", "/b"])}
            count(red, "x", "server", True, nanoseconds, chance.random() < 0.1, route)
            peer = chance.choice(["pay", "stock"])
            peers[peer] += 1
            count(red, "x", "client", False, nanoseconds // 2, False, {"peer.service": peer})
        assert provider.force_flush()
    sent = told(cloudwatch, "spanwell.entry.duration", {"ServiceName": "durations"})
    assert sent["SampleCount"] == len(entries)
    assert sent["Sum"] == pytest.approx(sum(entries), rel=0.01)
    assert sent["Minimum"] == pytest.approx(min(entries), rel=0.02)
    assert sent["Maximum"] == pytest.approx(max(entries), rel=0.02)
    for peer, number in peers.items():
        sent = told(cloudwatch, "spanwell.dependency.duration", {"Peer": peer, "ServiceName": "durations"})
        assert sent["SampleCount"] == number
    provider.shutdown()


def test_what_did_not_arrive_arrives_later_once(
    cloudwatch: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanwell.export import cloudwatch_metrics

    red = Red()
    good = cloudwatch_metrics.make_client
    tried: list[int] = []

    def flaky() -> Any:
        tried.append(1)
        if len(tried) == 2:
            raise OSError("no way")
        client = good()
        if len(tried) == 1:
            client.put_metric_data = lambda **_: (_ for _ in ()).throw(OSError("connection refused"))
        return client

    made = cloudwatch_metrics.CloudWatchMetricExporter(client=flaky)
    guarded = metrics.GuardedMetricExporter("cloudwatch", lambda: made, rests=False, **sdk.preferences(made))
    reader = PeriodicExportingMetricReader(guarded, export_interval_millis=math.inf)
    metrics.add_counted([reader], red)
    provider = MeterProvider(
        resource=Resource({"service.name": "flaky"}), metric_readers=[reader], shutdown_on_exit=False
    )
    Vitals(red=red).register(provider.get_meter("spanwell"))
    for number in (3, 4, 5):
        for _ in range(number):
            red.insight("slow_trace", "warning")
        provider.force_flush()
        made._client = None if len(tried) < 3 else made._client
    assert told(cloudwatch, "slow_trace", {"Severity": "warning", "ServiceName": "flaky"})["Sum"] == 12
    provider.shutdown()
