"""`spanwell insights` and `spanwell check`, by their functions, over files of the real exporter."""

from __future__ import annotations

import argparse
import io
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from spanwell.cli import insights
from spanwell.export.sqlite import SqliteSpanExporter
from spanwell.insights.model import Fragment, Insight
from spanwell.insights.written import write
from support.spans import START, make_span, nezha

MS, SECOND = 10**6, 10**9


def store(path: Path, spans: list[ReadableSpan]) -> str:
    exporter = SqliteSpanExporter(str(path))
    exporter.export(spans)
    exporter.shutdown()
    return str(path)


def request(
    number: int,
    *,
    at: int = START,
    queries: int = 1,
    duration: int = 200 * MS,
    error: str | None = None,
    service: str = "shop",
    attributes: dict[str, Any] | None = None,
) -> list[ReadableSpan]:
    """A request that makes `queries` alike, 20 ms each."""
    asked = {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "db.operation.name": "SELECT",
        "db.query.text": "SELECT * FROM item WHERE id = ?",
        "server.address": "db",
    }
    root = make_span(
        trace_id=number << 64,
        span_id=number * 1000,
        name="GET /orders",
        kind=SpanKind.SERVER,
        service=service,
        start=at,
        duration=duration,
        error=error,
        attributes=attributes,
    )
    calls = [
        make_span(
            trace_id=number << 64,
            span_id=number * 1000 + index + 1,
            parent=number * 1000,
            name="SELECT item",
            service=service,
            kind=SpanKind.CLIENT,
            start=at + index * 21 * MS,
            duration=20 * MS,
            attributes=asked,
        )
        for index in range(queries)
    ]
    return [*calls, root]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two requests with an N+1 and a healthy one, all now; a slow one two hours ago; a failed one of stock."""
    now = time.time_ns() - 60 * SECOND
    return store(
        tmp_path_factory.mktemp("insights") / "traces.db",
        [
            *request(0xA1, at=now, queries=8),
            *request(0xA2, at=now + SECOND, queries=12, duration=600 * MS),
            *request(0xA3, at=now + 2 * SECOND),
            *request(0xA4, at=now - 7200 * SECOND, duration=6 * SECOND),
            *request(0xA5, at=now, error="boom", service="stock"),
        ],
    )


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    insights.register(parser.add_subparsers())
    args = parser.parse_args(arguments)
    out = io.StringIO()
    return args.run(args, environ or {"COLUMNS": "100"}, out), out.getvalue()


def found(*arguments: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    code, out = run("insights", "--json", *arguments, environ=environ)
    assert code == 0
    return json.loads(out)


def types(*arguments: str, environ: dict[str, str] | None = None) -> list[str]:
    return [each["type"] for each in found(*arguments, environ=environ)["insights"]]


def test_the_list(path: str) -> None:
    code, out = run("insights", "--db", path)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "error    trace_errors  once in stock"
    (at,) = [index for index, line in enumerate(lines) if line.startswith("warning  n_plus_one")]
    assert lines[at] == "warning  n_plus_one  2 times in shop"
    sentence = " ".join(line.strip() for line in lines[at + 1 : lines.index("", at)])
    assert "12 times" in sentence  # the latest
    assert lines[lines.index("", at) - 2].strip() == f"spanwell trace {0xA2 << 64:032x}"
    assert lines[lines.index("", at) - 1].strip() == f"spanwell trace {0xA1 << 64:032x}"
    assert max(map(len, lines)) <= 100
    assert lines[-1].endswith(" problems in 5 traces")
    assert "\x1b" not in out


def test_colours(path: str) -> None:
    assert "\x1b[31merror  \x1b[0m" in run("insights", "--db", path, environ={"FORCE_COLOR": "1"})[1]


def test_the_shape_of_the_json(path: str) -> None:
    listed = found("--db", path, "--type", "n_plus_one")
    assert list(listed) == ["insights", "trace_count", "failed_detectors", "more"]
    assert (listed["trace_count"], listed["failed_detectors"], listed["more"]) == (5, {}, 0)
    (problem,) = listed["insights"]
    assert list(problem) == [
        "fingerprint", "type", "severity", "sentence", "first_seen_ns", "last_seen_ns", "count", "services", "traces",
    ]  # fmt: skip
    assert (problem["type"], problem["severity"], problem["count"]) == ("n_plus_one", "warning", 2)
    assert problem["last_seen_ns"] - problem["first_seen_ns"] == SECOND
    assert problem["services"] == ["shop"]
    assert problem["traces"] == [f"{0xA2 << 64:032x}", f"{0xA1 << 64:032x}"]


def test_filters(path: str) -> None:
    assert set(types("--db", path)) == {"trace_errors", "n_plus_one", "slow_trace"}
    assert set(types("--db", path, "--service", "stock")) == {"trace_errors"}
    assert set(types("--db", path, "--since", "1h")) == {"trace_errors", "n_plus_one"}
    assert set(types("--db", path, "--type", "slow_trace,n_plus_one")) == {"n_plus_one", "slow_trace"}
    assert set(types("--db", path, "--type", "slow_trace", "--type", "trace_errors")) == {
        "trace_errors",
        "slow_trace",
    }
    limited = found("--db", path, "--limit", "1")
    assert ([each["type"] for each in limited["insights"]], limited["more"]) == (["trace_errors"], 2)
    assert "1 problem" not in run("insights", "--db", path, "--limit", "1")[1]
    assert "2 more with a higher --limit" in run("insights", "--db", path, "--limit", "1")[1]


def test_the_environment_applies(path: str) -> None:
    environ = {"SPANWELL_SQLITE_PATH": path, "SPANWELL_INSIGHTS_DISABLED": "trace_errors",
               "SPANWELL_INSIGHT_THRESHOLDS": "n_plus_one.count=10"}  # fmt: skip
    listed = found(environ=environ)["insights"]
    assert {each["type"]: each["count"] for each in listed} == {"n_plus_one": 1, "slow_trace": 1}
    # Who asks for a type by name wants it.
    assert types("--type", "trace_errors", environ=environ) == ["trace_errors"]
    # The option comes on top.
    assert (
        found("--threshold", "n_plus_one.count=6", "--type", "n_plus_one", environ=environ)["insights"][0]["count"]
        == 2
    )


def test_thresholds_as_options(path: str) -> None:
    slow = ("--db", path, "--type", "slow_trace")
    assert found(*slow, "--threshold", "slow_trace.duration_ms=550")["insights"][0]["count"] == 2
    assert found(*slow, "--threshold", "slow_trace.duration_ms@GET /orders=7000")["insights"] == []
    assert found(*slow, "--threshold", "slow_trace.duration_ms=550", "--threshold",
                 "slow_trace.duration_ms@GET /orders=5000")["insights"][0]["count"] == 1  # fmt: skip


def test_what_a_process_wrote_counts_where_the_whole_cannot_judge(tmp_path: Path) -> None:
    said = write([("f" * 16, Insight("own_detector", "error", "The own detector said so.", ()))])
    said |= {key: value for key, value in write([("e" * 16, Insight("slow_trace", "warning", "No.", ()))]).items()
             if "slow_trace" in key}  # fmt: skip
    said["spanwell.insights"] = ("own_detector", "slow_trace")
    path = store(tmp_path / "t.db", [*request(1, attributes=said), *request(2, attributes=said)])
    (problem,) = found("--db", path)["insights"]
    assert (problem["fingerprint"], problem["count"], problem["sentence"]) == (
        "f" * 16,
        2,
        "The own detector said so.",
    )


def test_a_detector_of_the_users_is_asked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(fragment: Fragment) -> list[Insight]:
        assert fragment.whole
        if len(fragment.spans) < 10:
            return []
        return [Insight("crowded", "error", "Too many.", (fragment.operation,))]

    def broken(fragment: Fragment) -> list[Insight]:
        raise ValueError("of no use")

    class Entry:
        def __init__(self, name: str, function: Any) -> None:
            self.name, self._function = name, function

        def load(self) -> Any:
            return self._function

    entries = [Entry("crowded", crowded), Entry("broken", broken)]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: entries if group == "spanwell_insight_detector" else []
    )
    listed = found("--db", path, "--type", "crowded,broken")
    assert [(each["type"], each["count"]) for each in listed["insights"]] == [("crowded", 1)]
    assert listed["failed_detectors"] == {"broken": "ValueError: of no use"}
    assert run("check", "--db", path, "--fail-on", "broken")[0] == 2
    assert run("check", "--db", path, "--fail-on", "broken,crowded")[0] == 1


def test_an_operation_that_becomes_slower_from_trace_to_trace(tmp_path: Path) -> None:
    spans = []
    for number in range(1, 1201):  # one hour, twenty a minute; slow from the 40th minute on
        took = (900 if number > 800 else 300) * MS + number % 7 * MS
        spans += request(number, at=START + number * 3 * SECOND, queries=0, duration=took)
    path = store(tmp_path / "t.db", spans)
    (problem,) = found("--db", path)["insights"]
    assert (problem["type"], problem["services"], problem["severity"]) == ("latency_degradation", ["shop"], "error")
    assert "GET /orders" in problem["sentence"]
    assert problem["first_seen_ns"] > START + 2400 * SECOND
    assert run("check", "--db", path, "--fail-on", "latency_degradation")[0] == 1
    half = store(tmp_path / "half.db", spans[:800])
    assert run("check", "--db", half, "--fail-on", "latency_degradation") == (0, "passed: 0 insights in 800 traces\n")


def test_real_traces(tmp_path: Path) -> None:
    path = store(tmp_path / "t.db", nezha())
    listed = found("--db", path)
    assert listed["failed_detectors"] == {}
    assert {each["type"] for each in listed["insights"]} == {"high_service_count"}


def test_nothing_found(tmp_path: Path) -> None:
    path = store(tmp_path / "t.db", request(1))
    assert run("insights", "--db", path) == (0, "no insights in 1 trace\n")
    assert run("insights", "--db", path, "--since", "1s") == (0, "no traces match\n")
    assert found("--db", path) == {"insights": [], "trace_count": 1, "failed_detectors": {}, "more": 0}


# --- the gate ---------------------------------------------------------------------------------------------------


def test_the_gate(path: str) -> None:
    code, out = run("check", "--db", path, "--fail-on", "n_plus_one,slow_trace")
    assert code == 1
    assert "n_plus_one  2 times in shop" in out
    assert "slow_trace" in out
    assert "trace_errors" not in out
    assert out.splitlines()[-1] == "failed: 3 insights in 5 traces"
    assert run("check", "--db", path, "--fail-on", "throttled_dependency") == (0, "passed: 0 insights in 5 traces\n")


def test_the_gate_tolerates(path: str) -> None:
    assert run("check", "--db", path, "--fail-on", "n_plus_one", "--max", "1")[0] == 1
    code, out = run("check", "--db", path, "--fail-on", "n_plus_one", "--max", "2")
    assert code == 0
    assert out.splitlines()[-1] == "passed: 2 insights in 5 traces, 2 tolerated"


def test_the_gate_as_json(path: str) -> None:
    code, out = run(
        "check", "--json", "--db", path, "--fail-on", "slow_trace", "--threshold", "slow_trace.duration_ms=9000"
    )
    said = json.loads(out)
    assert (code, said["passed"], said["count"], said["insights"]) == (0, True, 0, [])
    code, out = run("check", "--json", "--db", path, "--fail-on", "slow_trace")
    said = json.loads(out)
    assert (code, said["passed"], said["count"]) == (1, False, 1)
    assert said["insights"][0]["type"] == "slow_trace"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fail-on", "n_plus_on"), "--fail-on 'n_plus_on' is no detector: did you mean n_plus_one?"),
        (("--fail-on", "slow_trace,,"), "--fail-on '' is no detector: there are bottleneck, cold_start,"),
        (("--fail-on", "tracing_overhead"), "no stored trace shows it"),
        (("--fail-on", "slow_trace", "--threshold", "slow_trace.duration=1"), "did you mean slow_trace.duration_ms?"),
        (("--fail-on", "slow_trace", "--threshold", "slow_trace.duration_ms"), "is not name=number"),
        (("--fail-on", "slow_trace", "--threshold", "slow_trace.duration_ms=-1"), "is not a number of 0 or more"),
        (("--fail-on", "slow_trace", "--since", "1s", "--service", "none"), "there is no trace to check"),
        (("--fail-on", "slow_trace", "--db", "/nowhere/t.db"), "no traces yet: /nowhere/t.db does not exist"),
    ],
)
def test_the_gate_cannot_tell(
    path: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", "--db", path, *arguments) == (2, "")
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert "left out" not in err


def test_a_mistake_in_the_environment_is_said_and_the_rest_applies(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"SPANWELL_INSIGHT_THRESHOLDS": "slow_trace.duration_ms=7000,n_plus_one.cuont=3"}
    assert types("--db", path, "--type", "slow_trace", environ=environ) == []
    assert "did you mean n_plus_one.count?" in capsys.readouterr().err


def test_options_of_the_list_that_make_no_sense(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("insights", "--db", path, "--type", "slow") == (2, "")
    assert "--type 'slow' is no detector: did you mean slow_db?" in capsys.readouterr().err
    for arguments in (("--since", "5x"), ("--limit", "0")):
        with pytest.raises(SystemExit) as raised:
            run("insights", *arguments)
        assert raised.value.code == 2


def test_no_file_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("insights", environ={"XDG_STATE_HOME": str(tmp_path)}) == (1, "")
    assert f"no traces yet: {tmp_path}/spanwell/traces.db does not exist" in capsys.readouterr().err


def test_texts_from_traces_steer_no_terminal(tmp_path: Path) -> None:
    said = write([("f" * 16, Insight("own", "error", "red \x1b[31m text\nof two lines", ()))])
    path = store(tmp_path / "t.db", request(1, attributes=said, service="a\x1b[2J"))
    out = run("insights", "--db", path)[1]
    assert "\x1b" not in out
    assert "red" in out
