"""AWS calls of real botocore and aiobotocore against a moto server: what their spans say, exactly."""

from __future__ import annotations

import asyncio
import copy

import boto3
import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor, BotocoreInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanwell import _guard
from spanwell.enrich import aws_hooks
from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.processor import FusedProcessor
from spanwell.propagation import botocore_hooks
from support.servers import moto

pytestmark = pytest.mark.slow

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
KEYS = {"region_name": "eu-west-1", "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": "topsecret"}
ACCOUNT = "eu-west-1:123456789012"


@pytest.fixture(scope="module")
def endpoint():
    with moto() as url:
        yield url


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter, monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor([Ended(parts())]))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def instrumentor(provider):
    made = BotocoreInstrumentor()
    made.instrument(tracer_provider=provider)
    aws_hooks.join(made)
    yield made
    made.uninstrument()


@pytest.fixture
def call(endpoint, instrumentor, exporter):
    def make(service, operation, **params):
        """(span's attributes, response) of one call; parameters must come back unchanged."""
        before = copy.deepcopy(params)
        exporter.clear()
        client = boto3.client(service, endpoint_url=endpoint, **KEYS)
        try:
            answer = getattr(client, operation)(**params)
        except ClientError as error:
            answer = error.response
        if service not in ("sns", "lambda"):  # the instrumentor itself writes there
            assert params == before
        (span,) = exporter.get_finished_spans()
        assert None not in span.attributes.values()
        assert ACCESS_KEY not in str(span.to_json())
        assert "topsecret" not in str(span.to_json())
        return dict(span.attributes), answer

    return make


def resource(kind, identifier):
    return {"aws.remote.resource.type": kind, "aws.remote.resource.identifier": identifier}


EVENT = {"Source": "a", "DetailType": "b", "Detail": "{}"}

# service, operation, parameters -> attributes that must be there, besides service, operation, region, ids, status.
TABLE = [
    ("s3", "get_object", {"Bucket": "photos", "Key": "a/7"},
     {"aws.s3.bucket": "photos", "aws.s3.key": "a/7", "error.type": "NoSuchBucket", "http.response.status_code": 404,
      **resource("AWS::S3::Bucket", "photos")}),
    ("sqs", "create_queue", {"QueueName": "orders"}, resource("AWS::SQS::Queue", "orders")),
    ("kinesis", "create_stream", {"StreamName": "clicks", "ShardCount": 1},
     {"aws.kinesis.stream_name": "clicks", **resource("AWS::Kinesis::Stream", "clicks")}),
    ("kinesis", "describe_stream", {"StreamARN": f"arn:aws:kinesis:{ACCOUNT}:stream/clicks"},
     {"aws.kinesis.stream_name": "clicks", **resource("AWS::Kinesis::Stream", "clicks")}),
    ("events", "put_events", {"Entries": [EVENT]},
     {"messaging.destination.name": "default", **resource("AWS::Events::EventBus", "default")}),
    ("events", "put_events", {"Entries": [{**EVENT, "EventBusName": "x"}] * 2},
     {"messaging.destination.name": "x", "messaging.batch.message_count": 2,
      **resource("AWS::Events::EventBus", "x")}),
    ("secretsmanager", "get_secret_value", {"SecretId": "absent"},
     {"error.type": "ResourceNotFoundException", **resource("AWS::SecretsManager::Secret", "absent")}),
    ("dynamodb", "get_item", {"TableName": "orders", "Key": {"id": {"S": "7"}}},
     {"aws.dynamodb.table_names": ("orders",), "db.system.name": "aws.dynamodb", "db.operation.name": "GetItem",
      "db.collection.name": "orders", "db.query.summary": "GetItem orders", "error.type": "ResourceNotFoundException",
      **resource("AWS::DynamoDB::Table", "orders")}),
    ("dynamodb", "transact_get_items",
     {"TransactItems": [{"Get": {"TableName": name, "Key": {"id": {"S": "8"}}}} for name in ("a", "b", "a")]},
     {"aws.dynamodb.table_names": ("a", "b"), "db.query.summary": "TransactGetItems a b"}),
    ("stepfunctions", "describe_state_machine", {"stateMachineArn": f"arn:aws:states:{ACCOUNT}:stateMachine:pay"},
     resource("AWS::StepFunctions::StateMachine", "pay")),
    ("stepfunctions", "describe_execution", {"executionArn": f"arn:aws:states:{ACCOUNT}:execution:pay:7"},
     resource("AWS::StepFunctions::StateMachine", "pay")),
    ("lambda", "get_function", {"FunctionName": f"arn:aws:lambda:{ACCOUNT}:function:pay:live"},
     resource("AWS::Lambda::Function", "pay")),
    ("lambda", "invoke", {"FunctionName": "pay"}, {"faas.invoked_name": "pay"}),
    ("firehose", "describe_delivery_stream", {"DeliveryStreamName": "d"},
     resource("AWS::KinesisFirehose::DeliveryStream", "d")),
    ("bedrock-agent", "get_agent", {"agentId": "AGENT12345"},
     {"aws.bedrock.agent.id": "AGENT12345", **resource("AWS::Bedrock::Agent", "AGENT12345")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "operation", "params", "expected"), TABLE, ids=[f"{row[0]}.{row[1]}" for row in TABLE]
)
def test_the_table_of_calls(call, service, operation, params, expected):
    attributes, answer = call(service, operation, **params)
    assert expected.items() <= attributes.items()
    if not any("resource" in key for key in expected):
        assert not any(key.startswith("aws.remote.resource") for key in attributes)
    assert attributes["rpc.system"] == "aws-api"
    assert attributes["cloud.region"] == "eu-west-1"
    assert attributes["aws.request_id"]
    assert attributes["http.response.status_code"] == answer["ResponseMetadata"]["HTTPStatusCode"]


def test_sqs_and_sns_batches_have_every_id(call):
    _, answer = call("sqs", "create_queue", QueueName="batch")
    url = answer["QueueUrl"]
    entries = [{"Id": str(number), "MessageBody": "secret body"} for number in range(10)]
    attributes, answer = call("sqs", "send_message_batch", QueueUrl=url, Entries=entries)
    sent = tuple(each["MessageId"] for each in answer["Successful"])
    assert attributes["spanwell.messaging.message_ids"] == sent
    assert attributes["messaging.batch.message_count"] == 10
    assert resource("AWS::SQS::Queue", "batch").items() <= attributes.items()
    assert attributes["aws.sqs.queue.url"] == url
    assert "secret body" not in str(attributes)
    attributes, _ = call("sqs", "receive_message", QueueUrl=url, MaxNumberOfMessages=10)
    assert sorted(attributes["spanwell.messaging.message_ids"]) == sorted(sent)

    _, answer = call("sns", "create_topic", Name="news")
    entries = [{"Id": str(number), "Message": "secret body"} for number in range(3)]
    attributes, answer = call("sns", "publish_batch", TopicArn=answer["TopicArn"], PublishBatchRequestEntries=entries)
    assert attributes["spanwell.messaging.message_ids"] == tuple(each["MessageId"] for each in answer["Successful"])
    assert resource("AWS::SNS::Topic", "news").items() <= attributes.items()


def test_looking_at_received_messages_opens_no_process_span(call, exporter, provider):
    _, answer = call("sqs", "create_queue", QueueName="looked-at")
    url = answer["QueueUrl"]
    entries = [{"Id": str(number), "MessageBody": "x"} for number in range(3)]
    call("sqs", "send_message_batch", QueueUrl=url, Entries=entries)
    botocore_hooks.install(send=True, process=True, tracer_provider=provider)
    try:
        attributes, answer = call("sqs", "receive_message", QueueUrl=url, MaxNumberOfMessages=10)
        assert len(attributes["spanwell.messaging.message_ids"]) == 3
        for _ in answer["Messages"]:
            pass
    finally:
        botocore_hooks.uninstall()
    assert [span.name for span in exporter.get_finished_spans()].count("process looked-at") == 3


def test_a_secret_is_known_by_its_arn(call):
    _, answer = call("secretsmanager", "create_secret", Name="pw", SecretString="hunter2")
    attributes, answer = call("secretsmanager", "get_secret_value", SecretId="pw")
    name = answer["ARN"].rpartition(":")[2]
    assert resource("AWS::SecretsManager::Secret", name).items() <= attributes.items()
    assert "hunter2" not in str(attributes)


def test_the_application_s_hooks_go_on(endpoint, exporter, provider):
    seen = []
    made = BotocoreInstrumentor()
    made.instrument(
        tracer_provider=provider,
        request_hook=lambda span, *rest: seen.append(("request", *rest)),
        response_hook=lambda span, service, operation, result: span.set_attribute("mine", operation),
    )
    try:
        aws_hooks.join(made)
        aws_hooks.join(made)
        boto3.client("sqs", endpoint_url=endpoint, **KEYS).create_queue(QueueName="hooks")
    finally:
        made.uninstrument()
    (span,) = exporter.get_finished_spans()
    assert seen == [("request", "sqs", "CreateQueue", {"QueueName": "hooks"})]
    assert span.attributes["mine"] == "CreateQueue"
    assert span.attributes["aws.remote.resource.identifier"] == "hooks"


def test_an_error_of_ours_costs_the_call_nothing(call, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)
    monkeypatch.setattr(aws_hooks, "_PARAMETERS", None)
    monkeypatch.setattr(aws_hooks, "_BATCHES", None)
    _, answer = call("sqs", "create_queue", QueueName="broken")
    assert answer["QueueUrl"].endswith("/broken")
    assert _guard.losses.total("errors") == 2


def test_aiobotocore(endpoint, exporter, provider):
    made = AiobotocoreInstrumentor()
    made.instrument(tracer_provider=provider)
    aws_hooks.join(made)

    async def main():
        async with get_session().create_client("s3", endpoint_url=endpoint, **KEYS) as client:
            with pytest.raises(ClientError):
                await client.get_object(Bucket="absent", Key="k")

    try:
        asyncio.run(main())
    finally:
        made.uninstrument()
    (span,) = exporter.get_finished_spans()
    expected = {"aws.s3.bucket": "absent", "aws.s3.key": "k", **resource("AWS::S3::Bucket", "absent")}
    assert expected.items() <= span.attributes.items()
