"""The context in calls to AWS, on the serialised request: real botocore, OpenTelemetry's instrumentor, real SDK."""

from __future__ import annotations

import base64
import copy
import json

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from opentelemetry import baggage, context, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanwell import _guard
from spanwell.legs import after_instrumentors
from spanwell.propagation import botocore_hooks, own_fields, sending
from spanwell.propagation.codec import traceparent
from spanwell.propagation.messages import Messages
from spanwell.propagation.xray import XRayPropagator, parse
from spanwell.settings import Settings
from support.aws_wire import Wire

KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
STREAM = {"StreamName": "clicks", "PartitionKey": "p"}
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:m"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
CALLERS = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
LAMBDAS = CALLERS + ";Lineage=25:3d5c8a4c:7"


class Aws:
    """Clients whose requests are kept, the spans that they make, and our options."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.wire = None

    def install(self, *options, environ=None, **more):
        more = {"send": True, "process": True, **more}
        botocore_hooks.install(context=options, tracer_provider=self.provider, environ=environ or {}, **more)
        return self

    def client(self, service, answer=None):
        client = boto3.client(service, **KEYS)
        self.wire = Wire(client, answer)
        return client

    def call(self, service, operation, **params):
        """Call, and make sure that the caller's dict stays what it was; the span."""
        before = copy.deepcopy(params)
        getattr(self.client(service), operation)(**params)
        assert params == before
        return self.exporter.get_finished_spans()[-1]

    def without_us(self, service, operation, **params):
        """What goes over the wire when telemetry is off."""
        client = self.client(service)
        with suppress_instrumentation():
            getattr(client, operation)(**params)
        return self.wire.body()


@pytest.fixture
def aws(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    before = propagate.get_global_textmap()
    set_propagators(W3CBaggagePropagator(), TraceContextTextMapPropagator(), XRayPropagator())
    aws = Aws()
    BotocoreInstrumentor().instrument(tracer_provider=aws.provider)
    yield aws
    botocore_hooks.uninstall()
    BotocoreInstrumentor().uninstrument()
    propagate.set_global_textmap(before)


def set_propagators(*propagators):
    propagate.set_global_textmap(CompositePropagator(list(propagators)))


def names(text, span):
    """Whether the text of a header names `span`."""
    found = traceparent(text) if text.startswith("00-") else parse(text)
    trace_id, span_id = (found.trace_id, found.span_id) if text.startswith("00-") else (found.root, found.parent)
    return (trace_id, span_id) == (span.context.trace_id, span.context.span_id)


# --- SQS ----------------------------------------------------------------------------------------------------------


def test_sqs_gets_the_header_and_nothing_else(aws):
    plain = json.loads(aws.install().without_us("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1"))
    span = aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1")
    sent = aws.wire.json()
    assert names(sent.pop("MessageSystemAttributes")["AWSTraceHeader"]["StringValue"], span)
    assert sent == plain


def test_sqs_attributes_are_an_opt_in(aws):
    own = {"colour": {"DataType": "String", "StringValue": "red"}}
    aws.install("sqs_attributes")
    span = aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1", MessageAttributes=own)
    attributes = aws.wire.json()["MessageAttributes"]
    assert names(attributes.pop("traceparent")["StringValue"], span)
    assert attributes == own


@pytest.mark.parametrize("number", [9, 10])
def test_the_tenth_attribute_is_the_last(aws, number):
    own = {f"a{index}": {"DataType": "Number", "StringValue": "1"} for index in range(number)}
    aws.install("sqs_attributes")
    aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1", MessageAttributes=own)
    assert len(aws.wire.json()["MessageAttributes"]) == 10


# `traceparent`, `String` and the header's 55 characters
@pytest.mark.parametrize(("room", "added"), [(72, True), (71, False)])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_message_grows_no_larger_than_every_account_may_send(aws, room, added, letter):
    body = letter * ((262_144 - room) // len(letter.encode()))
    body += "x" * (262_144 - room - len(body.encode()))
    aws.install("sqs_attributes")
    aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody=body)
    assert ("MessageAttributes" in aws.wire.json()) is added


def test_a_batch_takes_the_context_as_far_as_it_has_room(aws):
    entries = [{"Id": str(index), "MessageBody": "x" * 131_000} for index in range(2)]
    entries[1]["MessageAttributes"] = {"traceparent": {"DataType": "String", "StringValue": "mine"}}
    aws.install("sqs_attributes")
    aws.call("sqs", "send_message_batch", QueueUrl=QUEUE, Entries=entries)
    first, second = aws.wire.json()["Entries"]
    assert set(first["MessageAttributes"]) == {"traceparent"}
    assert second["MessageAttributes"]["traceparent"]["StringValue"] == "mine"
    entries = [{"Id": str(index), "MessageBody": "x" * 65_510} for index in range(4)]  # room for one of them
    aws.call("sqs", "send_message_batch", QueueUrl=QUEUE, Entries=entries)
    assert [len(entry.get("MessageAttributes", ())) for entry in aws.wire.json()["Entries"]] == [1, 0, 0, 0]


def test_attributes_are_asked_for_and_hidden(aws):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = {
        "Messages": [
            {
                "MessageId": "1",
                "Body": "b",
                "MD5OfMessageAttributes": "0",
                "MessageAttributes": {"traceparent": {"DataType": "String", "StringValue": parent}},
            }
        ]
    }
    client = aws.install("sqs_attributes").client("sqs", json.dumps(answer).encode())
    messages = client.receive_message(QueueUrl=QUEUE)["Messages"]
    assert aws.wire.json()["MessageAttributeNames"] == ["traceparent", "tracestate"]
    assert messages == [{"MessageId": "1", "Body": "b"}]
    for _ in messages:
        pass
    span = aws.exporter.get_finished_spans()[-1]
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    messages = client.receive_message(QueueUrl=QUEUE, MessageAttributeNames=["All"])["Messages"]
    assert aws.wire.json()["MessageAttributeNames"] == ["All"]
    assert messages == answer["Messages"]


# --- SNS ----------------------------------------------------------------------------------------------------------


def attribute(form, number, prefix=""):
    key = f"{prefix}MessageAttributes.entry.{number}."
    return form[key + "Name"], form[key + "Value.StringValue"]


def test_sns_publish(aws):
    plain = aws.install().without_us("sns", "publish", TopicArn=TOPIC, Message="m")
    span = aws.call("sns", "publish", TopicArn=TOPIC, Message="m")
    form = aws.wire.form()
    name, value = attribute(form, 1)
    assert (name, names(value, span)) == ("traceparent", True)
    assert aws.wire.body().startswith(plain)
    assert not [key for key in form if ".entry.2." in key]
    assert span.kind is SpanKind.PRODUCER
    assert span.attributes["messaging.operation.type"] == "send"
    assert "messaging.batch.message_count" not in span.attributes


def test_sns_publish_batch_gives_each_message_its_own(aws):
    mine = {"traceparent": {"DataType": "String", "StringValue": "mine"}}
    entries = [{"Id": "a", "Message": "1"}, {"Id": "b", "Message": "2", "MessageAttributes": mine}]
    span = aws.install().call("sns", "publish_batch", TopicArn=TOPIC, PublishBatchRequestEntries=entries)
    form = aws.wire.form()
    found = [attribute(form, 1, f"PublishBatchRequestEntries.member.{number}.") for number in (1, 2)]
    assert names(found[0][1], span)
    assert found[1] == ("traceparent", "mine")
    assert span.attributes["messaging.batch.message_count"] == 2
    assert span.attributes["messaging.system"] == "aws.sns"


def test_sns_ten_attributes_and_telephones_stay(aws):
    own = {f"a{index}": {"DataType": "String", "StringValue": "1"} for index in range(10)}
    body = aws.install().without_us("sns", "publish", TopicArn=TOPIC, Message="m", MessageAttributes=own)
    aws.call("sns", "publish", TopicArn=TOPIC, Message="m", MessageAttributes=own)
    assert aws.wire.body() == body
    body = aws.without_us("sns", "publish", PhoneNumber="+4912345", Message="m")
    aws.call("sns", "publish", PhoneNumber="+4912345", Message="m")
    assert aws.wire.body() == body


def test_sns_carries_baggage_as_upstream_does_and_what_the_propagators_let_out(aws):
    aws.install()
    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        aws.call("sns", "publish", TopicArn=TOPIC, Message="m")
        assert attribute(aws.wire.form(), 2) == ("baggage", "tenant=7")
        set_propagators(XRayPropagator())
        aws.call("sns", "publish", TopicArn=TOPIC, Message="m")
        assert "traceparent" not in aws.wire.body().decode()
    finally:
        context.detach(token)


def test_upstream_injects_into_the_caller_s_dict_again_after_uninstall(aws):
    aws.install()
    botocore_hooks.uninstall()
    params = {"TopicArn": TOPIC, "Message": "m", "MessageAttributes": {}}
    aws.client("sns").publish(**params)
    assert "traceparent" in params["MessageAttributes"]


# --- EventBridge --------------------------------------------------------------------------------------------------

ENTRY = {"Source": "shop", "DetailType": "order", "Detail": '{"id": 1.50}', "EventBusName": "b"}


def test_eventbridge_header_in_each_entry(aws):
    entries = [ENTRY, {**ENTRY, "TraceHeader": CALLERS}]
    plain = json.loads(aws.install().without_us("events", "put_events", Entries=entries))
    span = aws.call("events", "put_events", Entries=entries)
    sent = aws.wire.json()
    assert names(sent["Entries"][0].pop("TraceHeader"), span)
    assert sent == plain
    assert span.kind is SpanKind.PRODUCER
    assert span.attributes["messaging.destination.name"] == "b"


def test_eventbridge_detail_is_an_opt_in_and_keeps_every_other_byte(aws):
    entries = [ENTRY, {**ENTRY, "Detail": "{ }"}, {**ENTRY, "Detail": "[1]"}, {**ENTRY, "Detail": '{"tracestate":1}'}]
    span = aws.install("eventbridge_detail").call("events", "put_events", Entries=entries)
    details = [entry["Detail"] for entry in aws.wire.json()["Entries"]]
    assert details[0].startswith('{"id": 1.50,"traceparent":"00-')
    assert names(json.loads(details[0])["traceparent"], span)
    assert names(json.loads(details[1])["X-Amzn-Trace-Id"], span)
    assert details[2:] == ["[1]", '{"tracestate":1}']


def test_eventbridge_detail_stays_below_the_limit_of_the_request(aws):
    def details(size):
        entries = [{**ENTRY, "Detail": '{"a":"%s"}' % ("x" * size)}, ENTRY]
        aws.call("events", "put_events", Entries=entries)
        return ["traceparent" in entry["Detail"] for entry in aws.wire.json()["Entries"]]

    aws.install("eventbridge_detail")
    assert details(261_000) == [True, True]
    assert details(261_850) == [True, False]
    assert details(262_080) == [False, False]


# --- Kinesis and Firehose -----------------------------------------------------------------------------------------

JSON = b'{"id": 1.50, "text": "\xc3\xa9"}\n'


@pytest.mark.parametrize("options", [(), ("firehose",)])
def test_kinesis_is_an_opt_in(aws, options):
    aws.install(*options)
    body = aws.without_us("kinesis", "put_record", Data=JSON, **STREAM)
    span = aws.call("kinesis", "put_record", Data=JSON, **STREAM)
    assert aws.wire.body() == body
    assert span.kind is SpanKind.CLIENT


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (JSON, b'{"id": 1.50, "text": "\xc3\xa9","traceparent":', b"}\n"),
        (bytearray(JSON), b'{"id": 1.50, "text": "\xc3\xa9","traceparent":', b"}\n"),
        (JSON.decode(), b'{"id": 1.50, "text": "\xc3\xa9","traceparent":', b"}\n"),
        (b" {}", b' {"traceparent":', b"}"),
    ],
)
def test_kinesis_data_that_is_a_json_object(aws, data, start, end):
    span = aws.install("kinesis").call("kinesis", "put_record", Data=data, **STREAM)
    sent = base64.b64decode(aws.wire.json()["Data"])
    assert sent.startswith(start)
    assert sent.endswith(end)
    assert names(json.loads(sent)["traceparent"], span)
    assert span.kind is SpanKind.PRODUCER
    assert span.attributes["messaging.destination.name"] == "clicks"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain",
        b"[{}]",
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":"\xff"}',
        b'{"traceparent":null}',
        b'{"a":' + b"[" * 100_000 + b"}",
        b'{"' + b"x" * ((1 << 20) - 40) + b'":1}',
    ],
    ids=range(11),
)
def test_kinesis_data_that_stays(aws, data):
    aws.install("kinesis")
    body = aws.without_us("kinesis", "put_record", Data=data, **STREAM)
    aws.call("kinesis", "put_record", Data=data, **STREAM)
    assert aws.wire.body() == body


def test_kinesis_batch(aws):
    records = [{"Data": data, "PartitionKey": "p"} for data in (JSON, b"plain", JSON)]
    span = aws.install("kinesis").call("kinesis", "put_records", StreamName="clicks", Records=records)
    found = [base64.b64decode(record["Data"]) for record in aws.wire.json()["Records"]]
    assert [b"traceparent" in data for data in found] == [True, False, True]
    assert span.attributes["messaging.batch.message_count"] == 3
    large = [{"Data": b'{"a":"%s"}' % (b"x" * (900 << 10)), "PartitionKey": "p"} for _ in range(6)]
    body = aws.without_us("kinesis", "put_records", StreamName="clicks", Records=large)
    aws.call("kinesis", "put_records", StreamName="clicks", Records=large)
    assert aws.wire.body() == body


def test_firehose(aws):
    aws.install("firehose")
    span = aws.call("firehose", "put_record", DeliveryStreamName="d", Record={"Data": JSON})
    assert names(json.loads(base64.b64decode(aws.wire.json()["Record"]["Data"]))["traceparent"], span)
    limit = b'{"a":"%s"}' % (b"x" * (1000 * 1024 - 100))
    span = aws.call("firehose", "put_record_batch", DeliveryStreamName="d", Records=[{"Data": limit}, {"Data": JSON}])
    found = [base64.b64decode(record["Data"]) for record in aws.wire.json()["Records"]]
    assert [b"traceparent" in data for data in found] == [False, True]
    assert span.kind is SpanKind.PRODUCER


def test_kinesis_get_records_opens_process_spans(aws):
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    data = [json.dumps({"traceparent": header}).encode(), b"plain"]
    records = [
        {"SequenceNumber": str(index), "PartitionKey": "p", "Data": base64.b64encode(each).decode()}
        for index, each in enumerate(data)
    ]
    answer = json.dumps({"Records": records, "NextShardIterator": "n"}).encode()
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"
    found = aws.install().client("kinesis", answer).get_records(ShardIterator="i", StreamARN=arn)["Records"]
    assert type(found) is Messages
    assert [record["Data"] for record in found[:]] == data
    for _ in found:
        pass
    first, second = aws.exporter.get_finished_spans()[-2:]
    assert (first.name, first.kind) == ("process clicks", SpanKind.CONSUMER)
    assert f"{first.parent.span_id:016x}" == "b7ad6b7169203331"
    assert [link.context.span_id for link in first.links] == [first.parent.span_id]
    assert second.parent is None
    aws.install("-kinesis_spans")
    found = aws.client("kinesis", answer).get_records(ShardIterator="i")["Records"]
    assert type(found) is list


# --- Step Functions and Lambda ------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["start_execution", "start_sync_execution"])
def test_step_functions(aws, operation):
    plain = json.loads(aws.install().without_us("stepfunctions", operation, stateMachineArn=MACHINE, input="{}"))
    span = aws.call("stepfunctions", operation, stateMachineArn=MACHINE, input="{}")
    sent = aws.wire.json()
    assert names(sent.pop("traceHeader"), span)
    assert sent == plain
    assert span.kind is SpanKind.CLIENT
    aws.call("stepfunctions", operation, stateMachineArn=MACHINE, traceHeader=CALLERS)
    assert aws.wire.json()["traceHeader"] == CALLERS


def test_a_lineage_too_long_for_the_field_is_left_out(aws):
    aws.install()
    token = context.attach(XRayPropagator().extract({"X-Amzn-Trace-Id": f"{CALLERS};Lineage={'a' * 512}"}))
    try:
        aws.call("stepfunctions", "start_execution", stateMachineArn=MACHINE)
        header = aws.wire.json()["traceHeader"]
        aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1")
        full = aws.wire.json()["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"]
    finally:
        context.detach(token)
    assert header.endswith(";Sampled=1")
    assert full.endswith("a" * 512)


def test_a_botocore_that_does_not_know_the_field():
    class Shape:
        members = {"stateMachineArn": None}

    params = {"stateMachineArn": MACHINE}
    assert own_fields.start_execution(params, {}, Shape) is params
    assert own_fields.invoke(params, {}, Shape) is params


def client_context(wire):
    text = wire.header("X-Amz-Client-Context")
    return None if text is None else json.loads(base64.b64decode(text))


def test_lambda_invoke_payload_stays_and_client_context_is_merged(aws):
    payload = b'{"headers": {"a": "b"}, "n": 1.50}'
    own = base64.b64encode(b'{"client": {"app": "x"}, "custom": {"k": "\xc3\xa9"}}').decode()
    aws.install()
    span = aws.call("lambda", "invoke", FunctionName="f", Payload=payload)
    assert aws.wire.body() == payload
    assert set(client_context(aws.wire)) == {"custom"}
    span = aws.call("lambda", "invoke", FunctionName="f", Payload="[1]", ClientContext=own)
    assert aws.wire.body() == b"[1]"
    sent = client_context(aws.wire)
    assert names(sent["custom"].pop("traceparent"), span)
    assert names(sent["custom"].pop("X-Amzn-Trace-Id"), span)
    assert sent == {"client": {"app": "x"}, "custom": {"k": "é"}}
    assert names(aws.wire.header("X-Amzn-Trace-Id"), span)
    assert span.kind is SpanKind.CLIENT


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not json").decode(),
        base64.b64encode(b"[1]").decode(),
        base64.b64encode(b'{"custom": [1]}').decode(),
        base64.b64encode(b'{"custom": {"traceparent": "mine"}}').decode(),
        base64.b64encode(b'{"custom": {"k": 1e999}}').decode(),
        base64.b64encode(b'{"custom": {"k": "%s"}}' % (b"x" * 2500)).decode(),
        "",
    ],
)
def test_lambda_client_context_that_stays(aws, text):
    aws.install().call("lambda", "invoke", FunctionName="f", ClientContext=text)
    assert (aws.wire.header("X-Amz-Client-Context") or "") == text


def test_lambda_dry_run_stays(aws):
    aws.install().call("lambda", "invoke", FunctionName="f", InvocationType="DryRun")
    assert aws.wire.header("X-Amz-Client-Context") is None


# --- the header of the call ---------------------------------------------------------------------------------------


@pytest.fixture
def _inside_lambda(aws, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", LAMBDAS)


@pytest.mark.usefixtures("_inside_lambda")
def test_inside_lambda_the_header_names_the_client_span_and_keeps_root_and_lineage(aws):
    aws.install(environ={"_X_AMZN_TRACE_ID": LAMBDAS})
    token = context.attach(XRayPropagator().extract({"X-Amzn-Trace-Id": CALLERS}))  # the handler's, without Lineage
    try:
        span = aws.call("dynamodb", "list_tables")
    finally:
        context.detach(token)
    header = aws.wire.header("X-Amzn-Trace-Id")
    assert names(header, span)
    assert parse(header).root == parse(CALLERS).root
    assert header.endswith(";Sampled=1;Lineage=25:3d5c8a4c:7")


@pytest.mark.usefixtures("_inside_lambda")
def test_inside_lambda_lineage_comes_once_and_unknown_fields_stay(aws, monkeypatch):
    environment = LAMBDAS + ";Other=x y"
    monkeypatch.setenv("_X_AMZN_TRACE_ID", environment)
    aws.install(environ={"_X_AMZN_TRACE_ID": environment})
    token = context.attach(XRayPropagator().extract({"X-Amzn-Trace-Id": LAMBDAS}))
    try:
        aws.call("dynamodb", "list_tables")
    finally:
        context.detach(token)
    assert aws.wire.header("X-Amzn-Trace-Id").endswith(";Sampled=1;Lineage=25:3d5c8a4c:7;Other=x%20y")


@pytest.mark.usefixtures("_inside_lambda")
def test_without_xray_among_the_propagators_no_header_is_written(aws):
    set_propagators(TraceContextTextMapPropagator())
    aws.install(environ={"_X_AMZN_TRACE_ID": LAMBDAS})
    aws.call("dynamodb", "list_tables")
    assert aws.wire.header("X-Amzn-Trace-Id") == LAMBDAS


def test_outside_lambda(aws):
    aws.install()
    assert names_header(aws, aws.call("dynamodb", "list_tables"))
    set_propagators(TraceContextTextMapPropagator())
    aws.call("dynamodb", "list_tables")
    assert aws.wire.header("X-Amzn-Trace-Id") is None


def names_header(aws, span):
    return names(aws.wire.header("X-Amzn-Trace-Id"), span)


def test_a_header_of_the_application_s_own_stays(aws):
    client = aws.install().client("dynamodb")
    client.meta.events.register(
        "before-call.dynamodb", lambda params, **_: params["headers"].update({"x-amzn-trace-id": CALLERS})
    )
    client.list_tables()
    assert aws.wire.header("X-Amzn-Trace-Id") == CALLERS


def test_a_propagator_of_the_application_s_own_stays(aws):
    class Own(XRayPropagator):
        def inject(self, carrier, context=None, setter=None):
            carrier["X-Own"] = "1"

    BotocoreInstrumentor().uninstrument()
    default = BotocoreInstrumentor().propagator
    BotocoreInstrumentor().instrument(tracer_provider=aws.provider, propagator=Own())
    try:
        aws.install().call("dynamodb", "list_tables")
    finally:
        BotocoreInstrumentor().propagator = default
    assert aws.wire.header("X-Own") == "1"
    assert aws.wire.header("X-Amzn-Trace-Id") is None


def test_switched_off_calls_are_untouched(aws):
    client = aws.install("kinesis").client("sns")
    with suppress_instrumentation():
        client.publish(TopicArn=TOPIC, Message="m")
    assert aws.wire.header("X-Amzn-Trace-Id") is None
    assert b"traceparent" not in aws.wire.body()


# --- kinds, options, bad input ------------------------------------------------------------------------------------


def test_send_spans_are_producers_when_they_carry_their_context(aws):
    aws.install()
    span = aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1")
    assert span.kind is SpanKind.PRODUCER
    assert span.attributes["messaging.operation.type"] == "send"
    assert span.attributes["messaging.destination.name"] == "q"
    own = {"AWSTraceHeader": {"DataType": "String", "StringValue": CALLERS}}
    span = aws.call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1", MessageSystemAttributes=own)
    assert span.kind is SpanKind.CLIENT
    span = aws.install(send=False).call("sqs", "send_message", QueueUrl=QUEUE, MessageBody="1")
    assert span.kind is SpanKind.CLIENT


def test_a_span_of_the_application_s_own_keeps_its_kind(aws):
    aws.install()
    BotocoreInstrumentor().uninstrument()
    with aws.provider.get_tracer("app").start_as_current_span("order", kind=SpanKind.CLIENT):
        aws.client("sqs").send_message(QueueUrl=QUEUE, MessageBody="1")
    BotocoreInstrumentor().instrument(tracer_provider=aws.provider)
    (span,) = aws.exporter.get_finished_spans()
    assert names(aws.wire.json()["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"], span)
    assert (span.kind, dict(span.attributes)) == (SpanKind.CLIENT, {})


@pytest.mark.parametrize(
    ("option", "service", "operation", "params"),
    [
        ("-sqs", "sqs", "send_message", {"QueueUrl": QUEUE, "MessageBody": "1"}),
        ("-sns", "sns", "publish", {"TopicArn": TOPIC, "Message": "m"}),
        ("-eventbridge", "events", "put_events", {"Entries": [ENTRY]}),
        ("-stepfunctions", "stepfunctions", "start_execution", {"stateMachineArn": MACHINE, "name": "n"}),
        ("-lambda", "lambda", "invoke", {"FunctionName": "f", "Payload": b'{"a": 1}'}),
    ],
)
def test_everything_can_be_switched_off(aws, option, service, operation, params):
    aws.install(option)
    body = aws.without_us(service, operation, **params)
    aws.call(service, operation, **params)
    assert aws.wire.body() == body
    assert aws.wire.header("X-Amz-Client-Context") is None


def test_an_unknown_option_is_said_once_and_left_out(monkeypatch):
    said = []
    monkeypatch.setattr(sending, "warn_once", lambda *args: said.append(args))
    assert sending.chosen(["Kinesis", "-SNS", "typo"]) == sending.DEFAULTS - {"sns"} | {"kinesis"}
    assert [args[2] for args in said] == ["typo"]


@pytest.mark.parametrize(
    ("service", "operation", "params"),
    [
        ("sqs", "send_message", {"QueueUrl": QUEUE, "MessageBody": "1", "MessageAttributes": 1}),
        ("sqs", "send_message", {"QueueUrl": QUEUE, "MessageBody": 1, "MessageAttributes": {"a": {"DataType": 1}}}),
        ("sqs", "send_message_batch", {"QueueUrl": QUEUE, "Entries": {"a": 1}}),
        ("sqs", "send_message_batch", {"QueueUrl": QUEUE, "Entries": [1, {"Id": 1}]}),
        ("sns", "publish", {"Message": 1, "MessageAttributes": {"a": []}}),
        ("sns", "publish_batch", {"TopicArn": TOPIC, "PublishBatchRequestEntries": 7}),
        ("events", "put_events", {"Entries": [1, {"Detail": 1, "Source": 2, "Resources": 5}]}),
        ("events", "put_events", {"Entries": "text"}),
        ("kinesis", "put_record", {"Data": 1, "PartitionKey": 2}),
        ("kinesis", "put_records", {"Records": [{"Data": {}}, None]}),
        ("firehose", "put_record", {"Record": 1}),
        ("firehose", "put_record_batch", {"Records": 1}),
        ("stepfunctions", "start_execution", {"stateMachineArn": 1}),
        ("lambda", "invoke", {"FunctionName": "f", "ClientContext": 1, "InvocationType": []}),
    ],
)
def test_wrong_types_are_left_for_botocore_to_report(aws, service, operation, params):
    aws.install(*sending.OPT_INS)
    complaints = []
    for _ in range(2):
        with pytest.raises(ParamValidationError) as error:
            getattr(aws.client(service), operation)(**params)
        complaints.append(str(error.value))
        BotocoreInstrumentor().uninstrument()
        botocore_hooks.uninstall()
    BotocoreInstrumentor().instrument(tracer_provider=aws.provider)
    assert complaints[0] == complaints[1]


def test_the_setting_reaches_the_calls(aws):
    settings = Settings.from_env({"SPANWELL_MESSAGE_CONTEXT": "kinesis, -sns"})
    after_instrumentors(settings)["botocore"]()
    aws.call("kinesis", "put_record", Data=JSON, **STREAM)
    assert b"traceparent" in base64.b64decode(aws.wire.json()["Data"])
    aws.call("sns", "publish", TopicArn=TOPIC, Message="m")
    assert b"traceparent" not in aws.wire.body()
