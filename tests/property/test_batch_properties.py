"""Every sampled span is exported or counted as lost, exactly: whatever the sizes, bursts, threads and exporter."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from spanwell._guard import losses
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from support.exporters import FAILURE, SUCCESS, ListExporter
from support.spans import make_span

pytestmark = pytest.mark.full


OUTCOMES = st.lists(st.sampled_from(["ok", "fail", "raise", "wait"]), max_size=12)
BURSTS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["", "flush"])), max_size=8)


class Scripted(ListExporter):
    """Each export does what the script says; "wait" holds on for a moment, or until `let_go`."""

    def __init__(self, script: list[str], let_go: threading.Event) -> None:
        super().__init__(self._next)
        self.script = iter(script)
        self.let_go = let_go

    def _next(self, _: int) -> SpanExportResult:
        what = next(self.script, "ok")
        if what == "wait":
            self.let_go.wait(0.02)
        if what == "raise":
            raise RuntimeError("broken")
        return FAILURE if what == "fail" else SUCCESS


@settings(max_examples=150, deadline=None)
@given(
    script=OUTCOMES,
    bursts=BURSTS,
    max_queue=st.integers(1, 60),
    max_batch=st.integers(1, 60),
    delay=st.sampled_from([0.0005, 3600.0]),
    threads=st.integers(1, 3),
    rests=st.booleans(),
)
def test_exported_and_lost_make_up_what_ended(
    script: list[str],
    bursts: list[tuple[int, str]],
    max_queue: int,
    max_batch: int,
    delay: float,
    threads: int,
    rests: bool,
) -> None:
    losses.reset()
    exporter = Scripted(script, threading.Event())
    ticks = iter(range(0, 10**9, 1 if rests else 1000))
    batch = BatchProcessor(
        GuardedExporter("test", lambda: exporter),
        max_queue=max_queue,
        max_batch=max_batch,
        delay=delay,
        clock=lambda: float(next(ticks)),
    )

    def work(thread: int) -> None:
        number = 0
        for size, then in bursts:
            for _ in range(size):
                number += 1
                batch.on_end(make_span(trace_id=thread + 1, span_id=number))
                batch.on_end(ReadableSpan("unsampled", SpanContext(1, 2, False, TraceFlags(0))))
            if then:
                batch.force_flush(5)

    _run_all(work, threads)
    assert len(batch._queue) <= max_queue
    batch.finish(30)

    ended = threads * sum(size for size, _ in bursts)
    assert len(exporter.spans) + losses.total("spans") == ended
    assert all(span.name != "unsampled" for span in exporter.spans)
    assert all(len(each) <= max_batch for each in exporter.batches)
    for thread in range(threads):
        ids = [span.context.span_id for span in exporter.spans if span.context.trace_id == thread + 1]
        assert ids == sorted(set(ids))


@settings(max_examples=60, deadline=None)
@given(script=OUTCOMES, spans=st.integers(1, 80), max_batch=st.integers(1, 30), before=st.integers(0, 80))
def test_also_when_the_end_comes_while_spans_end_and_an_export_hangs(
    script: list[str], spans: int, max_batch: int, before: int
) -> None:
    losses.reset()
    let_go = threading.Event()
    exporter = Scripted(script, let_go)
    batch = BatchProcessor(GuardedExporter("test", lambda: exporter), max_queue=40, max_batch=max_batch, delay=0.0005)
    for number in range(before):
        batch.on_end(make_span(span_id=number + 1))

    def work(thread: int) -> None:
        if thread == 0:
            batch.finish(0.001)
            return
        for number in range(spans):
            batch.on_end(make_span(trace_id=thread + 1, span_id=number + 1))

    _run_all(work, 3)
    seen_at_the_end = len(exporter.spans)
    let_go.set()
    if batch._worker is not None:
        batch._worker.join(30)
    # An export that nobody waited for may arrive all the same: it was counted as lost by then.
    late = len(exporter.spans) - seen_at_the_end
    total = len(exporter.spans) + losses.total("spans")
    assert before + 2 * spans <= total <= before + 2 * spans + max(late, max_batch)


def _run_all(work: object, number: int) -> None:
    running = [threading.Thread(target=work, args=(each,)) for each in range(number)]  # type: ignore[arg-type]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
