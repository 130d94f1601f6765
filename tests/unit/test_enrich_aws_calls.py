"""What an ended span of an AWS call gains, from nothing but itself."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import SpanKind

from spanwell import _guard
from spanwell.enrich import aws_resources
from spanwell.enrich.aws_calls import AwsCalls, aws_call, error_code
from spanwell.enrich.ended import Ended, Part
from spanwell.enrich.parts import parts
from support.spans import make_span


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)


def gained(attributes, **more):
    """What `Ended` adds to a CLIENT span that has `attributes`; (added, gone)."""
    span = make_span(kind=SpanKind.CLIENT, attributes=attributes, **more)
    Ended(parts()).on_end(span)
    after = dict(span.attributes)
    added = {key: value for key, value in after.items() if key not in attributes}
    return added, sorted(set(attributes) - set(after))


def resource(kind, identifier):
    return {"aws.remote.resource.type": kind, "aws.remote.resource.identifier": identifier}


def arn(service, rest):
    return f"arn:aws:{service}:eu-west-1:123456789012:{rest}"


QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
TABLE = {
    "db.system.name": "aws.dynamodb",
    "db.operation.name": "GetItem",
    "db.collection.name": "orders",
    "db.query.summary": "GetItem orders",
}

# (service, operation, attributes the instrumentor or a hook set, what is added)
CASES = [
    ("S3", "GetObject", {"aws.s3.bucket": "photos"}, resource("AWS::S3::Bucket", "photos")),
    ("Kinesis", "PutRecord", {"aws.kinesis.stream_name": "clicks"}, resource("AWS::Kinesis::Stream", "clicks")),
    ("SNS", "Publish", {"aws.sns.topic.arn": arn("sns", "news")}, resource("AWS::SNS::Topic", "news")),
    (
        "SQS",
        "SendMessage",
        {"aws.queue_url": QUEUE, "messaging.destination": "orders"},
        {**resource("AWS::SQS::Queue", "orders"), "aws.sqs.queue.url": QUEUE, "messaging.destination.name": "orders"},
    ),
    (
        "SQS",
        "SendMessage",
        {"aws.sqs.queue.url": QUEUE + ".fifo"},
        resource("AWS::SQS::Queue", "orders.fifo"),
    ),
    (
        "DynamoDB",
        "GetItem",
        {"aws.dynamodb.table_names": ("orders",)},
        {**resource("AWS::DynamoDB::Table", "orders"), **TABLE},
    ),
    (
        "DynamoDB",
        "GetItem",
        {"aws.dynamodb.table_names": (arn("dynamodb", "table/orders"),)},
        {
            **resource("AWS::DynamoDB::Table", "orders"),
            **TABLE,
            "db.collection.name": arn("dynamodb", "table/orders"),
            "db.query.summary": f"GetItem {arn('dynamodb', 'table/orders')}",
        },
    ),
    (
        "DynamoDB",
        "BatchGetItem",
        {"aws.dynamodb.table_names": ("a", "b")},
        {
            "db.system.name": "aws.dynamodb",
            "db.operation.name": "BatchGetItem",
            "db.query.summary": "BatchGetItem a b",
        },
    ),
    (
        "Secrets Manager",
        "GetSecretValue",
        {"aws.secretsmanager.secret.arn": arn("secretsmanager", "secret:pw-AbCdEf")},
        resource("AWS::SecretsManager::Secret", "pw-AbCdEf"),
    ),
    (
        "SFN",
        "StartExecution",
        {"aws.step_functions.state_machine.arn": arn("states", "stateMachine:pay")},
        resource("AWS::StepFunctions::StateMachine", "pay"),
    ),
    (
        "SFN",
        "GetActivityTask",
        {"aws.step_functions.activity.arn": arn("states", "activity:pack")},
        resource("AWS::StepFunctions::Activity", "pack"),
    ),
    (
        "Lambda",
        "GetEventSourceMapping",
        {"aws.lambda.resource_mapping.id": "587ad24b"},
        resource("AWS::Lambda::EventSourceMapping", "587ad24b"),
    ),
    ("Lambda", "Invoke", {"faas.invoked_name": "pay"}, {}),
    ("Bedrock Agent", "GetAgent", {"aws.bedrock.agent.id": "A1"}, resource("AWS::Bedrock::Agent", "A1")),
    (
        "Bedrock Agent",
        "GetDataSource",
        {"aws.bedrock.data_source.id": "D1", "aws.bedrock.knowledge_base.id": "K1"},
        resource("AWS::Bedrock::DataSource", "D1"),
    ),
    (
        "Bedrock Agent Runtime",
        "Retrieve",
        {"aws.bedrock.knowledge_base.id": "K1"},
        resource("AWS::Bedrock::KnowledgeBase", "K1"),
    ),
    ("Bedrock", "GetGuardrail", {"aws.bedrock.guardrail.id": "G1"}, resource("AWS::Bedrock::Guardrail", "G1")),
    ("Bedrock Runtime", "Converse", {"gen_ai.request.model": "titan"}, resource("AWS::Bedrock::Model", "titan")),
    ("S3", "GetObject", {"aws.s3.bucket": "a|b^c"}, resource("AWS::S3::Bucket", "a^|b^^c")),
    ("EC2", "DescribeInstances", {}, {}),
]


@pytest.mark.parametrize(("service", "operation", "own", "added"), CASES, ids=[f"{c[0]}.{c[1]}" for c in CASES])
@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
def test_the_table_of_services(service, operation, own, added, new):
    call = (
        {"rpc.system.name": "aws-api", "rpc.method": f"{service}/{operation}"}
        if new
        else {"rpc.system": "aws-api", "rpc.service": service, "rpc.method": operation}
    )
    assert gained({**call, **own}) == (added, [])


CALL = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "GetObject"}


def test_status_retries_and_values_that_are_none():
    attributes = {**CALL, "rpc.service": "SQS", "http.status_code": 200, "retry_attempts": 2}
    attributes |= {"messaging.message.id": None, "cloud.region": None}
    assert gained(attributes) == (
        {"http.response.status_code": 200, "http.request.resend_count": 2},
        ["cloud.region", "messaging.message.id"],
    )


@pytest.mark.parametrize("code", ["ThrottlingException", "SlowDown", "ProvisionedThroughputExceededException"])
def test_throttling(code):
    said = f"An error occurred ({code}) when calling the GetObject operation (reached max retries: 4): Rate exceeded"
    assert gained(CALL, error=said) == ({"spanwell.throttled": True, "error.type": code}, [])


def test_status_429_is_throttling():
    added, _ = gained({**CALL, "http.status_code": 429}, error="An error occurred (429) when calling")
    assert added == {"http.response.status_code": 429, "spanwell.throttled": True, "error.type": "429"}


def test_an_error_that_is_no_answer_is_known_by_its_exception():
    event = Event("exception", {"exception.type": "botocore.exceptions.EndpointConnectionError"})
    added, _ = gained(CALL, error="Could not connect", events=(event,))
    assert added == {"error.type": "botocore.exceptions.EndpointConnectionError"}


def test_an_error_type_that_is_known_stays():
    said = "An error occurred (NoSuchKey) when calling"
    assert gained({**CALL, "error.type": "mine"}, error=said) == ({}, [])


def test_older_instrumentors_put_the_exception_in_front():
    assert error_code("NoSuchKey: An error occurred (NoSuchKey) when calling the GetObject operation") == "NoSuchKey"


@pytest.mark.parametrize("text", [None, "", "An error occurred (", "An error occurred (a b) x", "oops (X)"])
def test_no_error_code(text):
    assert error_code(text) == ""


@pytest.mark.parametrize(
    "attributes",
    [{}, {"rpc.system": "grpc", "rpc.service": "S3", "rpc.method": "Get"}, {"rpc.system": "aws-api"}],
    ids=["none", "grpc", "no method"],
)
def test_other_spans_are_not_aws_calls(attributes):
    assert aws_call(attributes) is None
    assert AwsCalls()(make_span(attributes=attributes), dict(attributes)) is False


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders",
        "https://sqs/123/",
        "https://h/123456789012/a/b",
        "https://h/abc/q",
        "https://h/1/" + "x" * 81,
        "https://h/1/a b",
    ],
)
def test_what_is_no_queue_url(url):
    assert aws_resources.queue_name(url) == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pay", "pay"),
        ("pay:live", "pay"),
        ("123456789012:function:pay", "pay"),
        (arn("lambda", "function:pay:7"), "pay"),
        ("function:", ""),
    ],
)
def test_function_names(text, name):
    assert aws_resources.function_name(text) == name


def test_the_memory_of_resources_is_bounded():
    found = aws_resources.Resources()
    for number in range(3000):
        assert found.find("S3", {"aws.s3.bucket": f"b{number}"}) == ("AWS::S3::Bucket", f"b{number}")
    assert len(found._rules["S3"][0][3]) <= 1024


def test_a_span_without_any_of_it_keeps_its_very_attributes():
    span = make_span(attributes={"http.request.method": "GET"})
    before = span._attributes
    Ended(parts()).on_end(span)
    assert span._attributes is before


def test_a_part_that_fails_costs_its_attributes_alone(monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)

    def broken(span, attributes):
        raise ValueError("no")

    def good(span, attributes):
        attributes["good"] = 1
        return True

    def unmakable():
        raise ImportError("no")

    span = make_span(attributes={"a": 1})
    Ended([Part("x", lambda: broken), Part("y", unmakable), Part("z", lambda: good)]).on_end(span)
    assert dict(span.attributes) == {"a": 1, "good": 1}
    assert _guard.losses.total("errors") == 2
