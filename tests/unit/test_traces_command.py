"""`spanwell traces` and `spanwell trace`, by their functions and as real processes."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import SpanKind

from spanwell.cli import traces
from spanwell.cli.terminal import Style, duration, table, terminal_width, wants_colour
from spanwell.export.sqlite import SqliteSpanExporter
from support.spans import make_span
from support.started import reader_goes_away


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("command") / "traces.db")
    now = time.time_ns()
    exporter = SqliteSpanExporter(path)
    exporter.export([
        make_span(trace_id=0xA1 << 120, span_id=1, name="GET /old", start=now - 7200 * 10**9),
        make_span(trace_id=0xA2 << 120, span_id=2, name="POST /orders", kind=SpanKind.SERVER, error="boom",
                  start=now - 60 * 10**9, duration=700_000_000, attributes={"raw": b"\x01"},
                  events=(Event("exception", {"exception.type": "KeyError", "exception.message": "sku"}),)),
        make_span(trace_id=0xA2 << 120, span_id=3, parent=2, name="SELECT", service="stock", start=now - 59 * 10**9),
    ])  # fmt: skip
    exporter.shutdown()
    return path


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    traces.register(parser.add_subparsers())
    args = parser.parse_args(arguments)
    out = io.StringIO()
    return args.run(args, environ or {}, out), out.getvalue()


def test_the_list(path: str) -> None:
    code, out = run("traces", "--db", path)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["START", "(UTC)", "TRACE", "ROOT", "DURATION", "SPANS", "ERRORS", "SERVICES"]
    assert f"a2{'0' * 30}  POST /orders    1.00 s      2       1  shop, stock" in lines[1]
    assert "GET /old" in lines[2]
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["a2", "a1"]),
        (("--limit", "1"), ["a2"]),
        (("--service", "stock"), ["a2"]),
        (("--name", "old"), ["a1"]),
        (("--errors",), ["a2"]),
        (("--min-duration", "500ms"), ["a2"]),
        (("--since", "1h"), ["a2"]),
        (("--since", "3h"), ["a2", "a1"]),
        (("--since", "1s"), []),
    ],
)
def test_filters(path: str, arguments: tuple[str, ...], expected: list[str]) -> None:
    code, out = run("traces", "--json", *arguments, environ={"SPANWELL_SQLITE_PATH": path})
    assert code == 0
    assert [trace["trace_id"][:2] for trace in json.loads(out)["traces"]] == expected


def test_nothing_matches(path: str) -> None:
    assert run("traces", "--service", "unheard", "--db", path) == (0, "no traces match\n")


def test_the_fields_of_the_json_forms(path: str) -> None:
    listing = json.loads(run("traces", "--json", "--db", path)[1])["traces"][0]
    summary = [
        "trace_id", "start_ns", "end_ns", "duration_ns", "root_service", "root_name", "spans", "errors", "orphans",
        "services",
    ]  # fmt: skip
    assert list(listing) == summary
    assert listing["services"] == [
        {"name": "shop", "spans": 1, "errors": 1},
        {"name": "stock", "spans": 1, "errors": 0},
    ]
    one = json.loads(run("trace", "--json", "--db", path, "a2")[1])
    assert list(one) == [*summary, "span_count"]
    assert one["span_count"] == len(one["spans"]) == listing["spans"] == 2
    first = one["spans"][0]
    assert list(first) == [
        "trace_id", "span_id", "parent_id", "name", "kind", "service", "start_ns", "end_ns", "status",
        "status_message", "attributes", "events", "links", "resource", "scope", "scope_version", "trace_state",
        "flags", "dropped_attributes", "dropped_events", "dropped_links", "duration_ns",
    ]  # fmt: skip
    assert first["attributes"] == {"raw": {"$bytes": "AQ=="}}
    assert first["events"][0]["attributes"]["exception.type"] == "KeyError"
    assert (first["parent_id"], one["spans"][1]["parent_id"]) == (None, first["span_id"])


def test_one_trace(path: str) -> None:
    code, out = run("trace", "1-a2000000", "--db", path, environ={"COLUMNS": "80"})
    lines = out.splitlines()
    assert code == 0
    assert "✗ POST /orders [server]" in lines[1]
    assert lines[2].strip() == "│ ✗ KeyError: sku"
    assert "└ SELECT" in lines[3]


def test_colours(path: str) -> None:
    for environ, coloured in (
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, False),
    ):
        for command in (("traces",), ("trace", "a2")):
            assert ("\x1b[31m" in run(*command, "--db", path, environ=environ)[1]) == coloured

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert wants_colour({}, Terminal())
    assert not wants_colour({"NO_COLOR": "1"}, Terminal())
    assert not wants_colour({"TERM": "dumb"}, Terminal())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trace", "b"), "no trace 'b' in"),
        (("trace", "a"), "several traces begin with a: a1"),
        (("trace", "\x1b[2J"), "no trace '\\x1b[2J' in"),
    ],
)
def test_a_trace_that_cannot_be_shown(
    path: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--db", path) == (1, "")
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_no_file_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("traces",), ("trace", "a"), ("traces", "--json")):
        assert run(*command, environ={"XDG_STATE_HOME": str(tmp_path)}) == (1, "")
        assert f"no traces yet: {tmp_path}/spanwell/traces.db does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("--since", "5x"), ("--min-duration", ""), ("--min-duration", "-1s"), ("--limit", "0"), ("--limit", "1e3")],
)
def test_bad_arguments(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run("traces", *arguments)
    assert raised.value.code == 2
    assert "error: argument" in capsys.readouterr().err


def test_durations() -> None:
    expected = {"500ms": 5 * 10**8, "1.5s": 15 * 10**8, "1h30m": 5400 * 10**9, "2d": 172_800 * 10**9, "7 us": 7000}
    assert {text: duration(text) for text in expected} == expected
    for text in ("", "5", "ms", "1h-3m", "1e9s", "9" * 400 + "s", "1000000000w"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a duration"):
            duration(text)


def test_tables_and_widths() -> None:
    assert table([("日本", "1"), ("a\x1bb", "22")], ("NAME", "N"), right=(1,)) == [
        "NAME   N",
        "日本   1",
        "a\ufffdb   22",
    ]
    assert table([], ("A", "B")) == ["A  B"]
    assert terminal_width({"COLUMNS": "70"}, io.StringIO()) == 70
    assert terminal_width({"COLUMNS": "many"}, io.StringIO()) == 120
    assert Style(True)("error", "x") == "\x1b[31mx\x1b[0m"
    assert Style(False)("error", "x") == "x"


COMMAND = """
import argparse, os, sys
from spanwell.cli import traces
parser = argparse.ArgumentParser()
traces.register(parser.add_subparsers())
args = parser.parse_args()
status = args.run(args, os.environ, sys.stdout)
assert not any(name.startswith("opentelemetry") for name in sys.modules), "the read side needs no OpenTelemetry"
sys.exit(status)
"""


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span(span_id=number, trace_id=5) for number in range(1, 20_000)])
    exporter.shutdown()
    for command in (["trace", "0"], ["trace", "0", "--json"]):
        assert reader_goes_away([sys.executable, "-c", COMMAND, *command, "--db", path]) == (0, "")


@pytest.mark.slow
def test_an_output_that_is_not_utf_8(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "trace", "a2", "--db", path],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"? POST /orders" in done.stdout
