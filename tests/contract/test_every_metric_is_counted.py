"""Metrics to CloudWatch behind a misbehaving network: each arrives once, waits for the next export, or is counted.

Every observation has dimensions of its own, so that what CloudWatch holds can be told apart by name. The reader, the
guard and the exporter are the real ones; see test_every_span_is_counted.py.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from spanwell import metrics, plugins
from spanwell._guard import losses
from spanwell._otel import sdk
from spanwell.insights.red import Red
from spanwell.insights.vitals import Vitals
from support import emf
from support.destinations import AWS, client, variables
from support.faults import FaultProxy, error, fault_proxy, seeded, status
from support.servers import moto

pytestmark = pytest.mark.slow

EXPORTS, EACH = 16, 15
NUMBER = EXPORTS * EACH
REFUSED = {"throttle": 0.2, "status": 0.15, "delay": 0.1, "reset_before": 0.15}
UNANSWERED = {"reset_after": 0.25, "truncate": 0.25}
FEW = [pytest.param(seed, id=f"seed {seed}") for seed in (1,)]
MANY = [pytest.param(seed, id=f"seed {seed}", marks=pytest.mark.full) for seed in (2, 3)]
SEEDS = pytest.mark.parametrize("seed", [*FEW, *MANY])
_names = itertools.count(1)


class Target(NamedTuple):
    """One exporter. `found` reads what it sent: number of an observation -> how often it is there."""

    exporter: str
    variables: dict[str, str]
    found: Callable[[], Counter[int]]


def to_cloudwatch(url: str, namespace: str) -> Target:
    reader = client("cloudwatch", url)
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = datetime.timedelta(hours=1)
    period = {"StartTime": now - hour, "EndTime": now + hour, "Period": 86_400, "Statistics": ["SampleCount"]}

    def found() -> Counter[int]:
        counted: Counter[int] = Counter()
        for page in reader.get_paginator("list_metrics").paginate(Namespace=namespace):
            for each in page["Metrics"]:
                points = reader.get_metric_statistics(**each, **period)["Datapoints"]
                (number,) = [int(one["Value"]) for one in each["Dimensions"] if one["Name"] == "number"]
                counted[number] += round(sum(point["SampleCount"] for point in points))
        return counted

    return Target("cloudwatch", {}, found)


def to_logs(url: str, namespace: str) -> Target:
    reader = client("logs", url)
    group = f"/{namespace}"
    reader.create_log_group(logGroupName=group)

    def events(stream: str) -> Iterator[str]:
        token: str | None = None
        while True:
            more = {"nextToken": token} if token else {}
            page = reader.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **more)
            yield from (event["message"] for event in page["events"])
            if token == page["nextForwardToken"]:
                return
            token = page["nextForwardToken"]

    def found() -> Counter[int]:
        counted: Counter[int] = Counter()
        for stream in reader.describe_log_streams(logGroupName=group)["logStreams"]:
            for each in [each for line in events(stream["logStreamName"]) for each in emf.check(line)]:
                counted[int(dict(each.dimensions)["number"])] += round(sum(count for _, count in each.values))
        return counted

    return Target("emf", {"SPANWELL_EMF_LOG_GROUP": group}, found)


MADE = {"cloudwatch": to_cloudwatch, "emf": to_logs}
BOTH = pytest.mark.parametrize("destination", sorted(MADE))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with moto() as found:
        yield found


def run(url: str, destination: str, plan: Any, *, dead_at_the_end: bool = False) -> tuple[Counter[int], FaultProxy]:
    """What CloudWatch holds after `NUMBER` observations in several exports, and the proxy."""
    namespace = f"Every/{destination}{next(_names)}"
    target = MADE[destination](url, namespace)
    with fault_proxy(url, plan) as proxy:
        chosen = {
            **AWS,
            **target.variables,
            "AWS_ENDPOINT_URL": proxy.url,
            "SPANWELL_CLOUDWATCH_METRICS": "orders.made:number",
            "SPANWELL_METRICS_NAMESPACE": namespace,
        }
        with variables(chosen):
            made = {"cloudwatch": plugins.CloudWatchMetricExporter, "emf": plugins.EmfMetricExporter}[destination]()
            guarded = metrics.GuardedMetricExporter(
                target.exporter, lambda: made, rests=False, **sdk.preferences(made)
            )
            reader = PeriodicExportingMetricReader(guarded, export_interval_millis=math.inf)
            provider = MeterProvider(
                resource=Resource({"service.name": "shop"}), metric_readers=[reader], shutdown_on_exit=False
            )
            Vitals(red=Red()).register(provider.get_meter("spanwell"))  # each collection holds something, as it does
            orders = provider.get_meter("shop").create_counter("orders.made")
            for number in range(NUMBER):
                orders.add(1, {"number": number})
                if number % EACH == EACH - 1:
                    provider.force_flush()
            proxy.plan = (lambda _: status(503)) if dead_at_the_end else ()
            provider.force_flush()  # a reader without an interval does not collect at the end
            provider.shutdown()
        found = target.found()
    assert set(found) <= set(range(NUMBER))
    return found, proxy


@BOTH
@SEEDS
def test_what_is_refused_goes_with_the_next_export(url: str, destination: str, seed: int) -> None:
    found, proxy = run(url, destination, seeded(seed, REFUSED))
    assert found == dict.fromkeys(range(NUMBER), 1)
    assert losses.total("metrics") == 0
    assert proxy.did["throttle"] + proxy.did["status"] + proxy.did["reset_before"] > 0


@BOTH
@SEEDS
def test_what_is_refused_for_good_is_counted(url: str, destination: str, seed: int) -> None:
    code = {"cloudwatch": "InvalidParameterValue", "emf": "InvalidParameterException"}[destination]
    found, proxy = run(url, destination, seeded(seed, {"invalid": 0.3, **REFUSED}, invalid=error(code)))
    assert len(found) + losses.total("metrics") == NUMBER
    assert set(found.values()) == {1}
    assert losses.total("metrics") > 0
    assert proxy.did["error"] > 0


@BOTH
@SEEDS
def test_what_waits_at_the_end_is_counted(url: str, destination: str, seed: int) -> None:
    found, _ = run(url, destination, seeded(seed, {**REFUSED, "status": 0.5}), dead_at_the_end=True)
    assert len(found) + losses.total("metrics") == NUMBER
    assert set(found.values()) <= {1}


@BOTH
@SEEDS
def test_what_is_not_answered_is_not_lost(url: str, destination: str, seed: int) -> None:
    """CloudWatch has no ids: what is sent again because its answer was lost is there twice."""
    found, proxy = run(url, destination, seeded(seed, UNANSWERED))
    assert set(found) == set(range(NUMBER))
    assert losses.total("metrics") == 0
    assert proxy.did["reset_after"] + proxy.did["truncate"] > 0
