"""The SQS leg against a real moto server: real botocore and aiobotocore, OpenTelemetry's instrumentors, real SDK."""

from __future__ import annotations

import asyncio
import copy
import functools
import json

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ParamValidationError
from opentelemetry import context, trace
from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor, BotocoreInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from spanwell import _guard
from spanwell.propagation import botocore_hooks, sqs
from spanwell.propagation.messages import Messages
from spanwell.propagation.xray import XRayPropagator, parse
from support.servers import moto

pytestmark = pytest.mark.slow

CALLERS = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}


@pytest.fixture(scope="module")
def endpoint():
    with moto() as url:
        yield url


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def _instrumented(provider, monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    BotocoreInstrumentor().instrument(tracer_provider=provider)
    botocore_hooks.install(send=True, process=True, tracer_provider=provider)
    yield
    botocore_hooks.uninstall()
    BotocoreInstrumentor().uninstrument()


@pytest.fixture
def client(endpoint, _instrumented):
    return boto3.client("sqs", endpoint_url=endpoint, **KEYS)


@pytest.fixture
def plain(endpoint):
    """A peer without any instrumentation: the hooks are classwide, so each call switches telemetry off."""
    peer = boto3.client("sqs", endpoint_url=endpoint, **KEYS)

    def call(operation, **params):
        with suppress_instrumentation():
            return getattr(peer, operation)(**params)

    return call


@pytest.fixture
def queue(plain, request):
    url = plain("create_queue", QueueName=f"q-{abs(hash(request.node.name))}")["QueueUrl"]
    yield url
    plain("delete_queue", QueueUrl=url)


def named(exporter, name):
    return [span for span in exporter.get_finished_spans() if span.name.startswith(name)]


def carried(plain, queue):
    # The old name, which every botocore knows.
    answer = plain("receive_message", QueueUrl=queue, AttributeNames=["AWSTraceHeader"])
    return answer["Messages"][0].get("Attributes", {}).get("AWSTraceHeader")


def sent_bodies(client):
    """The parameters as botocore is about to serialise them, whichever protocol its version speaks."""
    bodies = []
    client.meta.events.register(
        "before-endpoint-resolution.sqs", lambda params, **_: bodies.append(copy.deepcopy(params))
    )
    return bodies


def test_process_span_continues_the_send_span(client, queue, exporter):
    client.send_message(QueueUrl=queue, MessageBody="1")
    answer = client.receive_message(QueueUrl=queue)
    for message in answer["Messages"]:
        assert message["Body"] == "1"
        client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    (send,), (process,), (delete,) = (named(exporter, n) for n in ("SQS.SendMessage", "process", "SQS.Delete"))
    assert process.context.trace_id == send.context.trace_id
    assert process.parent.span_id == send.context.span_id
    assert [link.context.span_id for link in process.links] == [send.context.span_id]
    assert delete.parent.span_id == process.context.span_id
    assert process.kind is SpanKind.CONSUMER
    assert process.attributes["messaging.destination.name"] == queue.rpartition("/")[2]
    assert process.attributes["server.address"] == "127.0.0.1"
    assert process.attributes["messaging.message.id"] == answer["Messages"][0]["MessageId"]


def test_header_names_the_send_span_inside_the_application_s_trace(client, queue, plain, provider, exporter):
    with provider.get_tracer("app").start_as_current_span("order"):
        client.send_message(QueueUrl=queue, MessageBody="1")
    (send,) = named(exporter, "SQS.SendMessage")
    header = parse(carried(plain, queue))
    assert (header.root, header.parent, header.sampled) == (send.context.trace_id, send.context.span_id, "1")


def test_lineage_is_kept(client, queue, plain):
    came = XRayPropagator().extract({"X-Amzn-Trace-Id": CALLERS + ";Lineage=25:3d5c8a4c:7"})
    token = context.attach(came)
    try:
        client.send_message(QueueUrl=queue, MessageBody="1")
    finally:
        context.detach(token)
    header = parse(carried(plain, queue))
    assert header.lineage == "25:3d5c8a4c:7"
    assert header.root == parse(CALLERS).root
    assert header.parent != parse(CALLERS).parent


def test_caller_s_header_and_parameters_stay(client, queue, plain):
    params = {
        "QueueUrl": queue,
        "MessageBody": "1",
        "MessageAttributes": {"colour": {"DataType": "String", "StringValue": "red"}},
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": CALLERS}},
    }
    before = copy.deepcopy(params)
    client.send_message(**params)
    assert params == before
    assert carried(plain, queue) == CALLERS


def test_batch_of_ten_carries_the_header_in_every_entry_but_the_caller_s(client, queue, exporter):
    # Read before it is sent: moto drops the system attributes of batch entries.
    bodies = sent_bodies(client)
    mine = {"AWSTraceHeader": {"DataType": "String", "StringValue": CALLERS}}
    entries = [{"Id": str(index), "MessageBody": str(index)} for index in range(10)]
    entries[3]["MessageSystemAttributes"] = mine
    before = copy.deepcopy(entries)
    answer = client.send_message_batch(QueueUrl=queue, Entries=entries)
    assert entries == before
    assert len(answer["Successful"]) == 10
    (send,) = named(exporter, "SQS.SendMessageBatch")
    headers = [e["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"] for e in bodies[-1]["Entries"]]
    assert headers.pop(3) == CALLERS
    assert {parse(header).parent for header in headers} == {send.context.span_id}
    assert len(headers) == 9


def test_ten_messages_of_different_traces_give_ten_spans(client, queue, exporter):
    for index in range(10):
        client.send_message(QueueUrl=queue, MessageBody=str(index))
    sends = {span.context.span_id for span in named(exporter, "SQS.SendMessage")}
    found = set()
    while len(found) < 10:
        for message in client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]:
            found.add(message["Body"])
    spans = named(exporter, "process")
    assert {span.parent.span_id for span in spans} == sends
    assert len(spans) == 10


def test_fifo(client, plain, exporter):
    queue = plain(
        "create_queue",
        QueueName="leg.fifo",
        Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
    )["QueueUrl"]
    client.send_message(QueueUrl=queue, MessageBody="same", MessageGroupId="g")
    client.send_message(QueueUrl=queue, MessageBody="same", MessageGroupId="g")
    answer = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    assert len(answer["Messages"]) == 1, "the header must not take part in deduplication"
    for _ in answer["Messages"]:
        pass
    (process,) = named(exporter, "process")
    assert process.name == "process leg.fifo"
    assert process.parent.span_id == named(exporter, "SQS.SendMessage")[0].context.span_id


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"MessageSystemAttributeNames": []},
        {"MessageSystemAttributeNames": ["MessageGroupId"]},
        {"MessageSystemAttributeNames": ["SentTimestamp", "SenderId"]},
        {"MessageSystemAttributeNames": ["AWSTraceHeader"]},
        {"MessageSystemAttributeNames": ("AWSTraceHeader",)},
        {"AttributeNames": ["SentTimestamp"]},
        {"AttributeNames": ["AWSTraceHeader"]},
        {"AttributeNames": ["All"]},
        {"AttributeNames": ["SentTimestamp"], "MessageSystemAttributeNames": ["SenderId"]},
        {"MessageAttributeNames": ["All"]},
    ],
)
@pytest.mark.parametrize("peer", [True, False])
def test_response_equals_what_it_would_be_without_us(client, queue, plain, exporter, asked, peer):
    client.send_message(QueueUrl=queue, MessageBody="1") if peer else plain(
        "send_message", QueueUrl=queue, MessageBody="1"
    )
    before = copy.deepcopy(asked)
    known = client.meta.service_model.operation_model("ReceiveMessage").input_shape.members
    if not set(asked) <= set(known):  # botocore of before 2024: refused, and in the same words
        assert complaint(client.receive_message, QueueUrl=queue, **asked) == complaint(
            plain, "receive_message", QueueUrl=queue, **asked
        )
        return
    with_us = client.receive_message(QueueUrl=queue, VisibilityTimeout=0, **asked)
    assert asked == before
    without_us = plain("receive_message", QueueUrl=queue, VisibilityTimeout=0, **asked)
    ours, theirs = normal(with_us), normal(without_us)
    assert ours == theirs
    assert json.dumps(ours, indent=1) == json.dumps(theirs, indent=1)
    assert [key for message in ours for key in message] == [key for message in theirs for key in message]
    assert type(without_us["Messages"]) is list
    assert type(with_us["Messages"]) is Messages
    for _ in with_us["Messages"]:
        pass
    (process,) = named(exporter, "process")
    assert bool(process.parent) == peer
    assert len(process.links) == peer


def complaint(call, *args, **params):
    with pytest.raises(ParamValidationError) as error:
        call(*args, **params)
    return str(error.value)


def normal(answer):
    messages = copy.deepcopy(answer["Messages"])
    for message in messages:
        del message["ReceiptHandle"]
        for count in ("ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"):
            message.get("Attributes", {}).pop(count, None)
    return messages


def test_old_botocore_knows_the_old_name_only():
    params, receipt = sqs.receive_message({"QueueUrl": "q"}, {"QueueUrl", "AttributeNames"}, ask=True)
    assert params["AttributeNames"] == ["AWSTraceHeader"]
    assert receipt.hide


def test_empty_answer_stays(client, queue):
    assert "Messages" not in client.receive_message(QueueUrl=queue)


def test_send_off(client, queue, plain, exporter, provider):
    botocore_hooks.install(send=False, process=True, tracer_provider=provider)
    bodies = sent_bodies(client)
    client.send_message(QueueUrl=queue, MessageBody="1")
    answer = client.receive_message(QueueUrl=queue)
    assert all("AWSTraceHeader" not in json.dumps(body) for body in bodies)
    for _ in answer["Messages"]:
        pass
    (process,) = named(exporter, "process")
    assert process.parent is None


def test_process_off_asks_for_nothing_and_leaves_a_plain_list(client, queue, plain, exporter, provider):
    botocore_hooks.install(send=True, process=False, tracer_provider=provider)
    bodies = sent_bodies(client)
    client.send_message(QueueUrl=queue, MessageBody="1")
    answer = client.receive_message(QueueUrl=queue)
    assert "AWSTraceHeader" in json.dumps(bodies[0])
    assert "AWSTraceHeader" not in json.dumps(bodies[1])
    assert type(answer["Messages"]) is list
    for _ in answer["Messages"]:
        pass
    assert named(exporter, "process") == []


def test_without_a_span_nothing_is_sent(client, queue, plain):
    plain("send_message", QueueUrl=queue, MessageBody="1")
    assert carried(plain, queue) is None


def test_presigned_url_and_stubber_see_the_caller_s_parameters(client, queue, provider):
    from botocore.stub import Stubber

    with provider.get_tracer("app").start_as_current_span("order"):
        url = client.generate_presigned_url("send_message", {"QueueUrl": queue, "MessageBody": "1"})
        with Stubber(client) as stub:
            stub.add_response("send_message", {"MessageId": "m"}, {"QueueUrl": queue, "MessageBody": "1"})
            assert client.send_message(QueueUrl=queue, MessageBody="1")["MessageId"] == "m"
    assert "AWSTraceHeader" not in url


def test_botocore_s_own_complaint_is_unchanged(client, plain):
    bad = {"QueueUrl": "q", "MessageBody": 1, "MessageSystemAttributes": ["no dict"]}
    assert complaint(client.send_message, **bad) == complaint(plain, "send_message", **bad)


def test_our_failure_leaves_the_call_as_without_us(client, queue, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)

    def broken(*args, **kwargs):
        raise RuntimeError("ours")

    monkeypatch.setattr(botocore_hooks, "current_header", broken)
    monkeypatch.setattr(sqs, "take_headers", broken)
    before = _guard.losses.total("errors")
    client.send_message(QueueUrl=queue, MessageBody="1")
    answer = client.receive_message(QueueUrl=queue)
    assert [message["Body"] for message in answer["Messages"]] == ["1"]
    assert _guard.losses.total("errors") == before + 2


def test_boto3_resource_messages_make_no_stray_spans(client, endpoint, queue, exporter):
    client.send_message(QueueUrl=queue, MessageBody="1")
    resource = boto3.resource("sqs", endpoint_url=endpoint, **KEYS)
    (message,) = resource.Queue(queue).receive_messages()
    assert message.body == "1"
    assert message.attributes is None
    assert named(exporter, "process") == []


def test_install_is_idempotent_and_uninstall_restores(monkeypatch):
    names = ("_emit_api_params", "_make_request")
    originals = [vars(BaseClient)[name] for name in names]
    botocore_hooks.install(send=True, process=True)
    once = [vars(BaseClient)[name] for name in names]
    botocore_hooks.install(send=True, process=True)
    assert [vars(BaseClient)[name] for name in names] == once
    assert once != originals
    botocore_hooks.uninstall()
    assert [vars(BaseClient)[name] for name in names] == originals


def test_uninstall_beneath_another_wrapper_and_install_again(monkeypatch):
    original = vars(BaseClient)["_make_request"]
    botocore_hooks.install(send=True, process=True)
    ours = vars(BaseClient)["_make_request"]
    monkeypatch.setattr(BaseClient, "_make_request", functools.partialmethod(ours))
    above = vars(BaseClient)["_make_request"]
    botocore_hooks.uninstall()
    assert vars(BaseClient)["_make_request"] is above
    botocore_hooks.install(send=True, process=True)
    assert vars(BaseClient)["_make_request"] is above
    monkeypatch.undo()
    botocore_hooks.uninstall()
    assert vars(BaseClient)["_make_request"] is original


def test_md5_of_system_attributes_is_not_checked_by_botocore(client, queue):
    # botocore compares no digest of SQS messages: an answer with wrong ones passes.
    def spoil(parsed, **_):
        parsed["MD5OfMessageSystemAttributes"] = "0" * 32
        parsed["MD5OfMessageBody"] = "0" * 32

    client.meta.events.register("after-call.sqs.SendMessage", spoil)
    assert client.send_message(QueueUrl=queue, MessageBody="1")["MD5OfMessageBody"] == "0" * 32


def test_aiobotocore(endpoint, queue, plain, exporter, provider, monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    from aiobotocore.session import get_session

    AiobotocoreInstrumentor().instrument(tracer_provider=provider)
    botocore_hooks.install(send=True, process=True, tracer_provider=provider)

    async def work():
        async with get_session().create_client("sqs", endpoint_url=endpoint, **KEYS) as client:
            params = {"QueueUrl": queue, "MessageBody": "1"}
            before = copy.deepcopy(params)
            await client.send_message(**params)
            assert params == before
            answer = await client.receive_message(QueueUrl=queue)
            for message in answer["Messages"]:
                assert "Attributes" not in message
                assert trace.get_current_span().name.startswith("process ")
                await client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            assert not trace.get_current_span().get_span_context().is_valid

    try:
        asyncio.run(work())
    finally:
        botocore_hooks.uninstall()
        AiobotocoreInstrumentor().uninstrument()
    (send,), (process,), (delete,) = (named(exporter, n) for n in ("SQS.SendMessage", "process", "SQS.Delete"))
    assert process.parent.span_id == send.context.span_id
    assert delete.parent.span_id == process.context.span_id
