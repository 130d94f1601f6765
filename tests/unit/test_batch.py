"""The batch processor: never blocks, bounded, exact about what it lost, and its own after a fork."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import SpanContext, TraceFlags

from spanwell._guard import losses
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from support.exporters import FAILURE, SUCCESS, HangingExporter, ListExporter
from support.spans import make_span

NEVER = 3600.0
"""A delay that does not pass in a test: only a full batch, a flush or the end exports."""


_made: list[BatchProcessor] = []


def processor(exporter: SpanExporter | Callable[[], SpanExporter], **options: object) -> BatchProcessor:
    build = (lambda: exporter) if isinstance(exporter, SpanExporter) else exporter
    options = {"delay": NEVER, **options}
    _made.append(BatchProcessor(GuardedExporter("test", build, where="there"), **options))  # type: ignore[arg-type]
    return _made[-1]


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    """A worker that outlives its test would count its losses in the next one."""
    yield
    for batch in _made:
        batch.finish(0)
    for batch in _made:
        if batch._worker is not None:
            batch._worker.join(30)
    _made.clear()


def end(batch: BatchProcessor, *names: str) -> None:
    for name in names:
        batch.on_end(make_span(name=name))


def names(exporter: ListExporter) -> list[str]:
    return [span.name for span in exporter.spans]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def hanging(_no_worker_is_left: None) -> Iterator[HangingExporter]:
    exporter = HangingExporter()
    yield exporter
    exporter.release.set()


def test_spans_arrive_in_the_order_they_ended() -> None:
    exporter = ListExporter()
    batch = processor(exporter, max_batch=3)
    wanted = [f"span {number}" for number in range(10)]
    end(batch, *wanted)
    assert batch.force_flush(10_000) is True
    assert names(exporter) == wanted
    assert max(len(each) for each in exporter.batches) <= 3


def test_a_full_batch_goes_without_waiting_for_the_delay() -> None:
    arrived = threading.Event()
    exporter = ListExporter(lambda _: (arrived.set(), SUCCESS)[1])
    batch = processor(exporter, max_batch=4)
    end(batch, *"abcd")
    assert arrived.wait(10)
    batch.finish(10)
    assert sorted(names(exporter)) == list("abcd")


def test_a_span_that_is_not_sampled_is_neither_exported_nor_lost() -> None:
    exporter = ListExporter()
    batch = processor(exporter)
    batch.on_end(ReadableSpan("unsampled", SpanContext(1, 2, False, TraceFlags(0))))
    batch.on_end(ReadableSpan("no context"))
    end(batch, "sampled")
    batch.finish(10)
    assert names(exporter) == ["sampled"]
    assert losses.everything() == 0


def test_the_exporter_is_built_at_the_first_export_and_once() -> None:
    built: list[ListExporter] = []

    def build() -> SpanExporter:
        built.append(ListExporter())
        return built[-1]

    batch = processor(build)
    end(batch, "a")
    assert not built
    batch.force_flush(10_000)
    end(batch, "b")
    batch.force_flush(10_000)
    assert len(built) == 1
    assert names(built[0]) == ["a", "b"]


def test_without_a_span_nothing_is_ever_built_or_started() -> None:
    before = threading.active_count()
    batch = processor(lambda: pytest.fail("built"))
    assert batch.force_flush() is True
    batch.shutdown()
    assert threading.active_count() == before


def test_an_exporter_that_cannot_be_built_is_said_once_and_its_spans_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = []

    def build() -> SpanExporter:
        attempts.append(1)
        raise ValueError("no such thing")

    batch = processor(build, clock=iter(range(0, 100_000, 1000)).__next__)
    for name in "abc":
        end(batch, name)
        assert batch.force_flush(10_000) is False
    batch.finish(10)
    assert losses.snapshot() == {("spans", "export failed (test)"): 3}
    assert len(attempts) == 1
    said = warnings(caplog)
    assert said[0].startswith(
        "spanwell: 1 spans did not reach exporter test (there): cannot be set up: no such thing;"
    )
    assert said[1:] == [
        "spanwell: 2 spans did not reach exporter test (there): cannot be set up: no such thing"
        " (try `spanwell doctor`)"
    ]


def test_ready_is_called_once_by_the_worker_before_the_first_export() -> None:
    order: list[tuple[str, bool]] = []
    main = threading.current_thread()
    exporter = ListExporter(lambda _: (order.append(("export", threading.current_thread() is main)), SUCCESS)[1])
    batch = processor(exporter, ready=lambda: order.append(("ready", threading.current_thread() is main)))
    for name in "ab":
        end(batch, name)
        batch.force_flush(10_000)
    assert order == [("ready", False), ("export", False), ("export", False)]


def test_a_ready_that_raises_costs_no_span(caplog: pytest.LogCaptureFixture) -> None:
    exporter = ListExporter()
    batch = processor(exporter, ready=lambda: {}["missing"])
    end(batch, "a")
    batch.force_flush(10_000)
    batch.finish(10)
    assert names(exporter) == ["a"]
    assert losses.everything() == 0


def test_on_end_does_not_block_while_the_exporter_hangs(hanging: HangingExporter) -> None:
    batch = processor(hanging, max_queue=10, max_batch=5)
    end(batch, *"abcde")
    assert hanging.inside.wait(10)
    end(batch, *[f"span {number}" for number in range(1000)])  # would never come back
    batch.finish(0.01)
    assert losses.total("spans") == 1005
    assert losses.snapshot()["spans", "queue full"] == 990


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_queue_is_bounded_and_the_oldest_go(
    hanging: HangingExporter, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    batch = processor(hanging, max_queue=size, max_batch=512)
    end(batch, *[f"span {number}" for number in range(size)])
    assert hanging.inside.wait(10)
    end(batch, *[f"span {number}" for number in range(100)])
    assert [span.name for span in batch._queue] == [f"span {number}" for number in range(100 - size, 100)]
    assert sum("queue to exporter test is full" in message for message in warnings(caplog)) == 1


def test_a_flush_gives_up_on_a_hanging_exporter(hanging: HangingExporter) -> None:
    batch = processor(hanging)
    end(batch, "a")
    assert batch.force_flush(50) is False
    assert hanging.inside.is_set()


def test_a_flush_is_false_when_the_spans_were_refused() -> None:
    batch = processor(ListExporter(lambda _: FAILURE))
    end(batch, "a")
    assert batch.force_flush(10_000) is False


def test_a_flush_after_the_end_comes_back_at_once() -> None:
    batch = processor(ListExporter())
    end(batch, "a")
    batch.shutdown()
    assert batch.force_flush() is True


def test_flushes_of_many_threads_are_all_answered() -> None:
    exporter = ListExporter()
    batch = processor(exporter, max_batch=2)
    answers: list[bool] = []

    def work(name: str) -> None:
        end(batch, name)
        answers.append(batch.force_flush(30_000))

    threads = [threading.Thread(target=work, args=(f"span {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert len(exporter.spans) == 8


def test_shutdown_exports_what_waits_and_may_come_twice() -> None:
    exporter = ListExporter()
    batch = processor(exporter, max_batch=2)
    end(batch, *"abcde")
    batch.shutdown()
    batch.shutdown()
    batch.finish(1)
    assert names(exporter) == list("abcde")
    assert exporter.shutdowns == 1


def test_a_second_shutdown_does_not_wait_for_a_hanging_exporter_again(hanging: HangingExporter) -> None:
    batch = processor(hanging)
    end(batch, *"ab")
    batch.begin_shutdown()
    assert hanging.inside.wait(10)
    batch.finish(0.01)
    batch.shutdown()  # would wait for flush_timeout, 30 s
    assert batch._worker is not None
    assert batch._worker.is_alive()
    assert losses.total("spans") == 2


def test_a_hanging_export_is_counted_once_also_when_it_fails_later(
    hanging: HangingExporter, caplog: pytest.LogCaptureFixture
) -> None:
    batch = processor(hanging, max_batch=2)
    end(batch, *"abc")
    assert hanging.inside.wait(10)
    batch.finish(0.01)
    hanging.release.set()
    assert batch._worker is not None
    batch._worker.join(10)
    assert losses.total("spans") == 3
    assert hanging.exports == 1
    assert len(warnings(caplog)) == 1
    assert warnings(caplog)[0].startswith("spanwell: 3 spans did not reach exporter test (there): ")


def test_a_span_that_ends_after_the_end_is_counted() -> None:
    exporter = ListExporter()
    batch = processor(exporter)
    batch.shutdown()
    end(batch, *"ab")
    assert losses.snapshot() == {("spans", "ended after shutdown"): 2}
    assert not exporter.spans


def test_at_the_end_one_failed_attempt_is_enough() -> None:
    exporter = ListExporter(lambda _: FAILURE)
    batch = processor(exporter, max_batch=2, max_queue=100, clock=lambda: 0.0)
    batch._breaker.failed(0.0)  # rests: the attempt at the end is made all the same
    end(batch, *[f"span {number}" for number in range(20)])
    batch.finish(10)
    assert exporter.exports == 1
    assert losses.total("spans") == 20


def test_a_dead_destination_rests_and_is_tried_again() -> None:
    now = [0.0]
    exporter = ListExporter(lambda number: FAILURE if number <= 2 else SUCCESS)
    batch = processor(exporter, clock=lambda: now[0])

    def flush(name: str) -> tuple[bool, int]:
        end(batch, name)
        return batch.force_flush(10_000), exporter.exports

    assert flush("a") == (False, 1)
    assert flush("b") == (False, 1)  # rests for 1 s; "b" waits
    now[0] = 1.0
    assert flush("c") == (False, 2)  # "b" and "c" are lost
    now[0] = 2.9
    assert flush("d") == (False, 2)  # rests for 2 s
    now[0] = 3.0
    assert flush("e") == (True, 3)
    assert names(exporter) == ["d", "e"]
    assert losses.total("spans") == 3


def test_while_a_destination_rests_full_batches_do_not_wake_the_worker() -> None:
    asked: list[float] = []

    def clock() -> float:
        asked.append(0.0)
        return 0.0

    batch = processor(ListExporter(lambda _: FAILURE), max_batch=2, clock=clock)
    end(batch, *"ab")
    batch.force_flush(10_000)
    asked.clear()
    for _ in range(500):
        end(batch, *"ab")
    assert len(asked) <= 2
    batch.finish(10)


def test_an_exporter_that_raises_is_survived() -> None:
    def answer(number: int) -> object:
        if number == 1:
            raise RuntimeError("broken")
        return SUCCESS

    exporter = ListExporter(answer)  # type: ignore[arg-type]
    batch = processor(exporter, clock=iter(range(0, 10**6, 1000)).__next__)
    end(batch, "a")
    assert batch.force_flush(10_000) is False
    end(batch, "b")
    assert batch.force_flush(10_000) is True
    assert names(exporter) == ["b"]
    assert losses.snapshot() == {("spans", "export failed (test)"): 1}


def test_an_exporter_without_a_result_counts_as_failed() -> None:
    batch = processor(ListExporter(lambda _: None))  # type: ignore[arg-type, return-value]
    end(batch, "a")
    assert batch.force_flush(10_000) is False
    assert losses.total("spans") == 1


def test_a_shutdown_that_raises_stays_here() -> None:
    class Broken(ListExporter):
        def shutdown(self) -> None:
            raise RuntimeError("broken")

    exporter = Broken()
    batch = processor(exporter)
    end(batch, "a")
    batch.shutdown()
    assert names(exporter) == ["a"]


def test_a_forked_child_starts_empty_and_exports_its_own_through_an_exporter_of_its_own() -> None:
    built: list[ListExporter] = []

    def build() -> SpanExporter:
        built.append(ListExporter())
        return built[-1]

    batch = processor(build)
    end(batch, "before")
    batch.force_flush(10_000)
    end(batch, "of the parent")
    pid = os.fork()
    if pid == 0:
        end(batch, "of the child")
        batch.finish(10)
        fine = len(built) == 2 and names(built[1]) == ["of the child"] and built[0].shutdowns == 0
        os._exit(0 if fine and losses.everything() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    batch.finish(10)
    assert len(built) == 1
    assert names(built[0]) == ["before", "of the parent"]


def test_a_fork_while_an_export_hangs_leaves_the_child_free(hanging: HangingExporter) -> None:
    taken = ListExporter()
    batch = processor(iter([hanging, taken]).__next__)
    end(batch, "a")
    batch.begin_shutdown()
    assert hanging.inside.wait(10)
    batch._closed = False
    pid = os.fork()
    if pid == 0:
        end(batch, "of the child")
        batch.finish(10)
        os._exit(0 if names(taken) == ["of the child"] and losses.everything() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_processor_nobody_holds_is_not_kept_by_the_fork_hooks() -> None:
    import gc
    import weakref

    batch = processor(ListExporter())
    _made.clear()
    seen = weakref.ref(batch)
    del batch
    gc.collect()
    assert seen() is None
