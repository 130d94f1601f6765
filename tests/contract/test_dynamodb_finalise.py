"""Closing traces in DynamoDB: once, by whoever comes first, and their metrics once, whatever dies in between."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from spanwell.cli.dynamodb import one_pass
from spanwell.cli.dynamodb_table import make
from spanwell.cli.stores import judge
from spanwell.explore.finalise import CLAIM_SECONDS, Finaliser
from spanwell.explore.model import StoreError
from spanwell.explore.stores.dynamodb import DynamoDbStore
from spanwell.export import aws_client
from spanwell.export.cloudwatch_names import NAMESPACE
from spanwell.export.dynamodb import DynamoDbSpanExporter
from spanwell.insights.written import LIST, PREFIX
from support.faults import RESET_AFTER, RESET_BEFORE, error, fault_proxy
from support.node import dynalite
from support.servers import moto
from support.spans import make_span
from support.tables import endpoint

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000
PROOF = "two readers close a trace once"


@pytest.fixture(scope="module")
def simulated() -> Iterator[str]:
    """moto: DynamoDB and CloudWatch."""
    with moto() as url, endpoint(url):
        yield url


@pytest.fixture(scope="module", params=["moto", "dynalite"])
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    start: Callable[[], Any] = moto if request.param == "moto" else lambda: dynalite(PROOF)
    with start() as url:
        yield url


def fill(url: str, table: str, *batches: list[Any], written: float = 0.0) -> None:
    """Store `batches`, each by a process of its own, `written` seconds from now on."""
    with endpoint(url):
        client = aws_client.make_client("dynamodb")
        list(make(client, table, ttl=False))
        for batch in batches:
            exporter = DynamoDbSpanExporter(table, now=lambda: time.time() + written)
            assert exporter.send([exporter.encode(span)[0] for span in batch]).lost == 0


def slow_and_broken(trace: int, *, at: int | None = None, **root: Any) -> list[list[Any]]:
    """Six services, 6 s, an error: each of the three insights, which no single process could see all of."""
    start = time.time_ns() - 60 * SECOND if at is None else at
    first = make_span(trace_id=trace, span_id=1, name="GET /", start=start, duration=6 * SECOND, **root)
    others = [
        make_span(
            trace_id=trace,
            span_id=number,
            parent=number - 1,
            service=f"service-{number}",
            start=start + number,
            duration=5 * SECOND,
            error="broken" if number == 6 else None,
        )
        for number in range(2, 7)
    ]
    return [[first], *([each] for each in others)]


class Reader:
    """One process that reads and closes."""

    def __init__(self, table: str, now: Callable[[], float] = time.time) -> None:
        self.store = DynamoDbStore(table)
        self.finaliser = Finaliser(self.store, judge({}), owner=f"reader-{id(self)}", now=now)
        self.done: set[str] = set()

    def look(self, cloudwatch: Any = None, **options: Any) -> Any:
        return one_pass(self.store, self.finaliser, self.done, 0, cloudwatch, **options)


def in_a_minute() -> float:
    return time.time() + 60


class Cloud:
    """CloudWatch (moto), reached through `url`, which may be a proxy before it."""

    def __init__(self, direct: str, url: str) -> None:
        self.client = self._client(url)
        self.reader = self._client(direct)

    def _client(self, url: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client("cloudwatch", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))

    def told(self, service: str) -> dict[str, float]:
        """How much of each metric there is about `service`, by its dimensions."""
        now = datetime.datetime.now(datetime.timezone.utc)
        counts: dict[str, float] = {}
        for metric in self.reader.list_metrics(Namespace=NAMESPACE)["Metrics"]:
            dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
            if dimensions.get("ServiceName") != service:
                continue
            assert set(dimensions) == {"Severity", "ServiceName"}
            found = self.reader.get_metric_statistics(
                Namespace=NAMESPACE,
                MetricName=metric["MetricName"],
                Dimensions=metric["Dimensions"],
                StartTime=now - datetime.timedelta(days=15),
                EndTime=now + datetime.timedelta(hours=1),
                Period=86_400,
                Statistics=["Sum"],
            )
            counts[f"{metric['MetricName']} {dimensions['Severity']}"] = sum(
                point["Sum"] for point in found["Datapoints"]
            )
        return counts


EACH = {"high_service_count info": 1.0, "slow_trace warning": 1.0, "trace_errors error": 1.0}


def test_a_trace_is_closed_when_it_is_idle(either: str) -> None:
    fill(either, "idle", *slow_and_broken(1))
    with endpoint(either):
        soon = Reader("idle")
        assert soon.look() == (0, 1, 0)
        assert soon.store.final(f"{1:032x}") is None
        later = Reader("idle", in_a_minute)
        assert later.look() == (1, 0, 0)
        assert later.look() == (0, 0, 0)
        final = later.store.final(f"{1:032x}")
    assert final is not None
    assert {name: final[name] for name in ("spans", "errors", "orphans", "complete", "root_service")} == {
        "spans": {"N": "6"},
        "errors": {"N": "1"},
        "orphans": {"N": "0"},
        "complete": {"BOOL": True},
        "root_service": {"S": "shop"},
    }
    assert int(final["duration_ns"]["N"]) == 6 * SECOND
    found = {each["type"]: each for each in json.loads(final["insights"]["S"])}
    assert {"slow_trace", "trace_errors", "high_service_count"} <= set(found)
    assert "6 services" in found["high_service_count"]["sentence"]
    assert not any(each["told_by_process"] for each in found.values())


def test_one_that_never_rests_is_closed_after_five_minutes(either: str) -> None:
    fill(either, "busy", [make_span(span_id=1)], written=-299)
    fill(either, "busy", [make_span(span_id=2, parent=1)])
    with endpoint(either):
        assert Reader("busy", lambda: time.time() - 10).look() == (0, 1, 0)
        assert Reader("busy", lambda: time.time() + 10).look() == (1, 0, 0)


def test_what_arrives_later_is_read_and_not_judged_again(either: str) -> None:
    fill(either, "late", [make_span(span_id=1)])
    with endpoint(either):
        Reader("late", in_a_minute).look()
        fill(either, "late", [make_span(span_id=2, parent=1)])
        reader = Reader("late", in_a_minute)
        assert reader.look() == (1, 0, 0)
        final = reader.store.final(f"{1:032x}")
        assert final is not None
        assert final["spans"] == {"N": "1"}
        assert [each.spans for each in reader.store.newest()] == [2]


def test_an_incomplete_trace_says_so(either: str) -> None:
    fill(either, "orphan", [make_span(span_id=2, parent=1)])
    with endpoint(either):
        reader = Reader("orphan", in_a_minute)
        reader.look()
        final = reader.store.final(f"{1:032x}")
    assert final is not None
    assert (final["complete"], final["orphans"]) == ({"BOOL": False}, {"N": "1"})


def at_once(*work: Callable[[], object]) -> None:
    """Each in a thread of its own, all begun together."""
    gate = threading.Barrier(len(work))
    problems: list[BaseException] = []

    def run(each: Callable[[], object]) -> None:
        try:
            gate.wait(20)
            each()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_of_many_readers_one_closes(either: str) -> None:
    traces = range(1, 9)
    for trace in traces:
        fill(either, "race", [make_span(trace_id=trace)])
    with endpoint(either):
        readers = [Reader("race", in_a_minute) for _ in range(4)]
        puts = [0] * len(readers)
        for number, reader in enumerate(readers):
            original = reader.finaliser._put

            def counted(*args: Any, at: int = number, put: Any = original, **more: Any) -> Any:
                done = put(*args, **more)
                puts[at] += done is not None
                return done

            reader.finaliser._put = counted  # type: ignore[method-assign]
        at_once(*[reader.look for reader in readers])
    assert sum(puts) == len(traces)


# --- metrics ----------------------------------------------------------------------------------------------------


def test_two_finalisers_send_the_metrics_of_a_trace_once(simulated: str) -> None:
    for trace in range(1, 6):
        start = time.time_ns() - 60 * SECOND
        root = make_span(trace_id=trace, name="GET /", service="twice", start=start, duration=6 * SECOND, error="no")
        fill(simulated, "twice", [root])
    readers = [Reader("twice", in_a_minute) for _ in range(3)]
    clouds = [Cloud(simulated, simulated) for _ in readers]
    pairs = list(zip(readers, clouds, strict=True))
    at_once(*[partial(reader.look, cloud.client) for reader, cloud in pairs])
    assert clouds[0].told("twice") == {"slow_trace warning": 5.0, "trace_errors error": 5.0}
    for reader, cloud in pairs:
        assert reader.look(cloud.client).sent == 0
    assert clouds[0].told("twice") == {"slow_trace warning": 5.0, "trace_errors error": 5.0}


def test_a_reader_without_metrics_leaves_them_to_who_sends_them(simulated: str) -> None:
    for batch in slow_and_broken(1):
        fill(simulated, "left", batch)
    Reader("left", in_a_minute).look()
    cloud = Cloud(simulated, simulated)
    before = cloud.told("shop")
    assert Reader("left", in_a_minute).look(cloud.client) == (1, 0, 1)
    assert {name: count - before.get(name, 0) for name, count in cloud.told("shop").items()} == EACH


def told_attributes(kind: str) -> dict[str, Any]:
    head = f"{PREFIX}{kind}."
    return {LIST: (kind,), head + "severity": "warning", head + "sentence": "slow", head + "fingerprint": "0" * 16}


@pytest.mark.parametrize(("everything", "slow"), [(False, 0.0), (True, 1.0)])
def test_what_a_process_told_is_told_again_only_if_asked(simulated: str, everything: bool, slow: float) -> None:
    service, table = f"told-{everything}", f"told-{everything}"
    start = time.time_ns() - 60 * SECOND
    root = make_span(
        service=service, start=start, duration=6 * SECOND, error="no", attributes=told_attributes("slow_trace")
    )
    fill(simulated, table, [root])
    cloud = Cloud(simulated, simulated)
    assert Reader(table, in_a_minute).look(cloud.client, everything=everything).sent == 1
    told = cloud.told(service)
    assert told.get("slow_trace warning", 0.0) == slow
    assert told["trace_errors error"] == 1.0


def test_refused_metrics_are_sent_by_the_next_pass(simulated: str) -> None:
    for batch in slow_and_broken(1, at=time.time_ns() - 30 * 86_400 * SECOND):  # older than CloudWatch takes
        fill(simulated, "refused", batch)
    with fault_proxy(simulated, [error("AccessDenied", 403)]) as proxy:
        cloud = Cloud(simulated, proxy.url)
        before = cloud.told("shop")
        reader = Reader("refused", in_a_minute)
        with pytest.raises(StoreError, match=r"CloudWatch did not take the metrics of 1 traces: .*PutMetricData"):
            reader.look(cloud.client)
        assert reader.look(cloud.client).sent == 1
        assert {name: count - before.get(name, 0) for name, count in cloud.told("shop").items()} == EACH


@pytest.mark.parametrize(("fault", "times"), [(RESET_BEFORE, 1.0), (RESET_AFTER, 2.0)])
def test_a_claim_without_an_answer_holds_five_minutes(simulated: str, fault: Any, times: float) -> None:
    """Nobody knows whether CloudWatch took them: they are sent again, so at least once."""
    service, table = f"crash-{fault.kind}".replace("_", "-"), f"crash-{fault.kind}".replace("_", "-")
    start = time.time_ns() - 60 * SECOND
    fill(simulated, table, [make_span(service=service, start=start, duration=6 * SECOND)])
    with fault_proxy(simulated, [fault]) as proxy:
        cloud = Cloud(simulated, proxy.url)
        with pytest.raises(StoreError):
            Reader(table, in_a_minute).look(cloud.client)
        waiting = Reader(table, in_a_minute)
        assert waiting.look(cloud.client).sent == 0
        late = Reader(table, lambda: in_a_minute() + CLAIM_SECONDS + 1)
        assert late.look(cloud.client).sent == 1
        assert waiting.look(cloud.client).sent == 0
        assert cloud.told(service) == {"slow_trace warning": times}


def test_what_its_claim_outlived_is_not_marked_by_the_first_owner(simulated: str) -> None:
    fill(simulated, "owner", [make_span()])
    first, other = Reader("owner", in_a_minute), Reader("owner", in_a_minute)
    second = Reader("owner", lambda: in_a_minute() + CLAIM_SECONDS + 1)
    first.look()
    final = first.store.final(f"{1:032x}")
    assert final is not None
    mine = first.finaliser.claim(final)
    assert mine is not None
    assert other.finaliser.claim(final) is None  # from what it knew, before the claim
    assert other.finaliser.claim(mine) is None
    theirs = second.finaliser.claim(mine)
    assert theirs is not None
    assert first.finaliser.sent(mine) is None
    assert first.finaliser.release(mine) is None
    assert second.finaliser.sent(theirs) is not None
