"""Spans on their way to the detectors: together by local root, bounded, in whatever order they start and end."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, set_span_in_context

from spanwell import _guard
from spanwell.insights.buffer import Bounds, Buffer
from support.spans import make_span
from support.tails import remote
from support.watched import RecordOnly, Watched


def below(span: Span) -> Context:
    return set_span_in_context(span, Context())


def empty(buffer: Buffer) -> bool:
    """Whether nothing is left of what has ended."""
    return not (buffer._live or buffer._further or buffer.held)


def test_a_local_root_is_looked_at_with_all_that_ended_below_it() -> None:
    watched = Watched()
    with watched.tracer.start_as_current_span("root"):
        with watched.tracer.start_as_current_span("a"), watched.tracer.start_as_current_span("b"):
            pass
        assert not watched.fragments
    assert watched.names() == [["b", "a", "root"]]
    fragment = watched.fragments[0]
    assert fragment.root is fragment.spans[-1]
    assert (fragment.dropped, fragment.whole) == (0, False)
    assert {span.service for span in fragment.spans} == {"shop"}
    assert fragment.spans[0].parent_id == fragment.spans[1].span_id
    assert empty(watched.buffer)


def test_records_say_what_the_spans_said() -> None:
    watched = Watched()
    with watched.tracer.start_as_current_span("root", context=remote(sampled=True), kind=SpanKind.SERVER) as root:
        root.set_attribute("http.route", "/x")
        root.record_exception(ValueError("no"))
        root.set_status(Status(StatusCode.ERROR, "failed"))
        with watched.tracer.start_as_current_span("fine", links=[]) as fine:
            fine.set_status(Status(StatusCode.OK))
    fine_one, record = watched.fragments[0].spans
    assert (record.trace_id, record.parent_id) == (f"{0xABC:032x}", f"{0x123:016x}")
    assert (record.kind, record.status, record.status_message) == ("server", "error", "failed")
    assert dict(record.attributes) == {"http.route": "/x"}
    assert record.events[0].name == "exception"
    assert record.events[0].attributes["exception.type"] == "ValueError"
    assert (record.scope, record.flags) == ("tests", 0x301)
    assert record.resource["service.name"] == "shop"
    assert (fine_one.status, fine_one.kind, fine_one.flags) == ("ok", "internal", 0x101)


def test_a_service_that_calls_itself_has_a_fragment_for_each_local_root() -> None:
    watched = Watched()
    start = watched.tracer.start_as_current_span
    with start("outer") as outer, start("call") as call:
        of_call = call.get_span_context()
        inner = remote(of_call.trace_id, of_call.span_id, sampled=True)
        with start("inner", context=inner), start("work"):
            pass
    assert outer.get_span_context().trace_id == of_call.trace_id
    assert watched.names() == [["work", "inner"], ["call", "outer"]]


def test_unsampled_spans_are_seen_too() -> None:
    watched = Watched(sampler=RecordOnly())
    with watched.tracer.start_as_current_span("root"):
        pass
    assert watched.names() == [["root"]]
    assert watched.exporter.spans == []


def test_late_and_unfinished_spans_are_counted() -> None:
    watched = Watched()
    root = watched.tracer.start_span("root")
    child = watched.tracer.start_span("child", context=below(root))
    never = watched.tracer.start_span("never", context=below(root))
    root.end()
    after = watched.tracer.start_span("after the end", context=below(root))
    child.end()
    after.end()
    assert watched.names() == [["root"]]
    assert (watched.buffer.late, watched.buffer.unfinished, watched.buffer.spans) == (2, 2, 1)
    assert never.is_recording()


def test_a_span_whose_parent_has_ended_finds_its_local_root() -> None:
    watched = Watched()
    root = watched.tracer.start_span("root")
    gone = watched.tracer.start_span("gone", context=below(root))
    gone.end()
    watched.tracer.start_span("orphan", context=below(gone)).end()
    root.end()
    assert watched.names() == [["gone", "orphan", "root"]]


def test_a_span_below_one_that_is_not_recorded_is_late() -> None:
    watched = Watched()
    watched.buffer.on_end(make_span(span_id=5, parent=4))
    watched.buffer.on_end(make_span(span_id=6))  # a local root whose start was not seen
    assert (watched.buffer.late, watched.fragments) == (2, [])
    watched.tracer.start_span("root", context=below(INVALID_SPAN)).end()
    assert watched.names() == [["root"]]


def test_ending_twice_and_after_shutdown() -> None:
    watched = Watched()
    root = watched.tracer.start_span("root")
    root.end()
    root.end()
    watched.buffer.on_end(watched.exporter.spans[0])
    assert (len(watched.fragments), watched.buffer.late) == (1, 1)
    late = watched.tracer.start_span("after shutdown")
    watched.provider.shutdown()
    late.end()
    assert empty(watched.buffer)


def test_a_clock_that_goes_backwards() -> None:
    watched = Watched()
    root = watched.tracer.start_span("root", start_time=2_000)
    watched.tracer.start_span("child", context=below(root), start_time=5_000).end(end_time=10)
    root.end(end_time=1_000)
    assert watched.names() == [["child", "root"]]
    assert [span.duration for span in watched.fragments[0].spans] == [0, 0]


def test_spans_that_are_their_own_parents() -> None:
    watched = Watched()
    root = make_span(span_id=1)
    circle = [make_span(span_id=2, parent=3), make_span(span_id=3, parent=2), make_span(span_id=4, parent=4)]
    for span in (root, *circle):
        watched.buffer.on_start(span, None)  # type: ignore[arg-type]
    for span in (*circle, root):
        watched.buffer.on_end(span)
    fragment = watched.fragments[0]
    assert len(fragment.tree.tops) >= 1
    assert sum(len(each) for each in fragment.tree.children.values()) + len(fragment.tree.tops) == len(fragment.spans)
    assert empty(watched.buffer)


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_a_local_root_holds_a_bounded_number_of_spans_and_counts_the_rest() -> None:
    watched = Watched(bounds=Bounds(spans=3))
    hints: list[Any] = []
    watched.insights._all[0].may = lambda found: hints.append(found) or True  # type: ignore[attr-defined]
    with watched.tracer.start_as_current_span("root"):
        for number in range(10):
            with watched.tracer.start_as_current_span(f"{number}", kind=SpanKind.CLIENT) as span:
                if number == 9:
                    span.set_status(Status(StatusCode.ERROR))
    assert watched.names() == [["0", "1", "2", "root"]]
    assert watched.fragments[0].dropped == 7
    assert watched.buffer.evictions == {"spans": 7}
    assert (hints[0].spans, hints[0].clients, hints[0].errors) == (11, 10, 1)


def test_too_many_local_roots_at_a_time_are_not_looked_at() -> None:
    watched = Watched(bounds=Bounds(traces=2))
    roots = [watched.tracer.start_span(f"{number}", context=Context()) for number in range(4)]
    for root in reversed(roots):
        watched.tracer.start_span("child", context=below(root)).end()
        root.end()
    assert watched.names() == [["child", "1"], ["child", "0"]]
    assert watched.buffer.evictions == {"traces": 2}
    assert empty(watched.buffer)


def test_an_old_local_root_makes_room() -> None:
    watched = Watched(bounds=Bounds(traces=1))
    old = watched.tracer.start_span("old", context=Context())
    watched.tracer.start_span("child", context=below(old)).end()
    new = watched.tracer.start_span("new", context=Context(), start_time=time.time_ns() + 61_000_000_000)
    old.end()
    new.end()
    assert watched.names() == [["new"]]
    assert (watched.buffer.evictions, watched.buffer.late) == ({"traces": 1}, 1)
    assert empty(watched.buffer)


def test_all_together_hold_a_bounded_number_of_spans() -> None:
    watched = Watched(bounds=Bounds(total=10))
    roots = [watched.tracer.start_span(f"{number}", context=Context()) for number in range(3)]
    for _ in range(6):
        for root in roots:
            watched.tracer.start_span("child", context=below(root)).end()
            assert watched.buffer.held <= 10
    for root in roots:
        root.end()
    assert watched.buffer.evictions["total"] >= 1
    assert len(watched.fragments) == 3 - watched.buffer.evictions["total"]
    assert empty(watched.buffer)


def test_spans_that_never_end_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanwell.insights.buffer._MOST_REMEMBERED", 50)
    watched = Watched(bounds=Bounds(traces=10))
    outer = watched.tracer.start_span("outer", context=Context())
    of_outer = outer.get_span_context()
    again = remote(of_outer.trace_id, of_outer.span_id, sampled=True)
    kept = [watched.tracer.start_span("again", context=again) for _ in range(500)]
    assert watched.buffer.live == 10
    inner = [watched.tracer.start_span("never", context=below(kept[0])) for _ in range(500)]
    assert len(watched.buffer._further) <= 51
    inner[-1].end()
    outer.end()
    assert watched.names() == [["never", "outer"]]  # its own local root is forgotten: the trace has another


def test_ten_thousand_live_traces() -> None:
    watched = Watched()
    roots = [watched.tracer.start_span("root", context=Context()) for _ in range(10_000)]
    for root in roots:
        root.end()
    assert len(watched.fragments) == 2000
    assert watched.buffer.evictions == {"traces": 8000}
    assert empty(watched.buffer)


def test_a_chain_of_a_hundred_thousand() -> None:
    watched = Watched()
    chain = [make_span(span_id=1)]
    chain += [make_span(span_id=number, parent=number - 1) for number in range(2, 100_001)]
    for span in chain:
        watched.buffer.on_start(span, None)  # type: ignore[arg-type]
    for span in reversed(chain):
        watched.buffer.on_end(span)
    assert len(watched.fragments) == 1
    assert len(watched.fragments[0].spans) == 501
    assert watched.buffer.spans + watched.buffer.late == 100_000
    assert empty(watched.buffer)


def test_nothing_keeps_what_has_been_looked_at() -> None:
    watched = Watched()
    root = watched.tracer.start_span("root")
    open_one = watched.tracer.start_span("open", context=below(root))
    watched.tracer.start_span("child", context=below(root)).end()
    local = watched.buffer._live[root.get_span_context().trace_id]
    root.end()
    assert open_one.is_recording()
    assert len(local.spans) == 0
    gone = weakref.ref(watched.buffer)
    del watched, root, open_one
    gc.collect()
    assert gone() is None


# --- RED ------------------------------------------------------------------------------------------------------------


def test_every_entry_and_call_is_counted_once_whatever_becomes_of_its_local_root() -> None:
    seen: list[Any] = []
    watched = Watched(bounds=Bounds(traces=1, spans=1), every=seen.extend)
    first = watched.tracer.start_span("first", context=Context(), kind=SpanKind.SERVER)
    second = watched.tracer.start_span("second", context=Context(), kind=SpanKind.CONSUMER)
    for root in (first, second):
        for number in range(100):
            kind = (SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.INTERNAL)[number % 3]
            watched.tracer.start_span("child", context=below(root), kind=kind).end()
    first.end()
    second.end()
    watched.tracer.start_span("late", context=below(first), kind=SpanKind.CLIENT).end()
    watched.buffer.flush()
    watched.buffer.flush()
    kinds = [(one[2], one[3].name, one[1] is None) for one in seen]
    assert kinds.count(("child", "CLIENT", False)) == 68
    assert kinds.count(("child", "PRODUCER", False)) == 66
    assert sorted(each for each in kinds if each[0] != "child") == [
        ("first", "SERVER", True),
        ("late", "CLIENT", False),
        ("second", "CONSUMER", True),
    ]


# --- threads, forks, failures ---------------------------------------------------------------------------------------


def test_threads() -> None:
    watched = Watched(bounds=Bounds(traces=50, spans=5, total=40))
    shared = watched.tracer.start_span("shared", context=Context())

    def work() -> None:
        for _ in range(150):
            own = watched.tracer.start_span("own", context=Context())
            for _ in range(3):
                watched.tracer.start_span("child", context=below(own)).end()
            watched.tracer.start_span("of shared", context=below(shared)).end()
            own.end()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.end()
    buffer = watched.buffer
    assert buffer.evictions.get("traces", 0) + buffer.evictions.get("total", 0) + len(watched.fragments) == 901
    assert empty(buffer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_with_nothing() -> None:
    watched = Watched()
    root = watched.tracer.start_span("root")
    watched.tracer.start_span("child", context=below(root)).end()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with watched.buffer._lock, watched.insights._looking, watched.buffer._flushing:
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            root.end()  # the parent's
            with watched.tracer.start_as_current_span("of the child"):
                pass
            code = 0 if watched.names() == [["of the child"]] and watched.buffer.late == 1 else 2
        finally:
            os._exit(code)
    leave.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    root.end()
    assert watched.names() == [["child", "root"]]


def test_detectors_that_cannot_be_loaded_cost_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ImportError("no such module")

    buffer = Buffer(broken)
    for _ in range(3):
        span = make_span()
        buffer.on_start(span, None)  # type: ignore[arg-type]
        buffer.on_end(span)
    assert buffer.roots == 3
    assert [record.message for record in caplog.records] == [
        "spanwell: loading the insights failed (ImportError: no such module); the application goes on without it"
    ]
    assert _guard.losses.total("errors") == 1
