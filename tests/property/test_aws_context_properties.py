"""Whatever is sent: the caller's parameters are never changed, and what botocore took before it takes afterwards."""

from __future__ import annotations

import copy
import json

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from spanwell.propagation import sending
from spanwell.propagation.carried import KEYS
from spanwell.propagation.json_payloads import with_members

pytestmark = pytest.mark.full


CARRIER = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": 'ot=th:8;rv:1,q="\\"',
    "X-Amzn-Trace-Id": "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1",
}
ALL = sending.legs(sending.DEFAULTS | sending.OPT_INS)
SESSION = botocore.session.get_session()
SHAPES = {
    (service, operation): SESSION.get_service_model(service).operation_model(operation).input_shape
    for service, operation in ALL
}

texts = st.text(max_size=8) | st.sampled_from(
    ["{}", '{"a": 1}', '{"traceparent": ""}', "[]", "e30=", "eyJjdXN0b20iOnt9fQ=="]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
blobs = texts | texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=8)


def valid(shape):
    """Parameters that botocore takes."""
    kind = shape.type_name
    if kind == "structure":
        fields = {name: valid(member) for name, member in shape.members.items()}
        needed = {name: fields.pop(name) for name in shape.required_members}
        return st.fixed_dictionaries(needed, optional=fields)
    if kind == "list":
        return st.lists(valid(shape.member), min_size=1, max_size=3)
    if kind == "map":
        names = st.sampled_from(["traceparent", "AWSTraceHeader"]) | st.text(min_size=1, max_size=4)
        return st.dictionaries(names, valid(shape.value), max_size=11)
    if kind == "string":
        return st.sampled_from(shape.enum) if shape.enum else texts.map(lambda text: text or "x")
    if kind == "boolean":
        return st.booleans()
    return {"blob": blobs, "timestamp": st.just(1700000000)}.get(kind, st.integers(1, 9))


def shuffled(shape):
    """As `valid`, with any value of a wrong type here and there."""
    kind = shape.type_name
    if kind == "structure":
        return junk | st.fixed_dictionaries({}, optional={n: shuffled(m) for n, m in shape.members.items()})
    if kind == "list":
        return junk | st.lists(shuffled(shape.member), max_size=3)
    return junk | valid(shape)


def complaint(params, shape):
    return ParamValidator().validate(params, shape).generate_report()


@pytest.mark.parametrize("operation", sorted(ALL), ids="-".join)
@given(data=st.data())
def test_valid_parameters_stay_valid_and_the_caller_s_own(operation, data):
    shape = SHAPES[operation]
    params = data.draw(valid(shape))
    before = copy.deepcopy(params)
    after = ALL[operation].apply(params, dict(CARRIER), shape)
    assert params == before
    assert complaint(after, shape) == complaint(params, shape)


@pytest.mark.parametrize("operation", sorted(ALL), ids="-".join)
@given(data=st.data())
def test_wrong_types_get_the_same_complaint(operation, data):
    shape = SHAPES[operation]
    params = data.draw(shuffled(shape).filter(lambda value: isinstance(value, dict)))
    before = copy.deepcopy(params)
    after = ALL[operation].apply(params, dict(CARRIER), shape)
    assert params == before
    assert complaint(after, shape) == complaint(params, shape)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.dictionaries(
    st.text(max_size=8), scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(), scalars, max_size=3)
)


@given(documents, st.sampled_from([None, 0, 2]), st.booleans(), st.text(" \t\r\n", max_size=3))
def test_a_json_object_keeps_its_values_and_gets_the_keys(document, indent, ascii_only, space):
    text = space + json.dumps(document, indent=indent, ensure_ascii=ascii_only) + space
    added = "," + json.dumps(CARRIER)[1:]
    after = with_members(text, added)
    if any(key in document for key in KEYS):
        assert after is None
        return
    assert json.loads(after) == {**document, **CARRIER}
    end = text.rindex("}")
    assert after.startswith(text[:end])
    assert after.endswith(text[end:])
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    assert with_members(data, added) == after.encode()


@given(st.text() | st.binary() | junk)
def test_other_payloads_stay(payload):
    after = with_members(payload, ',"traceparent":"x"}')
    if after is not None:
        assert isinstance(json.loads(payload), dict)
