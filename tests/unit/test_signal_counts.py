"""Application Signals' metrics by kind of span, against a table derived from the documented attributes of ADOT."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from spanwell import _guard
from spanwell.enrich.app_signals import AppSignals
from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.processor import FusedProcessor
from spanwell.enrich.signal_counts import SignalCounts
from support.spans import make_span

RESOURCE = {"service.name": "shop"}
LOCAL = "aws.local.service", "aws.local.operation", "aws.span.kind"
REMOTE = (
    *("aws.remote.service", "aws.remote.operation", "aws.remote.resource.type", "aws.remote.resource.identifier"),
    *("aws.remote.resource.cfn.primary.identifier", "aws.remote.db.user", "aws.remote.environment"),
)


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", True)


def counted(*spans: Any, function: str = "", **options: Any) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    """(values of LOCAL) or (values of LOCAL and REMOTE) -> (spans, errors, faults)."""
    counts = SignalCounts(**options)
    stage = FusedProcessor([Ended(parts(signals=AppSignals(lambda: RESOURCE, function))), counts])
    for span in spans:
        stage.on_end(span)
    found = {}
    for labels, totals in counts.drain():
        named = dict(labels)
        assert set(named) <= {*LOCAL, *REMOTE}
        local = tuple(named.get(key) for key in LOCAL)
        remote = tuple(named.get(key) for key in REMOTE)
        found[(*local, *remote) if any(remote) else local] = (totals.latency.count, totals.errors, totals.faults)
    return found


UNKNOWN = "UnknownOperation"
AWS = {"rpc.system": "aws-api"}
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
DATABASE = "shop|db|5432"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:news"
# (kind, local root, attributes) -> the metrics' attributes: service's, dependency's.
TABLE: list[tuple[SpanKind, bool, dict[str, Any], list[tuple[Any, ...]]]] = [
    (SpanKind.SERVER, True, {}, [("shop", "work", "LOCAL_ROOT")]),
    (SpanKind.SERVER, False, {}, [("shop", "work", "SERVER")]),
    (SpanKind.INTERNAL, True, {}, [("shop", "InternalOperation", "LOCAL_ROOT")]),
    (SpanKind.INTERNAL, False, {}, []),
    (SpanKind.CLIENT, False, {"http.request.method": "GET", "url.full": "http://api:8080/a/b",
                              "server.address": "api", "server.port": 8080},
     [("shop", UNKNOWN, "CLIENT", "api:8080", "GET /a", None, None, None, None, None)]),
    (SpanKind.CLIENT, False, {"http.method": "GET", "http.url": "http://api:8080/a/b", "net.peer.name": "api",
                              "net.peer.port": 8080},
     [("shop", UNKNOWN, "CLIENT", "api:8080", "GET /a", None, None, None, None, None)]),
    (SpanKind.CLIENT, True, {**AWS, "rpc.service": "S3", "rpc.method": "GetObject", "aws.s3.bucket": "b"},
     [("shop", "InternalOperation", "LOCAL_ROOT"),
      ("shop", "InternalOperation", "CLIENT", "AWS::S3", "GetObject", "AWS::S3::Bucket", "b", "b", None, None)]),
    (SpanKind.CLIENT, False, {**AWS, "rpc.service": "SQS", "rpc.method": "SendMessage", "aws.queue_url": QUEUE},
     [("shop", UNKNOWN, "CLIENT", "AWS::SQS", "SendMessage", "AWS::SQS::Queue", "orders", QUEUE, None, None)]),
    (SpanKind.PRODUCER, False, {**AWS, "rpc.service": "SNS", "rpc.method": "Publish", "aws.sns.topic.arn": TOPIC},
     [("shop", UNKNOWN, "PRODUCER", "AWS::SNS", "Publish", "AWS::SNS::Topic", "news", TOPIC, None, None)]),
    (SpanKind.CLIENT, False, {**AWS, "rpc.service": "Lambda", "rpc.method": "Invoke", "faas.invoked_name": "pay"},
     [("shop", UNKNOWN, "CLIENT", "pay", "Invoke", None, None, None, None, "lambda:default")]),
    (SpanKind.CLIENT, False, {"db.system": "postgresql", "db.name": "shop", "db.operation": "SELECT",
                              "db.user": "app", "net.peer.name": "db", "net.peer.port": 5432},
     [("shop", UNKNOWN, "CLIENT", "postgresql", "SELECT", "DB::Connection", DATABASE, DATABASE, "app", None)]),
    (SpanKind.CLIENT, False, {"db.system.name": "postgresql", "db.namespace": "shop", "db.operation.name": "SELECT",
                              "server.address": "db", "server.port": 5432},
     [("shop", UNKNOWN, "CLIENT", "postgresql", "SELECT", "DB::Connection", DATABASE, DATABASE, None, None)]),
    (SpanKind.CONSUMER, True, {"messaging.system": "kafka", "messaging.operation": "process"},
     [("shop", "InternalOperation", "LOCAL_ROOT"),
      ("shop", "InternalOperation", "CONSUMER", "kafka", "process", None, None, None, None, None)]),
    (SpanKind.CONSUMER, False, {"messaging.system": "kafka", "messaging.operation.type": "receive"},
     [("shop", UNKNOWN, "CONSUMER", "kafka", "receive", None, None, None, None, None)]),
    (SpanKind.CLIENT, False, {"aws.remote.service": "mine", "aws.remote.operation": "op"},
     [("shop", UNKNOWN, "CLIENT", "mine", "op", None, None, None, None, None)]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "root", "attributes", "expected"), TABLE, ids=[str(n) for n in range(len(TABLE))])
def test_the_table_of_attributes(
    kind: SpanKind, root: bool, attributes: Any, expected: list[tuple[Any, ...]]
) -> None:
    span = make_span(kind=kind, attributes=attributes, parent=None if root else 7)
    assert counted(span) == dict.fromkeys(expected, (1, 0, 0))


def test_on_lambda_the_operation_is_the_functions() -> None:
    span = make_span(kind=SpanKind.SERVER)
    assert list(counted(span, function="pay")) == [("shop", "pay/FunctionHandler", "LOCAL_ROOT")]


# status code, span failed -> error, fault. The same for the old and the new name of the code.
OUTCOMES = [
    (None, False, 0, 0),
    (None, True, 0, 1),
    (200, False, 0, 0),
    (200, True, 0, 1),
    (399, True, 0, 1),
    (400, False, 1, 0),
    (404, True, 1, 0),
    (499, False, 1, 0),
    (500, False, 0, 1),
    (599, False, 0, 1),
    (600, False, 0, 0),
    ("404", False, 0, 0),
]


@pytest.mark.parametrize("name", ["http.status_code", "http.response.status_code"])
@pytest.mark.parametrize(("code", "failed", "error", "fault"), OUTCOMES)
def test_errors_and_faults(name: str, code: Any, failed: bool, error: int, fault: int) -> None:
    attributes = {} if code is None else {name: code}
    span = make_span(kind=SpanKind.SERVER, attributes=attributes, error="no" if failed else None)
    assert list(counted(span).values()) == [(1, error, fault)]


def test_latency_is_in_milliseconds() -> None:
    counts = SignalCounts()
    stage = FusedProcessor([Ended(parts(signals=AppSignals(lambda: RESOURCE))), counts])
    for milliseconds in (1, 10, 100):
        stage.on_end(make_span(kind=SpanKind.SERVER, duration=milliseconds * 1_000_000))
    ((_, totals),) = counts.drain()
    assert (totals.latency.sum, totals.latency.min, totals.latency.max) == (111, 1, 100)
    assert list(counts.drain()) == []


def test_of_receiving_and_processing_a_message_only_the_first_is_a_dependency() -> None:
    counts = SignalCounts()
    signals = AppSignals(lambda: RESOURCE)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor([signals, Ended(parts(signals=signals)), counts]))
    tracer = provider.get_tracer("x")
    process = {"messaging.system": "aws_sqs", "messaging.operation.type": "process"}
    with tracer.start_as_current_span("job"):
        with (
            tracer.start_as_current_span(
                "receive",
                kind=SpanKind.CONSUMER,
                attributes={"messaging.system": "aws_sqs", "messaging.operation.type": "receive"},
            ),
            tracer.start_as_current_span("process", kind=SpanKind.CONSUMER, attributes=process),
        ):
            pass
        with tracer.start_as_current_span("alone", kind=SpanKind.CONSUMER, attributes=process):
            pass
    operations = sorted(
        (dict(labels).get("aws.remote.operation") or "", totals.latency.count) for labels, totals in counts.drain()
    )
    assert operations == [("", 1), ("process", 1), ("receive", 1)]


def test_the_boto3_sqs_instrumentor_tells_nothing_that_botocore_does_not() -> None:
    span = make_span(kind=SpanKind.PRODUCER, parent=None)
    span._instrumentation_scope = InstrumentationScope("opentelemetry.instrumentation.boto3sqs")
    assert counted(span) == {}


def test_sets_of_attributes_are_bounded() -> None:
    spans = [make_span(kind=SpanKind.SERVER, name=f"GET /{number}") for number in range(20)]
    spans += [make_span(kind=SpanKind.CLIENT, parent=7, attributes={"peer.service": f"p{n}"}) for n in range(20)]
    found = counted(*spans, max_series=5)
    assert len(found) == 7
    assert found["shop", "AllOtherOperations", "LOCAL_ROOT"] == (15, 0, 0)
    (others,) = [value for key, value in found.items() if len(key) > 3]
    assert others == (20, 0, 0)


def test_odd_values_count_as_their_text() -> None:
    span = make_span(kind=SpanKind.CLIENT, parent=7, attributes={})
    span._attributes = {"aws.remote.service": ["a"], "aws.remote.operation": 7, "aws.remote.resource.type": ["x"]}
    (key,) = counted(span)
    assert key[3:6] == ("['a']", "7", "['x']")


def test_long_texts_are_cut_and_remain_one() -> None:
    spans = [make_span(kind=SpanKind.SERVER, name="x" * 5000) for _ in range(3)]
    assert counted(*spans) == {("shop", "x" * 512, "LOCAL_ROOT"): (3, 0, 0)}


def test_threads_lose_nothing() -> None:
    counts = SignalCounts()
    stage = FusedProcessor([Ended(parts(signals=AppSignals(lambda: RESOURCE))), counts])
    spans = [make_span(kind=SpanKind.SERVER, error="no" if number % 4 == 0 else None) for number in range(100)]
    seen: list[Any] = []

    def end_all() -> None:
        for span in spans * 10:
            stage.on_end(span)

    threads = [threading.Thread(target=end_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += counts.drain()
    seen += counts.drain()
    assert sum(totals.latency.count for _, totals in seen) == 4000
    assert sum(totals.faults for _, totals in seen) == 1000


def test_the_first_span_is_told_of() -> None:
    told: list[int] = []
    counts = SignalCounts(first=lambda: told.append(1))
    for operation in ("o", "o", "p"):
        counts.on_end(
            make_span(
                kind=SpanKind.SERVER, attributes={"aws.span.kind": "LOCAL_ROOT", "aws.local.operation": operation}
            )
        )
    assert told == [1]
    assert counts.series == 2


def test_an_unset_and_an_ok_status_are_no_fault() -> None:
    span = make_span(kind=SpanKind.SERVER)
    span._status = Status(StatusCode.OK)
    assert list(counted(span).values()) == [(1, 0, 0)]
