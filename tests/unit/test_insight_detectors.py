"""What the detectors of calls, errors and sizes say, and that they say it once. How well they find: tests/corpus."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from spanwell.analysis.calls import call_of, is_waiting, operation_of, template, templated
from spanwell.analysis.retries import find_retries
from spanwell.analysis.tree import Tree
from spanwell.insights.model import Fragment, Insight, Thresholds
from spanwell.record import EventRecord, SpanRecord
from support import real_traces
from support.spans import record

MS = 1_000_000
MINE = (
    *("slow_trace", "trace_errors", "high_service_count", "retried_call", "n_plus_one", "throttled_dependency"),
    *("suppressed_error", "oversized_trace"),
)
Attributes = dict[str, Any]
SELECT: Attributes = {
    "db.system": "postgresql",
    "db.name": "shop",
    "db.statement": "SELECT * FROM items WHERE id = 1",
}
SELECT_NEW: Attributes = {
    "db.system.name": "postgresql",
    "db.namespace": "shop",
    "db.query.text": "SELECT * FROM items WHERE id = $1",
    "db.query.summary": "SELECT items",
}
PAY: Attributes = {"http.request.method": "POST", "url.full": "http://bank/pay/7", "server.address": "bank"}
AWS: Attributes = {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "PutItem"}


def find(
    detector: str, *spans: SpanRecord, whole: bool = False, dropped: int = 0, chosen: dict[str, float] | None = None
) -> list[Insight]:
    """What a detector says about spans whose first is the local root."""
    module = importlib.import_module(f"spanwell.insights.detectors.{detector}")
    fragment = Fragment([*spans[1:], spans[0]], spans[0], whole=whole, dropped=dropped)
    return list(module.detect(fragment, Thresholds(module.DEFAULTS, chosen)))


def root(name: str = "GET /orders/7", ms: float = 1_000, **more: Any) -> SpanRecord:
    attributes = {"http.request.method": "GET", "http.route": "/orders/{id}", **more.pop("attributes", {})}
    return record("r", name=name, kind="server", duration=int(ms * MS), attributes=attributes, **more)


def calls(
    count: int, attributes: Attributes, *, ms: float = 20, gap: float = 1, error: str = "", **more: Any
) -> list[SpanRecord]:
    """Calls one after the other."""
    return [
        record(
            f"{more.get('parent_id', 'r')}-{number}",
            more.get("parent_id", "r"),
            name="call",
            kind="client",
            start=int(number * (ms + gap) * MS),
            duration=int(ms * MS),
            attributes=attributes,
            status="error" if error else "unset",
            status_message=error,
        )
        for number in range(count)
    ]


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (SELECT, ("db", "postgresql:shop", "SELECT items")),
        (SELECT_NEW, ("db", "postgresql:shop", "SELECT items")),
        ({"db.system": "redis", "net.peer.name": "cache", "db.statement": "GET ?"}, ("db", "redis:cache", "GET")),
        (PAY, ("http", "bank", "POST /pay/{id}")),
        ({"http.method": "PUT", "http.url": "https://u:p@bank:84/pay/7?x=1"}, ("http", "bank:84", "PUT /pay/{id}")),
        ({**PAY, "peer.service": "pays", "url.template": "/pay/{n}"}, ("http", "pays", "POST /pay/{n}")),
        (AWS, ("aws", "DynamoDB", "DynamoDB.PutItem")),
        ({"rpc.system.name": "aws-api", "rpc.method": "SQS/SendMessage", "aws.sqs.queue.url": "https://q/1/jobs"},
         ("aws", "SQS", "SQS.SendMessage jobs")),
        ({"rpc.system": "grpc", "rpc.service": "shop.Cart", "rpc.method": "Get", "server.address": "cart",
          "server.port": 50051}, ("rpc", "cart:50051", "shop.Cart/Get")),
        ({"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation": "publish"},
         ("messaging", "kafka:orders", "publish orders")),
        ({}, ("other", "", "call {id}")),
    ],
)  # fmt: skip
def test_a_call_in_both_conventions(attributes: Attributes, expected: tuple[str, ...]) -> None:
    found = call_of(record("1", kind="client", name="call 17", attributes=attributes))
    assert found is not None
    assert found[:3] == expected
    assert call_of(record("1", kind="internal", attributes=attributes)) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/users/123/orders?a=1", "/users/{id}/orders"),
        ("/v2/users/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/v2/users/{id}"),
        ("/skus/AB-17/price", "/skus/{id}/price"),
        ("/ada@example.com/", "/{id}/"),
        ("/static/main.css", "/static/main.css"),
        ("/oauth2/token", "/oauth2/token"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_a_path_without_values(path: str, expected: str) -> None:
    assert template(path) == expected


def test_an_operation_without_values() -> None:
    assert operation_of(root()) == "GET /orders/{id}"
    bare = record("1", kind="server", name="GET", attributes={"http.method": "GET", "http.target": "/orders/7?x"})
    assert operation_of(bare) == "GET /orders/{id}"
    assert templated("import batch 17 of 3f2504e0-4f89-11d3-9a0c-0305e82c3301") == "import batch {id} of {id}"


# --- n_plus_one ---------------------------------------------------------------------------------------------------


def test_one_query_for_each_item() -> None:
    (found,) = find("n_plus_one", root(), *calls(12, SELECT, ms=28.3))
    assert found == Insight(
        "n_plus_one",
        "warning",
        "GET /orders/{id} runs SELECT items 12 times, one after another (340 ms): "
        "load them with one query (JOIN or IN).",
        ("GET /orders/{id}", "postgresql:shop", "SELECT items"),
        tuple(f"r-{number}" for number in range(10)),
        {"count": 12, "duration_ms": 339.6, "peer": "postgresql:shop", "operation": "SELECT items"},
    )


def test_the_same_problem_is_the_same_insight() -> None:
    (few,) = find("n_plus_one", root(), *calls(6, SELECT))
    (many,) = find("n_plus_one", root(name="GET /orders/8"), *calls(60, SELECT_NEW, ms=3))
    assert few.fingerprint("shop") == many.fingerprint("shop") != many.fingerprint("other")


def test_an_orm_over_an_instrumented_driver_is_one_problem() -> None:
    outer = calls(6, SELECT)
    inner = [
        span._replace(span_id=f"{span.span_id}i", parent_id=span.span_id, attributes={**SELECT, "db.name": "other"})
        for span in outer
    ]
    (found,) = find("n_plus_one", root(), *outer, *inner)
    assert found.values["count"] == 6


def test_other_calls_need_ten() -> None:
    one = {**PAY, "http.request.method": "GET"}
    assert find("n_plus_one", root(), *calls(9, one)) == []
    (found,) = find("n_plus_one", root(), *calls(10, one))
    assert found.sentence.endswith("on bank 10 times, one after another (200 ms): "
                                   "ask for several at once, or call side by side.")  # fmt: skip
    (found,) = find("n_plus_one", root(), *calls(10, AWS))
    assert found.sentence.endswith("send them together with BatchWriteItem.")


def test_thresholds_of_one_operation() -> None:
    spans = (root(name="export"), *calls(12, SELECT))
    assert find("n_plus_one", *spans, chosen={"n_plus_one.count@export": 13}) == []
    assert find("n_plus_one", *spans, chosen={"n_plus_one.count@import": 13}) != []
    assert find("n_plus_one", *spans, chosen={"n_plus_one.duration_ms": 241}) == []


@pytest.mark.parametrize(
    "statement",
    ["BEGIN", "COMMIT", "SELECT 1", "FETCH FORWARD 100 FROM c", "SELECT * FROM a WHERE id IN (1, 2)",
     "SELECT * FROM a WHERE id = ANY(%(ids)s)", "SELECT * FROM a ORDER BY id LIMIT 10 OFFSET 30",
     "INSERT INTO a VALUES (1, 2), (3, 4)", "SET search_path TO a"],
)  # fmt: skip
def test_statements_that_are_not_about_an_item(statement: str) -> None:
    assert find("n_plus_one", root(), *calls(20, {**SELECT, "db.statement": statement})) == []


# --- retried_call, throttled_dependency ---------------------------------------------------------------------------


def test_a_call_that_worked_at_last() -> None:
    failed = calls(2, {**PAY, "http.response.status_code": 503, "error.type": "503"}, error="no")
    worked = calls(3, PAY)[2]
    (found,) = find("retried_call", root(), *failed, worked)
    assert found.severity == "warning"
    assert found.sentence == (
        "GET /orders/{id} called POST /pay/{id} (bank) 3 times because of 503 (62 ms), "
        "the last attempt worked: find out why bank fails at first."
    )
    assert found.subject == ("GET /orders/{id}", "bank", "POST /pay/{id}")
    assert (found.values["attempts"], found.values["outcome"]) == (3, "recovered")


def test_a_client_that_retries_by_itself() -> None:
    (found,) = find("retried_call", root(), *calls(1, {**AWS, "retry_attempts": 2}, error="boom"))
    assert (found.values["attempts"], found.values["outcome"]) == (3, "exhausted")
    (found,) = find("retried_call", root(), *calls(1, {**PAY, "http.request.resend_count": 1}))
    assert (found.values["attempts"], found.values["outcome"]) == (2, "recovered")


def test_a_redirect_is_no_retry() -> None:
    moved = calls(1, {**PAY, "http.response.status_code": 301})[0]
    again = calls(2, {**PAY, "url.full": "http://bank/new", "http.request.resend_count": 1})[1]
    assert find("retried_call", root(), moved, again) == []


def test_resends_with_spans_of_their_own_count_once() -> None:
    first = calls(1, {**PAY, "http.response.status_code": 503}, error="no")[0]
    second = calls(2, {**PAY, "http.request.resend_count": 1})[1]
    (attempts,) = find_retries(Tree([first, second]))
    assert attempts.times == 2


@pytest.mark.parametrize(
    ("attributes", "message", "expected"),
    [
        ({**PAY, "http.response.status_code": 429}, "", True),
        ({**PAY, "http.status_code": 429}, "", True),
        (AWS, "An error occurred (ThrottlingException) when calling the PutItem operation: slow", True),
        ({**AWS, "error.type": "ProvisionedThroughputExceededException"}, "x", True),
        ({**AWS, "spanwell.throttled": True}, "x", True),
        ({"rpc.system": "grpc", "rpc.method": "Get", "rpc.grpc.status_code": 8}, "x", True),
        (AWS, "An error occurred (ValidationException) when calling the PutItem operation: slow", False),
        ({**PAY, "http.response.status_code": 503}, "429", False),
        ({**AWS, "error.type": "Throttling"}, "", False),
    ],
)
def test_throttled(attributes: Attributes, message: str, expected: bool) -> None:
    found = find("throttled_dependency", root(), *calls(2, attributes, error=message))
    assert len(found) == expected
    assert all(insight.values["count"] == 2 for insight in found)


# --- errors -------------------------------------------------------------------------------------------------------


def test_the_root_cause_is_named() -> None:
    thrown = EventRecord("exception", 1, {"exception.type": "bank.errors.Refused", "exception.message": "card 4711"})
    step = record("s", "r", name="check out 12", status="error", duration=90 * MS)
    call = record("c", "s", kind="client", name="POST", status="error", attributes=PAY, events=(thrown,))
    (found,) = find("trace_errors", root(status="error"), step, call)
    assert found.severity == "error"
    assert found.sentence == (
        "GET /orders/{id} failed because POST /pay/{id} (bank) failed with Refused: start there."
    )
    assert found.subject == ("GET /orders/{id}", "POST /pay/{id} (bank)", "Refused")
    assert found.evidence == ("c",)
    assert "4711" not in str(found)


def test_the_request_failed_by_itself_or_went_on() -> None:
    (found,) = find("trace_errors", root(status="error"))
    assert found.sentence.startswith("GET /orders/{id} failed by itself with an error:")
    (found,) = find("trace_errors", root(), record("s", "r", name="warm up", status="error"))
    assert found.sentence.startswith("In GET /orders/{id}, warm up failed with an error, and the request went on")


def test_an_error_that_nobody_heard_of() -> None:
    failed = record("s", "r", name="recommend", status="error", attributes={"error.type": "ModelError"})
    (found,) = find("suppressed_error", root(), failed)
    assert found.severity == "info"
    assert found.sentence.startswith("GET /orders/{id} went on although recommend failed with ModelError: ")
    assert find("suppressed_error", root(attributes={"http.response.status_code": 400}), failed) == []
    assert find("suppressed_error", root(status="error"), failed) == []


def test_a_fallback_of_another_service_is_its_own_matter() -> None:
    """What one service answers with an error status is told, whatever the caller answers."""
    call = record("c", "r", kind="client", name="GET", attributes=PAY)
    status = {"http.response.status_code": 502}
    other = record("o", "c", kind="server", name="POST /pay", service="bank", attributes=status)
    step = record("s", "o", name="ledger", service="bank", status="error")
    assert find("suppressed_error", root(), call, other, step, whole=True) == []
    other = other._replace(attributes={})
    assert find("suppressed_error", root(attributes=status), call, other, step, whole=True) != []


# --- slow_trace, oversized_trace, high_service_count --------------------------------------------------------------


def test_where_a_slow_request_spends_its_time() -> None:
    (found,) = find("slow_trace", root(ms=7_200), *calls(1, SELECT, ms=6_100))
    assert found.sentence == (
        "GET /orders/{id} took 7.2 s (more than 5.0 s), 6.1 s of it in SELECT items (postgresql:shop): start there."
    )
    (found,) = find("slow_trace", root(ms=7_200), *calls(1, SELECT, ms=100))
    assert found.sentence.endswith("7.1 s of it in its own code: profile it, or add spans around its steps.")
    assert find("slow_trace", root(ms=5_000)) == []
    assert find("slow_trace", root(ms=900), chosen={"slow_trace.duration_ms@GET /orders/7": 800}) != []


@pytest.mark.parametrize(
    "attributes",
    [{"url.scheme": "wss"}, {"http.response.status_code": 101}, {"messaging.operation": "receive"},
     {**AWS, "rpc.service": "SQS", "rpc.method": "ReceiveMessage"},
     {"db.system": "redis", "db.statement": "BLPOP ? ?"}],
)  # fmt: skip
def test_waiting_is_not_slow(attributes: Attributes) -> None:
    poll = root(ms=20_000, attributes=attributes)
    assert is_waiting(poll)
    assert find("slow_trace", poll) == []


def test_spans_that_were_dropped_count() -> None:
    spans = calls(400, SELECT)
    assert find("oversized_trace", root(), *spans) == []
    (found,) = find("oversized_trace", root(), *spans, dropped=100)
    assert found.values == {"spans": 501, "most": "SELECT items (postgresql:shop)"}


def test_what_makes_a_span_large() -> None:
    event = EventRecord("exception", 1, {"exception.stacktrace": "x" * 70_000})
    large = record("l", "r", name="render", attributes={"a": "b"}, events=(event,))
    (found,) = find("oversized_trace", root(), large)
    assert found.sentence.startswith("GET /orders/{id} has a span render of 70 kB, most of it in its events: ")
    (found,) = find("oversized_trace", root(), large._replace(events=(), attributes={"page": ["é" * 40_000]}))
    assert found.values["largest"] == "page"


def test_services_are_counted_in_one_scope() -> None:
    peers = [calls(1, {**PAY, "server.address": f"s{number}"}, parent_id="r")[0] for number in range(5)]
    peers = [span._replace(span_id=f"p{number}") for number, span in enumerate(peers)]
    (found,) = find("high_service_count", root(), *peers)
    assert found.values == {"count": 6, "scope": "local"}
    assert "itself and 5 services (s0, s1, s2, s3, s4)" in found.sentence
    assert find("high_service_count", root(), *peers, whole=True) == []
    served = [record(f"s{n}", f"p{n}", kind="server", service=f"s{n}") for n in range(5)]
    (found,) = find("high_service_count", root(), *peers, *served, whole=True)
    assert found.values == {"count": 6, "scope": "whole"}


# --- all ----------------------------------------------------------------------------------------------------------


def _work(run: Callable[[], object]) -> int:
    """How many functions `run` calls, ours and built-in ones."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("detector", MINE)
def test_the_work_grows_as_the_trace_does(detector: str) -> None:
    def trace(count: int) -> list[SpanRecord]:
        failed = calls(count, {**PAY, "http.response.status_code": 503}, error="no")
        queries = calls(count, SELECT, parent_id="deep0")
        deep = [record(f"deep{n}", f"deep{n - 1}" if n else "r", name="deep", status="error") for n in range(count)]
        return [root(ms=60_000, status="error"), *failed, *queries, *deep]

    find(detector, *trace(10))  # imports, caches
    small, large = trace(300), trace(1_200)
    assert _work(lambda: find(detector, *large)) < 5 * _work(lambda: find(detector, *small)) + 1_000


@pytest.mark.parametrize("detector", MINE)
def test_a_very_deep_trace(detector: str) -> None:
    deep = [record(f"{n}", f"{n - 1}" if n else "r", kind="client", status="error") for n in range(30_000)]
    find(detector, root(ms=60_000, status="error"), *deep)


REAL = {
    "nezha": {
        "high_service_count": "hipstershop.Frontend/Recv. needs 6 services (adservice, cartservice, currencyservice"
    },
    "zipkin": {"high_service_count": " needs 6 services ("},
    "xray": {
        "trace_errors": "In orders, dynamodb.PutItem failed with ResourceNotFoundException, and the request went on",
    },
}


@pytest.mark.parametrize("source", REAL)
def test_real_traces(source: str) -> None:
    """Nothing is found in them but what is there."""
    found: dict[str, list[str]] = {}
    for spans in getattr(real_traces, source)().values():
        top = next((span for span in spans if span.parent_id is None), spans[0])
        ordered = [top, *sorted((span for span in spans if span is not top), key=lambda span: span.end_ns)]
        for detector in MINE:
            for insight in find(detector, *ordered, whole=True):
                found.setdefault(detector, []).append(insight.sentence)
    assert set(found) == set(REAL[source])
    for name, said in REAL[source].items():
        assert any(said in sentence for sentence in found[name]), found[name]
