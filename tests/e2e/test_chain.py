"""One trace from a request through SQS, SNS, EventBridge and SQS into a Lambda function: real processes, moto as AWS.

Flask -> queue `orders` -> billing -> topic -> queue `billed` -> stock -> EventBridge -> queue `packed` -> mail ->
queue `last` -> Lambda. The applications (tests/e2e/chain) have no tracing code; each runs under `spanwell run`.

moto stands in for AWS, with these differences:
- SendMessageBatch loses the system attributes of its entries: messages are sent one by one and received in batches.
- SNS does not hand the X-Amzn-Trace-Id of a request on to its subscribers: `traceparent` has to do.
- EventBridge does not deliver TraceHeader, as AWS's does not: the leg is the opt-in `eventbridge_detail`.
- No Lambda: the test receives from `last` as Lambda's poller does and writes the event that Lambda would make of it;
  chain/bootstrap.py calls the handler as Lambda's runtime client does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import boto3
import pytest
from botocore.config import Config

from spanwell.cli.processes import Children
from support.servers import moto
from support.started import LAUNCHERS, run, stored, traced

pytestmark = [pytest.mark.slow, pytest.mark.full]

CHAIN = Path(__file__).parent / "chain"
QUEUES = ("orders", "billed", "packed", "last")
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
ARN = "arn:aws:sqs:eu-west-1:123456789012:last"

# Service and name of a span -> its kind, its parent and what it links to. Nothing else is in the trace.
FRONT = {
    "web POST /orders": ("server", None, None),
    "web SQS.SendMessage": ("producer", "web POST /orders", None),
}
MIDDLE = {
    "billing process orders": ("consumer", "web SQS.SendMessage", "web SQS.SendMessage"),
    "billing orders send": ("producer", "billing process orders", None),
    "billing SQS.DeleteMessage": ("client", "billing process orders", None),
    "stock process billed": ("consumer", "billing orders send", "billing orders send"),
    "stock EventBridge.PutEvents": ("producer", "stock process billed", None),
    "stock SQS.DeleteMessage": ("client", "stock process billed", None),
    "mail process packed": ("consumer", "stock EventBridge.PutEvents", "stock EventBridge.PutEvents"),
    "mail SQS.SendMessage": ("producer", "mail process packed", None),
    "mail SQS.DeleteMessage": ("client", "mail process packed", None),
}
FUNCTION = {
    "function notify": ("server", "mail SQS.SendMessage", "mail SQS.SendMessage"),
    "function process last": ("consumer", "function notify", "mail SQS.SendMessage"),
    "function DynamoDB.PutItem": ("client", "function process last", None),
}


class Span:
    """One row of the sqlite file."""

    def __init__(self, row):
        self.trace_id, self.span_id, self.parent_id, name, self.kind, service, links, attributes = row
        self.key = f"{service} {name}"
        self.links = {(link["trace_id"], link["span_id"]) for link in json.loads(links or "[]")}
        self.attributes = json.loads(attributes or "{}")
        self.context = (self.trace_id, self.span_id)


class Shop:
    """The chain's processes and queues on one moto."""

    def __init__(self, endpoint, folder, children):
        self.folder, self.children = folder, children
        self.db = folder / "traces.db"
        options = {"endpoint_url": endpoint, "region_name": "eu-west-1", "config": Config(proxies={})}
        self.sqs = boto3.client("sqs", **options)
        self.urls = {name: self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
        arns = {name: f"arn:aws:sqs:eu-west-1:123456789012:{name}" for name in QUEUES}
        sns, events = boto3.client("sns", **options), boto3.client("events", **options)
        topic = sns.create_topic(Name="orders")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arns["billed"])
        events.put_rule(Name="packed", EventPattern=json.dumps({"source": ["chain.stock"]}))
        events.put_targets(Rule="packed", Targets=[{"Id": "1", "Arn": arns["packed"]}])
        boto3.client("dynamodb", **options).create_table(
            TableName="done",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )
        self.urls_and_topic = {f"CHAIN_{name.upper()}": url for name, url in self.urls.items()}
        self.urls_and_topic.update(CHAIN_TOPIC=topic, AWS_ENDPOINT_URL=endpoint, **KEYS)

    def environment(self, service, **extra):
        return traced(
            self.db,
            **self.urls_and_topic,
            **{
                "OTEL_SERVICE_NAME": service,
                "SPANWELL_MESSAGE_CONTEXT": "sqs_attributes,eventbridge_detail",
                "SPANWELL_RESOURCE_TIMEOUT": "0",
                **extra,
            },
        )

    def serve(self, **extra):
        command = [*LAUNCHERS["run"], sys.executable, str(CHAIN / "web.py")]
        self.web = self.children.start("web", command, self.environment("web", **extra))
        self.url = self.web.line("listening on ", 30)

    def post(self, path, body=None):
        request = Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with build_opener(ProxyHandler({})).open(request, timeout=20) as answer:
            return json.load(answer)

    def work(self, stage, number=1, **extra):
        """Let the process of one stage hand on `number` messages."""
        done = run(
            [sys.executable, str(CHAIN / "worker.py"), stage, str(number)],
            self.environment(stage, **extra),
            timeout=60,
        )
        assert done.code == 0, done.err

    def receive(self, name, **options):
        return self.sqs.receive_message(
            QueueUrl=self.urls[name],
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            **options,
        ).get("Messages", [])

    def invoke(self, trace, records, **extra):
        """Call the function with `records`, in an environment that says `trace`."""
        file = self.folder / "invocations.json"
        file.write_text(json.dumps([{"trace": trace, "event": {"Records": records}}]))
        lambdas = {"AWS_LAMBDA_FUNCTION_NAME": "notify", "_HANDLER": "function.handler", "PYTHONPATH": str(CHAIN)}
        environment = self.environment("function", **{**lambdas, **extra})
        done = run([sys.executable, str(CHAIN / "bootstrap.py"), str(file)], environment, timeout=60)
        assert done.code == 0, done.err

    def spans(self):
        """All spans, once the front end has stored its own."""
        self.web.process.terminate()
        self.web.wait_or_kill(20)
        columns = "trace_id, span_id, parent_id, name, kind, service, links, attributes"
        with contextlib.closing(sqlite3.connect(self.db)) as connection:
            return [Span(row) for row in connection.execute(f"SELECT {columns} FROM span")]


def delivered(message):
    """The record that Lambda's poller makes of a received message."""
    attributes = {
        name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
        for name, value in message.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": attributes,
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "awsRegion": "eu-west-1",
    }


def lambdas_header(sampled):
    """What Lambda's service puts into the environment of an invocation."""
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled={sampled}"


def trace_id(header):
    return header[5:40].removeprefix("1-").replace("-", "")


def edges(spans):
    """The table of `spans`, as FRONT and its kin write it; what is outside of them shows as `?`."""
    keys = {span.context: span.key for span in spans}
    found = {}
    for span in spans:
        assert span.key not in found, f"twice: {span.key}"
        parent = None if span.parent_id is None else keys.get((span.trace_id, span.parent_id), "?")
        linked = sorted(keys.get(link, "?") for link in span.links)
        found[span.key] = (span.kind, parent, " ".join(linked) or None)
    return found


@pytest.fixture
def shop(tmp_path):
    with moto() as endpoint, Children(tmp_path) as children:
        yield Shop(endpoint, tmp_path, children)


def pass_on(shop, number):
    for stage in ("billing", "stock", "mail"):
        shop.work(stage, number)
    records = [delivered(message) for message in shop.receive("last")]
    assert len(records) == number
    return records


def test_one_message_is_one_trace(shop):
    shop.serve()
    shop.post("/orders", {"order": "1", "attributes": 0})
    # Passive tracing: the header is there and records nothing. No X-Ray exporter, so it silences nothing either.
    shop.invoke(lambdas_header(0), pass_on(shop, 1))
    spans = shop.spans()
    (front,) = (span for span in spans if span.key == "web POST /orders")
    assert edges([span for span in spans if span.trace_id == front.trace_id]) == {**FRONT, **MIDDLE, **FUNCTION}
    # Receiving takes place before it is known what for.
    apart = {(span.key, span.parent_id) for span in spans if span.trace_id != front.trace_id}
    assert apart == {(f"{stage} SQS.ReceiveMessage", None) for stage in ("billing", "stock", "mail")}


def test_ten_messages_of_ten_origins(shop):
    shop.serve()
    for number in range(10):
        shop.post("/orders", {"order": str(number), "attributes": 0})
    header = lambdas_header(1)
    shop.invoke(header, pass_on(shop, 10))
    spans = shop.spans()
    fronts = [span for span in spans if span.key == "web POST /orders"]
    assert len({span.trace_id for span in fronts}) == 10
    for front in fronts:
        assert edges([span for span in spans if span.trace_id == front.trace_id]) == {**FRONT, **MIDDLE}
    received = [span for span in spans if span.key.endswith("SQS.ReceiveMessage")]
    assert all(span.parent_id is None for span in received)

    inside = [span for span in spans if span.trace_id == trace_id(header)]
    (invocation,) = (span for span in inside if span.key == "function notify")
    (batch,) = (span for span in inside if span.key == "function process last")
    assert invocation.parent_id == header[48:64], "X-Ray's parent stays, whatever the batch"
    sent = {span.context for span in spans if span.key == "mail SQS.SendMessage"}
    assert len(sent) == 10
    assert invocation.links == batch.links == sent
    assert batch.parent_id == invocation.span_id
    puts = [span for span in inside if span.key == "function DynamoDB.PutItem"]
    assert [span.parent_id for span in puts] == [batch.span_id] * 10
    assert len(inside) == 12
    assert len(spans) == len(received) + 10 * len({**FRONT, **MIDDLE}) + len(inside)


def test_messages_in_the_course_of_a_request(shop):
    shop.serve()
    for number in range(10):
        shop.post("/orders", {"order": str(number), "attributes": 0})
    assert shop.post("/relay") == {"relayed": 10}
    spans = shop.spans()
    (request,) = (span for span in spans if span.key == "web POST /relay")
    by_id = {span.context: span for span in spans}
    processed = [span for span in spans if span.key == "web process orders"]
    assert {(span.trace_id, span.parent_id) for span in processed} == {request.context}
    origins = [by_id[link] for span in processed for link in span.links]
    assert [len(span.links) for span in processed] == [1] * 10
    assert {origin.key for origin in origins} == {"web SQS.SendMessage"}
    assert len({origin.trace_id for origin in origins}) == 10
    assert request.trace_id not in {origin.trace_id for origin in origins}
    relayed = [by_id[span.trace_id, span.parent_id].key for span in spans if span.key == "web SQS.SendMessage"]
    assert sorted(relayed) == ["web POST /orders"] * 10 + ["web process orders"] * 10


def test_a_message_with_ten_attributes_has_no_room(shop):
    shop.serve()
    shop.post("/orders", {"order": "1", "attributes": 10})
    own = {f"own{number}" for number in range(10)}
    (message,) = shop.receive("orders", VisibilityTimeout=0)
    assert message["MessageAttributes"].keys() == own
    assert "AWSTraceHeader" in message["Attributes"]
    shop.work("billing")
    (message,) = shop.receive("billed", VisibilityTimeout=0)
    assert json.loads(message["Body"])["MessageAttributes"].keys() == own
    shop.work("stock")
    found = edges(shop.spans())
    assert found["billing process orders"] == MIDDLE["billing process orders"], "the X-Ray header carries it"
    # AWS's SNS would have handed the header on, moto's does not (above): a trace of its own, and nothing fails.
    assert found["stock process billed"] == ("consumer", None, None)
    assert found["stock EventBridge.PutEvents"] == MIDDLE["stock EventBridge.PutEvents"]


HELLO = """
def handler(event, context):
    return {"statusCode": 200, "hello": event["name"]}
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    "more", ["", "import boto3\n", "import opentelemetry.trace\nopentelemetry.trace.get_tracer('x')\n"]
)
def test_a_function_is_traced_whatever_it_imports(tmp_path, launcher, more):
    """Its handler is wrapped once its module is whole, and before the runtime takes it from there."""
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "hello.py").write_text(more + HELLO)
    file = tmp_path / "invocations.json"
    file.write_text(json.dumps([{"trace": lambdas_header(sampled), "event": {"name": "x"}} for sampled in (1, 0)]))
    function = {
        "AWS_LAMBDA_FUNCTION_NAME": "hello",
        "_HANDLER": "functions/hello.handler",
        "PYTHONPATH": str(tmp_path),
    }
    environment = traced(tmp_path / "traces.db", SPANWELL_RESOURCE_TIMEOUT="0", **KEYS, **function)
    done = run([sys.executable, str(CHAIN / "bootstrap.py"), str(file)], environment, launcher=launcher)
    assert done.code == 0, done.err
    assert done.err == ""
    first, second = json.loads(file.read_text())
    found = [(span.name, span.trace_id, span.parent_id) for span in stored(tmp_path / "traces.db")]
    # Of the second header nothing records a span that could be the parent; its trace id stays.
    assert found == [
        ("hello", trace_id(first["trace"]), first["trace"][48:64]),
        ("hello", trace_id(second["trace"]), None),
    ]
