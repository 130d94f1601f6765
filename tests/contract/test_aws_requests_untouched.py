"""What nobody opted in to is not in the request: each compared, byte for byte, with what botocore sends by itself."""

from __future__ import annotations

import copy

import boto3
import pytest
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider

from spanwell import _guard
from spanwell.propagation import botocore_hooks, sending
from spanwell.propagation.codec import TraceHeadersPropagator
from support.aws_wire import Wire

KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:t"
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:m"
OWN = {"colour": {"DataType": "String", "StringValue": "rèd"}}
JSON = b'{"b" : 1.0, "a": {"traceless": "\xc3\xa9"}}\n'
# Differ from one request to the next, or are the one header that every call gets.
VARYING = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "x-amzn-trace-id"}

SENT = {
    "SendMessage": ("sqs", "send_message", {"QueueUrl": QUEUE, "MessageBody": "m", "MessageAttributes": OWN}),
    "SendMessageBatch": (
        "sqs",
        "send_message_batch",
        {"QueueUrl": QUEUE, "Entries": [{"Id": "1", "MessageBody": "m", "MessageAttributes": OWN}]},
    ),
    "ReceiveMessage": ("sqs", "receive_message", {"QueueUrl": QUEUE, "MessageAttributeNames": ["colour"]}),
    "Publish": ("sns", "publish", {"TopicArn": TOPIC, "Message": "m", "MessageAttributes": OWN}),
    "PublishBatch": (
        "sns",
        "publish_batch",
        {"TopicArn": TOPIC, "PublishBatchRequestEntries": [{"Id": "1", "Message": "m"}]},
    ),
    "PutEvents": ("events", "put_events", {"Entries": [{"Source": "s", "DetailType": "t", "Detail": JSON.decode()}]}),
    "StartExecution": ("stepfunctions", "start_execution", {"stateMachineArn": MACHINE, "name": "n", "input": "{}"}),
    "Invoke": ("lambda", "invoke", {"FunctionName": "f", "Payload": JSON}),
}
UNTOUCHED = {
    "Kinesis.PutRecord": ("kinesis", "put_record", {"StreamName": "s", "PartitionKey": "p", "Data": JSON}),
    "Kinesis.PutRecords": (
        "kinesis",
        "put_records",
        {"StreamName": "s", "Records": [{"PartitionKey": "p", "Data": JSON}]},
    ),
    "Kinesis.GetRecords": ("kinesis", "get_records", {"ShardIterator": "i"}),
    "Firehose.PutRecord": ("firehose", "put_record", {"DeliveryStreamName": "s", "Record": {"Data": JSON}}),
    "Firehose.PutRecordBatch": (
        "firehose",
        "put_record_batch",
        {"DeliveryStreamName": "s", "Records": [{"Data": JSON}]},
    ),
    "DynamoDB.PutItem": ("dynamodb", "put_item", {"TableName": "t", "Item": {"id": {"S": "1"}}}),
    "S3.PutObject": ("s3", "put_object", {"Bucket": "b", "Key": "k", "Body": JSON, "Metadata": {"own": "1"}}),
    "SecretsManager": ("secretsmanager", "get_secret_value", {"SecretId": "s"}),
    "SQS.DeleteMessage": ("sqs", "delete_message", {"QueueUrl": QUEUE, "ReceiptHandle": "r"}),
    "SNS.Publish to a telephone": ("sns", "publish", {"PhoneNumber": "+4912345", "Message": "m"}),
}
# The one field that the default adds to each request, as a path of JSON keys; None: see docs/aws-context.md.
ADDED = {
    "SendMessage": ("MessageSystemAttributes",),
    "SendMessageBatch": ("Entries", 0, "MessageSystemAttributes"),
    "ReceiveMessage": ("MessageSystemAttributeNames",),
    "PutEvents": ("Entries", 0, "TraceHeader"),
    "StartExecution": ("traceHeader",),
}


@pytest.fixture
def request_of(monkeypatch):
    """Make a call under spanwell with some options, or without any telemetry; what would go over the wire."""
    monkeypatch.setattr(_guard, "strict", True)
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([W3CBaggagePropagator(), TraceHeadersPropagator()]))
    provider = TracerProvider()

    def call(service, operation, params, *options, traced=True, **more):
        if traced:
            BotocoreInstrumentor().instrument(tracer_provider=provider)
            more = {"send": True, "process": True, **more}
            botocore_hooks.install(context=options, tracer_provider=provider, environ={}, **more)
        try:
            client = boto3.client(service, **KEYS)
            wire = Wire(client, b"" if service == "s3" else None)
            given = copy.deepcopy(params)
            getattr(client, operation)(**given)
            assert given == params
        finally:
            if traced:
                botocore_hooks.uninstall()
                BotocoreInstrumentor().uninstrument()
        return wire

    yield call
    propagate.set_global_textmap(before)


def seen(wire):
    """Method, URL, headers and body of a request; its length and checksum are those of the body."""
    request = wire.requests[-1]
    headers = {name.lower(): value for name, value in request.headers.items() if name.lower() not in VARYING}
    return request.method, request.url, headers, content(request.body)


def content(body):
    if hasattr(body, "read"):  # S3 sends in chunks
        body.seek(0)
        return body.read()
    return body


@pytest.mark.parametrize("name", UNTOUCHED)
def test_the_default_leaves_these_alone(request_of, name):
    traced = request_of(*UNTOUCHED[name])
    assert traced.header("X-Amzn-Trace-Id"), "the call is traced"
    assert seen(traced) == seen(request_of(*UNTOUCHED[name], traced=False))


@pytest.mark.parametrize("name", [*SENT, *UNTOUCHED])
def test_everything_switched_off_leaves_every_request_alone(request_of, name):
    call = {**SENT, **UNTOUCHED}[name]
    off = [f"-{option}" for option in sending.DEFAULTS]
    assert seen(request_of(*call, *off, process=False)) == seen(request_of(*call, traced=False))


@pytest.mark.parametrize("name", ADDED)
def test_the_default_adds_one_field(request_of, name):
    found, plain = request_of(*SENT[name]).json(), request_of(*SENT[name], traced=False).json()
    *path, last = ADDED[name]
    holder = found
    for key in path:
        holder = holder[key]
    assert holder.pop(last)
    assert found == plain


def test_the_default_adds_attributes_to_a_topics_messages(request_of):
    found, plain = request_of(*SENT["Publish"]).form(), request_of(*SENT["Publish"], traced=False).form()
    added = found.keys() - plain.keys()
    assert {found.pop(key) for key in added} >= {"traceparent", "String"}
    assert all(key.startswith("MessageAttributes.entry.") for key in added)
    assert found == plain


def test_the_default_leaves_the_payload_of_an_invocation_alone(request_of):
    found, plain = request_of(*SENT["Invoke"]), request_of(*SENT["Invoke"], traced=False)
    assert found.body() == plain.body() == JSON
    assert found.header("X-Amz-Client-Context")
