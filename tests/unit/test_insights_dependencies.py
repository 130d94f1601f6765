"""slow_db, slow_aws_call, sequential_calls, bottleneck, cold_start, timeout_near: what they say, and of what."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from spanwell.insights.hints import Hints
from spanwell.insights.model import Fragment, Insight, Thresholds
from spanwell.record import EventRecord, SpanRecord
from support.trees import TRACE

MS = 1_000_000
NAMES = ("slow_db", "slow_aws_call", "sequential_calls", "bottleneck", "cold_start", "timeout_near")
POSTGRES = {"db.system": "postgresql", "db.name": "shop", "db.statement": "SELECT * FROM orders WHERE id = 17"}
TABLE = {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "GetItem"}


def span(
    number: int, start: float, end: float, attributes: dict[str, Any] | None = None, *, parent: int = 0, **more: Any
) -> SpanRecord:
    """A call below the root (number 0), at milliseconds after it began."""
    made = SpanRecord(
        TRACE,
        f"{number:016x}",
        f"{parent:016x}",
        f"call {number}",
        "client",
        "shop",
        int(start * MS),
        int(end * MS),
        attributes=attributes or {},
    )
    return made._replace(**more)


def root(ms: float, attributes: dict[str, Any] | None = None, name: str = "GET /orders/17") -> SpanRecord:
    return span(0, 0, ms, attributes, parent_id=None, kind="server", name=name)


def found(detector: str, spans: list[SpanRecord], chosen: dict[str, float] | None = None) -> list[Insight]:
    module = importlib.import_module(f"spanwell.insights.detectors.{detector}")
    top = next((each for each in spans if each.parent_id is None), None)
    thresholds = Thresholds(module.DEFAULTS, chosen)
    insights = list(module.detect(Fragment(spans, top), thresholds))
    assert all(insight.type == module.NAME == detector for insight in insights)
    # What is found must get past the gate.
    assert not insights or module.may(Hints.of(spans, top, thresholds))
    assert not insights or module.may(Hints.of(spans, top)) or detector in ("cold_start", "timeout_near")
    return insights


def get(number: int, start: float, end: float, url: str, **more: Any) -> SpanRecord:
    return span(number, start, end, {"http.request.method": "GET", "url.full": f"http://api{url}", **more})


@pytest.mark.parametrize("detector", NAMES)
def test_healthy_traces_do_not_pass_the_gate(detector: str) -> None:
    module = importlib.import_module(f"spanwell.insights.detectors.{detector}")
    spans = [span(1, 1, 4, POSTGRES), span(2, 5, 9, TABLE), root(10)]
    assert not module.may(Hints.of(spans, spans[-1], Thresholds(module.DEFAULTS)))
    assert set(module.DEFAULTS) == {name for name in module.DEFAULTS if name.startswith(f"{detector}.")}


def test_slow_calls_of_one_kind_are_one_insight_the_longest_first() -> None:
    spans = [span(1, 0, 600, POSTGRES), span(2, 600, 1_600, POSTGRES), span(3, 1_600, 1_700, POSTGRES), root(1_700)]
    (insight,) = found("slow_db", spans)
    assert insight.evidence == (f"{2:016x}", f"{1:016x}")
    assert insight.subject == ("GET /orders/{id}", "postgresql:shop", "SELECT orders")
    assert insight.severity == "info"
    assert (insight.values["count"], insight.values["duration_ms"]) == (2, 1_000)


def test_the_subject_does_not_change_with_the_values() -> None:
    other = {**POSTGRES, "db.statement": "SELECT * FROM orders WHERE id = 99"}
    first = found("slow_db", [span(1, 0, 600, POSTGRES), root(700)])
    again = found("slow_db", [span(8, 0, 900, other), root(950, name="GET /orders/99")])
    assert first[0].fingerprint("shop") == again[0].fingerprint("shop")


def test_a_driver_below_an_orm_is_the_same_call() -> None:
    inner = {**POSTGRES, "db.name": "other"}
    insights = found("slow_db", [span(2, 1, 700, inner, parent=1), span(1, 0, 701, POSTGRES), root(800)])
    assert [insight.evidence for insight in insights] == [(f"{1:016x}",)]


def test_dynamodb_is_an_aws_call_only() -> None:
    spans = [span(1, 0, 1_500, {**TABLE, "db.system": "dynamodb", "retry_attempts": 2}), root(1_600)]
    assert found("slow_db", spans) == []
    (insight,) = found("slow_aws_call", spans)
    assert "tried 3 times" in insight.sentence
    assert insight.values["retries"] == 2


@pytest.mark.parametrize("detector", ["slow_db", "slow_aws_call"])
def test_thresholds_count_for_an_operation_or_for_all(detector: str) -> None:
    spans = [span(1, 0, 60, POSTGRES), span(2, 60, 120, TABLE), root(120)]
    name = f"{detector}.duration_ms"
    assert found(detector, spans) == []
    assert len(found(detector, spans, {name: 50})) == 1
    assert len(found(detector, spans, {f"{name}@GET /orders/17": 50})) == 1
    assert found(detector, spans, {f"{name}@GET /": 50}) == []


def test_calls_in_a_row_and_what_they_would_save() -> None:
    spans = [get(1, 0, 100, "/a"), get(2, 101, 251, "/b"), get(3, 252, 352, "/c"), root(360)]
    (insight,) = found("sequential_calls", spans)
    assert insight.values["count"] == 3
    assert insight.values["saved_ms"] == 200
    assert insight.evidence == (f"{1:016x}", f"{2:016x}", f"{3:016x}")
    assert insight.subject == ("GET /orders/{id}", "GET /a at api", "GET /b at api", "GET /c at api")


def test_an_id_that_the_request_did_not_have_may_come_from_the_answer_before() -> None:
    known = [get(1, 0, 200, "/me"), get(2, 201, 400, "/lines/17"), root(410, {"url.path": "/orders/17"})]
    assert len(found("sequential_calls", known)) == 1
    new = [get(1, 0, 200, "/me"), get(2, 201, 400, "/lines/18"), root(410, {"url.path": "/orders/17"})]
    assert found("sequential_calls", new) == []


@pytest.mark.parametrize(
    "between",
    [
        span(5, 201, 205, {"http.request.method": "POST", "url.full": "http://api/x"}),
        span(5, 201, 205, {"db.system": "redis", "db.statement": "GET k"}),
        span(5, 201, 205, kind="internal"),
        get(5, 201, 205, "/x")._replace(status="error"),
    ],
)
def test_something_between_ends_the_row(between: SpanRecord) -> None:
    assert found("sequential_calls", [get(1, 0, 200, "/a"), between, get(2, 206, 400, "/b"), root(410)]) == []


def test_a_redirect_leads_to_the_next_call() -> None:
    first = get(1, 0, 200, "/a", **{"http.response.status_code": 302})
    assert found("sequential_calls", [first, get(2, 201, 400, "/b"), root(410)]) == []


def test_ten_of_a_kind_are_not_its_affair() -> None:
    spans = [get(number, number * 40, number * 40 + 39, f"/items/{number}") for number in range(1, 11)]
    assert found("sequential_calls", [*spans, root(500)]) == []
    assert len(found("sequential_calls", [*spans[:9], root(500)])) == 1


def test_the_dependency_with_most_of_the_critical_path() -> None:
    spans = [span(1, 0, 300, POSTGRES), span(2, 300, 450, TABLE), span(3, 460, 600, POSTGRES), root(700)]
    (insight,) = found("bottleneck", spans)
    assert insight.subject == ("GET /orders/{id}", "postgresql:shop")
    assert insight.values == {"duration_ms": 440.0, "ratio": 0.6286, "count": 2, "peer": "postgresql:shop"}
    assert insight.evidence == (f"{1:016x}", f"{3:016x}")


def test_time_beside_something_slower_does_not_count() -> None:
    slower = span(2, 0, 690, kind="internal")
    assert found("bottleneck", [span(1, 0, 400, POSTGRES), slower, root(700)]) == []


def test_what_is_below_a_call_is_its_time() -> None:
    below = span(2, 10, 390, parent=1, kind="server", service="stock")
    (insight,) = found("bottleneck", [below, span(1, 0, 400, {"server.address": "stock"}), root(500)])
    assert insight.values["duration_ms"] == 400


def test_a_cold_start_names_the_function_and_its_time() -> None:
    top = root(20, {"faas.coldstart": True, "spanwell.lambda.init_ms": 812.0})
    (insight,) = found("cold_start", [top._replace(resource={"faas.name": "resize"})])
    assert insight.subject == ("resize",)
    assert "812 ms" in insight.sentence
    assert found("cold_start", [top], {"cold_start.init_ms": 1_000}) == []


def test_an_invocation_that_was_cut_is_an_error() -> None:
    (near,) = found("timeout_near", [root(2_900, {"spanwell.lambda.remaining_ms": 100})])
    assert (near.severity, near.values["limit_ms"]) == ("warning", 3_000)
    (cut,) = found("timeout_near", [root(3_000, {"spanwell.lambda.remaining_ms": 0})])
    assert cut.severity == "error"


@pytest.mark.parametrize(
    ("attributes", "message", "expected"),
    [
        ({"error.type": "requests.exceptions.ReadTimeout"}, "", 1),
        ({}, "HTTPConnectionPool: Read timed out. (read timeout=1)", 1),
        ({}, "HTTPConnectionPool: Read timed out. (read timeout=10)", 0),
        ({"error.type": "TimeoutError", "spanwell.timeout_ms": 1_050}, "", 1),
        ({"error.type": "TimeoutError", "spanwell.timeout_ms": 5_000}, "", 0),
        ({"error.type": "504"}, "timed out", 0),
        ({"rpc.system": "grpc", "rpc.grpc.status_code": 4}, "", 1),
        ({}, "Timeout of 1000ms exceeded", 1),
        ({}, "", 0),
    ],
)
def test_calls_that_hit_their_timeout(attributes: dict[str, Any], message: str, expected: int) -> None:
    call = span(1, 0, 1_000, {"server.address": "rates", **attributes}, status="error", status_message=message)
    assert len(found("timeout_near", [call, root(1_100)])) == expected
    as_event = call._replace(status_message="", events=(EventRecord("exception", 0, {"exception.message": message}),))
    assert len(found("timeout_near", [as_event, root(1_100)])) == expected


@pytest.mark.parametrize("detector", NAMES)
def test_no_root_no_finding_about_the_whole_request(detector: str) -> None:
    spans = [span(1, 0, 2_000, POSTGRES), span(2, 0, 2_000, TABLE), get(3, 0, 200, "/a"), get(4, 201, 401, "/b")]
    insights = found(detector, spans)
    assert len(insights) == (1 if detector in ("slow_db", "slow_aws_call") else 0)
