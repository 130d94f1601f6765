"""`spanwell import` and `spanwell export` as real processes, in a pipe and beside a writing application."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanwell.export.sqlite import SqliteSpanExporter
from support.formats import written
from support.real_traces import DATA, nezha
from support.spans import make_span

pytestmark = pytest.mark.slow

SPANWELL = [sys.executable, "-m", "spanwell"]


def command(*arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*SPANWELL, *arguments], input=given, capture_output=True, timeout=120, check=False)


def test_through_a_pipe_in_every_format(tmp_path: Path) -> None:
    first = str(tmp_path / "first.db")
    given = written("otlp", nezha().values()).encode()
    done = command("import", "-", "--db", first, given=given)
    assert done.returncode == 0, done.stderr
    assert b"217 spans of 7 traces imported" in done.stdout
    for name in ("otlp", "jaeger", "zipkin", "xray"):
        exported = command("export", "--all", "--format", name, "--db", first)
        assert exported.returncode == 0, exported.stderr
        again = command("import", "-", "--json", "--db", str(tmp_path / f"{name}.db"), given=exported.stdout)
        told = json.loads(again.stdout)
        assert (told["spans"], told["traces"], told["refused"], told["formats"]) == (217, 7, 0, [name])
    listed = command("traces", "--db", first, "--json")
    assert len(json.loads(listed.stdout)["traces"]) == 7


def test_real_files_and_a_broken_one(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_bytes((DATA / "zipkin_smartthings_call.json").read_bytes()[:-200])
    database = str(tmp_path / "t.db")
    done = command("import", str(broken), str(DATA / "xray_sdk_python_capture.jsonl"), "--db", database)
    assert done.returncode == 1
    assert b"refused: " in done.stdout
    assert b"no JSON from character" in done.stdout
    assert b"38 spans of 6 traces imported" in done.stdout
    shown = command("trace", "14b60fd9ae504820".zfill(32), "--db", database)
    assert shown.returncode == 0, shown.stderr


def test_beside_an_application_that_writes(tmp_path: Path) -> None:
    database = str(tmp_path / "t.db")
    given = tmp_path / "given.json"
    given.write_text(written("otlp", nezha().values()))
    exporter = SqliteSpanExporter(database)
    process = subprocess.Popen([*SPANWELL, "import", str(given), "--db", database], stdout=subprocess.PIPE)
    number = 0
    while process.poll() is None:
        number += 1
        exporter.export([make_span(trace_id=1 << 100, span_id=number, start=time.time_ns())])
    exporter.shutdown()
    assert process.stdout is not None
    with process.stdout:
        assert b"217 spans of 7 traces imported" in process.stdout.read()
    told = json.loads(command("traces", "--db", database, "--json").stdout)
    assert sum(trace["spans"] for trace in told["traces"]) == 217 + number


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="POSIX signals")
def test_interrupted_it_leaves_a_sound_file(tmp_path: Path) -> None:
    database = str(tmp_path / "t.db")
    process = subprocess.Popen([*SPANWELL, "import", "-", "--db", database], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(written("otlp", nezha().values()).encode())
    process.stdin.flush()
    while not os.path.exists(database):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    assert process.wait(60) in (0, 130, -signal.SIGINT)
    assert command("import", str(DATA / "xray_sdk_python_capture.jsonl"), "--db", database).returncode == 0
