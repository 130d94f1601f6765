"""Every event of tests/data/events through one function in the real runtime client: its span, parent and links."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanwell.aws_lambda import described
from spanwell.propagation.carriers import contexts, extract
from support.lambda_runtime import FUNCTION, Runtime, trace_header

pytestmark = pytest.mark.slow

EVENTS = Path(__file__).parents[1] / "data" / "events"
ECHO = {"app.py": "def handler(event, context):\n    return event\n"}
NAMES = sorted(path.stem for path in EVENTS.glob("*.json"))
TRACE, PARENT = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"


def read(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def to_xray() -> Iterator[Runtime]:
    with Runtime(ECHO, layer="source") as function:
        yield function


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Runtime]:
    with Runtime(ECHO, layer="source", otlp=True) as function:
        yield function


def invoked(function: Runtime, event: Any, header: str) -> Any:
    """The span of an invocation; the response is the event."""
    before = len(function.spans())
    assert function.invoke(event, timeout=20, trace=header).payload == event
    # One for each invocation: it was out before the response.
    [span] = function.spans(before + 1)[before:]
    return span


def segment(header: str) -> tuple[str, str]:
    parts = dict(part.split("=") for part in header.split(";"))
    return parts["Root"][2:].replace("-", ""), parts["Parent"]


def creators(event: Any) -> list[tuple[str, str]]:
    return [(f"{each.trace_id:032x}", f"{each.span_id:016x}") for each in contexts(extract(event))]


@pytest.mark.parametrize("name", NAMES)
def test_to_x_ray(to_xray: Runtime, name: str) -> None:
    event, header = read(name), trace_header()
    found = extract(event)
    span = invoked(to_xray, event, header)
    assert span.name == described.name_of(found, FUNCTION)
    assert span.kind == described.kind_of(found).name
    assert span.attributes["faas.trigger"] == found.trigger
    assert (span.trace_id, span.parent_id) == segment(header)
    assert set(creators(event)) <= set(span.links)
    assert span.status == "UNSET"


@pytest.mark.parametrize("name", NAMES)
def test_elsewhere(elsewhere: Runtime, name: str) -> None:
    """The tracing mode PassThrough: the event's context is the parent, else one message's, else the Root goes on."""
    event, header = read(name), trace_header(sampled=False)
    span = invoked(elsewhere, event, header)
    made = creators(event)
    carrier = extract(event).carrier
    if "traceparent" in carrier or "Parent=" in carrier.get("X-Amzn-Trace-Id", ""):
        assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    elif len(made) == 1 == len(extract(event).messages):
        assert (span.trace_id, span.parent_id) == made[0]
    else:
        assert (span.trace_id, span.parent_id) == (segment(header)[0], "")
    assert span.links == made


@pytest.mark.parametrize("decision", [";Parent=53995c3f42cd8ad8;Sampled=0", ";Parent=53995c3f42cd8ad8;Sampled=?", ""])
def test_what_x_ray_does_not_sample_goes_on_as_that_trace(decision: str) -> None:
    """An AWS call carries Root and Lineage and no sampled decision, with the SDK in the process and without."""
    code = 'import boto3\nc = boto3.client("dynamodb")\ndef handler(event, context):\n    c.list_tables()\n'
    root, lineage = "Root=1-5759e988-bd862e3fe1be46a994272793", "Lineage=25:3d5c8a4c:7"
    with Runtime({"app.py": code}, layer="source", aws=True) as function:
        assert function.aws is not None
        for header in (f"{root}{decision};{lineage}", trace_header(), f"{root}{decision};{lineage}"):
            function.invoke({}, timeout=20, trace=header)
        sent = [
            value
            for request in function.aws.requests
            for name, value in request.headers.items()
            if name.lower() == "x-amzn-trace-id"
        ]
        spans = function.spans(2)
    assert [span.name for span in spans] == ["DynamoDB.ListTables", FUNCTION]
    assert f"Parent={spans[0].span_id};Sampled=1" in sent[1]
    for each in (sent[0], sent[2]):
        fields = each.split(";")
        assert {root, lineage} <= set(fields)
        assert "Sampled=1" not in fields
