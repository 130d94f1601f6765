"""`spanwell.messages` on what real clients receive from a real moto server, with and without the hooks."""

from __future__ import annotations

import json

import boto3
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanwell
from spanwell import _guard
from spanwell.propagation import botocore_hooks
from spanwell.propagation.messages import Messages
from support.servers import moto

pytestmark = pytest.mark.slow

KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
PARENT = 0x53995C3F42CD8AD8
X = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
W = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


@pytest.fixture(scope="module")
def endpoint():
    with moto() as url:
        yield url


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def client(service, endpoint):
    return boto3.client(service, endpoint_url=endpoint, **KEYS)


@pytest.fixture
def queue(endpoint, request):
    sqs = client("sqs", endpoint)
    url = sqs.create_queue(QueueName=f"q-{abs(hash(request.node.name))}")["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


def processed(exporter):
    return [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.CONSUMER]


def links(exporter):
    return [[link.context.span_id for link in span.links] for span in processed(exporter)]


@pytest.mark.parametrize("raw", [False, True])
def test_sns_to_sqs_without_the_hooks(endpoint, queue, provider, exporter, raw):
    sqs, sns = client("sqs", endpoint), client("sns", endpoint)
    topic = sns.create_topic(Name="prices")["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    delivery = {"RawMessageDelivery": "true"} if raw else {}
    subscription = sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=delivery, ReturnSubscriptionArn=True
    )
    attributes = {"traceparent": {"DataType": "String", "StringValue": W}}
    sns.publish(TopicArn=topic, Message="1", MessageAttributes=attributes)
    received = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])
    for message in spanwell.messages(received, "orders", tracer_provider=provider):
        assert ("TopicArn" in message["Body"]) is not raw
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    assert links(exporter) == [[PARENT]]
    assert processed(exporter)[0].parent.span_id == PARENT


def test_resources_without_the_hooks(endpoint, queue, provider, exporter):
    attributes = {"AWSTraceHeader": {"DataType": "String", "StringValue": X}}
    resource = boto3.resource("sqs", endpoint_url=endpoint, **KEYS).Queue(queue)
    resource.send_message(MessageBody="1", MessageSystemAttributes=attributes)
    for message in spanwell.messages(
        resource.receive_messages(AttributeNames=["AWSTraceHeader"]), tracer_provider=provider
    ):
        assert message.body == "1"
    assert links(exporter) == [[PARENT]]


def test_with_the_hooks_each_message_has_one_span(endpoint, queue, provider, exporter):
    sqs = client("sqs", endpoint)
    botocore_hooks.install(send=True, process=True, tracer_provider=provider)
    try:
        with suppress_instrumentation():
            sqs.send_message(
                QueueUrl=queue,
                MessageBody="1",
                MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": X}},
            )
        received = sqs.receive_message(QueueUrl=queue)
        assert isinstance(received["Messages"], Messages)
        for _ in spanwell.messages(received):
            pass
    finally:
        botocore_hooks.uninstall()
    assert links(exporter) == [[PARENT]]
    assert "Attributes" not in received["Messages"][0]


def test_kinesis_without_the_hooks(endpoint, provider, exporter):
    kinesis = client("kinesis", endpoint)
    kinesis.create_stream(StreamName="clicks", ShardCount=1)
    for data in (json.dumps({"page": "/", "traceparent": W}).encode(), b"\xff\x00"):
        kinesis.put_record(StreamName="clicks", Data=data, PartitionKey="1")
    (shard,) = kinesis.describe_stream(StreamName="clicks")["StreamDescription"]["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName="clicks", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    response = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
    for _ in spanwell.messages(response, "clicks", tracer_provider=provider):
        pass
    assert links(exporter) == [[PARENT], []]
