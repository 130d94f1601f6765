"""`spanwell sampling simulate`: stored and stated loads through the real samplers, in simulated time."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from spanwell.cli import sampling_simulate
from spanwell.cli.sampling_loads import Plan, PlannedSpan, StatedLoad, parse_load
from spanwell.export.sqlite import SqliteSpanExporter
from support.spans import START, make_span, nezha

SECOND = 10**9


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    sampling_simulate.register(parser.add_subparsers())
    args = parser.parse_args(["simulate", *arguments])
    out = io.StringIO()
    return args.run(args, environ or {}, out), out.getvalue()


def result(*arguments: str, environ: dict[str, str] | None = None) -> dict:
    code, out = run("--json", *arguments, environ=environ)
    assert code == 0
    return json.loads(out)


def store(tmp_path: Path, spans: list[ReadableSpan]) -> str:
    path = str(tmp_path / "traces.db")
    exporter = SqliteSpanExporter(path)
    exporter.export(spans)
    exporter.shutdown()
    return path


def request(
    number: int, *, at: float, error: bool = False, duration: float = 0.01, path: str = "/a"
) -> list[ReadableSpan]:
    """A trace of two services: shop's server and client span, and stock's server span."""
    trace_id, start = number << 64, START + int(at * SECOND)
    asked = {"http.request.method": "GET", "url.path": path, "http.response.status_code": 500 if error else 200}
    whole = int(duration * SECOND)
    said = {"trace_id": trace_id, "start": start, "duration": whole, "error": "no" if error else None}
    return [
        make_span(span_id=number * 4 + 1, name=f"GET {path}", kind=SpanKind.SERVER, attributes=asked, **said),
        make_span(span_id=number * 4 + 2, parent=number * 4 + 1, kind=SpanKind.CLIENT, **said),
        make_span(
            span_id=number * 4 + 3,
            parent=number * 4 + 2,
            service="stock",
            kind=SpanKind.SERVER,
            remote_parent=True,
            **said,
        ),
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """200 traces of three spans in 200 s: each tenth fails, each twentieth takes two seconds."""
    spans: list[ReadableSpan] = []
    for index in range(200):
        spans += request(
            index + 1,
            at=index,
            error=index % 10 == 0,
            duration=2.0 if index % 20 == 5 else 0.01,
            path="/busy" if index % 4 else "/quiet",
        )
    return store(tmp_path_factory.mktemp("simulate"), spans)


# --- a stated load ----------------------------------------------------------------------------------------------


def test_a_tenth_of_a_stated_load() -> None:
    found = result(
        "--load", "rps=50,operations=4,spans=5,errors=2%,slow=5%,minutes=5", "--sampler", "ratio", "--arg", "0.1"
    )
    seen = found["traces"]["seen"]
    assert seen == pytest.approx(15000, abs=4 * 15000**0.5)
    assert found["traces"]["kept"] == pytest.approx(0.1 * seen, abs=4 * (seen * 0.09) ** 0.5)
    assert found["spans"] == {key: 5 * number for key, number in found["traces"].items()}
    assert found["errors"]["seen"] == pytest.approx(0.02 * seen, abs=4 * (0.02 * seen) ** 0.5)
    assert found["slow"]["seen"] == pytest.approx(0.05 * seen, abs=4 * (0.05 * seen) ** 0.5)
    assert found["monthly_spans"] == pytest.approx(found["spans"]["kept"] / 300 * 30.44 * 86400, rel=0.02)
    assert found["estimated_requests"] == pytest.approx(found["traces"]["kept"] * 10, rel=1e-6)
    assert found["reasons"] == {"rate": found["traces"]["kept"]}
    assert found["windows"] == {"seconds": 60, "number": 5}
    names = [each["name"] for each in found["operations"]]
    assert names == [f"GET /operation{number}" for number in (1, 2, 3, 4)]
    assert sum(each["kept"] for each in found["operations"]) == found["traces"]["kept"]


def test_the_shape_of_the_json() -> None:
    found = result("--load", "minutes=1,rps=5", "--sampler", "always_on")
    assert list(found) == [
        "sampler", "load", "traces", "spans", "errors", "slow", "estimated_requests", "monthly_spans", "reasons",
        "operations", "windows", "notes", "problems",
    ]  # fmt: skip
    assert found["sampler"] == {"name": "always_on", "argument": "", "description": "AlwaysOnSampler"}
    assert found["load"]["stated"] == {**StatedLoad(rps=5, minutes=1)._asdict()}
    assert found["load"]["seconds"] == 60
    assert found["traces"]["kept"] == found["traces"]["seen"] > 0
    assert found["reasons"] == {"(none)": found["traces"]["kept"]}
    assert "1/n" in found["notes"][0]
    assert "One process" in found["notes"][-1]
    assert found["problems"] == []


def test_the_seed_decides() -> None:
    load = ("--load", "rps=5,minutes=1", "--sampler", "ratio", "--arg", "0.5")
    assert run(*load) == run(*load) == run(*load, "--seed", "1") != run(*load, "--seed", "2")


def test_a_budget_is_held() -> None:
    found = result("--load", "rps=40,spans=4,minutes=10", "--sampler", "budget", "--arg", "spans_per_second=8")
    assert found["spans"]["kept"] == pytest.approx(8 * 600, rel=0.1)
    assert set(found["reasons"]) == {"floor", "budget"}
    assert found["monthly_spans"] == pytest.approx(8 * 30.44 * 86400, rel=0.1)


def test_tail_keeps_every_error_and_slow_trace_by_its_real_stage() -> None:
    argument = "head=(ratio;0.05),slow_ms=500,errors=true,base=0.02"
    found = result(
        "--load",
        "rps=20,spans=3,errors=5%,slow=5%,minutes=3",
        "--sampler",
        "tail",
        "--arg",
        argument,
        "--slow",
        "600ms",
    )
    assert found["errors"]["kept"] == found["errors"]["seen"] > 0
    assert found["slow"]["kept"] == found["slow"]["seen"] > 0
    assert found["spans"]["kept"] == 3 * found["traces"]["kept"]
    assert found["traces"]["kept"] < 0.25 * found["traces"]["seen"]
    assert {"error", "slow", "rate"} <= set(found["reasons"])
    sigma = (found["reasons"]["rate"] * 20 * 19) ** 0.5
    assert found["estimated_requests"] == pytest.approx(found["traces"]["seen"], abs=4 * sigma)


def test_what_the_response_says_comes_at_the_end() -> None:
    load = ("--load", "rps=20,spans=2,errors=5%,minutes=1", "--sampler", "tail")
    found = result(*load, "--arg", "head=(ratio;0),slow_ms=0,errors=false,status=5xx")
    assert found["errors"]["kept"] == found["errors"]["seen"] == found["traces"]["kept"] > 0
    assert set(found["reasons"]) == {"status"}


def test_the_skew_of_the_operations() -> None:
    found = result("--load", "rps=100,operations=2,skew=2,spans=1,minutes=1", "--sampler", "always_off")
    often, seldom = (each["seen"] for each in found["operations"])
    assert often == pytest.approx(4 * seldom, rel=0.15)


def test_the_sampler_of_the_environment_is_the_default() -> None:
    environ = {"OTEL_TRACES_SAMPLER": "budget", "OTEL_TRACES_SAMPLER_ARG": "spans_per_second=2"}
    load = ("--load", "rps=1,minutes=1")
    assert result(*load, environ=environ)["sampler"]["argument"] == "spans_per_second=2"
    assert (
        result(*load, "--arg", "spans_per_second=3", environ=environ)["sampler"]["argument"] == "spans_per_second=3"
    )
    assert result(*load, "--sampler", "always_off", environ=environ)["sampler"]["argument"] == ""
    assert result(*load)["sampler"]["name"] == "parentbased_always_on"


def test_malformed_limits_of_the_environment_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")
    assert run("--load", "rps=1,minutes=1")[0] == 0


# --- X-Ray's rules ----------------------------------------------------------------------------------------------

RULES = {
    "SamplingRuleRecords": [
        {"SamplingRule": {"RuleName": "first", "Priority": 1, "FixedRate": 0.0, "ReservoirSize": 0, "Host": "*",
                          "ServiceName": "*", "ServiceType": "*", "HTTPMethod": "*", "ResourceARN": "*",
                          "URLPath": "/operation1", "Version": 1}},
        {"SamplingRule": {"RuleName": "Default", "Priority": 10000, "FixedRate": 0.5, "ReservoirSize": 1, "Host": "*",
                          "ServiceName": "*", "ServiceType": "*", "HTTPMethod": "*", "ResourceARN": "*",
                          "URLPath": "*", "Version": 1}},
    ]
}  # fmt: skip


@pytest.mark.parametrize("argument", ["rules_file={}", "head"])
def test_xray_by_a_file(tmp_path: Path, argument: str) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(RULES))
    sampler = ("tail", f"head=(xray;rules_file={rules}),errors=false,slow_ms=0,status=none")
    if argument != "head":
        sampler = ("xray", argument.format(rules))
    found = result(
        "--load", "rps=10,operations=2,skew=0,minutes=5,spans=1", "--sampler", sampler[0], "--arg", sampler[1]
    )
    first, second = found["operations"]
    if first["name"] != "GET /operation1":
        first, second = second, first
    assert first["kept"] == 0
    assert 0.5 * second["seen"] < second["kept"] < 0.75 * second["seen"]
    assert found["reasons"]["reservoir"] == pytest.approx(
        300 / (1 + 1 / 5), abs=40
    )  # a second, then the next request
    assert any("read once" in note for note in found["notes"])


def test_xray_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run("--load", "rps=1", "--sampler", "xray", "--arg", "endpoint=http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert "rules cannot be fetched" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "[]", "{", '{"version": 2}'])
def test_xray_with_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None) -> None:
    rules = tmp_path / "rules.json"
    if content is not None:
        rules.write_text(content)
    assert run("--load", "rps=1", "--sampler", "xray", "--arg", f"rules_file={rules}")[0] == 1
    assert "rules_file=" in capsys.readouterr().err


# --- a store ----------------------------------------------------------------------------------------------------


def test_a_store_kept_whole(path: str) -> None:
    found = result("--store", path, "--sampler", "always_on")
    assert found["traces"] == {"seen": 200, "kept": 200}
    assert found["spans"] == {"seen": 600, "kept": 600}
    assert found["errors"] == {"seen": 20, "kept": 20}
    assert found["slow"] == {"seen": 10, "kept": 10}
    assert found["load"] == {"store": path, "seconds": 199.0}
    assert found["operations"] == [
        {"name": "GET /busy", "seen": 150, "kept": 150},
        {"name": "GET /quiet", "seen": 50, "kept": 50},
    ]
    assert found["monthly_spans"] == pytest.approx(600 / 199 * 30.44 * 86400)
    assert any("as one" in note for note in found["notes"])


def test_each_service_follows_the_first_ones_decision(path: str) -> None:
    found = result("--store", path, "--sampler", "ratio", "--arg", "0.5")
    kept = found["traces"]["kept"]
    assert 60 < kept < 140
    assert found["spans"]["kept"] == 3 * kept
    assert found["reasons"] == {"rate": kept, "parent": kept}  # shop decides, stock follows


def test_a_dropped_trace_is_dropped_everywhere(path: str) -> None:
    found = result("--store", path, "--sampler", "always_off")
    assert found["spans"] == {"seen": 600, "kept": 0}
    assert found["monthly_spans"] == found["estimated_requests"] == 0


def test_tail_over_a_store(path: str) -> None:
    found = result("--store", path, "--sampler", "tail", "--arg", "head=(ratio;0),slow_ms=1000")
    assert found["errors"] == {"seen": 20, "kept": 20}
    assert found["slow"] == {"seen": 10, "kept": 10}
    assert found["traces"]["kept"] == 30
    assert found["spans"]["kept"] == 90


def test_the_file_of_the_environment_is_the_default(path: str) -> None:
    assert result(environ={"SPANWELL_SQLITE_PATH": path})["traces"]["seen"] == 200


def test_weights_of_stored_traces_tell_the_load(tmp_path: Path) -> None:
    spans = []
    for index in range(60):
        span = make_span(trace_id=(index + 1) << 64, span_id=index + 1, start=START + index * SECOND)
        state = TraceState([("ot", "th:c")])  # kept with 1/4
        span._context = SpanContext(span.context.trace_id, span.context.span_id, False, TraceFlags(1), state)
        spans.append(span)
    path = store(tmp_path, spans)
    found = result("--store", path, "--sampler", "always_on")
    assert found["monthly_spans"] == pytest.approx(4 * 60 / 60 * 30.44 * 86400)


def test_parts_whose_caller_is_missing_are_decided_as_roots(tmp_path: Path) -> None:
    spans = [each for index in range(10) for each in request(index + 1, at=index)]
    path = store(tmp_path, [span for span in spans if span.kind is not SpanKind.CLIENT])
    found = result("--store", path, "--sampler", "ratio", "--arg", "1")
    assert found["traces"]["seen"] == 20
    assert found["reasons"] == {"rate": 20}
    assert any(note.startswith("10 parts of traces") for note in found["notes"])


def test_what_samplers_wrote_and_the_response_is_not_known_at_the_start(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    matchers = {"http.response.status_code": "200", "spanwell.sampling.reason": "*"}
    records = [
        {"SamplingRule": {**RULES["SamplingRuleRecords"][1]["SamplingRule"], "RuleName": name, "Priority": 1 + index,
                          "FixedRate": 1.0, "Attributes": {name: value}}}
        for index, (name, value) in enumerate(matchers.items())
    ]  # fmt: skip
    other = {**RULES["SamplingRuleRecords"][1]["SamplingRule"], "FixedRate": 0.0, "ReservoirSize": 0}
    rules.write_text(json.dumps({"SamplingRuleRecords": [*records, {"SamplingRule": other}]}))
    attributes = {"http.response.status_code": 200, "spanwell.sampling.reason": "rate"}
    path = store(tmp_path, [make_span(trace_id=1 << 64, attributes=attributes)])
    assert result("--store", path, "--sampler", "xray_local", "--arg", str(rules))["traces"] == {"seen": 1, "kept": 0}


def test_traces_of_a_real_system(tmp_path: Path) -> None:
    spans = nezha()
    path = store(tmp_path, spans)
    found = result("--store", path, "--sampler", "tail", "--arg", "head=(ratio;0.5),base=0.1")
    assert found["spans"]["seen"] == len(spans)
    assert 0 < found["spans"]["kept"] < len(spans)


def test_children_that_start_before_their_parents(tmp_path: Path) -> None:
    spans = [
        make_span(trace_id=1 << 64, span_id=1),
        make_span(trace_id=1 << 64, span_id=2, parent=1, start=START + 5 * SECOND),
        make_span(trace_id=1 << 64, span_id=3, parent=2, start=START + 2 * SECOND),
        make_span(trace_id=1 << 64, span_id=4, parent=4, duration=-5, resource=Resource({"x": "y"})),
    ]
    found = result("--store", store(tmp_path, spans), "--sampler", "ratio", "--arg", "1")
    assert found["spans"] == {"seen": 4, "kept": 4}
    assert found["reasons"] == {"rate": 2}  # the root, and the span that calls itself its parent


def test_parts_of_a_trace_come_when_they_came(tmp_path: Path) -> None:
    late = [each for each in request(1, at=0) if each.kind is not SpanKind.CLIENT]
    late[1]._start_time += 600 * SECOND
    late[1]._end_time += 600 * SECOND
    path = store(tmp_path, [*late, *(each for number in range(2, 12) for each in request(number, at=number * 50))])
    # The clock of the budget shows it: one trace a second at most by the floor of each operation.
    found = result("--store", path, "--sampler", "budget", "--arg", "spans_per_second=0,floor=40")
    assert found["load"]["seconds"] == 600
    assert found["windows"]["number"] == 11
    assert found["traces"] == {"seen": 12, "kept": 12}


def test_attributes_of_any_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = {"raw": b"x", "list": ["a", "b"], "none": None, "map": {"a": [1, {"b": None}]}, "number": float("nan")}
    path = store(tmp_path, [make_span(trace_id=1 << 64, attributes=odd)])
    assert result("--store", path, "--sampler", "always_on")["spans"]["kept"] == 1
    assert not caplog.records


# --- text and mistakes ------------------------------------------------------------------------------------------


def test_the_text(path: str) -> None:
    code, out = run("--store", path, "--sampler", "ratio", "--arg", "1")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for wanted in (
        ["sampler", "ratio{1}"],
        ["traces", "200", "200", "100.00%"],
        ["spans", "600", "600", "100.00%"],
        ["traces", "with", "an", "error", "20", "20", "100.00%"],
        ["slow", "traces", "10", "10", "100.00%"],
        ["GET", "/busy", "150", "150", "100.00%"],
        ["rate", "200"],
    ):
        assert wanted in lines
    assert f"spans a month: about {600 / 199 * 30.44 * 86400:,.0f}" in out


def test_ten_operations_are_shown() -> None:
    out = run("--load", "operations=13,rps=50,minutes=1", "--sampler", "always_on")[1]
    assert out.count("GET /operation") == 10
    assert "and 3 more operations" in out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--load", "rps=0"), 2, "rps='0' is not a number of requests a second over 0"),
        (("--load", "rps=nan"), 2, "rps='nan' is not"),
        (("--load", "rpm=5"), 2, "'rpm=5' is no part of a load; it has rps=, operations="),
        (("--load", "errors=200%"), 2, "errors='200%' is not a share such as 1% or 0.01"),
        (("--load", "spans=1.5"), 2, "spans='1.5' is not a whole number from 1 to 10000"),
        (("--load", "rps=100000,minutes=1000"), 2, "too many to simulate; lower rps= or minutes="),
        (("--load", "rps=1", "--sampler", "nosuch"), 2, "there is no sampler 'nosuch'"),
        (("--load", "rps=1", "--sampler", "ratio", "--arg", "2"), 1, "a probability from 0 to 1"),
        (("--load", "rps=1", "--slow", "0s"), 2, "--slow must be longer than 0"),
        (("--store", "/nowhere/traces.db", "--sampler", "always_on"), 1, "no traces yet"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, said: str) -> None:
    assert run(*arguments) == (status, "")
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_argument_that_cannot_be_used_is_said_once_and_the_rest_applies(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run("--json", "--store", path, "--sampler", "budget", "--arg", "spans_per_second=1,flor=3")
    assert code == 1
    assert json.loads(out)["problems"] == ["sampler budget: 'flor' is no argument of it; did you mean floor=?"]
    assert capsys.readouterr().err.count("did you mean floor=") == 1


def test_a_load_and_a_store_exclude_each_other() -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--load", "rps=1", "--store", "x")
    assert stopped.value.code == 2


def test_the_sdk_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--load", "rps=1", environ={"OTEL_SDK_DISABLED": "true"})[0] == 1
    assert "OTEL_SDK_DISABLED" in capsys.readouterr().err


# --- parts ------------------------------------------------------------------------------------------------------


def test_a_load_is_read() -> None:
    assert parse_load("") == StatedLoad()
    assert parse_load(" rps = 2 , errors=5% ,slow=0.5,skew=0") == StatedLoad(rps=2, errors=0.05, slow=0.5, skew=0)


def test_the_order_of_what_happens_at_the_same_time() -> None:
    def span(parent: int, start: float, end: float) -> PlannedSpan:
        return PlannedSpan(start, end, parent, "x", "internal", "s", {}, {}, False, {})

    plan = Plan([span(-1, 0, 1), span(0, 0, 1), span(1, 0, 0)], 1.0)
    assert plan.events == [(0, False, 1), (0, False, 2), (0, True, 2), (1, True, 1), (1, True, 0)]
    assert plan.slow
