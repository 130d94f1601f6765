"""Bursts of spans under the user's command: what keeps up loses nothing; beyond the bound every span is counted."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest

from support.collector import Collector, Handler, collector, hang
from support.started import LAUNCHERS, Done, clean, run

pytestmark = pytest.mark.slow

BURST = """
import sys
from opentelemetry import trace
tracer = trace.get_tracer("app")
for number in range(int(sys.argv[1])):
    tracer.start_span(f"span {number}", attributes={"text": f"a text of some length {number}" * 4}).end()
"""


@pytest.fixture
def otlp() -> Iterator[Collector]:
    with collector() as made:
        yield made


def slow(seconds: float) -> object:
    def answer(handler: Handler) -> None:
        time.sleep(seconds)
        handler.answer(200)

    return answer


def burst(number: int, otlp: Collector, launcher: str = "run", **more: str) -> Done:
    env = clean(
        OTEL_SERVICE_NAME="scenario",
        OTEL_PYTHON_DISTRO="spanwell",
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        SPANWELL_STARTUP_SUMMARY="false",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="system_metrics",
        **{"SPANWELL_SHUTDOWN_TIMEOUT": "30", **more},
    )
    return run([sys.executable, "-c", BURST, str(number)], env, launcher=launcher, timeout=120)


def lost(done: Done) -> int:
    total = re.search(r"lost in this process: (.*)", done.err)
    assert total is not None, done.err
    return sum(int(each) for each in re.findall(r"(\d+) spans", total[1]))


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_a_burst_loses_nothing_where_the_receiver_answers(otlp: Collector, launcher: str) -> None:
    otlp.behave(slow(0.02))  # type: ignore[arg-type]
    assert burst(20_000, otlp, launcher) == Done(0, "", "")
    assert otlp.spans() == [f"span {number}" for number in range(20_000)]


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_what_the_buffer_does_not_hold_is_counted(otlp: Collector, which: str) -> None:
    otlp.behave(slow(0.5))  # type: ignore[arg-type]
    done = burst(20_000, otlp, SPANWELL_EXPORT_BUFFER_MB="1", SPANWELL_EXPORT_DROP=which)
    arrived = otlp.spans()
    assert f"is full (1 MB); the {which} are dropped and counted (SPANWELL_EXPORT_BUFFER_MB)" in done.err
    assert 0 < len(arrived) == len(set(arrived)) == 20_000 - lost(done)
    assert ("span 19999" in arrived) == (which == "oldest")


def test_a_number_that_is_set_is_the_bound(otlp: Collector) -> None:
    otlp.behave(hang)
    done = burst(5_000, otlp, OTEL_BSP_MAX_QUEUE_SIZE="1000", SPANWELL_SHUTDOWN_TIMEOUT="0.5")
    assert "is full (1000 spans); the oldest are dropped and counted (OTEL_BSP_MAX_QUEUE_SIZE)" in done.err
    assert lost(done) == 5_000


def test_upstreams_exporter_keeps_its_bound(otlp: Collector) -> None:
    otlp.behave(hang)
    done = burst(9_000, otlp, SPANWELL_OTLP="upstream", SPANWELL_SHUTDOWN_TIMEOUT="0.5")
    assert "is full (2048 spans); the oldest are dropped and counted (OTEL_BSP_MAX_QUEUE_SIZE)" in done.err
    assert lost(done) == 9_000
