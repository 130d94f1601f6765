"""The commands over a table that two processes of a real application wrote through `spanwell run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spanwell.cli.dynamodb_table import make
from spanwell.explore.stores.dynamodb import DynamoDbStore
from spanwell.export import aws_client
from support.faults import error, fault_proxy
from support.servers import free_port, moto
from support.started import clean, python, run
from support.tables import endpoint, scan, span_ids

pytestmark = pytest.mark.slow

# The second process: it answers until its standard input ends.
STOCK = """
import sqlite3, sys, threading
from flask import Flask
from werkzeug.serving import make_server

database = sqlite3.connect(":memory:", check_same_thread=False)
database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
app = Flask("stock")

@app.route("/items/<int:number>")
def item(number):
    database.cursor().execute("SELECT name FROM item WHERE id = ?", (number,)).fetchone()
    if number == 3:
        raise LookupError("no such item")
    return "item"

server = make_server("127.0.0.1", int(sys.argv[1]), app)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
server.shutdown()
"""

SHOP = """
import sys, requests
from flask import Flask

app = Flask("shop")

@app.route("/order/<int:number>")
def order(number):
    answer = requests.get(f"http://127.0.0.1:{sys.argv[1]}/items/{number}", timeout=20)
    answer.raise_for_status()
    return "done"

client = app.test_client()
for number in range(6):
    client.get(f"/order/{number}")
"""


class Written(NamedTuple):
    """What the two processes left."""

    url: str
    table: str
    said: str


def traced(url: str, service: str, **extra: str) -> dict[str, str]:
    return aws(
        url,
        OTEL_SERVICE_NAME=service,
        OTEL_TRACES_EXPORTER="dynamodb",
        SPANWELL_DYNAMODB_TABLE="shop-traces",
        SPANWELL_SHUTDOWN_TIMEOUT="20",
        **extra,
    )


def aws(url: str, **extra: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    return clean(**keys, AWS_REGION="eu-west-1", AWS_ENDPOINT_URL=url, AWS_ENDPOINT_URL_DYNAMODB=url, **extra)


def spanwell(url: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spanwell", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        env=aws(url, **extra),
    )


def as_json(url: str, *arguments: str, **extra: str) -> Any:
    done = spanwell(url, *arguments, "--json", **extra)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    with moto() as url, endpoint(url):
        done = spanwell(url, "dynamodb", "create", "--table", "shop-traces")
        assert (done.returncode, done.stderr) == (0, "")
        port = str(free_port())
        stock = subprocess.Popen(
            [sys.executable, "-m", "spanwell", "run", "--", sys.executable, "-c", STOCK, port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=traced(url, "stock"),
        )
        assert stock.stdout is not None
        assert stock.stdout.readline() == "ready\n"
        shop = python(SHOP, traced(url, "shop"), port, timeout=60)
        assert shop.code == 0, shop.err
        _, said = stock.communicate("", timeout=60)
        assert stock.returncode == 0
        yield Written(url, "shop-traces", shop.err + said)


def test_nothing_was_lost(written: Written) -> None:
    assert "did not reach" not in written.said
    stored = span_ids(scan(aws_client.make_client("dynamodb"), written.table))
    assert set(stored.values()) == {1}


def test_traces(written: Written) -> None:
    listed = as_json(written.url, "traces", "--store", f"dynamodb:{written.table}")["traces"]
    assert len(listed) == 6
    assert {each["root_name"] for each in listed} == {"GET /order/<int:number>"}
    assert {tuple(service["name"] for service in each["services"]) for each in listed} == {("shop", "stock")}
    assert {each["orphans"] for each in listed} == {0}
    assert [each["start_ns"] for each in listed] == sorted((each["start_ns"] for each in listed), reverse=True)
    (failed,) = as_json(written.url, "traces", "--errors", "--store", f"dynamodb:{written.table}")["traces"]
    shown = as_json(written.url, "trace", failed["trace_id"], "--store", f"dynamodb:{written.table}")
    assert shown["span_count"] == failed["spans"] >= 4
    assert {span["resource"]["service.name"] for span in shown["spans"]} == {"shop", "stock"}
    tree = spanwell(
        written.url, "trace", failed["trace_id"], "--store", "dynamodb", SPANWELL_DYNAMODB_TABLE=written.table
    )
    assert "LookupError: no such item" in tree.stdout


def test_insights_and_check(written: Written) -> None:
    store = ("--store", f"dynamodb:{written.table}")
    found = as_json(written.url, "insights", *store)
    assert found["trace_count"] == 6
    problems = {each["type"]: each for each in found["insights"]}
    assert "stock" in problems["trace_errors"]["services"]
    assert spanwell(written.url, "check", "--fail-on", "trace_errors", *store).returncode == 1
    assert spanwell(written.url, "check", "--fail-on", "slow_trace", *store).returncode == 0


def test_finalise(written: Written) -> None:
    """The traces are younger than 30 s, or have been closed by the commands above."""
    ran = ("dynamodb", "finalise", "--table", written.table)
    deadline = time.monotonic() + 90
    while True:
        done = spanwell(written.url, *ran, "--metrics=all")
        assert (done.returncode, done.stderr) == (0, "")
        if ", 0 still open" in done.stdout or time.monotonic() > deadline:
            break
        time.sleep(3)
    assert done.stdout.startswith("6 traces closed, 0 still open, metrics of ")
    again = spanwell(written.url, *ran, "--once", "--metrics=all")
    assert again.stdout == "6 traces closed, 0 still open, metrics of 0 sent\n"
    with endpoint(written.url), DynamoDbStore(written.table) as store:
        finals = [store.final(trace_id) for trace_id in store.ids()]
    assert all(final and final["complete"]["BOOL"] and final["metrics"]["S"] == "sent" for final in finals)


def test_who_may_not_write_reads_all_the_same(written: Written) -> None:
    def read_only(request: Any) -> Any:
        from support.faults import PASS

        return error("AccessDeniedException") if request.operation == "PutItem" else PASS

    with fault_proxy(written.url, read_only) as proxy:
        assert len(as_json(proxy.url, "traces", "--store", f"dynamodb:{written.table}")["traces"]) == 6


def test_one_store_at_a_time(tmp_path: Path) -> None:
    done = spanwell("http://127.0.0.1:9", "traces", "--store", "sqlite:x", "--db", "y")
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr
    missing = spanwell("http://127.0.0.1:9", "traces", "--store", f"sqlite:{tmp_path / 'no.db'}")
    assert (missing.returncode, "no traces yet" in missing.stderr) == (1, True)
    odd = spanwell("http://127.0.0.1:9", "check", "--fail-on", "slow_trace", "--store", "mongo:x")
    assert (odd.returncode, odd.stderr.count("\n")) == (2, 1)


ONE_SPAN = """
from opentelemetry import trace
with trace.get_tracer("t").start_as_current_span("work"):
    pass
"""


def test_a_missing_table_is_one_line(written: Written) -> None:
    done = python(ONE_SPAN, {**traced(written.url, "lost"), "SPANWELL_DYNAMODB_TABLE": "not-there"})
    assert done.code == 0
    lines = [line for line in done.err.splitlines() if "spanwell:" in line]
    assert len(lines) == 1
    assert "1 spans did not reach exporter dynamodb" in lines[0]
    assert "`spanwell dynamodb create --table not-there` makes it" in lines[0]


BURST = """
import signal, sys, time
from opentelemetry import trace
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
tracer = trace.get_tracer("t")
for number in range(400):
    with tracer.start_as_current_span(f"work {number}"):
        pass
print("made", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("number", "least"), [(signal.SIGTERM, 400), (signal.SIGKILL, 0)])
def test_an_ended_process_stores_what_waits(written: Written, number: signal.Signals, least: int) -> None:
    """Killed, it loses at most what waits, and stores nothing twice."""
    table = f"ended-by-{number.name}"
    with endpoint(written.url):
        client = aws_client.make_client("dynamodb")
        list(make(client, table))
    process = subprocess.Popen(
        [sys.executable, "-m", "spanwell", "run", "--", sys.executable, "-c", BURST],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**traced(written.url, "burst"), "SPANWELL_DYNAMODB_TABLE": table},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert "did not reach" not in said
    stored = span_ids(scan(client, table))
    assert least <= len(stored) <= 400
    assert set(stored.values()) <= {1}


def test_the_launcher_starts_it_too(written: Written) -> None:
    with endpoint(written.url):
        list(make(aws_client.make_client("dynamodb"), "instrumented"))
    env = {**traced(written.url, "one"), "SPANWELL_DYNAMODB_TABLE": "instrumented"}
    done = run([sys.executable, "-c", ONE_SPAN], env, launcher="instrument")
    assert done.code == 0, done.err
    assert len(as_json(written.url, "traces", "--store", "dynamodb:instrumented")["traces"]) == 1
