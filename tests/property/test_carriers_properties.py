"""Any event is read without an error, and what was written into a message is read back."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from spanwell import _guard
from spanwell.propagation.carriers import contexts, extract
from spanwell.propagation.codec import TraceHeadersPropagator

EVENTS = [json.loads(path.read_text()) for path in sorted((Path(__file__).parents[1] / "data/events").glob("*.json"))]
TRIGGERS = {"http", "pubsub", "datasource", "timer", "other"}
relaxed = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


def names(node):
    if isinstance(node, dict):
        yield from (key for key in node)
        yield from (value for value in node.values() if isinstance(value, str) and len(value) < 100)
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from names(each)


# The words of the real events, so that junk comes near their shapes.
words = st.sampled_from(sorted(set(names(EVENTS)))) | st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.binary(max_size=5)
keys = words | st.integers() | st.none() | st.tuples(st.integers())
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=25,
)


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)


def check(event):
    before = copy.deepcopy(event)
    found = extract(event)
    assert found.trigger in TRIGGERS
    for text in (found.kind, found.source, found.source_arn, found.method, found.route, found.path, found.problem):
        assert type(text) is str
    for carrier in (found.carrier, *(each.carrier for each in found.messages)):
        assert all(type(key) is str and type(value) is str for key, value in carrier.items())
    assert all(isinstance(value, (str, int, list)) and value for value in found.attributes.values())
    contexts(found)
    assert repr(event) == repr(before)  # not ==: a NaN equals nothing
    return found


@relaxed
@given(junk)
def test_any_event_is_read_without_an_exception(event):
    check(event)


@relaxed
@given(st.sampled_from(EVENTS), st.data())
def test_a_real_event_with_anything_anywhere_is_read_without_an_exception(event, data):
    event = copy.deepcopy(event)
    for _ in range(data.draw(st.integers(1, 3))):
        node = event
        while isinstance(node, (dict, list)) and node:
            place = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if not isinstance(node[place], (dict, list)) or data.draw(st.integers(0, 3)) == 0:
                node[place] = data.draw(junk)
                break
            node = node[place]
            if isinstance(node, dict) and not all(isinstance(key, str) for key in node):
                break
    check(event)


span_contexts = st.builds(
    lambda trace, span, flags, state: SpanContext(trace, span, False, TraceFlags(flags), TraceState(state)),
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([(), (("ot", "th:8"),)]),
)
W3C = ("traceparent", "tracestate")


def written(span, only=None):
    carrier = {}
    TraceHeadersPropagator().inject(carrier, set_span_in_context(NonRecordingSpan(span), Context()))
    return {key: value for key, value in carrier.items() if only is None or key in only}


def sqs(span, body="x"):
    header = {} if span is None else {"AWSTraceHeader": written(span)["X-Amzn-Trace-Id"]}
    return {"eventSource": "aws:sqs", "attributes": header, "body": body}


def sqs_w3c(span):
    values = {} if span is None else written(span, W3C)
    entries = {key: {"stringValue": value, "dataType": "String"} for key, value in values.items()}
    return {"eventSource": "aws:sqs", "messageAttributes": entries, "body": "x"}


def envelope(span, message="x"):
    entries = {} if span is None else {k: {"Type": "String", "Value": v} for k, v in written(span).items()}
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": message, "MessageAttributes": entries}


def detail(span):
    return {"order": 1, **({} if span is None else written(span))}


WAYS = {
    "sqs": sqs,
    "sqs w3c": sqs_w3c,
    "sns": lambda span: {"EventSource": "aws:sns", "Sns": envelope(span)},
    "sns sqs": lambda span: sqs(None, json.dumps(envelope(span))),
    "eventbridge sqs": lambda span: sqs(
        None, json.dumps({"detail-type": "t", "source": "s", "detail": detail(span)})
    ),
    "kinesis": lambda span: {
        "eventSource": "aws:kinesis",
        "kinesis": {"data": base64.b64encode(json.dumps(detail(span)).encode()).decode()},
    },
}


@relaxed
@given(st.sampled_from(sorted(WAYS)), st.lists(st.none() | span_contexts, min_size=1, max_size=10))
def test_what_was_sent_in_each_message_of_a_batch_is_read_back(way, spans):
    found = extract({"Records": [WAYS[way](span) for span in spans]})
    assert [bool(each.carrier) for each in found.messages] == [span is not None for span in spans]
    assert not any(each.problem for each in found.messages)
    expected = {(span.trace_id, span.span_id): span for span in reversed(spans) if span is not None}
    read = contexts(found)
    assert [(each.trace_id, each.span_id) for each in read] == list(
        dict.fromkeys((span.trace_id, span.span_id) for span in spans if span is not None)
    )
    for each in read:
        sent = expected[each.trace_id, each.span_id]
        assert each.is_remote
        assert each.trace_flags == sent.trace_flags & (1 if way == "sqs" else 255)
        assert dict(each.trace_state) == ({} if way == "sqs" else dict(sent.trace_state))


@relaxed
@given(st.sampled_from(sorted(WAYS)), span_contexts, st.integers(0, 4), st.data())
def test_a_corrupt_header_in_one_message_leaves_the_others_theirs(way, span, place, data):
    records = [WAYS[way](span) for _ in range(5)]
    text = json.dumps(records[place])
    if way == "kinesis":
        blob = records[place]["kinesis"]["data"]
        inner = base64.b64decode(blob).replace(b"00-", b"0x-").replace(b"Root=1-", b"Root=2-")
        records[place]["kinesis"]["data"] = base64.b64encode(inner).decode()
    else:
        records[place] = json.loads(text.replace("00-", "0x-").replace("Root=1-", "Root=2-"))
    found = extract({"Records": records}).messages
    assert [index for index, each in enumerate(found) if each.problem] == [place]
    assert contexts(extract({"Records": [records[place]]})) == []
    others = [index for index in range(5) if index != place]
    assert all(len(contexts(extract({"Records": [records[index]]}))) == 1 for index in others)
