"""Name, kind and attributes of an invocation's span."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from spanwell.aws_lambda import described
from spanwell.propagation.carried import Extracted
from spanwell.propagation.carriers import extract

EVENTS = Path(__file__).parents[1] / "data" / "events"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:resize"


def read(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def context(**more: Any) -> SimpleNamespace:
    given = {
        "aws_request_id": "8476a536",
        "invoked_function_arn": ARN,
        "function_version": "7",
        "get_remaining_time_in_millis": lambda: 2500,
    }
    return SimpleNamespace(**{**given, **more})


def starting(event: object, called: object = None, *, cold: bool = False, init_ns: int = 0, **environ: str) -> Any:
    called = context() if called is None else called
    return described.starting(event, called, extract(event), environ, cold=cold, init_ns=init_ns)


@pytest.mark.parametrize(
    ("name", "expected", "kind"),
    [
        ("apigateway_v1", "GET /pets/{id}", SpanKind.SERVER),
        ("apigateway_v2", "GET /pets/{id}", SpanKind.SERVER),
        ("alb", "resize", SpanKind.SERVER),
        ("function_url", "resize", SpanKind.SERVER),
        ("apigateway_websocket_connect", "$connect", SpanKind.SERVER),
        ("appsync", "Query.getPet", SpanKind.SERVER),
        ("sqs", "process orders", SpanKind.CONSUMER),
        ("sns", "process prices", SpanKind.CONSUMER),
        ("eventbridge", "process com.example.shop", SpanKind.CONSUMER),
        ("kinesis", "process clicks", SpanKind.CONSUMER),
        ("dynamodb", "process orders", SpanKind.CONSUMER),
        ("s3", "process amzn-s3-demo-bucket", SpanKind.CONSUMER),
        ("schedule", "resize", SpanKind.SERVER),
        ("direct", "resize", SpanKind.SERVER),
        ("stepfunctions_context", "resize", SpanKind.SERVER),
    ],
)
def test_names_and_kinds(name: str, expected: str, kind: SpanKind) -> None:
    found = extract(read(name))
    assert (described.name_of(found, "resize"), described.kind_of(found)) == (expected, kind)


def test_a_name_holds_no_value_of_a_request() -> None:
    found = Extracted("http", "apigateway_v2", method="GET", route="$default", path="/orders/3")
    assert described.name_of(found, "resize") == "resize"
    found = Extracted("http", "apigateway_v2", method="GET", route="/orders/{id}", path="/orders/3")
    assert described.name_of(found, "resize") == "GET /orders/{id}"
    assert described.name_of(Extracted(), "") == "invoke"


def test_who_was_invoked() -> None:
    attributes = starting({})
    assert attributes == {
        "faas.trigger": "other",
        "faas.coldstart": False,
        "faas.invocation_id": "8476a536",
        "aws.lambda.invoked_arn": ARN,
        "cloud.resource_id": ARN,
        "cloud.account.id": "123456789012",
        "spanwell.lambda.start_remaining_ms": 2500.0,
    }


def test_an_alias_is_named_by_its_version() -> None:
    attributes = starting({}, context(invoked_function_arn=ARN + ":live"))
    assert attributes["aws.lambda.invoked_arn"] == ARN + ":live"
    assert attributes["cloud.resource_id"] == ARN + ":7"


def test_a_cold_start() -> None:
    attributes = starting({}, cold=True, init_ns=123_400_000, AWS_LAMBDA_INITIALIZATION_TYPE="on-demand")
    assert attributes["faas.coldstart"] is True
    assert attributes["spanwell.lambda.init_ms"] == 123.4
    assert attributes["spanwell.lambda.initialization_type"] == "on-demand"


@pytest.mark.parametrize(
    ("event", "query"),
    [
        ({"requestContext": {"http": {"method": "GET"}}, "rawQueryString": "a=1&b=%20"}, "a=1&b=%20"),
        (
            {
                "requestContext": {},
                "httpMethod": "GET",
                "multiValueQueryStringParameters": {"a": ["1", "2 3"]},
                "queryStringParameters": {"a": "2 3"},
            },
            "a=1&a=2+3",
        ),
        ({"requestContext": {}, "httpMethod": "GET", "queryStringParameters": {"a": "ä"}}, "a=%C3%A4"),
        ({"requestContext": {"elb": {}}, "httpMethod": "GET", "queryStringParameters": {"a": "%C3"}}, "a=%C3"),
        ({"requestContext": {}, "httpMethod": "GET", "queryStringParameters": None}, None),
        (
            {"requestContext": {}, "httpMethod": "GET", "multiValueQueryStringParameters": {"a": {}, "b": 1}},
            "a=%7B%7D&b=1",
        ),
        ({"requestContext": {}, "httpMethod": "GET", "multiValueQueryStringParameters": {"a": None}}, "a="),
    ],
)
def test_the_query_of_a_request(event: dict[str, Any], query: str | None) -> None:
    assert starting(event).get("url.query") == query


@pytest.mark.parametrize(
    "called", [None, SimpleNamespace(), SimpleNamespace(aws_request_id=3, invoked_function_arn="x")]
)
def test_an_odd_context_object(called: Any) -> None:
    found = described.starting({}, called, Extracted(), {}, cold=False, init_ns=0)
    assert found["faas.trigger"] == "other"
    assert described.remaining_ms(called) is None


def test_an_unreadable_context_of_a_message_is_told() -> None:
    record = {"eventSource": "aws:sqs", "messageAttributes": {"traceparent": {"stringValue": "00-x"}}}
    assert starting({"Records": [record]})["spanwell.context.problem"] == "unreadable traceparent"


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"statusCode": 200}, 200),
        ({"statusCode": "503"}, 503),
        ({"statusCode": 99}, None),
        ({"statusCode": True}, None),
        ({"statusCode": "abc"}, None),
        ({"statusCode": None}, None),
        ("text", None),
        (None, None),
    ],
)
def test_the_status_of_a_response(result: object, status: int | None) -> None:
    found = described.ended(Extracted("http"), result)
    assert found == ({} if status is None else {"http.response.status_code": status})
    assert described.ended(Extracted("other"), result) == {}


def test_messages_that_were_given_back() -> None:
    found = extract({"Records": [{"eventSource": "aws:sqs"}, {"eventSource": "aws:sqs"}]})
    failed = {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert described.ended(found, failed) == {"spanwell.lambda.batch_item_failures": 1}
    assert described.ended(found, {"batchItemFailures": []}) == {}
    assert described.ended(found, {"batchItemFailures": 3}) == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_no_event_is_changed(name: str) -> None:
    event = read(name)
    before = json.dumps(event)
    starting(event)
    assert json.dumps(event) == before
