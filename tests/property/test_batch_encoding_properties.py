"""Put, flush, refuse, fork, shut down, in any order, from several threads: every span is delivered once or counted as
lost, and no more bytes wait than may."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

from spanwell._guard import losses
from spanwell.export.batch import BatchProcessor
from spanwell.export.buffer import ESTIMATE
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.export.guarded import GuardedExporter
from support.spans import make_span

pytestmark = pytest.mark.full

OUTCOMES = st.lists(st.sampled_from(["ok", "part", "down", "raise", "wait"]), max_size=12)
SIZES = st.sampled_from([1, 90, 700, 5_000, 60_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 60), SIZES),
        st.tuples(st.just("promote"), st.integers(1, 10), SIZES),
        st.tuples(st.just("bad"), st.integers(1, 5), SIZES),
        st.tuples(st.sampled_from(["flush", "wait"]), st.just(0), st.just(0)),
    ),
    max_size=10,
)


class Scripted(EncodingExporter):
    """Each send does what the script says. `span.name` is the size of a span, "bad" has no encoding."""

    def __init__(self, script: list[str], let_go: threading.Event) -> None:
        self.script, self.let_go = iter(script), let_go
        self.arrived: list[tuple[int, int]] = []

    def encode(self, span: Any) -> tuple[Any, int]:
        return (span.context.trace_id, span.context.span_id), int(span.name)

    def send(self, items: list[Any]) -> Sent:
        what = next(self.script, "ok")
        if what == "wait":
            self.let_go.wait(0.01)
        if what == "raise":
            raise RuntimeError("broken")
        if what == "down":
            return Sent(len(items), "down", reached=False)
        lost = len(items) // 2 if what == "part" else 0
        self.arrived += items[lost:]
        return Sent(lost, "refused")


def batch_of(exporter: Scripted, **options: Any) -> BatchProcessor:
    ticks = iter(range(0, 10**9, 1000))
    guarded = GuardedExporter("test", lambda: exporter)
    return BatchProcessor(guarded, clock=lambda: float(next(ticks)), **options)


def run(batch: BatchProcessor, steps: list[tuple[str, int, int]], thread: int, highest: list[int]) -> int:
    """Do `steps` and say how many spans that were; their trace id is `thread` + 1 and their ids count up."""
    number = 0
    for what, count, size in steps:
        for _ in range(count):
            number += 1
            span = make_span(trace_id=thread + 1, span_id=number, name="bad" if what == "bad" else str(size))
            if what == "promote":
                context = span.context
                assert context is not None
                span._context = SpanContext(context.trace_id, context.span_id, False, TraceFlags(0))
                batch.promote(span)
            else:
                batch.on_end(span)
            highest[0] = max(highest[0], batch.waiting_bytes)
        if what == "flush":
            batch.force_flush(20)
        elif what == "wait":
            batch._hurry()
    return number


OPTIONS = st.fixed_dictionaries(
    {
        "max_batch": st.integers(1, 60),
        "backlog_batch": st.sampled_from([0, 200]),
        "max_bytes": st.sampled_from([3_000, 50_000, 400_000, 32_000_000]),
        "max_queue": st.sampled_from([None, None, 1, 40]),
        "drop_newest": st.booleans(),
        "delay": st.sampled_from([0.0005, 3600.0]),
    }
)


@settings(max_examples=150, deadline=None)
@given(script=OUTCOMES, steps=STEPS, options=OPTIONS, threads=st.integers(1, 3), built=st.booleans())
def test_delivered_once_or_counted(
    script: list[str], steps: list[tuple[str, int, int]], options: dict[str, Any], threads: int, built: bool
) -> None:
    losses.reset()
    exporter = Scripted(script, threading.Event())
    batch = batch_of(exporter, **options)
    if built:
        batch._prepare()
    highest, ended = [0], [0] * threads

    def work(thread: int) -> None:
        ended[thread] = run(batch, steps, thread, highest)

    _run_all(work, threads)
    batch.finish(30)

    assert len(exporter.arrived) == len(set(exporter.arrived)) == batch.exported
    assert batch.exported + losses.total("spans") == sum(ended)
    if built or options["max_queue"] is None:  # else the number is the only bound, until the exporter is known
        assert highest[0] <= options["max_bytes"] + (threads - 1) * ESTIMATE
    assert (batch.waiting, batch.waiting_bytes) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(script=OUTCOMES, steps=STEPS, options=OPTIONS)
def test_also_when_the_end_comes_in_the_middle(
    script: list[str], steps: list[tuple[str, int, int]], options: dict[str, Any]
) -> None:
    losses.reset()
    let_go = threading.Event()
    exporter = Scripted(script, let_go)
    batch = batch_of(exporter, **options)
    before, ended = run(batch, steps, 9, [0]), [0] * 3

    def work(thread: int) -> None:
        if thread == 0:
            batch.finish(0.001)
        else:
            ended[thread] = run(batch, steps, thread, [0])

    _run_all(work, 3)
    let_go.set()
    if batch._worker is not None:
        batch._worker.join(30)
    # A send that nobody waited for may arrive all the same: it was counted as lost by then, and not as exported.
    assert len(exporter.arrived) == len(set(exporter.arrived))
    assert batch.exported + losses.total("spans") == before + sum(ended)
    assert batch.exported <= len(exporter.arrived)
    assert (batch.waiting, batch.waiting_bytes) == (0, 0)


@settings(max_examples=20, deadline=None)
@given(steps=STEPS, after=STEPS, options=OPTIONS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_has_what_ended_in_it_and_the_parent_the_rest(
    steps: list[tuple[str, int, int]], after: list[tuple[str, int, int]], options: dict[str, Any]
) -> None:
    losses.reset()
    made: list[Scripted] = []

    def build() -> Scripted:
        made.append(Scripted([], threading.Event()))
        return made[-1]

    batch = BatchProcessor(GuardedExporter("test", build), **options)
    ended = run(batch, steps, 0, [0])
    pid = os.fork()
    if pid == 0:
        _end_child(batch, made, after)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ended += run(batch, after, 1, [0])
    batch.finish(30)
    arrived = [each for exporter in made for each in exporter.arrived]
    assert len(arrived) == len(set(arrived)) == batch.exported
    assert batch.exported + losses.total("spans") == ended


def _end_child(batch: BatchProcessor, made: list[Scripted], steps: list[tuple[str, int, int]]) -> None:
    code = 1
    try:
        known = len(made)
        ended = run(batch, steps, 7, [0])
        batch.finish(30)
        mine = [each for exporter in made[known:] for each in exporter.arrived]
        fine = all(trace == 8 for trace, _ in mine) and len(set(mine)) == len(mine) == batch.exported
        code = 0 if fine and batch.exported + losses.total("spans") == ended else 2
    finally:
        os._exit(code)


def _run_all(work: Any, number: int) -> None:
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        running = [threading.Thread(target=work, args=(each,)) for each in range(number)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
