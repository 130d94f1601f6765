"""The caller's parameters are never changed, and nothing is added but the header."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from spanwell.propagation import sqs

TEXT = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
ADDED = {"DataType": "String", "StringValue": TEXT}

texts = st.text(max_size=8)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
system_attributes = st.dictionaries(st.sampled_from([sqs.HEADER, "Other"]), junk, max_size=2) | junk
entries = st.fixed_dictionaries(
    {"Id": texts, "MessageBody": texts},
    optional={"MessageSystemAttributes": system_attributes, "MessageAttributes": junk, "MessageGroupId": texts},
)
batches = st.fixed_dictionaries(
    {"QueueUrl": texts}, optional={"Entries": st.lists(entries | junk, max_size=10) | st.tuples(entries) | junk}
)
names = st.lists(st.sampled_from(["All", "SenderId", "MessageGroupId", sqs.HEADER]), max_size=3)
receives = st.fixed_dictionaries(
    {},
    optional={
        "QueueUrl": texts | junk,
        "MessageSystemAttributeNames": names | names.map(tuple) | junk,
        "AttributeNames": names | junk,
        "MessageAttributeNames": junk,
    },
)


def without_header(entry):
    """`entry` as it would be without us."""
    if not isinstance(entry, dict) or "MessageSystemAttributes" not in entry:
        return entry
    rest = {**entry, "MessageSystemAttributes": dict(entry["MessageSystemAttributes"])}
    del rest["MessageSystemAttributes"][sqs.HEADER]
    if not rest["MessageSystemAttributes"]:
        del rest["MessageSystemAttributes"]
    return rest


def check_entry(before, after):
    if not isinstance(before, dict):
        assert after is before
        return
    attributes = before.get("MessageSystemAttributes", {})
    if not isinstance(attributes, dict) or sqs.HEADER in attributes:
        assert after is before
        return
    assert after["MessageSystemAttributes"] == {**attributes, sqs.HEADER: ADDED}
    expected = {key: value for key, value in before.items() if key != "MessageSystemAttributes" or value}
    assert without_header(after) == expected


@given(entries)
def test_send_message(params):
    before = copy.deepcopy(params)
    check_entry(params, sqs.send_message(params, TEXT))
    assert params == before


@given(batches)
def test_send_message_batch(params):
    before = copy.deepcopy(params)
    after = sqs.send_message_batch(params, TEXT)
    assert params == before
    if not isinstance(params.get("Entries"), (list, tuple)):
        assert after is params
        return
    assert {**after, "Entries": None} == {**params, "Entries": None}
    assert len(after["Entries"]) == len(params["Entries"])
    for old, new in zip(params["Entries"], after["Entries"], strict=True):
        check_entry(old, new)


@given(receives, st.booleans(), st.booleans())
def test_receive_message(params, modern, ask):
    before = copy.deepcopy(params)
    members = {"AttributeNames", "MessageSystemAttributeNames"} if modern else {"AttributeNames"}
    after, receipt = sqs.receive_message(params, members, ask=ask)
    assert params == before
    if not receipt.hide:
        assert after is params
        return
    changed = {key for key in after if after.get(key) != params.get(key)}
    assert len(changed) == 1
    field = changed.pop()
    assert after[field] == [*params.get(field, ()), sqs.HEADER]
    assert modern or "MessageSystemAttributeNames" in params or field == "AttributeNames"


message = st.fixed_dictionaries(
    {"MessageId": texts, "Body": texts}, optional={"Attributes": st.dictionaries(texts, texts, max_size=3)}
)


@given(st.lists(st.tuples(message, st.none() | texts), max_size=5), st.booleans())
def test_response_is_what_it_would_be_without_us(rows, asked_for_some):
    expected, answered = [], []
    for row, header in rows:
        plain = {**row, "Attributes": row.get("Attributes", {})} if asked_for_some else without(row)
        extra = {} if header is None else {sqs.HEADER: header}
        expected.append(plain)
        answered.append({**plain, "Attributes": {**plain.get("Attributes", {}), **extra}})
    receipt = sqs.Receipt("https://sqs/1/q", hide=True, asked_for_some=asked_for_some)
    assert sqs.take_headers(answered, receipt) == [header for _, header in rows]
    assert answered == expected


def without(plain):
    return {key: value for key, value in plain.items() if key != "Attributes"}


@given(st.text() | junk)
def test_queue_name_takes_anything(url):
    assert isinstance(sqs.queue_name(url), str)


def test_queue_name():
    assert sqs.queue_name("https://sqs.eu-west-1.amazonaws.com/123456789012/orders.fifo") == "orders.fifo"
    assert sqs.queue_name("arn:aws:sqs:eu-west-1:123456789012:orders") == "orders"
    assert sqs.queue_name(None) == ""
