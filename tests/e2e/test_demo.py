"""`spanwell demo` as a user runs it: real processes, a clean home, no terminal."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanwell.cli import demo

pytestmark = pytest.mark.slow


def clean(folder):
    """An environment of a machine where nobody configured anything, and a CI job runs."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    temporary = folder / "tmp"
    temporary.mkdir()
    return {**kept, "HOME": str(folder), "TMPDIR": str(temporary), "CI": "true"}


def read(db):
    columns = ("trace_id", "span_id", "parent_id", "name", "kind", "service", "links", "status")
    with sqlite3.connect(db) as connection:
        rows = connection.execute(f"SELECT {', '.join(columns)} FROM span").fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_one_trace_from_the_front_end_to_the_worker(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "spanwell", "demo", "--json", "--requests", "10"],
        env=clean(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["orders"] == {"accepted": 7, "refused": 2, "failed": 1}
    assert result["services"] == ["shop-orders", "shop-web", "shop-worker"]
    assert Path(result["db"]).is_relative_to(tmp_path)
    assert sorted(path.name for path in Path(result["db"]).parent.glob("*.log")) == []

    everything = read(result["db"])
    spans = [span for span in everything if span["trace_id"] == result["trace_id"]]
    by_id = {span["span_id"]: span for span in spans}
    assert {span["service"] for span in spans} == {"shop-web", "shop-orders", "shop-worker"}

    def one(service, kind, name=""):
        (found,) = (s for s in spans if (s["service"], s["kind"]) == (service, kind) and s["name"].startswith(name))
        return found

    def parent(span):
        return by_id[span["parent_id"]]

    front, client = one("shop-web", "server"), one("shop-web", "client")
    server, worker = one("shop-orders", "server"), one("shop-worker", "consumer")
    put = one("shop-orders", "client", "DynamoDB.PutItem")
    send = one("shop-orders", "producer", "SQS.SendMessage")
    assert front["parent_id"] is None
    assert parent(client) is front
    assert parent(server) is client
    assert parent(put) is server
    assert parent(send) is server
    assert worker["name"] == "process orders"
    assert parent(worker) is send
    (link,) = json.loads(worker["links"])
    assert (link["trace_id"], link["span_id"]) == (send["trace_id"], send["span_id"])
    assert parent(one("shop-worker", "client", "DynamoDB.UpdateItem")) is worker
    assert parent(one("shop-worker", "client", "SQS.DeleteMessage")) is worker

    consumers = [span for span in everything if span["kind"] == "consumer"]
    assert len(consumers) == result["orders"]["accepted"]
    assert len({span["trace_id"] for span in consumers}) == len(consumers)
    assert any(span["status"] == "error" for span in everything), "an order breaks the orders service"


def children_of(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_everything(tmp_path, number, status):
    # A job in the background of a shell inherits ignored interrupts; Popen's caller here may be one.
    process = subprocess.Popen(
        [sys.executable, "-m", "spanwell", "demo", "--requests", "10000"],
        env=clean(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        end = time.monotonic() + 60
        while len(children := children_of(process.pid)) < 4:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == status
    assert "Traceback" not in errors
    assert [pid for pid in children if alive(pid)] == []
    assert list((tmp_path / "tmp").glob("spanwell-demo-*")) == []


def test_a_process_that_fails_is_named_with_the_end_of_its_log(tmp_path, monkeypatch, capsys):
    shop = tmp_path / "shop"
    shop.mkdir()
    for name in ("web.py", "orders.py"):
        (shop / name).write_text(
            "import time\nprint('listening on http://127.0.0.1:9', flush=True)\ntime.sleep(60)\n"
        )
    (shop / "worker.py").write_text("raise SystemExit('the worker has no hands')\n")
    monkeypatch.setattr(demo, "shop_folder", lambda: shop)
    out = io.StringIO()
    arguments = argparse.Namespace(requests=1, keep=False, json=True)
    assert demo.run(arguments, clean(tmp_path), out) == 1
    result = json.loads(out.getvalue())
    assert not result["ok"]
    assert result["problem"] == "shop-worker ended with status 1 at its start"
    errors = capsys.readouterr().err
    assert "the worker has no hands" in errors
    assert errors.splitlines()[-1].startswith("spanwell demo failed: shop-worker ended with status 1")
