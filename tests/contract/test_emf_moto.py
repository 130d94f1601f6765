"""What `emf` puts into CloudWatch Logs (moto) and reads back is valid, and adds up to the counted truth."""

from __future__ import annotations

import math
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from spanwell import metrics
from spanwell._guard import losses
from spanwell._otel import sdk
from spanwell.export.cloudwatch_points import Point
from spanwell.export.emf_documents import Document, documents
from spanwell.export.emf_logs import Logs, batches
from spanwell.insights.red import Red
from spanwell.insights.vitals import Vitals
from support.emf import Found, check, totals
from support.ended import count
from support.servers import moto

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def logs(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    losses.reset()
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client(
        "logs", endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def provider_with(red: Red, service: str, *, log_group: str, **settings: str) -> MeterProvider:
    """As `metrics.set_up` makes it, but not global, and exporting on demand only."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SPANWELL_EMF_LOG_GROUP": log_group, **settings}.items():
            patch.setenv(name, value)
        from spanwell.plugins import EmfMetricExporter

        made = EmfMetricExporter()
    guarded = metrics.GuardedMetricExporter("emf", lambda: made, rests=False, **sdk.preferences(made))
    reader = PeriodicExportingMetricReader(guarded, export_interval_millis=math.inf)
    metrics.add_counted([reader], red)
    provider = MeterProvider(
        resource=Resource({"service.name": service}), metric_readers=[reader], shutdown_on_exit=False
    )
    Vitals(red=red).register(provider.get_meter("spanwell"))
    return provider


def stored(logs: Any, group: str) -> list[Found]:
    """Every metric that CloudWatch would find in the events of `group`."""
    found: list[Found] = []
    for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
        token: str | None = None
        while True:
            more = {"nextToken": token} if token else {}
            page = logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True, **more
            )
            found += [each for event in page["events"] for each in check(event["message"])]
            if token == page["nextForwardToken"]:
                break
            token = page["nextForwardToken"]
    return found


def test_counts_and_durations_read_back_are_the_truth(logs: Any) -> None:
    logs.create_log_group(logGroupName="/shop/metrics")
    red = Red()
    provider = provider_with(
        red,
        "shop",
        log_group="/shop/metrics",
        SPANWELL_CLOUDWATCH_METRICS="entry.duration:operation/service",
        SPANWELL_METRICS_NAMESPACE="Shop",
    )
    chance = random.Random(3)
    routes: Counter[str] = Counter()
    entries: list[float] = []
    insights = 0
    for _ in range(3):
        for _ in range(400):
            nanoseconds = int(chance.lognormvariate(17, 1))
            route = chance.choice(["/a", "/b"])
            routes[route] += 1
            entries.append(nanoseconds / 1e9)
            known = {"http.request.method": "GET", "http.route": route}
            count(red, "x", "server", True, nanoseconds, chance.random() < 0.1, known)
        for _ in range(5):
            red.insight("slow_trace", "warning")
            insights += 1
        assert provider.force_flush()
    provider.shutdown()
    sent = totals(stored(logs, "/shop/metrics"))
    for route, number in routes.items():
        key = "Shop", "spanwell.entry.duration", (("Operation", f"GET {route}"), ("ServiceName", "shop"))
        assert sent[key][0] == number
    number, total = sent["Shop", "spanwell.entry.duration", (("ServiceName", "shop"),)]
    assert (number, total) == (len(entries), pytest.approx(sum(entries), rel=0.01))
    assert sent["DistributedTracing/Insights", "slow_trace", (("Severity", "warning"), ("ServiceName", "shop"))] == (
        insights,
        insights,
    )
    assert losses.snapshot() == {}


def test_a_missing_group_is_said_and_its_events_wait_for_it(
    logs: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanwell._guard._warned", set())
    red = Red()
    provider = provider_with(red, "late", log_group="/late")
    red.insight("slow_trace", "warning")
    provider.force_flush()
    (said,) = [record.getMessage() for record in caplog.records if "CloudWatch Logs" in record.getMessage()]
    assert "create the log group /late in this region, or set SPANWELL_EMF_CREATE_LOG_GROUP=true" in said
    logs.create_log_group(logGroupName="/late")
    red.insight("slow_trace", "warning")
    provider.force_flush()
    provider.shutdown()
    assert [count for count, _ in totals(stored(logs, "/late")).values()] == [2]
    assert losses.snapshot() == {}


def test_the_group_is_made_only_when_that_is_asked_for(logs: Any) -> None:
    red = Red()
    provider = provider_with(
        red,
        "made",
        log_group="/made",
        SPANWELL_EMF_CREATE_LOG_GROUP="true",
        SPANWELL_EMF_LOG_STREAM="one",
    )
    red.insight("slow_trace", "warning")
    assert provider.force_flush()
    (stream,) = logs.describe_log_streams(logGroupName="/made")["logStreams"]
    assert stream["logStreamName"] == "one"
    # Somebody removes the stream: it is made again.
    logs.delete_log_stream(logGroupName="/made", logStreamName="one")
    red.insight("slow_trace", "warning")
    assert provider.force_flush()
    provider.shutdown()
    assert [count for count, _ in totals(stored(logs, "/made")).values()] == [1]


def test_what_is_too_old_for_the_service_is_counted_once(logs: Any) -> None:
    logs.create_log_group(logGroupName="/old")
    now = time.time_ns()
    dimensions = ((("ServiceName", "s"),),)
    points = [
        Point("N", "a.b", "", {float(day): 1}, now - day * 86_400 * 10**9, dimensions, {}) for day in (0, 5, 20, 40)
    ]
    waiting = deque(documents(points, max_bytes=200_000))
    refused: list[int] = []
    Logs("/old", "s").write(waiting, lambda number, _why: refused.append(number))
    arrived = totals(stored(logs, "/old"))
    assert not waiting
    assert arrived["N", "a.b", (("ServiceName", "s"),)][0] + sum(refused) == 4
    assert sum(refused) == 2


def test_requests_stay_within_the_limits_of_put_log_events() -> None:
    day = 86_400_000
    many = [Document(number * 3_600_000 * 6, b"x" * (150_000 if number % 2 else 10), 1) for number in range(60)]
    many += [Document(60 * 3_600_000 * 6 + number, b"y", 1) for number in range(25_000)]
    found = list(batches(many))
    assert [document for batch in found for document in batch] == many
    for batch in found:
        assert len(batch) <= 10_000
        assert sum(len(document.line) + 26 for document in batch) <= 1_048_576
        assert batch[-1].time_ms - batch[0].time_ms < day
