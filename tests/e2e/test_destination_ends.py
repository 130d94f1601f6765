"""A process that ends while its spans are under way to any destination: they arrive or are in the loss count."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.destinations import DESTINATIONS, LossySink, Servers, lossy_sink, servers
from support.faults import PASS, Fault, FaultProxy, Request, delay, fault_proxy, partial, status
from support.started import LAUNCHERS, clean, end

pytestmark = [pytest.mark.slow, pytest.mark.services]

NUMBER, TRACES = 20_000, 200
EVERY = pytest.mark.parametrize("destination", DESTINATIONS)
UDP = pytest.mark.parametrize("destination", ["xray", "xray_otlp_udp"])

# It ends its spans, writes down which those were, says so, and goes on until it is stopped: as a server does whose
# handler of SIGTERM raises SystemExit.
WORK = """
import os, signal, sys, time
from opentelemetry import trace
from opentelemetry.trace import SpanKind
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
number, traces, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tracer, ids = trace.get_tracer("app"), []
for each in range(traces):
    with tracer.start_as_current_span("request", kind=SpanKind.SERVER) as span:
        root = span.get_span_context()
        ids.append((root.trace_id, root.span_id))
        for step in range(number // traces - 1):
            with tracer.start_as_current_span(f"step {step}", attributes={"step": step, "of": "a request"}) as span:
                ids.append((root.trace_id, span.get_span_context().span_id))
    if each == traces // 4 and "flush" in sys.argv:
        print(len(ids) if trace.get_tracer_provider().force_flush() else "not flushed", flush=True)
with open(path, "w") as file:
    file.writelines(f"{trace_id:x} {span_id:x}\\n" for trace_id, span_id in ids)
print("all ended", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    with servers() as made:
        yield made


class Ended(NamedTuple):
    """What a process leaves: the ids of its spans and their traces, what it said, what it counted as lost."""

    spans: set[int]
    traces: set[int]
    err: str
    lost: int
    flushed: int


def lost_in(err: str) -> int:
    """What the report at the end says; without one, what single lines said."""
    total = re.search(r"lost in this process: (.*)", err)
    if total is not None:
        return sum(int(each) for each in re.findall(r"(\d+) spans", total[1]))
    return sum(int(each) for each in re.findall(r"(\d+) spans did not reach", err))


def run(
    environment: dict[str, str], how: signal.Signals, path: Path, under_way: Callable[[], object], *options: str
) -> Ended:
    """Start the application, send it a signal as soon as its spans have ended and `under_way()`."""
    process = subprocess.Popen(
        [*LAUNCHERS["run"], sys.executable, "-c", WORK, str(NUMBER), str(TRACES), str(path), *options],
        env=clean(**{"OTEL_SERVICE_NAME": "app", "SPANWELL_SHUTDOWN_TIMEOUT": "90", **environment}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        flushed = int(process.stdout.readline()) if options else 0
        assert process.stdout.readline() == "all ended\n"
        for _ in range(1_200):
            if under_way():
                break
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
    finally:
        end(process)
    assert process.returncode == (0 if how == signal.SIGTERM else -how)
    pairs = [line.split() for line in path.read_text().splitlines()]
    spans = {int(span_id, 16) for _, span_id in pairs}
    assert len(spans) == NUMBER
    return Ended(spans, {int(trace_id, 16) for trace_id, _ in pairs}, err, lost_in(err), flushed)


def checked(found: Counter[int], ended: Ended) -> int:
    """How many spans are there: each is one that was sent, and none is there twice."""
    assert set(found) <= ended.spans
    assert set(found.values()) <= {1}
    return len(found)


def passed(proxy: FaultProxy) -> Callable[[], object]:
    return lambda: proxy.passed


# --- SIGTERM --------------------------------------------------------------------------------------------------------


@EVERY
def test_terminated_it_sends_what_waits(running: Servers, destination: str, tmp_path: Path) -> None:
    target = running.target(destination)
    with fault_proxy(target.url, lambda request: delay(0.2) if request.number < 10 else PASS) as proxy:
        ended = run(target.environment(proxy.url), signal.SIGTERM, tmp_path / "ids", passed(proxy))
        found = checked(target.found(ended.traces), ended)
    assert (found, ended.lost, ended.err) == (NUMBER, 0, "")


@EVERY
def test_terminated_in_trouble_every_span_is_there_or_counted(
    running: Servers, destination: str, tmp_path: Path
) -> None:
    """The destination refuses parts of what it gets, and after a while everything: the rest has one attempt."""
    target = running.target(destination)

    def plan(request: Request) -> Fault:
        if request.number > 2:
            return status(503)
        return partial(share=0.2, seed=5) if request.number else delay(0.05)

    with fault_proxy(target.url, plan) as proxy:
        ended = run(target.environment(proxy.url), signal.SIGTERM, tmp_path / "ids", passed(proxy))
        found = checked(target.found(ended.traces), ended)
    assert found + ended.lost == NUMBER
    assert found > 0
    assert ended.lost > 0
    assert ended.err.count("\n") <= 3, ended.err


@EVERY
def test_terminated_while_nobody_answers_the_end_is_bounded(
    running: Servers, destination: str, tmp_path: Path
) -> None:
    """After the third request nobody answers: what is under way and what waits are counted, in one line."""
    target = running.target(destination)
    with fault_proxy(target.url, lambda request: PASS if request.number < 3 else delay(600)) as proxy:
        environment = {**target.environment(proxy.url), "SPANWELL_SHUTDOWN_TIMEOUT": "2"}
        ended = run(environment, signal.SIGTERM, tmp_path / "ids", passed(proxy))
        found = checked(target.found(ended.traces), ended)
    # A batch of several requests counts as lost while its last has no answer.
    assert NUMBER - found <= ended.lost <= NUMBER
    assert found > 0
    assert ended.err.count("\n") <= 2, ended.err


# --- SIGKILL --------------------------------------------------------------------------------------------------------


@EVERY
def test_killed_it_loses_what_had_not_left(running: Servers, destination: str, tmp_path: Path) -> None:
    """What had been flushed is there, nothing is there twice, and all that is there can be read."""
    target = running.target(destination)
    with fault_proxy(target.url, lambda request: delay(0.1) if request.number % 3 else PASS) as proxy:
        ended = run(target.environment(proxy.url), signal.SIGKILL, tmp_path / "ids", passed(proxy), "flush")
        settle(proxy)
        found = checked(target.found(ended.traces), ended)
    assert 0 < ended.flushed <= found <= NUMBER
    assert ended.err == ""


def settle(proxy: FaultProxy) -> None:
    """What the killed process had sent is still being passed on."""
    seen = -1
    while seen != (seen := proxy.passed):
        time.sleep(0.5)


# --- UDP ------------------------------------------------------------------------------------------------------------


def address_of(destination: str, sink: LossySink) -> dict[str, str]:
    return {"OTEL_TRACES_EXPORTER": destination, "AWS_XRAY_DAEMON_ADDRESS": sink.address}


@UDP
def test_terminated_over_udp(destination: str, tmp_path: Path) -> None:
    """What the network ate is nowhere to be known; the rest arrives, or is counted where the port refuses it."""
    with lossy_sink(destination, 3) as sink:
        ended = run(address_of(destination, sink), signal.SIGTERM, tmp_path / "ids", lambda: True)
        sink.settle()
        found, eaten = checked(sink.found(), ended), sink.eaten()
    assert found + len(eaten) + ended.lost == NUMBER
    assert eaten
    assert set(eaten) <= ended.spans


@UDP
def test_terminated_while_nobody_listens_over_udp(destination: str, tmp_path: Path) -> None:
    with lossy_sink(destination, 3) as sink:
        sink.close()
        ended = run(address_of(destination, sink), signal.SIGTERM, tmp_path / "ids", lambda: True)
    assert ended.lost == NUMBER
    assert "nobody listens at udp" in ended.err


@UDP
def test_killed_over_udp(destination: str, tmp_path: Path) -> None:
    with lossy_sink(destination, 3, share=0.0) as sink:
        ended = run(address_of(destination, sink), signal.SIGKILL, tmp_path / "ids", lambda: True, "flush")
        sink.settle()
        found = checked(sink.found(), ended)
    assert 0 < ended.flushed <= found
