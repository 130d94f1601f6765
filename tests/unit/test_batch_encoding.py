"""Batches of spans that wait encoded: who encodes, what bounds them, what is counted, and a fork in the middle."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import SpanContext, TraceFlags

from spanwell._guard import losses
from spanwell.export.batch import BatchProcessor
from spanwell.export.buffer import ESTIMATE
from spanwell.export.encoding import Sent
from spanwell.export.guarded import GuardedExporter
from support.collector import collector
from support.encoding_exporters import Held, ListEncodingExporter
from support.exporters import ListExporter
from support.posting import PostingExporter
from support.spans import make_span

NEVER = 3600.0
_made: list[BatchProcessor] = []


def processor(exporter: SpanExporter, **options: Any) -> BatchProcessor:
    _made.append(
        BatchProcessor(GuardedExporter("test", lambda: exporter, where="there"), **{"delay": NEVER, **options})
    )
    return _made[-1]


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    for batch in _made:
        batch.finish(0)
        if batch._worker is not None:
            batch._worker.join(30)
    _made.clear()


def end(batch: BatchProcessor, *names: str) -> None:
    for name in names:
        batch.on_end(make_span(name=name))


def numbered(count: int) -> list[str]:
    return [f"span {number}" for number in range(count)]


def unsampled(name: str) -> ReadableSpan:
    return ReadableSpan(name, SpanContext(1, 2, False, TraceFlags(0)))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def held() -> Iterator[Held]:
    answer = Held()
    yield answer
    answer.release.set()


def backlog(held: Held, **options: Any) -> tuple[ListEncodingExporter, BatchProcessor]:
    """A batch whose worker is inside `send` with one span called "first"."""
    exporter = ListEncodingExporter(held)
    batch = processor(exporter, **options)
    end(batch, "first")
    batch._hurry()
    assert held.inside.wait(30)
    exporter.encoders.clear()
    return exporter, batch


# --- who encodes ----------------------------------------------------------------------------------------------------


def test_in_calm_the_worker_encodes() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, *numbered(300))
    assert exporter.encoders == []
    assert batch._buffer.calm == 1024  # spans that `put` only appends
    assert batch.force_flush(30_000) is True
    end(batch, *numbered(300))
    assert batch.force_flush(30_000) is True
    assert exporter.names == numbered(300) * 2
    assert threading.current_thread() not in exporter.encoders
    assert batch.exported == 600


def test_with_two_batches_waiting_the_callers_thread_encodes(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=40)
    end(batch, *numbered(100))
    assert exporter.encoders == [threading.current_thread()] * 20
    assert batch.waiting == 100
    assert batch.waiting_bytes == 80 * ESTIMATE + 20 * 100
    held.release.set()
    assert batch.force_flush(30_000) is True
    assert exporter.names == ["first", *numbered(100)]


def test_what_the_worker_takes_out_lets_the_callers_thread_append_again(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=40)
    end(batch, *numbered(100))
    held.release.set()
    batch.force_flush(30_000)
    exporter.encoders.clear()
    end(batch, *numbered(35))
    assert exporter.encoders == []


def test_an_exporter_that_is_not_built_yet_is_not_built_by_the_application() -> None:
    builders: list[threading.Thread] = []
    gate = threading.Event()
    exporter = ListEncodingExporter()

    def build() -> SpanExporter:
        builders.append(threading.current_thread())
        gate.wait(30)
        return exporter

    batch = BatchProcessor(GuardedExporter("test", build), max_batch=10, delay=NEVER)
    _made.append(batch)
    end(batch, *numbered(500))
    assert exporter.encoders == []
    gate.set()
    assert batch.force_flush(30_000) is True
    assert exporter.names == numbered(500)
    assert threading.current_thread() not in builders


def test_the_exporter_is_there_before_the_resource_is_waited_for() -> None:
    order: list[str] = []
    exporter = ListEncodingExporter(lambda *_: (order.append("send"), Sent())[1])

    def build() -> SpanExporter:
        order.append("build")
        return exporter

    batch = BatchProcessor(GuardedExporter("test", build), delay=NEVER, ready=lambda: order.append("ready"))
    _made.append(batch)
    end(batch, "a")
    batch.force_flush(30_000)
    assert order == ["build", "ready", "send"]


def test_batches_grow_in_a_backlog_and_only_there(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=10, backlog_batch=50)
    end(batch, *numbered(120))
    held.release.set()
    assert batch.force_flush(30_000) is True
    assert [len(each) for each in exporter.batches] == [1, 50, 50, 10, 10]


def test_batches_do_not_grow_for_an_exporter_that_gets_spans() -> None:
    exporter = ListExporter()
    batch = processor(exporter, max_batch=10, backlog_batch=50)
    end(batch, *numbered(45))
    assert batch.force_flush(30_000) is True
    assert {len(each) for each in exporter.batches} <= {10, 5}


def test_a_batch_takes_a_quarter_of_the_buffer_at_most(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=10, backlog_batch=1000, max_bytes=100_000)
    end(batch, *[f"{number}:2000" for number in range(60)])
    held.release.set()
    batch.force_flush(30_000)
    assert max(map(len, exporter.batches)) <= 13
    assert losses.total("spans") + len(exporter.names) == 61


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_bytes_are_the_bound_and_the_oldest_go(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    exporter, batch = backlog(held, max_batch=1, max_bytes=10_000)
    sizes = []
    for number in range(200):
        end(batch, f"{number}:400")
        sizes.append(batch.waiting_bytes)
    assert max(sizes) <= 10_000
    assert batch.limit == batch.waiting == 25
    assert losses.snapshot() == {("spans", "queue full"): 175}
    assert warnings(caplog) == [
        "spanwell: the queue to exporter test is full (0.01 MB); the oldest are dropped and counted"
        " (SPANWELL_EXPORT_BUFFER_MB)"
    ]
    held.release.set()
    batch.force_flush(30_000)
    assert exporter.names == ["first", *[f"{number}:400" for number in range(175, 200)]]


def test_a_few_large_ones_leave_no_room_for_many_that_are_not_encoded(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=54, max_bytes=400_000)
    end(batch, *numbered(50), *[f"{number}:60000" for number in range(5)])
    assert batch.waiting < 50  # fewer than are appended as they are, if nothing else waits
    for number in range(40):
        end(batch, f"{number}:1")
        assert batch.waiting_bytes <= 400_000
    held.release.set()
    batch.force_flush(30_000)
    assert len(exporter.names) + losses.total("spans") == 96


def test_or_the_newest_by_choice_which_then_are_not_encoded(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    exporter, batch = backlog(held, max_batch=1, max_bytes=10_000, drop_newest=True)
    end(batch, *[f"{number}:400" for number in range(200)])
    held.release.set()
    batch.force_flush(30_000)
    # The first of them was not encoded, and counted as more.
    assert exporter.names == ["first", *[f"{number}:400" for number in range(16)]]
    assert losses.snapshot() == {("spans", "queue full"): 184}
    assert len(exporter.encoders) == 16
    assert "; the newest are dropped and counted (SPANWELL_EXPORT_BUFFER_MB)" in warnings(caplog)[0]


def test_a_chosen_number_is_a_bound_too_and_the_report_names_it(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    _, batch = backlog(held, max_batch=10, max_queue=30)
    end(batch, *numbered(100))
    assert batch.waiting == batch.limit == 30
    assert losses.total("spans") == 70
    assert warnings(caplog) == [
        "spanwell: the queue to exporter test is full (30 spans); the oldest are dropped and counted"
        " (OTEL_BSP_MAX_QUEUE_SIZE)"
    ]


def test_without_a_choice_2048_is_the_bound_of_an_exporter_that_gets_spans(held: Held) -> None:
    exporter = ListExporter(lambda _: (held(1, []), None)[1])  # type: ignore[arg-type, return-value]
    batch = processor(exporter)
    end(batch, "first")
    batch._hurry()
    assert held.inside.wait(30)
    end(batch, *numbered(2100))
    assert (batch.waiting, batch.limit, losses.total("spans")) == (2048, 2048, 52)


def test_what_came_before_it_was_known_goes_when_the_exporter_turns_out_to_get_spans() -> None:
    gate = threading.Event()
    exporter = ListExporter()
    batch = BatchProcessor(GuardedExporter("test", lambda: (gate.wait(30), exporter)[1]), max_batch=100, delay=NEVER)
    _made.append(batch)
    end(batch, *numbered(3000))
    assert losses.total("spans") == 0
    gate.set()
    assert batch.force_flush(30_000) is True
    assert len(exporter.spans) + losses.total("spans") == 3000


def test_spans_that_nobody_can_encode_yet_are_bounded_by_the_estimate() -> None:
    gate = threading.Event()
    batch = BatchProcessor(
        GuardedExporter("test", lambda: (gate.wait(30), ListEncodingExporter())[1]), max_bytes=1_000_000, delay=NEVER
    )
    _made.append(batch)
    end(batch, *numbered(1000))
    assert batch.waiting == batch.limit == 1_000_000 // ESTIMATE
    assert losses.total("spans") == 1000 - batch.waiting
    gate.set()


def test_a_promoted_span_never_takes_the_place_of_a_sampled_one(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=1, max_bytes=10_000)
    end(batch, *[f"{number}:400" for number in range(16)])
    batch.promote(unsampled("promoted:400"))
    assert losses.snapshot() == {("spans", "queue full"): 1}
    held.release.set()
    batch.force_flush(30_000)
    batch.promote(unsampled("later"))
    batch.force_flush(30_000)
    assert exporter.names == ["first", *[f"{number}:400" for number in range(16)], "later"]


# --- what is counted ------------------------------------------------------------------------------------------------


def test_a_span_without_an_encoding_is_counted_with_its_reason_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, "a", "bad one", "b", "bad two")
    assert batch.force_flush(30_000) is False
    end(batch, "c")
    assert batch.force_flush(30_000) is True
    assert exporter.names == ["a", "b", "c"]
    assert batch.exported == 3
    assert losses.snapshot() == {("spans", "cannot be encoded (test)"): 2}
    assert warnings(caplog) == [
        "spanwell: 2 spans did not reach exporter test (there): cannot be encoded: ValueError: bad one is no name;"
        " further losses are counted and said at exit (try `spanwell doctor`)"
    ]


def test_also_when_the_callers_thread_encodes(held: Held) -> None:
    exporter, batch = backlog(held, max_batch=4)
    end(batch, *numbered(20), "bad one", "last")
    held.release.set()
    batch.force_flush(30_000)
    assert exporter.names == ["first", *numbered(20), "last"]
    assert losses.snapshot() == {("spans", "cannot be encoded (test)"): 1}


def test_a_batch_of_which_nothing_can_be_encoded_is_not_sent() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, "bad one")
    assert batch.force_flush(30_000) is False
    assert exporter.sends == 0
    assert batch._breaker.allows(0.0)


def test_a_partial_loss_is_counted_once_and_the_destination_does_not_rest(caplog: pytest.LogCaptureFixture) -> None:
    exporter = ListEncodingExporter(lambda number, _: Sent(2, "2 are too old") if number == 1 else Sent())
    batch = processor(exporter, clock=lambda: 0.0)
    end(batch, *"abc")
    assert batch.force_flush(30_000) is False
    end(batch, "d")
    assert batch.force_flush(30_000) is True
    assert exporter.names == ["c", "d"]
    assert batch.exported == 2
    assert losses.snapshot() == {("spans", "export failed (test)"): 2}
    assert "2 spans did not reach exporter test (there): 2 are too old;" in warnings(caplog)[0]


def test_a_destination_that_is_not_reached_rests() -> None:
    exporter = ListEncodingExporter(lambda _, items: Sent(len(items), "refused", reached=False))
    batch = processor(exporter, clock=lambda: 0.0)
    end(batch, "a")
    assert batch.force_flush(30_000) is False
    end(batch, "b")
    assert batch.force_flush(30_000) is False
    assert (exporter.sends, batch.waiting, losses.total("spans")) == (1, 1, 1)


@pytest.mark.parametrize("lost", [-1, 2, 10**6])
def test_an_exporter_cannot_lose_more_than_it_got(lost: int) -> None:
    exporter = ListEncodingExporter(lambda *_: Sent(lost, "odd", lost < 0))
    batch = processor(exporter)
    end(batch, "a", "b")
    batch.force_flush(30_000)
    assert 0 <= batch.exported <= 2
    assert batch.exported + losses.total("spans") == 2


def test_a_send_that_raises_loses_its_batch_alone(caplog: pytest.LogCaptureFixture) -> None:
    def answer(number: int, _: list[Any]) -> Sent:
        if number == 1:
            raise KeyError("broken")
        return Sent()

    exporter = ListEncodingExporter(answer)
    batch = processor(exporter, clock=iter(range(0, 10**6, 1000)).__next__)
    end(batch, "a", "bad one")
    assert batch.force_flush(30_000) is False
    end(batch, "b")
    assert batch.force_flush(30_000) is True
    assert exporter.names == ["b"]
    assert losses.snapshot() == {
        ("spans", "cannot be encoded (test)"): 1,
        ("spans", "export failed (test)"): 1,
    }
    assert "KeyError: 'broken'" in warnings(caplog)[1]


# --- the end --------------------------------------------------------------------------------------------------------


def test_the_end_cuts_waits_between_attempts_short() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, "a")
    batch.force_flush(30_000)
    assert exporter.last_attempts == 0
    batch.begin_shutdown()
    assert exporter.last_attempts == 1


def test_also_of_an_exporter_that_is_built_at_the_end() -> None:
    exporter = ListEncodingExporter()
    batch = processor(exporter)
    end(batch, "a", "bad one")
    batch.finish(30)
    assert (exporter.names, exporter.last_attempts, exporter.shutdowns) == (["a"], 1, 1)
    assert losses.snapshot() == {("spans", "cannot be encoded (test)"): 1}


def test_a_last_attempt_that_raises_stays_here() -> None:
    class Broken(ListEncodingExporter):
        def last_attempt(self) -> None:
            raise RuntimeError("broken")

    exporter = Broken()
    batch = processor(exporter)
    end(batch, "a")
    batch.force_flush(30_000)
    end(batch, "b")
    batch.finish(30)
    assert exporter.names == ["a", "b"]


def test_what_hangs_at_the_end_is_counted_once_even_if_it_arrives_in_part(held: Held) -> None:
    held.then = Sent(1, "late")
    exporter = ListEncodingExporter(held)
    batch = processor(exporter)
    end(batch, "a", "b", "bad one")
    batch._hurry()
    assert held.inside.wait(30)
    end(batch, "c")
    batch.finish(0.01)
    held.release.set()
    assert batch._worker is not None
    batch._worker.join(30)
    assert batch.exported == 0
    assert losses.snapshot() == {("spans", "cannot be encoded (test)"): 1, ("spans", "exit (test)"): 3}


def test_an_encode_that_hangs_over_the_end_is_counted_once() -> None:
    inside, release = threading.Event(), threading.Event()

    class Slow(ListEncodingExporter):
        def encode(self, span: ReadableSpan) -> tuple[Any, int]:
            inside.set()
            release.wait(30)
            return super().encode(span)

    exporter = Slow()
    batch = processor(exporter)
    end(batch, "bad one", "a")
    batch._hurry()
    assert inside.wait(30)
    batch.finish(0.01)
    release.set()
    assert batch._worker is not None
    batch._worker.join(30)
    assert losses.snapshot() == {("spans", "exit (test)"): 2}


@pytest.mark.parametrize("way", ["on_end", "promote"])
def test_a_span_that_is_being_encoded_when_the_process_ends_is_counted(held: Held, way: str) -> None:
    inside, release = threading.Event(), threading.Event()

    class Stops(ListEncodingExporter):
        def encode(self, span: ReadableSpan) -> tuple[Any, int]:
            if span.name == "stop":
                inside.set()
                release.wait(30)
            return super().encode(span)

    batch = processor(Stops(held), max_batch=1)
    end(batch, "first")
    assert held.inside.wait(30)
    end(batch, "a", "b", "c")
    thread = threading.Thread(target=getattr(batch, way), args=(make_span(name="stop"),))
    thread.start()
    assert inside.wait(30)
    batch.finish(0.01)
    assert losses.total("spans") == 4
    release.set()
    thread.join()
    assert losses.snapshot() == {("spans", "exit (test)"): 5}


def test_a_flush_gives_up_when_its_time_is_over(held: Held) -> None:
    _, batch = backlog(held)
    end(batch, "a")
    assert batch.force_flush(50) is False
    held.release.set()
    assert batch.force_flush(30_000) is True


# --- a fork ---------------------------------------------------------------------------------------------------------


def test_a_child_forked_while_another_thread_encodes_has_its_own(held: Held) -> None:
    inside, release = threading.Event(), threading.Event()
    made: list[ListEncodingExporter] = []

    class Stops(ListEncodingExporter):
        def encode(self, span: ReadableSpan) -> tuple[Any, int]:
            if span.name == "stop":
                inside.set()
                release.wait(30)
            return super().encode(span)

    def build() -> SpanExporter:
        made.append(Stops(held) if not made else ListEncodingExporter())
        return made[-1]

    batch = BatchProcessor(GuardedExporter("test", build), max_batch=1, delay=NEVER)
    _made.append(batch)
    end(batch, "first")
    assert held.inside.wait(30)
    end(batch, "a", "b", "c")
    thread = threading.Thread(target=end, args=(batch, "stop"))
    thread.start()
    assert inside.wait(30)
    pid = os.fork()
    if pid == 0:
        assert (batch.waiting, batch.waiting_bytes) == (0, 0)
        end(batch, "of the child")
        batch.finish(30)
        os._exit(0 if made[1].names == ["of the child"] and losses.everything() == 0 else 1)
    release.set()
    held.release.set()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    thread.join()
    batch.finish(30)
    assert sorted(made[0].names) == ["a", "b", "c", "first", "stop"]


def test_a_fork_from_within_encode_leaves_the_span_to_the_parent(held: Held) -> None:
    pids: list[int] = []

    class Forks(ListEncodingExporter):
        def encode(self, span: ReadableSpan) -> tuple[Any, int]:
            if span.name == "fork":
                pids.append(os.fork())
            return super().encode(span)

    exporter = Forks(held)
    batch = processor(exporter, max_batch=1)
    end(batch, "first")
    assert held.inside.wait(30)
    end(batch, "a", "b", "c", "fork")
    if pids == [0]:
        fine = (batch.waiting, batch.waiting_bytes, batch._worker, losses.everything()) == (0, 0, None, 0)
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0
    held.release.set()
    batch.finish(30)
    assert exporter.names == ["first", "a", "b", "c", "fork"]


# --- a real connection ----------------------------------------------------------------------------------------------


def test_a_burst_of_several_threads_arrives_whole_over_a_slow_connection() -> None:
    with collector() as receiver:
        receiver.behave(lambda handler: (time.sleep(0.01), handler.answer(200))[1])
        batch = processor(PostingExporter(int(receiver.url.rpartition(":")[2])), max_batch=64, backlog_batch=512)

        def work(thread: int) -> None:
            end(batch, *[f"{thread}-{number}" for number in range(1500)])

        switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)
        try:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(switch)
        assert batch.force_flush(60_000) is True
        batch.finish(30)
        arrived = receiver.spans()
    assert losses.total("spans") == 0
    for thread in range(4):
        assert [name for name in arrived if name.startswith(f"{thread}-")] == [f"{thread}-{n}" for n in range(1500)]
