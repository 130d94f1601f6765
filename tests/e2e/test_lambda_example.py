"""examples/lambda: both functions in the real runtime client, with and without the layer, moto in place of AWS."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.lambda_runtime import FUNCTION, Runtime, trace_header
from support.servers import moto

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "lambda"
KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
ARN = "arn:aws:sqs:eu-west-1:123456789012:orders"


class Aws:
    """The queue and the table of the template, on a simulated AWS."""

    def __init__(self, url: str) -> None:
        import boto3

        self.url = url
        self.queue = boto3.client("sqs", endpoint_url=url, **KEYS)
        self.queue_url = self.queue.create_queue(QueueName="orders")["QueueUrl"]
        self.table = boto3.resource("dynamodb", endpoint_url=url, **KEYS).create_table(
            TableName="orders",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )

    def polled(self) -> dict[str, Any]:
        """The event that Lambda's poller makes of what waits in the queue."""
        found = self.queue.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return {
            "Records": [
                {
                    "messageId": each["MessageId"],
                    "receiptHandle": each["ReceiptHandle"],
                    "body": each["Body"],
                    "attributes": each.get("Attributes", {}),
                    "messageAttributes": {},
                    "md5OfBody": each["MD5OfBody"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": ARN,
                    "awsRegion": "eu-west-1",
                }
                for each in found.get("Messages", ())
            ]
        }

    def stored(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.table.scan()["Items"]
        return sorted(items, key=lambda item: item["id"])


@pytest.fixture
def aws() -> Iterator[Aws]:
    with moto() as url:
        yield Aws(url)


def function(aws: Aws, name: str, *, layer: str | None = "source", otlp: bool = False, **env: str) -> Runtime:
    variables = {
        "AWS_ENDPOINT_URL": aws.url,
        "QUEUE_URL": aws.queue_url,
        "TABLE": "orders",
        "OTEL_SERVICE_NAME": name.replace("_", "-"),
        **env,
    }
    return Runtime(EXAMPLE, handler=f"{name}.handler", layer=layer, otlp=otlp, env=variables)


def post(body: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What an HTTP API sends, payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "POST /orders",
        "rawPath": "/orders",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", **(headers or {})},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "api-id.execute-api.eu-west-1.amazonaws.com",
            "http": {
                "method": "POST",
                "path": "/orders",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "curl/8.5",
            },
            "requestId": "id",
            "routeKey": "POST /orders",
            "stage": "$default",
            "timeEpoch": 1583348638390,
        },
        "body": body,
        "isBase64Encoded": False,
    }


ORDER = post('{"id": "A-1", "amount": 2500}')


def answers(aws: Aws, layer: str | None) -> list[Any]:
    """What both functions return for good and bad input, without the ids of messages."""
    found = []
    with function(aws, "orders_api", layer=layer) as api:
        for event in (ORDER, post("no JSON"), post("[1]")):
            payload = api.invoke(event, timeout=20).payload
            body = json.loads(payload["body"])
            body.pop("message", None)
            found.append((payload["statusCode"], body))
    with function(aws, "orders_worker", layer=layer) as worker:
        event = aws.polled()
        broken = {**event["Records"][0], "messageId": "broken", "body": "{}"}
        event["Records"].append(broken)
        found.append(worker.invoke(event, timeout=20).payload)
    return found


def test_the_functions_answer_the_same_with_and_without_the_layer(aws: Aws) -> None:
    plain = answers(aws, None)
    assert plain == [
        (202, {"id": "A-1"}),
        (400, {"error": "an order is a JSON object with id and amount"}),
        (400, {"error": "an order is a JSON object with id and amount"}),
        {"batchItemFailures": [{"itemIdentifier": "broken"}]},
    ]
    assert answers(aws, "source") == plain
    assert aws.stored() == [{"id": "A-1", "amount": 2500, "state": "accepted"}]


def one(spans: list[Any], kind: str) -> Any:
    [found] = [span for span in spans if span.kind == kind]
    return found


def segment(header: str) -> tuple[str, str]:
    """(trace id, span id) of an X-Ray header."""
    parts = dict(part.split("=") for part in header.split(";"))
    return parts["Root"][2:].replace("-", ""), parts["Parent"]


@contextlib.contextmanager
def running(*functions: Runtime) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for each in functions:
            stack.enter_context(each)
        yield


def test_in_x_ray_it_is_one_trace(aws: Aws) -> None:
    """Active tracing: each function's segment is the parent, and the consumer's span links to the sending one."""
    api, worker = function(aws, "orders_api"), function(aws, "orders_worker")
    with running(api, worker):
        first = trace_header()
        assert api.invoke(ORDER, timeout=20, trace=first).payload["statusCode"] == 202
        sent = api.spans(2)
        server, producer = one(sent, "SERVER"), one(sent, "PRODUCER")
        assert (server.trace_id, server.parent_id) == segment(first)
        assert server.name == "POST /orders"
        assert server.resource["service.name"] == "orders-api"
        assert (producer.trace_id, producer.parent_id) == (server.trace_id, server.span_id)

        # Lambda goes on with the trace of the batch's message, in a segment of its own.
        second = f"Root={first.split(';')[0][5:]};Parent=00f067aa0ba902b7;Sampled=1"
        event = aws.polled()
        assert producer.span_id in event["Records"][0]["attributes"]["AWSTraceHeader"]
        assert worker.invoke(event, timeout=20, trace=second).payload == {"batchItemFailures": []}
        stored = worker.spans(2)
        consumer, call = one(stored, "CONSUMER"), one(stored, "CLIENT")
        assert (consumer.trace_id, consumer.parent_id) == segment(second)
        assert (producer.trace_id, producer.span_id) in consumer.links
        assert (consumer.name, consumer.resource["service.name"]) == ("process orders", "orders-worker")
        assert (call.trace_id, call.parent_id) == (server.trace_id, consumer.span_id)
        assert call.name == "DynamoDB.PutItem"
        assert call.attributes["aws.remote.resource.identifier"] == "orders"
        assert {each.trace_id for each in (*sent, *stored)} == {segment(first)[0]}
    assert aws.stored() == [{"id": "A-1", "amount": 2500, "state": "accepted"}]


def test_elsewhere_it_is_one_trace_without_active_tracing(aws: Aws) -> None:
    """Spans by OTLP, Lambda's own header unsampled: the client's trace goes through to the table."""
    api = function(aws, "orders_api", otlp=True, OTEL_TRACES_EXPORTER="otlp")
    worker = function(aws, "orders_worker", otlp=True, OTEL_TRACES_EXPORTER="otlp")
    trace, client = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
    with running(api, worker):
        event = post(ORDER["body"], {"traceparent": f"00-{trace}-{client}-01"})
        api.invoke(event, timeout=20, trace=trace_header(sampled=False))
        sent = api.spans(2)
        server, producer = one(sent, "SERVER"), one(sent, "PRODUCER")
        assert (server.trace_id, server.parent_id) == (trace, client)

        worker.invoke(aws.polled(), timeout=20, trace=trace_header(sampled=False))
        stored = worker.spans(2)
        consumer, call = one(stored, "CONSUMER"), one(stored, "CLIENT")
        assert (consumer.trace_id, consumer.parent_id) == (trace, producer.span_id)
        assert (producer.trace_id, producer.span_id) in consumer.links
        assert (call.trace_id, call.parent_id) == (trace, consumer.span_id)


def test_every_span_is_out_before_the_response(aws: Aws) -> None:
    with function(aws, "orders_api") as api:
        answer = api.invoke(ORDER, timeout=20)
        spans = api.spans(2)
    assert len(spans) == 2
    assert all(span.received_ns < answer.posted_ns for span in spans)


def test_the_template_is_by_its_linter_and_fits_the_handlers() -> None:
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, EXAMPLE / "template.yaml"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    text = (EXAMPLE / "template.yaml").read_text()
    for module in ("orders_api", "orders_worker"):
        assert f"Handler: {module}.handler" in text
        for variable in ("QUEUE_URL", "TABLE"):
            assert (
                f'os.environ["{variable}"]' not in (EXAMPLE / f"{module}.py").read_text()
            ) or f"{variable}:" in text
    assert FUNCTION not in text
