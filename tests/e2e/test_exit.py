"""The end of real processes: what is left is exported or counted within the budget, and nothing else changes.

"Within the budget" is proved with a wide gate (seconds), so that a loaded machine does not matter: upstream waits
7 to 30 s in the same cases.
"""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.collector import (
    Collector,
    collector,
    deaf_listener,
    drip,
    hang,
    ok,
    reset,
    resetting_listener,
    status,
    unavailable,
)
from support.started import LAUNCHERS, Done, clean, run

pytestmark = pytest.mark.slow

GATE = 4.0
DEAD = "http://127.0.0.1:1"
BOTH = pytest.mark.parametrize("launcher", sorted(LAUNCHERS))

WORK = """
import sys
from opentelemetry import trace
tracer = trace.get_tracer("app")
for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
    with tracer.start_as_current_span(f"span {number}"):
        pass
"""

ALL_SIGNALS = """
import logging, sys
from opentelemetry import metrics, trace
meter = metrics.get_meter("app")
meter.create_counter("orders").add(1)
with trace.get_tracer("app").start_as_current_span("work"):
    logging.getLogger("app").warning("a line")
print("done")
"""


@pytest.fixture
def otlp() -> Iterator[Collector]:
    with collector() as made:
        yield made


def env(url: str, **more: str) -> dict[str, str]:
    return clean(
        **{
            "OTEL_SERVICE_NAME": "scenario",
            "OTEL_PYTHON_DISTRO": "spanwell",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "SPANWELL_STARTUP_SUMMARY": "false",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
            **more,
        }
    )


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]


def loss(url: str, number: int, reason: str, what: str = "spans", path: str = "/v1/traces") -> str:
    return f"spanwell: {number} {what} did not reach exporter otlp ({url}{path}): {reason} (try `spanwell doctor`)"


def timed(source: str, environment: dict[str, str], *arguments: str, launcher: str = "run") -> tuple[Done, float]:
    start = time.monotonic()
    done = run(python(source, *arguments), environment, launcher=launcher)
    return done, time.monotonic() - start


# --- where it cannot be sent ------------------------------------------------------------------------------------


@BOTH
def test_everything_arrives_where_somebody_listens(otlp: Collector, launcher: str) -> None:
    done = run(python(WORK, "1500"), env(otlp.url), launcher=launcher)
    assert done == Done(0, "", "")
    assert otlp.spans() == [f"span {number}" for number in range(1500)]


@BOTH
@pytest.mark.parametrize("number", [3, 1500])
def test_nothing_listens(launcher: str, number: int) -> None:
    done, took = timed(WORK, env(DEAD), str(number), launcher=launcher)
    assert done == Done(0, "", loss(DEAD, number, "Connection refused") + "\n")
    assert took < GATE


@BOTH
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (hang, "no answer in time"),
        (drip, "no answer in time"),
        (unavailable, "it answers 503 Service Unavailable"),
        (status(503, Retry_After="30"), "it answers 503 Service Unavailable"),
        (status(400), "it answers 400 Bad Request"),
        (status(401), "it answers 401 Unauthorized"),
        (reset, "Connection reset by peer"),
    ],
    ids=["hang", "drip", "503", "503 with Retry-After", "400", "401", "reset"],
)
def test_the_receiver_is_not_well(otlp: Collector, behaviour: object, reason: str, launcher: str) -> None:
    otlp.behave(behaviour)  # type: ignore[arg-type]
    done, took = timed(WORK, env(otlp.url), launcher=launcher)
    assert done == Done(0, "", loss(otlp.url, 3, reason) + "\n")
    assert took < GATE


@BOTH
def test_connections_are_made_but_nobody_answers(launcher: str) -> None:
    with deaf_listener() as url:
        done, took = timed(WORK, env(url), launcher=launcher)
    assert done == Done(0, "", loss(url, 3, "no answer in time") + "\n")
    assert took < GATE


@BOTH
def test_grpc_without_a_receiver(launcher: str) -> None:
    done, took = timed(WORK, env(DEAD, OTEL_EXPORTER_OTLP_PROTOCOL="grpc"), launcher=launcher)
    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(
        r"spanwell: 3 spans did not reach exporter otlp \(http://127\.0\.0\.1:1\): .*refused.*\n", done.err
    )
    assert took < GATE


@BOTH
def test_grpc_with_a_listener_that_says_nothing(launcher: str) -> None:
    with deaf_listener() as url:
        done, took = timed(WORK, env(url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc"), launcher=launcher)
    assert done == Done(0, "", loss(url, 3, "no answer in time", path="") + "\n")
    assert took < GATE


@BOTH
@pytest.mark.parametrize("order", ["sqlite,otlp", "otlp,sqlite"])
def test_a_dead_exporter_takes_nothing_from_another(tmp_path: Path, launcher: str, order: str) -> None:
    db = tmp_path / "traces.db"
    with collector(hang) as otlp:
        done, took = timed(
            WORK,
            env(otlp.url, OTEL_TRACES_EXPORTER=order, SPANWELL_SQLITE_PATH=str(db)),
            "1500",
            launcher=launcher,
        )
    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(r"spanwell: 1500 spans did not reach exporter otlp \(.*\): .*\n", done.err)
    assert took < GATE
    with sqlite3.connect(db) as connection:
        assert connection.execute("SELECT count(*) FROM span").fetchone() == (1500,)
        # What otlp lost is on record, also where sqlite was the first to end.
        assert connection.execute("SELECT sum(number) FROM loss WHERE signal = 'spans'").fetchone() == (1500,)


@pytest.mark.parametrize(("seconds", "at_least", "at_most"), [("0", 0, 2), ("0.2", 0.2, 2.5), ("3", 3, 8)])
def test_the_budget_is_the_users(seconds: str, at_least: float, at_most: float) -> None:
    source = WORK + "\nimport time; print(time.time())"
    with collector(hang) as otlp:
        done = run(python(source), env(otlp.url, SPANWELL_SHUTDOWN_TIMEOUT=seconds))
        took = time.time() - float(done.out)
    assert at_least <= took + 0.01
    assert took < at_most
    assert "3 spans did not reach" in done.err


# --- metrics and logs -------------------------------------------------------------------------------------------

EVERYTHING = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}


@BOTH
def test_all_three_signals_arrive(otlp: Collector, launcher: str) -> None:
    done = run(python(ALL_SIGNALS), env(otlp.url, **EVERYTHING), launcher=launcher)
    assert done == Done(0, "done\n", "a line\n")
    assert otlp.spans() == ["work"]
    assert "orders" in otlp.metrics()
    assert otlp.logs() == ["a line"]


@BOTH
@pytest.mark.parametrize("how", ["dead", "hang", "503"])
def test_all_three_signals_are_lost_within_one_budget(otlp: Collector, launcher: str, how: str) -> None:
    otlp.behave(hang if how == "hang" else unavailable)
    url = DEAD if how == "dead" else otlp.url
    reason = {"dead": "Connection refused", "hang": "no answer in time", "503": "it answers 503 Service Unavailable"}[
        how
    ]
    done, took = timed(ALL_SIGNALS, env(url, **EVERYTHING), launcher=launcher)
    assert (done.code, done.out) == (0, "done\n")
    lines = done.err.splitlines()
    assert lines[0] == "a line"
    assert sorted(re.sub(r"\d+ metrics", "N metrics", line) for line in lines[1:]) == sorted(
        [
            loss(url, 1, reason),
            loss(url, 1, reason, "log records", "/v1/logs"),
            loss(url, 1, reason, "metrics", "/v1/metrics").replace("1 metrics", "N metrics"),
        ]
    )
    assert took < GATE


def test_a_hanging_signal_does_not_cost_the_others(otlp: Collector) -> None:
    with deaf_listener() as deaf:
        environment = env(otlp.url, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=deaf, **EVERYTHING)
        done, took = timed(ALL_SIGNALS, environment)
    assert done.err.splitlines() == ["a line", loss(deaf, 1, "no answer in time", path="")]
    assert "orders" in otlp.metrics()
    assert otlp.logs() == ["a line"]
    assert took < GATE


# --- while the application lives --------------------------------------------------------------------------------

STEADY = """
import sys, time
from opentelemetry import trace
tracer = trace.get_tracer("app")
end = time.monotonic() + float(sys.argv[1])
ended = 0
while time.monotonic() < end:
    for _ in range(20):
        with tracer.start_as_current_span("steady"):
            ended += 1
    time.sleep(0.02)
print(ended)
"""

FAST = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "200", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"}


def test_a_dead_endpoint_is_not_hammered_and_said_once_and_at_the_end() -> None:
    with resetting_listener() as dead:
        # A timeout below the first pause between upstream's own attempts: each export is one attempt.
        environment = env(dead.url, OTEL_EXPORTER_OTLP_TIMEOUT="0.5", **FAST)
        done = run(python(STEADY, "6"), environment)
        attempts = dead.attempts
    ended = int(done.out)
    lines = done.err.splitlines()
    lost = [int(line.split()[1]) for line in lines if "did not reach exporter otlp" in line]
    assert lines[0].endswith("further losses are counted and said at exit (try `spanwell doctor`)")
    assert "the queue to exporter otlp is full (200 spans)" in lines[1]
    assert len(lines) <= 4
    assert len(lost) == 2
    # Exports at 0, 1, 3 and 7 s and at the end; each tries a broken connection twice.
    assert 2 <= attempts <= 12
    total = re.search(r"lost in this process: (.*)", done.err)
    assert total is not None
    assert sum(int(each) for each in re.findall(r"(\d+) spans", total[1])) == ended


def test_spans_arrive_again_when_the_endpoint_is_well_again(otlp: Collector) -> None:
    otlp.behave(unavailable)
    environment = env(otlp.url, OTEL_EXPORTER_OTLP_TIMEOUT="0.5", SPANWELL_SHUTDOWN_TIMEOUT="10", **FAST)
    process = _start([*LAUNCHERS["run"], *python(STEADY, "6")], environment)
    otlp.wait(lambda: len(otlp.posts) >= 1)
    otlp.behave(ok)
    otlp.wait(lambda: len(otlp.spans()) > 0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    lost = re.search(r"lost in this process: (.*)", err)
    number = sum(int(each) for each in re.findall(r"(\d+) spans", lost[1])) if lost else int(err.split()[1])
    assert number > 0
    assert len(otlp.spans()) + number == int(out)


def test_memory_stays_bounded_with_a_dead_endpoint() -> None:
    source = """
import resource
from opentelemetry import trace
tracer = trace.get_tracer("app")
def burst(number):
    for _ in range(number):
        with tracer.start_as_current_span("span", attributes={"text": "x" * 2000}):
            pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = burst(4000)
print((burst(40000) - first) / 1024)
"""
    done = run(python(source), env(DEAD), timeout=120)
    grown = float(done.out)
    assert grown < 40  # MB; 40,000 kept spans would be well over 100
    total = re.search(r"lost in this process: (.*)", done.err)
    assert total is not None
    assert sum(int(each) for each in re.findall(r"(\d+) spans", total[1])) == 44_000


# --- the application's own end ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("url", ["good", "dead"])
@pytest.mark.parametrize(
    ("ending", "code", "err"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit('bye')", 1, "bye\n"),
        ("raise KeyError('lost')", 1, "KeyError: 'lost'\n"),
    ],
)
def test_exit_codes_and_tracebacks_are_the_applications(
    otlp: Collector, launcher: str, url: str, ending: str, code: int, err: str
) -> None:
    where = otlp.url if url == "good" else DEAD
    done = run(python(WORK + ending), env(where), launcher=launcher)
    assert done.code == code
    said = done.err.removesuffix(loss(where, 3, "Connection refused") + "\n") if url == "dead" else done.err
    assert said.endswith(err)
    assert (said == err) == (code != 1 or "Traceback" not in said)
    assert "spanwell" not in said
    if url == "good":
        assert len(otlp.spans()) == 3


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == text


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_process_as_they_did(otlp: Collector, launcher: str, number: signal.Signals) -> None:
    ended = []
    work = python(WORK + "print('ready', flush=True)\nimport time\ntime.sleep(60)")
    for command in (work, [*LAUNCHERS[launcher], *work]):
        process = _start(command, env(otlp.url))
        _wait_for(process, "ready")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        ended.append((process.returncode, err.splitlines()[-1:]))  # where the signal met the code is chance
    assert ended[0] == ended[1]
    # SIGINT is KeyboardInterrupt, an ordinary end; SIGTERM's default ends the process without Python's exit.
    assert len(otlp.spans()) == (3 if number == signal.SIGINT else 0)


def test_a_sigterm_handler_of_the_application_is_its_own(otlp: Collector) -> None:
    source = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        + WORK
        + "print('ready', flush=True)\nimport time\ntime.sleep(60)"
    )
    process = _start([*LAUNCHERS["run"], *python(source)], env(otlp.url))
    _wait_for(process, "ready")
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (7, "")
    assert len(otlp.spans()) == 3


def test_os_exit_is_immediate_and_silent(otlp: Collector) -> None:
    otlp.behave(hang)
    done, took = timed(WORK + "import os; os._exit(5)", env(otlp.url, SPANWELL_SHUTDOWN_TIMEOUT="20"))
    assert done == Done(5, "", "")
    assert took < GATE
    assert not otlp.posts


@BOTH
@pytest.mark.parametrize("how", [ok, hang], ids=["ok", "hang"])
def test_daemon_threads_that_make_spans_until_the_very_end(otlp: Collector, launcher: str, how: object) -> None:
    otlp.behave(how)  # type: ignore[arg-type]
    source = (
        WORK
        + """
import threading, time
def work():
    while True:
        with tracer.start_as_current_span("daemon"):
            pass
        time.sleep(0.0005)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""
    )
    done, took = timed(source, env(otlp.url), launcher=launcher)
    assert (done.code, done.out) == (0, "")
    assert "Traceback" not in done.err
    assert "Fatal" not in done.err
    assert all(line.startswith("spanwell: ") for line in done.err.splitlines())
    assert took < GATE
    if how is ok:
        assert otlp.spans().count("daemon") > 10


def test_the_interpreter_ends_while_an_export_is_under_way(otlp: Collector) -> None:
    otlp.behave(hang)
    source = WORK + "import time; time.sleep(0.5)"
    done, took = timed(source, env(otlp.url, OTEL_BSP_SCHEDULE_DELAY="10"))
    assert otlp.posts
    assert done == Done(0, "", loss(otlp.url, 3, "no answer in time") + "\n")
    assert took < GATE


def test_an_exit_handler_of_the_application_may_still_make_spans(otlp: Collector) -> None:
    source = (
        WORK
        + """
import atexit
@atexit.register
def last():
    with tracer.start_as_current_span("at exit"):
        pass
"""
    )
    done = run(python(source), env(otlp.url))
    assert done == Done(0, "", "")
    assert otlp.spans()[-1] == "at exit"


def test_a_provider_shut_down_by_the_application_is_not_shut_down_again(otlp: Collector) -> None:
    source = ALL_SIGNALS + "\ntrace.get_tracer_provider().shutdown(); metrics.get_meter_provider().shutdown()"
    done = run(python(source), env(otlp.url, **EVERYTHING))
    assert done == Done(0, "done\n", "a line\n")
    assert otlp.spans() == ["work"]
    assert otlp.logs() == ["a line"]


def test_force_flush_by_the_application(otlp: Collector) -> None:
    source = WORK + "import json\nprint(json.dumps(trace.get_tracer_provider().force_flush()))"
    assert json.loads(run(python(source), env(otlp.url)).out) is True
    assert len(otlp.spans()) == 3
