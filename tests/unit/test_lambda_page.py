"""docs/lambda.md says what the code does: the line about tracing modes, the table of contexts, names, defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import get_current_span

from spanwell import incoming, where
from spanwell.aws_lambda import choice, deadline, parent
from spanwell.propagation.carriers import extract
from spanwell.propagation.codec import TraceHeadersPropagator
from spanwell.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lambda.md").read_text()
SOURCE = "\n".join(path.read_text() for path in (ROOT / "src" / "spanwell").rglob("*.py"))


def table(first: str) -> list[list[str]]:
    """The rows of the table whose head begins with the cell `first`."""
    lines = PAGE[PAGE.index(f"| {first} |") :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


# --- words ----------------------------------------------------------------------------------------------------------


def test_the_line_about_the_tracing_mode() -> None:
    [quoted] = re.findall(r"```\n(spanwell: nothing is exported.*?)```", PAGE, re.DOTALL)
    said = choice.Choice(xray=True).why_nothing("Root=1-5759e988-bd862e3fe1be46a994272793")
    assert " ".join(quoted.split()) == f"spanwell: {said}"
    unsampled = choice.Choice(xray=True).why_nothing("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
    assert unsampled.startswith("X-Ray does not sample this invocation")
    assert "`X-Ray does not sample this invocation …`" in PAGE


def test_every_attribute_of_ours_exists() -> None:
    named = set(re.findall(r"`(spanwell\.[a-z_.]+)`", PAGE)) - {"spanwell.annotate"}
    assert len(named) > 4
    assert [name for name in sorted(named) if f'"{name}"' not in SOURCE] == []


def test_every_variable_that_stays_the_same_is_read() -> None:
    rows = {row.variable for row in Settings.rows()}
    kept = {
        name for cells in table("variable") if "the same" in cells[1] for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert len(kept) > 6
    assert kept <= rows


def test_the_times_of_the_guard() -> None:
    assert deadline.LEAD == 0.15
    assert "150 ms before (with less than 300 ms to run, at half of it)" in PAGE


def test_spans_go_to_the_daemon_unless_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_invocations", [True])

    def exporter(**environ: str) -> tuple[str, ...]:
        return Settings.from_env(environ, layers=where.lambda_defaults(environ)).traces_exporter

    assert exporter() == ("xray_otlp_udp",)
    assert exporter(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318") == ("otlp",)
    assert exporter(OTEL_TRACES_EXPORTER="xray") == ("xray",)
    assert "(`xray_otlp_udp`)" in PAGE


def test_the_entry_point_of_an_image_is_a_command() -> None:
    from spanwell.__main__ import _HELP

    entries = [json.loads(each) for each in re.findall(r"ENTRYPOINT (\[.*?\])", PAGE)]
    assert len(entries) == 2
    for entry in entries:
        assert entry[0] == "spanwell"
        assert entry[1] in _HELP


# --- which context wins ---------------------------------------------------------------------------------------------

LAMBDA = (0x5759E988BD862E3FE1BE46A994272793, 0x53995C3F42CD8AD8)
HEADER = f"Root=1-5759e988-bd862e3fe1be46a994272793;Parent={LAMBDA[1]:016x};Lineage=25:3d5c8a4c:7"
REQUEST, FIRST, SECOND = (1, 1), (2, 2), (3, 3)
NONE = SimpleNamespace()


def traceparent(context: tuple[int, int]) -> str:
    return f"00-{context[0]:032x}-{context[1]:016x}-01"


def http(context: tuple[int, int] | None = None) -> dict[str, Any]:
    headers = {} if context is None else {"traceparent": traceparent(context)}
    return {"requestContext": {"http": {"method": "GET"}}, "routeKey": "GET /", "headers": headers}


def messages(*contexts: tuple[int, int]) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": "m",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
                "body": "1",
                "messageAttributes": {"traceparent": {"stringValue": traceparent(each), "dataType": "String"}},
            }
            for each in contexts
        ]
    }


@pytest.fixture(autouse=True)
def _propagators() -> Iterator[None]:
    before = propagate.get_global_textmap()
    every = CompositePropagator([W3CBaggagePropagator(), TraceHeadersPropagator(prefer_xray=True)])
    propagate.set_global_textmap(every)
    incoming.forget_root()
    yield
    propagate.set_global_textmap(before)
    incoming.forget_root()


def entered(event: Any, header: str, called: Any = NONE, *, to_xray: bool) -> tuple[Any, list[tuple[int, int]]]:
    """(the parent, or the trace id that a root gets, the links)."""
    found = parent.enter(extract(event), header, called, to_xray=to_xray)
    links = [(each.trace_id, each.span_id) for each in found.links]
    context = get_current_span(found.context).get_span_context()
    if context.is_valid:
        return (context.trace_id, context.span_id), links
    came = incoming.of(found.context)
    return None if came is None else came.trace_id, links


def test_the_table_has_these_four_rows() -> None:
    rows = table("spans go to")
    assert [cells[0] for cells in rows] == ["X-Ray", "X-Ray", "elsewhere", "elsewhere"]
    assert [re.findall(r"`(Sampled=.)`", cells[1]) for cells in rows] == [
        *(["Sampled=1"], ["Sampled=0", "Sampled=?"], ["Sampled=1"], ["Sampled=0"]),
    ]


def test_to_x_ray_and_sampled() -> None:
    header = HEADER + ";Sampled=1"
    assert choice.Choice(xray=True).needs_sdk(header)
    assert entered(http(REQUEST), header, to_xray=True) == (LAMBDA, [REQUEST])
    same = (LAMBDA[0], 7)
    assert entered(http(same), header, to_xray=True) == (LAMBDA, [])
    assert entered(messages(FIRST, SECOND), header, to_xray=True) == (LAMBDA, [FIRST, SECOND])
    assert entered(messages(FIRST), header, to_xray=True) == (LAMBDA, [FIRST])


@pytest.mark.parametrize("decision", [";Sampled=0", ";Sampled=?", ""])
def test_to_x_ray_and_not_sampled(decision: str) -> None:
    assert not choice.Choice(xray=True).needs_sdk(HEADER + decision)


@pytest.mark.parametrize("decision", [";Sampled=1", ";Sampled=0", ""])
def test_elsewhere(decision: str) -> None:
    header = HEADER + decision
    segment = [LAMBDA] if decision == ";Sampled=1" else []
    assert choice.Choice().needs_sdk(header)
    assert entered(http(REQUEST), header, to_xray=False) == (REQUEST, segment)
    assert entered(messages(FIRST), header, to_xray=False) == (FIRST, [FIRST, *segment])
    assert entered(messages(FIRST, SECOND), header, to_xray=False) == (LAMBDA[0], [FIRST, SECOND, *segment])
    assert entered(http(), header, to_xray=False) == (LAMBDA[0], segment)
    sent = {"traceparent": traceparent(REQUEST)}
    caller = SimpleNamespace(client_context=SimpleNamespace(custom=sent))
    assert entered({"order": 1}, header, caller, to_xray=False) == (REQUEST, segment)
