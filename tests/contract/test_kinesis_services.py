"""The `kinesis` exporter against moto and the stricter kinesalite, straight and behind the fault proxy."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags

from spanwell._guard import losses
from spanwell.export.batch import BatchProcessor
from spanwell.export.dead_letter import read
from spanwell.export.guarded import GuardedExporter
from spanwell.export.kinesis_replay import replay
from support import node
from support.faults import RESET_AFTER, RESET_BEFORE, TRUNCATE, error, fault_proxy, partial, seeded, status, throttle
from support.kinesis import span_ids
from support.servers import moto
from support.spans import make_span

pytestmark = pytest.mark.slow

PROOF = "records of the kinesis exporter keep to the limits of a strict service"


@pytest.fixture(scope="module", params=["moto", "kinesalite"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    with moto() if request.param == "moto" else node.kinesalite(PROOF) as url:
        yield url


class Service:
    """A stream of two shards; `proxy` stands before it once `at` was called."""

    def __init__(self, endpoint: str, name: str) -> None:
        import boto3

        self.endpoint, self.name = endpoint, name
        self.client: Any = boto3.client("kinesis", endpoint_url=endpoint)
        self.client.create_stream(StreamName=name, ShardCount=2)
        self.client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})

    def records(self) -> list[tuple[str, bytes]]:
        found = []
        for shard in self.client.list_shards(StreamName=self.name)["Shards"]:
            chosen = {"StreamName": self.name, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            at = self.client.get_shard_iterator(**chosen)["ShardIterator"]
            while True:
                page = self.client.get_records(ShardIterator=at, Limit=10_000)
                if not page["Records"]:
                    break
                found += [(record["PartitionKey"], bytes(record["Data"])) for record in page["Records"]]
                at = page["NextShardIterator"]
        return found

    def span_ids(self) -> Counter[int]:
        return span_ids(data for _, data in self.records())


@pytest.fixture
def service(endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    name = f"spans-{abs(hash(request.node.name)) % 10**8}"
    made = Service(endpoint, name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", endpoint)
    monkeypatch.setenv("SPANWELL_KINESIS_STREAM", name)
    yield made
    made.client.delete_stream(StreamName=name)


def exporter() -> Any:
    from spanwell.plugins import KinesisSpanExporter

    made = KinesisSpanExporter()  # type: ignore[operator]
    made._chance = lambda: 0.05  # the pauses of tests are short
    return made


def spans_of(number: int, traces: int, size: int = 50) -> list[Any]:
    return [make_span(trace_id=at % traces + 1, span_id=at + 1, attributes={"a": "x" * size}) for at in range(number)]


def send(made: Any, spans: list[Any]) -> Any:
    return made.send([made.encode(span)[0] for span in spans])


def test_every_span_arrives_once_keyed_by_its_trace(service: Service) -> None:
    assert send(exporter(), spans_of(3_000, 700)) == (0, "", True)
    found = service.records()
    assert len(found) == 700
    assert span_ids(data for _, data in found) == dict.fromkeys(range(1, 3_001), 1)
    for key, data in found:
        assert {(number - 1) % 700 + 1 for number in span_ids([data])} == {int(key, 16)}


def test_the_limits_of_records_and_requests_are_kept(service: Service) -> None:
    made = exporter()
    spans = [*spans_of(20, 3, 300_000), make_span(span_id=99, attributes={"a": "x" * 1_048_000})]
    spans.append(make_span(span_id=100, attributes={"a": "x" * 1_048_577}))
    lost, reason, reached = send(made, spans)
    assert (lost, reached) == (1, True)
    assert "over Kinesis's limit" in reason
    assert service.span_ids() == dict.fromkeys([*range(1, 21), 99], 1)


def test_gzip_and_json(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANWELL_KINESIS_FORMAT", "json")
    monkeypatch.setenv("SPANWELL_KINESIS_COMPRESSION", "gzip")
    assert send(exporter(), spans_of(10, 1)).lost == 0
    ((_, data),) = service.records()
    found = json.loads(gzip.decompress(data))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [int(span["spanId"], 16) for span in found] == list(range(1, 11))


@pytest.mark.parametrize(
    "faults",
    [
        [throttle(), throttle(), partial(0, 3, 5), partial(1)],
        [status(500), status(503), RESET_BEFORE],
        [error("InternalFailure", 500), partial(share=0.9, code="InternalFailure")],
        [partial(share=1.0), partial(share=0.5, seed=3)],
    ],
    ids=["throttled", "unavailable", "internal", "partial"],
)
def test_what_was_refused_is_sent_again_and_nothing_twice(
    service: Service, faults: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(service.endpoint, faults) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        assert send(exporter(), spans_of(1_500, 600)) == (0, "", True)
        assert sum(proxy.did.values()) > len(faults)
    assert service.span_ids() == dict.fromkeys(range(1, 1_501), 1)


@pytest.mark.parametrize("fault", [RESET_AFTER, TRUNCATE], ids=["reset", "truncated"])
def test_an_answer_that_is_lost_costs_no_span(service: Service, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with fault_proxy(service.endpoint, [fault]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        assert send(exporter(), spans_of(30, 10)) == (0, "", True)
    assert service.span_ids() == dict.fromkeys(range(1, 31), 2), "Kinesis cannot know that it is the same request"


@pytest.mark.parametrize("seed", [1, 2])
def test_through_the_batch_processor_every_span_arrives_or_is_counted(
    service: Service, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = tmp_path / "letters"
    monkeypatch.setenv("SPANWELL_KINESIS_DEAD_LETTER", str(letters))
    rates = {"throttle": 0.1, "partial": 0.3, "reset_before": 0.1, "status": 0.1, "denied": 0.2}
    plan = seeded(seed, rates, denied=partial(share=0.3, seed=seed, code="AccessDeniedException"))
    number = 2_000
    with fault_proxy(service.endpoint, plan) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        guarded = GuardedExporter("kinesis", exporter)
        processor = BatchProcessor(guarded, max_queue=number, max_batch=100, delay=0.01)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        for span in spans_of(number, 50):
            processor.on_end(span)
            if span.context.span_id % 500 == 0:
                processor.force_flush(20_000)
        processor.finish(20.0)
        assert {"throttle", "partial", "reset_before", "status"} <= set(proxy.did)
    arrived = service.span_ids()
    kept = span_ids(letter.data for letter in read(str(letters)) if letter)
    assert sum(arrived.values()) + losses.total("spans") == number
    assert set(arrived.values()) == {1}
    assert not arrived & kept
    assert sum(kept.values()) == losses.total("spans") > 0
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", service.endpoint)
    assert replay(str(letters))[:3] == (sum(kept.values()), 0, 0)
    assert service.span_ids() == dict.fromkeys(range(1, number + 1), 1)


def test_promoted_spans_say_so(service: Service) -> None:
    span = make_span(span_id=5, attributes={"aws.trace.flag.sampled": False})
    span._context = SpanContext(1, 5, False, TraceFlags(0))
    assert send(exporter(), [span]).lost == 0
    assert b"aws.trace.flag.sampled" in service.records()[0][1]


def test_a_missing_stream_is_not_created(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANWELL_KINESIS_STREAM", "nowhere")
    lost, reason, reached = send(exporter(), spans_of(3, 1))
    assert (lost, reached) == (3, False)
    assert "ResourceNotFoundException" in reason
    assert "spanwell creates none" in reason
    assert "nowhere" not in service.client.list_streams()["StreamNames"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "allow kinesis:PutRecords"),
        ("ExpiredTokenException", "have expired"),
        ("UnrecognizedClientException", "does not know these credentials"),
    ],
)
def test_what_aws_refuses_is_explained(
    service: Service, code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(service.endpoint, [error(code)]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        lost, reason, reached = send(exporter(), spans_of(3, 1))
        assert proxy.did == {"error": 1}
    assert (lost, reached) == (3, False)
    assert words in reason
