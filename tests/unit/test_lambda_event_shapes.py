"""What the invocation span says for every shape of event: tests/data/events, and those that only get a plain name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spanwell import _guard
from spanwell.aws_lambda import described
from spanwell.propagation.carriers import extract

EVENTS = Path(__file__).parents[1] / "data" / "events"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:shop"
TRACEPARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", True)


def read(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


CONTEXT = SimpleNamespace(
    aws_request_id="8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    invoked_function_arn=ARN,
    function_name="shop",
    function_version="$LATEST",
)


def starting(event: Any) -> dict[str, Any]:
    return described.starting(event, CONTEXT, extract(event), {}, cold=False, init_ns=0)


REQUEST = {
    "http.request.method": "GET",
    "url.path": "/pets/17",
    "client.address": "192.0.2.7",
    "url.query": "verbose=1",
}
MESSAGE = {"messaging.operation.type": "process", "messaging.operation.name": "process"}
SQS = {**MESSAGE, "messaging.system": "aws_sqs", "messaging.destination.name": "orders"}
SNS = {**MESSAGE, "messaging.system": "aws.sns", "messaging.destination.name": "prices"}
KINESIS = {**MESSAGE, "messaging.system": "aws_kinesis", "aws.kinesis.stream_name": "clicks"}
MACHINE = {"aws.step_functions.state_machine.arn": "arn:aws:states:eu-west-1:123456789012:stateMachine:checkout"}

# name, kind, faas.trigger, some of the other attributes
SHAPES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "apigateway_v1": ("GET /pets/{id}", "SERVER", "http", {**REQUEST, "http.route": "/pets/{id}"}),
    "apigateway_v2": (
        *("GET /pets/{id}", "SERVER", "http"),
        {**REQUEST, "http.route": "/pets/{id}", "url.path": "/prod/pets/17"},
    ),
    "apigateway_websocket_connect": ("$connect", "SERVER", "http", {"user_agent.original": "wscat/6"}),
    "apigateway_websocket_message": ("sendMessage", "SERVER", "http", {}),
    # A path is no route: it would be a name of its own for every pet.
    "function_url": ("shop", "SERVER", "http", REQUEST),
    "alb": ("shop", "SERVER", "http", REQUEST),
    "alb_multi_value": ("shop", "SERVER", "http", REQUEST),
    "appsync": ("Query.getPet", "SERVER", "http", {"graphql.operation.type": "query"}),
    "appsync_batch": ("Query.getPet", "SERVER", "http", {"graphql.operation.type": "query"}),
    "appsync_authorizer": ("shop", "SERVER", "http", {}),
    "sqs": ("process orders", "CONSUMER", "pubsub", {**SQS, "messaging.batch.message_count": 5}),
    "sns_sqs": ("process orders", "CONSUMER", "pubsub", {**SQS, "messaging.batch.message_count": 3}),
    "sns_sqs_raw": ("process orders", "CONSUMER", "pubsub", SQS),
    "eventbridge_sqs": ("process orders", "CONSUMER", "pubsub", SQS),
    "eventbridge_sns_sqs": ("process orders", "CONSUMER", "pubsub", SQS),
    "pipe_sqs": ("process orders", "CONSUMER", "pubsub", {**SQS, "messaging.batch.message_count": 2}),
    "sns": ("process prices", "CONSUMER", "pubsub", SNS),
    "eventbridge_sns": ("process prices", "CONSUMER", "pubsub", SNS),
    "eventbridge": (
        *("process com.example.shop", "CONSUMER", "pubsub"),
        {**MESSAGE, "messaging.system": "aws_eventbridge"},
    ),
    "kinesis": ("process clicks", "CONSUMER", "pubsub", {**KINESIS, "messaging.batch.message_count": 4}),
    "pipe_kinesis": ("process clicks", "CONSUMER", "pubsub", KINESIS),
    "firehose": ("process clicks-to-s3", "CONSUMER", "pubsub", {**MESSAGE, "messaging.system": "aws_firehose"}),
    "dynamodb": (
        *("process orders", "CONSUMER", "datasource"),
        {"faas.document.collection": "orders", "faas.document.operation": "insert"},
    ),
    "s3": (
        *("process amzn-s3-demo-bucket", "CONSUMER", "datasource"),
        {"faas.document.name": "invoices/17.pdf", "aws.s3.bucket": "amzn-s3-demo-bucket"},
    ),
    "schedule": ("shop", "SERVER", "timer", {"faas.time": "2026-03-10T00:03:59Z"}),
    "scheduler": ("shop", "SERVER", "timer", {"faas.time": "2026-03-10T00:03:59Z"}),
    "stepfunctions_context": ("shop", "SERVER", "other", MACHINE),
    "stepfunctions_payload": ("shop", "SERVER", "other", MACHINE),
    **dict.fromkeys(
        (
            *("stepfunctions_token", "cognito", "cognito_sync", "iot_rule", "iot_lifecycle", "iot_events"),
            *("iot_1click", "iot_button", "cloudwatch_logs", "cloudwatch_alarm", "direct", "direct_with_context"),
        ),
        ("shop", "SERVER", "other", {}),
    ),
}


def test_every_event_has_a_row() -> None:
    assert {path.stem for path in EVENTS.glob("*.json")} == set(SHAPES)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_known_event(name: str) -> None:
    event = read(name)
    before = json.dumps(event)
    found = extract(event)
    title, kind, trigger, some = SHAPES[name]
    attributes = starting(event)
    assert (described.name_of(found, "shop"), described.kind_of(found).name) == (title, kind)
    assert attributes["faas.trigger"] == trigger
    assert {key: attributes.get(key) for key in some} == some
    assert attributes["faas.invocation_id"] == "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    assert json.dumps(event) == before
    for key, value in attributes.items():
        assert isinstance(value, (str, bool, int, float, list)), key


# Events that carriers knows nothing of, as AWS documents them: the span has the function's name and invents nothing.
PLAIN: dict[str, Any] = {
    "an asynchronous invocation's destination": {
        "version": "1.0",
        "requestContext": {"requestId": "e4b46cbf", "functionArn": ARN, "condition": "RetriesExhausted"},
        "requestPayload": {"traceparent": TRACEPARENT},
        "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "…"},
    },
    "a batch that failed": {
        "requestContext": {"requestId": "e4b46cbf", "functionArn": ARN, "condition": "RetryAttemptsExhausted"},
        "KinesisBatchInfo": {"shardId": "shardId-000000000001", "batchSize": 500},
    },
    "a token authorizer": {"type": "TOKEN", "authorizationToken": "t", "methodArn": "arn:aws:execute-api:…"},
    "VPC Lattice": {
        "version": "2.0",
        "path": "/pets/17",
        "method": "GET",
        "headers": {"traceparent": [TRACEPARENT]},
        "requestContext": {"serviceArn": "arn:aws:vpc-lattice:eu-west-1:123456789012:service/svc-1"},
    },
    "MSK": {
        "eventSource": "aws:kafka",
        "records": {"orders-0": [{"topic": "orders", "offset": 15, "value": "SGVsbG8=", "headers": [{"a": [48]}]}]},
    },
    "RabbitMQ": {
        "eventSource": "aws:rmq",
        "rmqMessagesByQueue": {"orders::/": [{"basicProperties": {}, "data": "e30="}]},
    },
    "SES": {"Records": [{"eventSource": "aws:ses", "eventVersion": "1.0", "ses": {"mail": {}, "receipt": {}}}]},
    "CodeCommit": {"Records": [{"eventSource": "aws:codecommit", "eventName": "ReferenceChanges"}]},
    "a custom resource": {"RequestType": "Create", "ResponseURL": "https://example.com", "ResourceProperties": {}},
    "AWS Config": {"invokingEvent": "{}", "ruleParameters": "{}", "resultToken": "t", "accountId": "123456789012"},
    "CodePipeline": {"CodePipeline.job": {"id": "1", "data": {}}},
    "the rotation of a secret": {"Step": "createSecret", "SecretId": "arn:aws:…", "ClientRequestToken": "t"},
    "Lex": {"sessionState": {"intent": {"name": "Order"}}, "bot": {"name": "b"}, "inputTranscript": "x"},
    "a Bedrock agent": {"messageVersion": "1.0", "agent": {"name": "a"}, "apiPath": "/pets", "httpMethod": "GET"},
    "S3 Batch Operations": {"invocationSchemaVersion": "1.0", "job": {"id": "j"}, "tasks": [{"s3Key": "k"}]},
    "S3 Object Lambda": {"getObjectContext": {"outputToken": "t"}, "userRequest": {"headers": {"Host": "h"}}},
    "DocumentDB": {"eventSource": "aws:docdb", "events": [{"event": {"ns": {"db": "shop", "coll": "orders"}}}]},
    "a text": "orders",
    "a number": 7,
    "nothing": None,
    "a list": [1, 2],
    "an empty object": {},
    "records that are none": {"Records": "orders"},
    "a request that is none": {"requestContext": [], "headers": 7},
}


@pytest.mark.parametrize("what", PLAIN)
def test_an_event_of_another_kind_has_the_functions_name(what: str) -> None:
    event = PLAIN[what]
    found = extract(event)
    assert (described.name_of(found, "shop"), described.kind_of(found).name) == ("shop", "SERVER")
    assert starting(event) == {
        "faas.trigger": "other",
        "faas.coldstart": False,
        "faas.invocation_id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        "aws.lambda.invoked_arn": ARN,
        "cloud.resource_id": ARN,
        "cloud.account.id": "123456789012",
    }


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_request_authorizer_is_a_request(version: str) -> None:
    """API Gateway asks it in the shape of the request, whose context it continues."""
    event = read("apigateway_v1" if version == "1.0" else "apigateway_v2")
    event.update(version=version, type="REQUEST", methodArn="arn:aws:execute-api:…")
    assert described.name_of(extract(event), "shop") == "GET /pets/{id}"
