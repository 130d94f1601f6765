"""Real processes that print their metrics: every line is whole, the counts are the truth, nothing hangs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.emf import check, lines, totals
from support.runs import command, environment, finish, start

pytestmark = pytest.mark.slow

SETTINGS = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "emf",
    "OTEL_SERVICE_NAME": "shop",
    "SPANWELL_INSIGHTS": "true",
    "SPANWELL_CLOUDWATCH_METRICS": "app.work:worker/service,entry.duration",
    "SPANWELL_METRICS_NAMESPACE": "Shop",
    "OTEL_METRIC_EXPORT_INTERVAL": "300",  # also what a collection may take
}

QUIET = {**SETTINGS, "OTEL_METRIC_EXPORT_INTERVAL": "60000", "PYTHONWARNINGS": "ignore"}  # of forks among threads

# Threads that print, one line a call, while their metrics are printed.
BUSY = """
import contextlib, sys, threading, time
from opentelemetry import metrics, trace
# Before that, threads that print without a lock lose lines by themselves (CPython gh-119506).
turn = contextlib.nullcontext() if sys.version_info >= (3, 12, 4) else threading.Lock()
histogram = metrics.get_meter("app").create_histogram("app.work", unit="ms")
tracer = trace.get_tracer("app")
def work(name):
    for number in range(400):
        histogram.record(number % 50 + 1, {"worker": name, "half": number % 2})
        with tracer.start_as_current_span("GET /", kind=trace.SpanKind.SERVER):
            with turn:
                sys.stdout.write(f"{name} {number} " + "." * 100 + "\\n")
        if number % 4 == 0:
            time.sleep(0.01)
threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
WORK = ("Shop", "app.work")


@pytest.mark.parametrize("mode", ["run", "lazy"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_under_load_and_at_exit_every_value_is_printed_once(mode: str, unbuffered: str) -> None:
    process = start(mode, ["-c", BUSY], "http://127.0.0.1:9", {**SETTINGS, "PYTHONUNBUFFERED": unbuffered})
    run = finish(process)
    assert (run.code, run.stderr) == (0, "")
    documents = lines(run.stdout)
    assert len(documents) > 4
    sent = totals(found for line in documents for found in check(line))
    for name in ("w0", "w1", "w2", "w3"):
        count, total = sent[(*WORK, (("worker", name), ("ServiceName", "shop")))]
        assert count == 400
        assert total == pytest.approx(400 * 25.5, rel=0.02)
    assert sent[(*WORK, (("ServiceName", "shop"),))][0] == 1600
    assert sent["Shop", "spanwell.entry.duration", (("ServiceName", "shop"),)][0] == 1600
    others = [line for line in run.stdout.splitlines() if line and not line.startswith("{")]
    assert len(set(re.findall(r"w\d \d+ \.{100}", "".join(others)))) == 1600
    if unbuffered or sys.version_info >= (3, 12, 4):  # see docs/metrics.md
        assert len(others) == 1600


def test_children_after_a_fork_print_their_own() -> None:
    code = """
import os
from opentelemetry import metrics
counter = metrics.get_meter("app").create_counter("app.work")
counter.add(1)
from spanwell.exit import end_process
for number in range(3):
    if not os.fork():
        counter.add(10)
        end_process()
        os._exit(0)
for number in range(3):
    os.wait()
"""
    process = start("run", ["-c", code], "http://127.0.0.1:9", QUIET)
    run = finish(process)
    assert (run.code, run.stderr) == (0, "")
    values = [found.values for line in lines(run.stdout) for found in check(line) if not found.dimensions[1:]]
    # Counters of the SDK go on in the child with what the parent had counted.
    assert sorted(sum(value for value, _ in each) for each in values)[0] == 1
    assert len(values) == 4


def test_a_reader_that_stops_reading_does_not_stop_the_application() -> None:
    code = """
import sys, time
from opentelemetry import metrics
histogram = metrics.get_meter("app").create_histogram("app.work")
begun = time.monotonic()
while time.monotonic() - begun < 4:
    for number in range(200):
        histogram.record(number * 1.37 ** (number % 40), {"worker": str(number)})
    metrics.get_meter_provider().force_flush(500)
print("done", file=sys.stderr)
"""
    process = subprocess.Popen(
        command("run", ["-c", code]),
        env=environment("run", "http://127.0.0.1:9", SETTINGS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.read()  # while nobody reads stdout
        assert process.wait(60) == 0
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
    assert "done" in said
    assert "stdout did not take" in said
    assert "lost in this process" in said or "did not reach stdout before the process ended" in said


def test_a_closed_stdout_is_said_once_and_hurts_nobody(tmp_path: Path) -> None:
    code = """
import os, sys, time
from opentelemetry import metrics
counter = metrics.get_meter("app").create_counter("app.work")
os.close(1)
precious = open(os.environ["PRECIOUS"], "w")
for number in range(5):
    counter.add(1)
    time.sleep(0.1)
precious.write("mine")
precious.close()
print("done", file=sys.stderr)
"""
    path = tmp_path / "precious"
    run = finish(start("run", ["-c", code], "http://127.0.0.1:9", {**SETTINGS, "PRECIOUS": str(path)}))
    assert path.read_text() == "mine"
    assert run.code == 0
    assert run.stderr.count("stdout was closed or replaced") == 1
    assert "done" in run.stderr


def test_with_the_sdks_own_configurator_too() -> None:
    code = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()
from opentelemetry import metrics
metrics.get_meter("a").create_counter("app.work").add(3, {"worker": "w"})
"""
    process = start("bare", ["-c", code], "", {**QUIET, "OTEL_LOGS_EXPORTER": "none"})
    run = finish(process)
    assert (run.code, run.stderr) == (0, "")
    assert totals(each for line in lines(run.stdout) for each in check(line)) == {
        (*WORK, (("worker", "w"), ("ServiceName", "shop"))): (1, 3),
        (*WORK, (("ServiceName", "shop"),)): (1, 3),
    }


def test_on_lambda_each_invocation_prints_its_own(tmp_path: Path) -> None:
    """The process is frozen after an invocation, and never ends in an orderly way."""
    (tmp_path / "the_function.py").write_text(
        "from opentelemetry import metrics\n"
        "counter = metrics.get_meter('app').create_counter('app.work')\n"
        "def handler(event, context):\n"
        "    counter.add(event['n'], {'worker': 'w'})\n"
    )
    code = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
from types import SimpleNamespace
import the_function
arn = "arn:aws:lambda:eu-west-1:123456789012:function:pay"
for number in (1, 20):
    context = SimpleNamespace(aws_request_id="r", function_name="pay", invoked_function_arn=arn)
    the_function.handler({{"n": number}}, context)
    os.write(1, b"-- end of invocation\\n")
os._exit(0)
"""
    extra = {"AWS_LAMBDA_FUNCTION_NAME": "pay", "_HANDLER": "the_function.handler", "OTEL_TRACES_EXPORTER": "none"}
    run = finish(start("lazy", ["-c", code], "", {**QUIET, **extra}))
    assert run.code == 0
    invocations = run.stdout.split("-- end of invocation")
    key = (*WORK, (("worker", "w"), ("ServiceName", "shop")))
    assert [
        totals(each for line in lines(invocation) for each in check(line)).get(key) for invocation in invocations
    ] == [(1, 1), (1, 20), None]
