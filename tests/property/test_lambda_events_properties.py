"""Whatever an event looks like, the function gets it and answers; each sampled invocation leaves a span at most."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.lambda_runtime import Runtime, trace_header

pytestmark = pytest.mark.slow

EVENTS = [json.loads(path.read_text()) for path in sorted(Path(__file__).parents[1].glob("data/events/**/*.json"))]
ECHO = "def handler(event, context):\n    return event\n"

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
KEYS = st.text(max_size=8) | st.sampled_from(
    ["Records", "headers", "requestContext", "eventSource", "messageAttributes", "attributes", "body", "detail",
     "source", "Sns", "awslogs", "httpMethod", "http", "version", "elb", "multiValueHeaders", "AWSTraceHeader"]
)  # fmt: skip
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5))
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@st.composite
def broken_events(draw: Any) -> Any:
    """A real event of a trigger, some of its nodes replaced by anything."""
    event = copy.deepcopy(draw(st.sampled_from(EVENTS)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(event))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        holder[key] = draw(JSON)
    return event


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(pairs):
        yield node, key
        yield from _places(value)


@pytest.fixture(scope="module")
def function() -> Iterator[Runtime]:
    with Runtime({"app.py": ECHO}, layer="source") as lam:
        yield lam


def _answers(lam: Runtime, event: Any, *, spans: int | None = 1, **options: Any) -> None:
    """`spans`: how many the invocation leaves, None if that depends on what a broken header is taken for."""
    lam.daemon.arrived.clear()
    answer = lam.invoke(event, timeout=30, **options)
    assert answer.payload == event
    assert lam.starts == 1
    # One of the invocation before may come in late, where its test did not wait.
    for wanted in range(spans or 0, 3):
        own = [each for each in lam.spans(wanted) if each.received_ns > answer.sent_ns]
        if len(own) >= (spans or 0):
            break
    assert len(own) == spans if spans is not None else len(own) <= 1
    assert lam.log == ""


@given(JSON)
@QUICK
def test_any_json_value(function: Runtime, event: Any) -> None:
    _answers(function, event)


@given(broken_events())
@QUICK
def test_events_of_triggers_that_are_broken(function: Runtime, event: Any) -> None:
    _answers(function, event)


HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120).map(str.strip)


@given(HEADERS | st.builds(lambda text, at: trace_header()[:at] + text, HEADERS, st.integers(0, 80)))
@QUICK
def test_trace_headers_that_are_broken(function: Runtime, header: str) -> None:
    _answers(function, {}, spans=None, trace=header or None)


@given(JSON)
@QUICK
def test_client_contexts_of_any_shape(function: Runtime, custom: Any) -> None:
    _answers(function, {}, client={"custom": custom, "env": {}, "client": {}})
