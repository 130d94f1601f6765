"""`spanwell.messages`: spans for loops over responses that the hooks did not see."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanwell
from spanwell import _guard, incoming
from spanwell.enrich.links import OtherParentLink
from spanwell.enrich.processor import FusedProcessor
from spanwell.propagation.messages import Messages
from spanwell.propagation.process import ProcessSpans
from spanwell.propagation.xray import XRayPropagator

TRACE = 0x5759E988BD862E3FE1BE46A994272793
A, B = 0x53995C3F42CD8AD8, 0x00F067AA0BA902B7
X = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
W = "00-5759e988bd862e3fe1be46a994272793-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    before = context.get_current()
    yield
    context.attach(before)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor([OtherParentLink()]))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def process(provider, exporter):
    """Loop over the messages of a response; the spans."""

    def process(response, destination=""):
        for _ in spanwell.messages(response, destination, tracer_provider=provider):
            assert trace.get_current_span().get_span_context().is_valid
        assert not trace.get_current_span().get_span_context().is_valid
        return exporter.get_finished_spans()

    return process


def w3c(text=W):
    return {"traceparent": {"StringValue": text, "DataType": "String"}}


def note(**attributes):
    entries = {name: {"Type": "String", "Value": value} for name, value in attributes.items()}
    topic = "arn:aws:sns:eu-west-1:123456789012:prices"
    return json.dumps({"Type": "Notification", "TopicArn": topic, "Message": "1", "MessageAttributes": entries})


def linked(span):
    return [link.context.span_id for link in span.links]


@pytest.mark.parametrize(
    ("message", "creator"),
    [
        ({"Attributes": {"AWSTraceHeader": X}}, A),
        ({"MessageAttributes": w3c()}, B),
        ({"Attributes": {"AWSTraceHeader": X}, "MessageAttributes": w3c()}, B),
        ({"Body": note(traceparent=W)}, B),
        ({"Body": note(**{"X-Amzn-Trace-Id": X})}, A),
        ({"Body": json.dumps({"detail-type": "t", "source": "s", "detail": {"traceparent": W}})}, B),
    ],
)
def test_the_span_is_a_child_of_the_message_s_context_and_links_to_it(process, message, creator):
    (span,) = process({"Messages": [{"MessageId": "m1", "Body": "x", **message}]}, "orders")
    assert span.name == "process orders"
    assert span.kind is trace.SpanKind.CONSUMER
    assert (span.context.trace_id, span.parent.span_id, linked(span)) == (TRACE, creator, [creator])
    assert dict(span.attributes) == {
        "messaging.system": "aws_sqs",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "orders",
        "messaging.message.id": "m1",
    }


def test_kinesis_records_carry_it_in_their_data(process):
    data = [json.dumps({"traceparent": W}).encode(), b"\x00\x01", b'{"page": "/"}']
    records = [{"SequenceNumber": str(number), "Data": each} for number, each in enumerate(data)]
    spans = process({"Records": records, "NextShardIterator": "i"}, "clicks")
    assert [linked(span) for span in spans] == [[B], [], []]
    assert spans[0].parent.span_id == B
    assert spans[0].attributes["messaging.system"] == "aws_kinesis"
    assert spans[0].attributes["aws.kinesis.stream_name"] == "clicks"
    assert [span.attributes["messaging.message.id"] for span in spans] == ["0", "1", "2"]


def test_the_current_span_is_the_parent_and_the_message_a_link(provider, exporter):
    with provider.get_tracer("t").start_as_current_span("poll") as poll:
        for _ in spanwell.messages([{"MessageAttributes": w3c()}], tracer_provider=provider):
            pass
        assert trace.get_current_span() is poll
    span = exporter.get_finished_spans()[0]
    assert span.parent.span_id == poll.get_span_context().span_id
    assert linked(span) == [B]


@pytest.mark.parametrize("ambient", [False, True])
def test_a_message_that_names_two_traces_links_to_both_once(process, provider, exporter, ambient):
    message = {"Attributes": {"AWSTraceHeader": X.replace("5759", "5758")}, "MessageAttributes": w3c()}
    if ambient:
        with provider.get_tracer("t").start_as_current_span("poll"):
            for _ in spanwell.messages([message], tracer_provider=provider):
                pass
        span = exporter.get_finished_spans()[0]
    else:
        (span,) = process([message])
        assert span.parent.span_id == B
    assert linked(span) == [B, A]


def test_a_corrupt_header_starts_a_fresh_trace_with_a_reason(process):
    good = {"Attributes": {"AWSTraceHeader": X}}
    bad = [{"Attributes": {"AWSTraceHeader": "Root=x"}}, {"MessageAttributes": w3c("00-x")}, 5]
    spans = process([good, *bad, {**good}])
    assert [linked(span) for span in spans] == [[A], [], [], [], [A]]
    reasons = [span.attributes.get("spanwell.context.problem") for span in spans]
    assert reasons[:3] == [None, "unreadable X-Amzn-Trace-Id", "unreadable traceparent"]
    assert reasons[3].startswith("unreadable message (")
    assert all(span.parent is None for span in spans[1:4])


def test_a_fresh_start_takes_nothing_from_before(provider, exporter):
    """A Root without a Parent that waits for its span is not meant for a message's."""
    incoming.expect_root(99, 0.0)
    for _ in spanwell.messages([{"MessageId": "m1"}], tracer_provider=provider):
        assert incoming.take_root(lambda: 0.0) == 0


def test_lineage_goes_on_when_two_traces_are_named(provider):
    header = X.replace("5759", "5758") + ";Lineage=25:a87bd80c:1"
    message = {"Attributes": {"AWSTraceHeader": header}, "MessageAttributes": w3c()}
    for _ in spanwell.messages([message], tracer_provider=provider):
        carrier = {}
        XRayPropagator().inject(carrier)
    assert carrier["X-Amzn-Trace-Id"].endswith(";Lineage=25:a87bd80c:1")


def test_resources_of_boto3_are_messages(process):
    data = {"MessageId": "m1", "Attributes": {"AWSTraceHeader": X}}
    (span,) = process([SimpleNamespace(meta=SimpleNamespace(data=data))])
    assert (span.attributes["messaging.message.id"], linked(span)) == ("m1", [A])


def test_what_the_hooks_have_prepared_is_taken_as_it_is(provider, exporter):
    opener = ProcessSpans(provider.get_tracer("t"), "aws_sqs", "orders", {})
    received = Messages([{"MessageId": "m1"}], opener, [X])
    assert spanwell.messages({"Messages": received}) is received
    for _ in spanwell.messages({"Messages": received}):
        pass
    for _ in spanwell.messages({"Messages": received}):
        pass
    (span,) = exporter.get_finished_spans()
    assert linked(span) == [A]


def test_the_automatic_spans_know_every_place_of_a_context_too(provider, exporter):
    opener = ProcessSpans(provider.get_tracer("t"), "aws_sqs", "orders", {})
    for _ in Messages([{"MessageAttributes": w3c()}, {"Body": note(traceparent=W)}, {}], opener, [X, None, X]):
        pass
    assert [linked(span) for span in exporter.get_finished_spans()] == [[B], [B], [A]]


@pytest.mark.parametrize("response", [None, {}, {"Messages": []}, {"Messages": None}, [], (), {"Records": []}])
def test_no_messages_are_an_empty_list(response, exporter):
    assert list(spanwell.messages(response)) == []


def test_anything_else_is_given_back():
    steps = iter([1, 2])
    assert spanwell.messages(steps) is steps
    assert list(spanwell.messages("ab")) == ["a", "b"]


def test_the_messages_are_a_list_of_the_caller_s_own_objects(provider):
    items = [{"MessageId": "m1"}, {"MessageId": "m2"}]
    found = spanwell.messages({"Messages": items})
    assert found == items
    assert [id(each) for each in found] == [id(each) for each in items]
    assert items == [{"MessageId": "m1"}, {"MessageId": "m2"}]
