"""`spanwell insights`, `check` and `alarms` as a user runs them, over the file of a real traced application."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanwell.export.sqlite import SqliteSpanExporter
from spanwell.insights.written import LIST
from support.spans import make_span
from support.started import python, reader_goes_away, register, stored, traced

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

# Each order is fetched by a query of its own; the database takes 12 ms for each.
SHOP = """
import sqlite3, time
from flask import Flask

database = sqlite3.connect(":memory:")
database.create_function("wait", 0, lambda: time.sleep(0.012))
database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
app = Flask("shop")

@app.route("/orders")
def orders():
    for number in range(8):
        database.cursor().execute("SELECT name, wait() FROM item WHERE id = ? UNION SELECT '', wait()", (number,)).fetchone()
    return "done"

@app.route("/health-of-stock")
def fine():
    database.cursor().execute("SELECT name FROM item").fetchall()
    return "fine"

@app.route("/pay")
def pay():
    raise ConnectionError("the bank is closed")

client = app.test_client()
for path in ("/orders", "/orders", "/health-of-stock", "/pay"):
    client.get(path)
"""  # noqa: E501


def spanwell(*arguments: str, db: Path | str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SPANWELL_"))}
    return subprocess.run(
        [sys.executable, "-m", "spanwell", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        env={**clean, "SPANWELL_SQLITE_PATH": str(db), **environ},
    )


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("insights") / "traces.db"
    done = python(SHOP, traced(path, SPANWELL_INSIGHTS="true"))
    assert done.code == 0, done.err
    return path


def test_a_real_application(db: Path) -> None:
    done = spanwell("insights", "--json", db=db)
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    found = {each["type"]: each for each in listed["insights"]}
    assert listed["trace_count"] == 4
    assert found["n_plus_one"]["count"] == 2
    assert len(found["n_plus_one"]["traces"]) == 2
    assert found["trace_errors"]["count"] == 1
    assert "GET /pay failed" in found["trace_errors"]["sentence"]
    # The process said the same on its root, and it is not counted again.
    roots = [span.attributes for span in stored(db) if span.parent_id is None]
    said = {root["spanwell.insight.n_plus_one.fingerprint"] for root in roots if "n_plus_one" in root.get(LIST, ())}
    assert said == {found["n_plus_one"]["fingerprint"]}
    shown = spanwell("insights", db=db).stdout
    assert found["n_plus_one"]["fingerprint"] in shown
    assert shown.index("trace_errors") < shown.index("n_plus_one")
    one = spanwell("trace", found["n_plus_one"]["traces"][0], db=db)
    assert one.returncode == 0
    assert "/orders" in one.stdout


def test_the_gate(db: Path) -> None:
    failed = spanwell("check", "--fail-on", "n_plus_one,slow_trace", db=db)
    assert failed.returncode == 1
    assert "n_plus_one  2 times in" in failed.stdout
    assert "failed: 2 insights in 4 traces" in failed.stdout
    passed = spanwell("check", "--fail-on", "n_plus_one,slow_trace", "--threshold", "n_plus_one.count=9", db=db)
    assert (passed.returncode, passed.stdout) == (0, "passed: 0 insights in 4 traces\n")
    wrong = spanwell("check", "--fail-on", "n_plus_many", db=db)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "spanwell: --fail-on 'n_plus_many' is no detector: did you mean n_plus_one?\n"
    missing = spanwell("check", "--fail-on", "slow_trace", db=db.parent / "none.db")
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1


EXAMPLE = re.search(r"<!-- example -->\n```python\n(.+?)```", (ROOT / "docs/insights.md").read_text(), re.DOTALL)

ORDERS = """
from opentelemetry import trace
from opentelemetry.trace import SpanKind

for items in (5, 250):
    with trace.get_tracer("shop").start_as_current_span("POST /orders", kind=SpanKind.SERVER) as span:
        span.set_attribute("shop.items", items)
"""


def test_the_detector_of_the_documentation(tmp_path: Path) -> None:
    assert EXAMPLE
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/insights.py").write_text(EXAMPLE[1])
    register(tmp_path, "shop", "spanwell_insight_detector", "big_order = shop.insights:big_order")
    db = tmp_path / "traces.db"
    done = python(ORDERS, traced(db, PYTHONPATH=str(tmp_path), SPANWELL_INSIGHTS="true"))
    assert done.code == 0, done.err
    listings = [
        json.loads(spanwell("insights", "--json", db=db, PYTHONPATH=path).stdout)["insights"]
        for path in (str(tmp_path), "")  # where the detector is installed, and where it is not
    ]
    assert listings[0] == listings[1]
    (problem,) = listings[0]
    assert (problem["type"], problem["severity"], problem["count"]) == ("big_order", "info", 1)
    assert problem["sentence"] == "POST /orders ordered 250 items: offer the bulk API to this customer."


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    path.write_text("these are no traces, and a good deal longer than a header of sqlite would have to be. " * 20)
    for command, code in ((("insights",), 1), (("check", "--fail-on", "slow_trace"), 2)):
        done = spanwell(*command, db=path)
        assert (done.returncode, done.stdout) == (code, "")
        assert "cannot read" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2000 failed traces, each with a problem of its own."""
    path = tmp_path_factory.mktemp("many") / "traces.db"
    exporter = SqliteSpanExporter(str(path))
    now = time.time_ns()
    exporter.export(
        [
            make_span(trace_id=number, span_id=number, name=f"POST /{number:x}", start=now, error="x")
            for number in range(1, 2001)
        ]
    )
    exporter.shutdown()
    return path


def test_a_reader_that_goes_away_is_no_error(many: Path) -> None:
    command = [sys.executable, "-m", "spanwell", "insights", "--limit", "2000", "--db", str(many)]
    assert reader_goes_away(command) == (0, "")


def test_a_terminal_sees_progress_and_then_none_of_it(many: Path) -> None:
    import pty

    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "spanwell", "insights", "--limit", "1", "--db", str(many)],
            stdout=subprocess.PIPE,
            stderr=slave,
        )
        os.close(slave)
        out, _ = process.communicate(timeout=60)
        said = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            said += part
    finally:
        os.close(master)
    assert process.returncode == 0
    assert b"looking at traces [" in said
    assert said.endswith(b"\r\x1b[K")
    assert b"\x1b" not in out


def test_a_file_that_is_written_meanwhile(many: Path, tmp_path: Path) -> None:
    """A writer has the file open and goes on writing: the reader neither waits nor fails."""
    exporter = SqliteSpanExporter(str(many))
    exporter.export([make_span(trace_id=9999, name="GET /late")])
    try:
        done = spanwell("insights", "--json", "--limit", "1", db=many)
    finally:
        exporter.shutdown()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["trace_count"] == 2001


def test_the_commands_are_listed() -> None:
    done = spanwell("--help", db="")
    for command in ("insights", "check", "alarms"):
        assert f"\n    {command} " in done.stdout
    for command in ("insights", "check", "alarms"):
        assert spanwell(command, "--help", db="").returncode == 0
