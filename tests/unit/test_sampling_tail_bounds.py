"""`tail` under traces that are too many, too large, too old, or without an end; and after a fork."""

from __future__ import annotations

import os
import threading

import pytest
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from spanwell import _guard
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from spanwell.sampling import tail_buffer
from spanwell.sampling.tail_buffer import Bounds
from spanwell.sampling.tail_rules import Rules
from support.exporters import ListExporter
from support.spans import make_span
from support.tails import EVERYTHING, Tailed, reason, remote, weight

ERROR = Status(StatusCode.ERROR, "no")


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", True)


def child(tailed: Tailed, root: Span, name: str = "child", number: int = 1) -> None:
    for _ in range(number):
        tailed.tracer.start_span(name, set_span_in_context(root)).end()


def fail(root: Span) -> None:
    root.set_status(ERROR)
    root.end()


def test_too_many_spans_in_one_trace() -> None:
    tailed = Tailed(bounds=Bounds(spans=3))
    small, large = tailed.tracer.start_span("small"), tailed.tracer.start_span("large")
    child(tailed, small, number=3)
    child(tailed, large, number=4)
    assert (tailed.buffer.held, tailed.buffer.evictions) == (3, {"spans": 1})
    assert not tailed.tracer.start_span("too late", set_span_in_context(large)).is_recording()
    fail(small)
    fail(large)
    assert tailed.names() == ["child"] * 3 + ["small"]


def test_too_many_spans_in_all_take_the_oldest_trace() -> None:
    tailed = Tailed(bounds=Bounds(total=10))
    endless = [tailed.tracer.start_span(f"endless {number}") for number in range(3)]
    for root in endless:
        child(tailed, root, number=4)
    assert (tailed.buffer.held, tailed.buffer.evictions) == (8, {"total": 1})
    fresh = tailed.tracer.start_span("fresh")
    child(tailed, fresh, "of fresh", 3)
    fail(fresh)
    assert tailed.names() == ["of fresh"] * 3 + ["fresh"]
    for _ in range(50):
        child(tailed, tailed.tracer.start_span("endless too"), number=2)
        assert tailed.buffer.held <= 10
    for root in endless:
        fail(root)
    assert tailed.names() == ["of fresh"] * 3 + ["fresh"]


def test_too_many_traces_take_the_oldest_if_it_has_had_time() -> None:
    tailed = Tailed(bounds=Bounds(traces=2))
    first, second, third = (tailed.tracer.start_span(name) for name in ("first", "second", "third"))
    assert tailed.buffer.evictions == {"traces": 1}  # the third: the others are young
    tailed.clock.now += 6
    fourth = tailed.tracer.start_span("fourth")
    assert tailed.buffer.evictions == {"traces": 2}  # the first
    for root in (first, second, third, fourth):
        child(tailed, root, f"of {root.name}")  # type: ignore[attr-defined]
        fail(root)
    assert tailed.names() == ["of second", "second", "of fourth", "fourth"]


def test_what_reaches_its_age_is_slow() -> None:
    tailed = Tailed()
    old = tailed.tracer.start_span("old")
    child(tailed, old, "before")
    tailed.clock.now += 60
    tailed.tracer.start_span("anything").end()
    assert (tailed.names(), tailed.buffer.held, tailed.buffer.evictions) == (["before"], 0, {})
    child(tailed, old, "after")
    old.end()
    assert tailed.names() == ["before", "after", "old"]
    assert reason(tailed.spans()[-1]) == "slow"


def test_what_reaches_its_age_goes_where_slow_is_no_reason() -> None:
    tailed = Tailed(rules=Rules(slow_ms=0), bounds=Bounds(age=5))
    old, young = tailed.tracer.start_span("old"), None
    child(tailed, old)
    tailed.clock.now += 4.9
    young = tailed.tracer.start_span("young")
    assert tailed.buffer.held == 1
    tailed.clock.now += 0.1
    tailed.tracer.start_span("anything").end()
    assert (tailed.buffer.held, tailed.buffer.evictions) == (0, {"age": 1})
    fail(old)
    fail(young)
    assert tailed.names() == ["young"]


def test_a_clock_that_steps_back_harms_nothing() -> None:
    tailed = Tailed(bounds=Bounds(traces=2))
    roots = [tailed.tracer.start_span("root") for _ in range(2)]
    tailed.clock.now -= 1000
    roots.append(tailed.tracer.start_span("root"))
    for root in roots:
        fail(root)
    assert tailed.names() == ["root", "root"]


@pytest.mark.parametrize("bad", [False, True])
def test_a_sampled_root_whose_tree_was_not_watched(bad: bool) -> None:
    tailed = Tailed(EVERYTHING, bounds=Bounds(traces=1))
    first, second = tailed.tracer.start_span("first"), tailed.tracer.start_span("second")
    child(tailed, second)
    if bad:
        second.set_status(ERROR)
    second.end()
    first.end()
    _, unwatched, watched = tailed.spans()
    assert (reason(unwatched), weight(unwatched)) == ("error" if bad else "overflow", None)
    assert (reason(watched), weight(watched)) == ("rate", "th:0")
    assert tailed.buffer.evictions == {"traces": 1}


def test_a_sampled_root_that_was_let_go() -> None:
    tailed = Tailed(EVERYTHING, bounds=Bounds(traces=1), rules=Rules(slow_ms=0))
    first = tailed.tracer.start_span("first")
    tailed.clock.now += 10
    tailed.tracer.start_span("second").end()
    first.end()
    assert [(span.name, reason(span)) for span in tailed.spans()] == [("second", "rate"), ("first", "overflow")]


def test_open_spans_that_never_end_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_buffer, "_GENERATION", 20)
    tailed = Tailed()
    root = tailed.tracer.start_span("root")
    first = tailed.tracer.start_span("first", set_span_in_context(root))
    leaked = [tailed.tracer.start_span("leaked", set_span_in_context(root)) for _ in range(500)]
    assert len(tailed.buffer.open) + len(tailed.buffer._older) <= 42
    first.end()  # found through its trace
    leaked[0].end()
    leaked[-1].end()
    fail(root)  # found among the local roots
    assert tailed.names() == ["first", "leaked", "leaked", "root"]


def test_open_spans_of_the_generation_before_are_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_buffer, "_GENERATION", 3)
    tailed = Tailed()
    outer = tailed.tracer.start_span("outer")
    context = outer.get_span_context()
    inner = tailed.tracer.start_span("inner", remote(context.trace_id, context.span_id, sampled=False))
    below = tailed.tracer.start_span("below", set_span_in_context(inner))
    tailed.tracer.start_span("turns the generation", set_span_in_context(inner))
    assert tailed.buffer.open == {}
    deeper = tailed.tracer.start_span("deeper", set_span_in_context(below))
    deeper.end()
    below.end()
    fail(inner)
    outer.end()
    assert tailed.names() == ["deeper", "below", "inner"]


def test_decisions_are_remembered_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_buffer, "_DECISIONS", 3)
    tailed = Tailed()
    roots = [tailed.tracer.start_span(f"root {number}") for number in range(5)]
    for root in roots:
        fail(root)
    for number, root in enumerate(roots):
        child(tailed, root, f"late of {number}")
    assert tailed.names()[5:] == ["late of 2", "late of 3", "late of 4"]
    assert (len(tailed.buffer._done), len(tailed.buffer._by_trace), len(tailed.buffer._live)) == (3, 3, 0)


def test_nothing_is_left_of_traces_that_ended() -> None:
    tailed = Tailed()
    for _ in range(100):
        root = tailed.tracer.start_span("root")
        child(tailed, root, number=3)
        root.end()
    buffer = tailed.buffer
    assert [len(each) for each in (buffer.open, buffer._older, buffer._live, buffer._done, buffer._by_trace)] == [
        0
    ] * 5
    assert next(buffer._added) - 1 == buffer._taken == 300


def test_threads_with_tiny_bounds() -> None:
    tailed = Tailed(bounds=Bounds(traces=8, spans=6, total=20))
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        for index in range(150):
            root = tailed.tracer.start_span(f"root {number}")
            child(tailed, root, f"child {number}", index % 9)
            if index % 3 == 0:
                root.set_status(ERROR)
            if index % 7:
                root.end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [span.context.span_id for span in tailed.spans()]
    assert len(ids) == len(set(ids))
    buffer = tailed.buffer
    assert buffer.held <= 20 + 6
    assert buffer.held == next(buffer._added) - 1 - buffer._taken
    kept = {span.context.trace_id for span in tailed.spans()}
    complete = [span for span in tailed.spans() if span.parent is None]
    assert kept == {span.context.trace_id for span in complete}


def test_a_full_queue_does_not_take_promoted_spans() -> None:
    exporter = ListExporter()
    batch = BatchProcessor(GuardedExporter("list", lambda: exporter), max_queue=2, max_batch=2, delay=60)
    batch._start = lambda: None  # type: ignore[method-assign]  # nobody empties the queue
    sampled = [make_span(name="sampled") for _ in range(2)]
    for span in sampled:
        batch.on_end(span)
    batch.promote(make_span(name="promoted"))
    assert list(batch._queue) == sampled
    assert _guard.losses.snapshot() == {("spans", "queue full"): 1}


def test_after_shutdown_a_promoted_span_is_counted() -> None:
    batch = BatchProcessor(GuardedExporter("list", ListExporter), delay=60)
    batch.finish(1)
    batch.promote(make_span())
    assert _guard.losses.snapshot() == {("spans", "ended after shutdown"): 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_with_nothing() -> None:
    tailed = Tailed()
    root = tailed.tracer.start_span("parent's")
    child(tailed, root, number=3)
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with tailed.buffer._lock:  # at the fork, another thread is in here
            inside.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            buffer = tailed.buffer
            assert (buffer.held, len(buffer.open), len(buffer._live)) == (0, 0, 0)
            root.end()
            own = tailed.tracer.start_span("child's")
            fail(own)
            code = 0 if [span.name for span in tailed.batch._queue] == ["child's"] else 2
        finally:
            os._exit(code)
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert tailed.buffer.held == 3
    fail(root)
    assert tailed.names() == ["child"] * 3 + ["parent's"]
