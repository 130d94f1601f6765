"""`xray` in real processes: forks in the middle of a poll, a hanging service at exit, polls beside instrumentors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spanwell.testing import FakeSamplingService
from support.started import clean

pytestmark = pytest.mark.slow

RULES = [{"RuleName": "all", "Priority": 1, "FixedRate": 1.0, "ReservoirSize": 0}]

START = """
import os, signal, sys, threading, time
signal.alarm(50)
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from spanwell.sampling.build import Making, make
from spanwell.sampling.outcome import REASON
from spanwell.testing import FakeSamplingService

def start(endpoint):
    global sampler, tracer, exporter
    sampler = make("xray", f"endpoint={endpoint},polling_interval=10,fallback=always_off", Making(print))
    provider, exporter = TracerProvider(sampler=sampler, shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("app")

def work(number=1):
    for _ in range(number):
        with tracer.start_as_current_span("work"): pass

def wait_for_rules():
    work()
    while sampler.central.refreshed is None:
        time.sleep(0.01)
"""


def script(code: str, *arguments: str, cwd: Path) -> str:
    """What the code prints. It must end by itself, long before its alarm."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + code, *arguments]
    done = subprocess.run(command, env=clean(), cwd=cwd, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


FORK_MID_POLL = """
service = FakeSamplingService([{"RuleName": "all", "FixedRate": 1.0, "ReservoirSize": 0}]).start()
service.hang(times=1)
start(service.endpoint)
work()
assert service.until(lambda: service.asked("GetSamplingRules") == 1)
mine = sampler.central.client_id
pid = os.fork()
if pid == 0:
    assert sampler.central.client_id != mine
    wait_for_rules()
    work(7)
    sampler.begin_shutdown()
    sampler.finish(5)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
((rule, client), total), = service.totals().items()
assert (rule, total, client != mine) == ("all", (7, 7, 0), True), service.totals()
assert service.violations == []
print("ok")
"""


def test_a_fork_in_the_middle_of_a_hanging_poll(tmp_path: Path) -> None:
    assert script(FORK_MID_POLL, cwd=tmp_path) == "ok\n"


FORK_UNDER_LOAD = """
start(sys.argv[1])
wait_for_rules()
running = True
def load():
    while running: sampler.should_sample(None, 1 << 56, "x", None, {"url.path": "/x"})
threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
for each in threads: each.start()
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        work(10)
        own = sampler.central.table.states[0].statistics.take()
        os._exit(0 if own.requests == own.sampled == 10 and not sampler.poller.idle else 1)
    assert os.waitpid(pid, 0)[1] == 0
running = False
for each in threads: each.join()
print("ok")
"""


def test_children_of_a_busy_process_meet_no_held_lock(tmp_path: Path) -> None:
    with FakeSamplingService(RULES) as service:
        assert script(FORK_UNDER_LOAD, service.endpoint, cwd=tmp_path) == "ok\n"


HANGING_EXIT = """
from spanwell.sampling.client import SamplingClient
start(sys.argv[1])
sampler.poller._make_client = lambda: SamplingClient(sys.argv[1], seconds=3600)
if sys.argv[2] == "SamplingTargets":
    wait_for_rules()
    work(3)
else:
    work()
    while sampler.poller.schedule is None: time.sleep(0.01)
    time.sleep(0.5)
print("the end")
"""


@pytest.mark.parametrize("path", ["GetSamplingRules", "SamplingTargets"])
def test_a_hanging_service_does_not_hold_the_exit(path: str, tmp_path: Path) -> None:
    with FakeSamplingService(RULES) as service:
        service.hang(path=path)
        assert script(HANGING_EXIT, service.endpoint, path, cwd=tmp_path) == "the end\n"
        assert service.until(lambda: service.asked(path) == 1)


LAST_REPORT = """
start(sys.argv[1])
wait_for_rules()
work(5)
"""


def test_the_last_statistics_leave_at_exit_whoever_configured_the_sdk(tmp_path: Path) -> None:
    with FakeSamplingService(RULES) as service:
        assert script(LAST_REPORT, service.endpoint, cwd=tmp_path) == ""
        assert service.total("all") == (5, 5, 0)
        assert service.violations == []


FIRST_ROOT_AT_EXIT = """
import atexit
start(sys.argv[1])
atexit.register(lambda: (work(), print("the end")))
"""


def test_a_first_root_during_exit_is_no_trouble(tmp_path: Path) -> None:
    with FakeSamplingService(RULES) as service:
        assert script(FIRST_ROOT_AT_EXIT, service.endpoint, cwd=tmp_path) == "the end\n"


NOT_TRACED = """
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
for each in (RequestsInstrumentor, URLLibInstrumentor, URLLib3Instrumentor, ThreadingInstrumentor):
    each().instrument()
start(sys.argv[1])
with tracer.start_as_current_span("before"):
    wait_for_rules()
work(2)
sampler.begin_shutdown(); sampler.finish(5)
print(sorted(span.name for span in exporter.get_finished_spans()))
"""


def test_polls_are_not_traced(tmp_path: Path) -> None:
    with FakeSamplingService(RULES) as service:
        assert script(NOT_TRACED, service.endpoint, cwd=tmp_path) == "['work', 'work']\n"
        assert {request.path for request in service.requests} == {"GetSamplingRules", "SamplingTargets"}
        assert not any("traceparent" in request.headers for request in service.requests)
