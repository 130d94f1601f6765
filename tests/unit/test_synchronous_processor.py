"""The processor of Lambda: no thread, a flush exports in the thread that asks, bounded in time and in what waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import SpanContext, TraceFlags

from spanwell._guard import losses
from spanwell.enrich.processor import FusedProcessor
from spanwell.export.encoding import Sent
from spanwell.export.guarded import GuardedExporter
from spanwell.export.open_spans import OpenSpans
from spanwell.export.synchronous import SynchronousProcessor
from support.encoding_exporters import ListEncodingExporter
from support.exporters import FAILURE, SUCCESS, ListExporter
from support.spans import make_span


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def processor(
    exporter: SpanExporter | Callable[[], SpanExporter], clock: Clock | None = None, **options: Any
) -> SynchronousProcessor:
    build = (lambda: exporter) if isinstance(exporter, SpanExporter) else exporter
    guarded = GuardedExporter("test", build, once=True)
    return SynchronousProcessor(guarded, clock=clock or Clock(), **options)


def end(batch: SynchronousProcessor, *names: str) -> None:
    for name in names:
        batch.on_end(make_span(name=name))


def unsampled() -> ReadableSpan:
    return ReadableSpan(name="no", context=SpanContext(1, 2, False, TraceFlags(0)))


@pytest.fixture(autouse=True)
def _losses() -> Any:
    losses.reset()
    yield
    losses.reset()


def test_nothing_leaves_before_a_flush_and_all_of_it_with_it_in_the_same_thread() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    threads = threading.active_count()
    end(batch, "a", "b")
    batch.on_end(unsampled())
    assert (exporter.sends, batch.waiting) == (0, 2)
    assert batch.flush(1.0)
    assert exporter.batches == [["a", "b"]]
    assert set(exporter.encoders) == {threading.current_thread()}
    assert threading.active_count() == threads
    assert batch.flush(1.0)
    assert exporter.sends == 1


def test_each_batch_is_one_attempt() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, "a")
    batch.flush(1.0)
    assert exporter.last_attempts == 1


def test_a_destination_that_fails_rests_while_spans_wait_and_costs_one_attempt() -> None:
    clock = Clock()
    exporter = ListEncodingExporter(lambda number, items: Sent(len(items), "no", False) if number == 1 else Sent())
    batch = processor(exporter, clock)
    end(batch, "a")
    assert not batch.flush(1.0)
    end(batch, "b")
    assert not batch.flush(1.0)
    assert (exporter.sends, batch.waiting) == (1, 1)
    clock.now += 1.5
    assert batch.flush(1.0)
    assert exporter.batches == [["b"]]
    assert losses.snapshot() == {("spans", "export failed (test)"): 1}


def test_a_flush_begins_no_attempt_after_its_time() -> None:
    clock = Clock()

    def slow(_: int) -> Any:
        clock.now += 0.6
        return SUCCESS

    exporter = ListExporter(slow)
    batch = processor(exporter, clock, max_batch=1)
    end(batch, "a", "b", "c")
    assert not batch.flush(1.0)
    assert [span.name for span in exporter.spans] == ["a", "b"]
    assert batch.waiting == 1
    assert batch.flush(1.0)


def test_an_exporter_knows_how_much_time_there_is() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, "a")
    batch.flush(0.25)
    assert exporter.time_left == 0.25


def test_a_thread_that_waits_for_anothers_flush_gives_up_in_time() -> None:
    inside, release = threading.Event(), threading.Event()

    def hang(_: int) -> Any:
        inside.set()
        release.wait(30)
        return SUCCESS

    batch = processor(ListExporter(hang))
    end(batch, "a")
    other = threading.Thread(target=batch.flush, args=(30.0,))
    other.start()
    assert inside.wait(30)
    assert not batch.flush(0.01)
    release.set()
    other.join(30)
    assert batch.flush(0.01)


def test_more_than_the_bound_is_dropped_and_counted() -> None:
    exporter = ListExporter()
    batch = processor(exporter, max_queue=10)
    end(batch, *map(str, range(25)))
    assert batch.flush(1.0)
    assert [span.name for span in exporter.spans] == [str(number) for number in range(15, 25)]
    assert losses.total("spans") == 15


def test_a_backlog_waits_encoded_though_nothing_was_exported_yet() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter, max_bytes=8_000_000)
    end(batch, *["span"] * 5000)
    assert batch.waiting == 5000
    assert batch.flush(1.0)
    assert sum(map(len, exporter.batches)) == 5000
    assert losses.total("spans") == 0


def test_the_end_of_the_process_exports_what_waits() -> None:
    exporter = ListExporter()
    batch = processor(exporter)
    end(batch, "a")
    batch.begin_shutdown()
    batch.finish(1.0)
    batch.finish(1.0)
    assert [span.name for span in exporter.spans] == ["a"]
    assert exporter.shutdowns == 1
    end(batch, "late")
    assert not batch.flush(1.0) or batch.waiting == 0
    assert losses.snapshot() == {("spans", "ended after shutdown"): 1}


def test_the_end_counts_what_does_not_arrive() -> None:
    batch = processor(ListExporter(lambda _: FAILURE))
    end(batch, "a", "b")
    batch.finish(1.0)
    assert losses.total("spans") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_starts_empty_with_an_exporter_of_its_own() -> None:
    made: list[ListExporter] = []

    def build() -> ListExporter:
        made.append(ListExporter())
        return made[-1]

    batch = processor(build)
    end(batch, "parent")
    batch.prepare()
    pid = os.fork()
    if pid == 0:
        end(batch, "child")
        fine = batch.flush(1.0) and len(made) == 2 and [span.name for span in made[1].spans] == ["child"]
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert batch.flush(1.0)
    assert [span.name for span in made[0].spans] == ["parent"]


def test_a_restored_snapshot_keeps_what_waits_and_makes_its_connections_anew() -> None:
    made: list[ListEncodingExporter] = []

    def build() -> ListEncodingExporter:
        made.append(ListEncodingExporter(lambda number, items: Sent(len(items), "no", False)))
        return made[-1]

    batch = processor(build)
    end(batch, "lost")
    batch.flush(1.0)
    end(batch, "waits")
    batch.renew()
    made_before = len(made)
    batch.flush(1.0)  # and the destination's rest is over
    assert (made_before, len(made), made[1].sends) == (1, 2, 1)


# --- spans that are open --------------------------------------------------------------------------------------------


class Open:
    def __init__(self) -> None:
        self.exporter = ListExporter()
        self.batch = processor(self.exporter)
        self.spans = OpenSpans()
        self.batch.left = self.spans.left
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(FusedProcessor([self.spans], [self.batch]))
        self.tracer = provider.get_tracer("t")

    def cut(self) -> list[ReadableSpan]:
        copies = self.spans.copies(12345, {"cut": True})
        self.batch.put_copies(copies)
        self.batch.flush(1.0)
        return copies


def test_a_copy_of_an_open_span_leaves_and_the_span_itself_does_not() -> None:
    here = Open()
    root = here.tracer.start_span("root", attributes={"a": 1})
    here.tracer.start_span("ended").end()
    here.cut()
    assert sorted(span.name for span in here.exporter.spans) == ["ended", "root"]
    copy = next(span for span in here.exporter.spans if span.name == "root")
    assert dict(copy.attributes or {}) == {"a": 1, "cut": True}
    assert copy.end_time == 12345
    assert dict(root.attributes or {}) == {"a": 1}  # type: ignore[attr-defined]
    root.set_attribute("b", 2)
    root.end()
    here.tracer.start_span("later").end()
    here.batch.flush(1.0)
    assert [span.name for span in here.exporter.spans].count("root") == 1
    assert here.exporter.spans[-1].name == "later"


def test_a_span_is_copied_once() -> None:
    here = Open()
    here.tracer.start_span("root")
    assert len(here.cut()) == 1
    assert here.cut() == []


def test_spans_that_end_while_they_are_copied_leave_once() -> None:
    here = Open()
    for _ in range(30):
        spans = [here.tracer.start_span("span") for _ in range(100)]
        thread = threading.Thread(target=lambda ending=spans: [span.end() for span in ending])
        thread.start()
        here.cut()
        thread.join(30)
        here.batch.flush(1.0)
    ids = [span.context.span_id for span in here.exporter.spans if span.context]
    assert len(ids) == len(set(ids)) == 3000
