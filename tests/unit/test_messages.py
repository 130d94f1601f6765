"""`Messages`: a list to everyone, a span per message to a loop."""

from __future__ import annotations

import contextvars
import copy
import dataclasses
import gc
import json
import os
import pickle
import pprint
import threading
import time

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanwell import _guard
from spanwell.propagation import messages as module
from spanwell.propagation import reaper as reaper_module
from spanwell.propagation.messages import Messages
from spanwell.propagation.process import ProcessSpans
from spanwell.propagation.reaper import Reaper

ROOT = 0x5759E988BD862E3FE1BE46A994272793
HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    before = context.get_current()
    yield
    context.attach(before)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def make(provider):
    opener = ProcessSpans(provider.get_tracer("test"), "aws_sqs", "orders", {"server.address": "sqs.example"})

    def make(number=3, header=HEADER):
        items = [{"MessageId": f"id{index}", "Body": str(index)} for index in range(number)]
        return Messages(items, opener, [header] * number)

    return make


def ids(exporter):
    return [span.attributes["messaging.message.id"] for span in processed(exporter)]


def processed(exporter):
    return [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.CONSUMER]


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def current():
    return trace.get_current_span()


def test_loop_opens_and_ends_one_span_per_message(make, exporter):
    names = []
    for index, _ in enumerate(make()):
        assert len(exporter.get_finished_spans()) == index
        names.append(current().name)
    assert names == ["process orders"] * 3
    assert ids(exporter) == ["id0", "id1", "id2"]
    assert not current().get_span_context().is_valid


def test_span_follows_the_conventions(make, exporter):
    for _ in make(1):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.kind is trace.SpanKind.CONSUMER
    assert dict(span.attributes) == {
        "messaging.system": "aws_sqs",
        "messaging.destination.name": "orders",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.message.id": "id0",
        "server.address": "sqs.example",
    }
    assert span.parent.span_id == 0x53995C3F42CD8AD8
    assert span.context.trace_id == ROOT
    assert [link.context.span_id for link in span.links] == [0x53995C3F42CD8AD8]
    assert span.status.is_unset


def test_ambient_span_is_the_parent_and_the_message_a_link(make, exporter, provider):
    with provider.get_tracer("test").start_as_current_span("poll") as poll:
        for _ in make(1):
            pass
        assert current() is poll
    span = exporter.get_finished_spans()[0]
    assert span.parent.span_id == poll.get_span_context().span_id
    assert [link.context.trace_id for link in span.links] == [ROOT]


@pytest.mark.parametrize("header", [None, "", "garbage", "Root=1-5759e988-bd862e3fe1be46a994272793"])
def test_without_a_creator_there_is_neither_parent_nor_link(make, exporter, header):
    for _ in make(1, header):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert span.links == ()


def test_unsampled_message_makes_no_exported_span(make, exporter):
    for _ in make(1, HEADER.replace("Sampled=1", "Sampled=0")):
        assert not current().is_recording()
    assert exporter.get_finished_spans() == ()


def test_second_loop_gives_no_second_span(make, exporter):
    batch = make()
    for _ in range(2):
        for _ in batch:
            pass
    assert ids(exporter) == ["id0", "id1", "id2"]


def test_break_ends_the_span_and_a_later_loop_goes_on_with_the_rest(make, exporter):
    batch = make()
    for message in batch:
        if message["Body"] == "1":
            break
    assert ids(exporter) == ["id0", "id1"]
    assert not current().get_span_context().is_valid
    for message in batch:
        assert current().is_recording() == (message["Body"] == "2")
    assert ids(exporter) == ["id0", "id1", "id2"]


def test_exception_and_return_end_the_span(make, exporter):
    def fails():
        for _ in make(2):
            raise LookupError

    def returns():
        for _ in make(2):
            return current()
        return None

    with pytest.raises(LookupError):
        fails()
    assert ids(exporter) == ["id0"]
    assert not current().get_span_context().is_valid
    assert not returns().is_recording()
    assert not current().get_span_context().is_valid


def test_exception_caught_in_the_body_leaves_the_status_alone(make, exporter):
    for _ in make(2):
        try:
            raise LookupError
        except LookupError:
            continue
    assert [span.status.is_unset for span in exporter.get_finished_spans()] == [True, True]


@pytest.mark.parametrize("leave", ["step", "break", "raise"])
@pytest.mark.parametrize("foreign", [False, True])
def test_ambient_context_comes_back_when_the_body_attached_another(make, leave, foreign):
    ambient = context.set_value("who", "ambient")
    context.attach(ambient)
    try:
        for _ in make(2):
            context.attach(context.Context() if foreign else context.set_value("who", "body"))
            if leave == "break":
                break
            if leave == "raise":
                raise LookupError
    except LookupError:
        pass
    assert context.get_current() == ambient


def test_nested_loops(make, exporter):
    parents = {}
    for outer in make(2):
        outer_span = current()
        for inner in make(2):
            parents[outer["Body"], inner["Body"]] = current().parent.span_id == outer_span.context.span_id
        assert current() is outer_span
    assert set(parents.values()) == {True}
    assert len(parents) == 4
    assert len(exporter.get_finished_spans()) == 6


def test_break_out_of_both_loops(make, exporter):
    def both():
        for _ in make(2):
            for _ in make(2):
                return

    both()
    assert len(exporter.get_finished_spans()) == 2
    assert not current().get_span_context().is_valid


def is_processing(_):
    return current().is_recording()


def test_comprehension_map_enumerate_and_generator_are_loops(make, exporter):
    assert [current().is_recording() for _ in make()] == [True] * 3
    assert list(map(is_processing, make())) == [True] * 3
    assert [current().is_recording() for _, _ in zip(make(), range(9), strict=False)] == [True] * 3
    assert all(current().is_recording() for _ in make())
    assert [current().is_recording() for _ in reversed(make())] == [True] * 3
    assert len(exporter.get_finished_spans()) == 15
    assert not current().get_span_context().is_valid


def test_generator_closed_by_its_consumer_ends_the_span(make, exporter):
    def bodies():
        for message in make():
            yield message["Body"]

    for _ in bodies():
        break
    wait_for(lambda: ids(exporter) == ["id0"])
    assert not current().get_span_context().is_valid


def test_generator_left_suspended_does_not_touch_a_context_that_is_not_its_own(make, exporter, provider):
    def bodies():
        for message in make():
            yield message["Body"]

    with provider.get_tracer("test").start_as_current_span("first"):
        suspended = bodies()
        next(suspended)
    with provider.get_tracer("test").start_as_current_span("second") as second:
        suspended.close()
        assert current() is second
    wait_for(lambda: ids(exporter) == ["id0"])


def test_looking_is_not_processing(make, exporter):
    batch = make()
    plain = batch[:]
    assert type(plain) is list
    for look in (list, tuple, sorted_bodies, json.dumps, copy.copy, copy.deepcopy, repr, pprint.pformat, len):
        assert look(batch) == look(plain)
    assert json.dumps({"Messages": batch}, indent=1) == json.dumps({"Messages": plain}, indent=1)
    assert [*batch] == plain
    first, *rest = batch
    assert [first, *rest] == plain
    both = []
    both.extend(batch)
    both += batch
    assert both == plain + plain == batch + plain
    assert exporter.get_finished_spans() == ()
    for _ in batch:
        pass
    assert len(exporter.get_finished_spans()) == 3


def sorted_bodies(items):
    return sorted(items, key=lambda message: message["Body"], reverse=True)


def test_boto3_resources_look_through_jmespath(make, exporter):
    import jmespath

    assert jmespath.search("Messages[].Body", {"Messages": make()}) == ["0", "1", "2"]
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("library", ["json.encoder", "sentry_sdk.serializer", "rich.pretty", "botocore.utils"])
def test_loops_of_libraries_that_look_are_not_processing(make, exporter, library):
    space = {"__name__": library}
    exec("def look(items):\n    return [item for item in items] + [item for item in reversed(items)]", space)
    batch = make(2)
    assert space["look"](batch) == batch + batch[::-1]
    assert exporter.get_finished_spans() == ()


def test_the_same_loop_in_the_application_is(make, exporter):
    space = {"__name__": "jsonish"}
    exec("def look(items):\n    return [item for item in items]", space)
    space["look"](make(2))
    assert len(exporter.get_finished_spans()) == 2


def test_dataclass_that_holds_a_batch(make, exporter):
    @dataclasses.dataclass
    class Holder:
        items: list

    batch = make()
    assert dataclasses.asdict(Holder(batch)) == {"items": batch[:]}
    assert exporter.get_finished_spans() == ()


def test_it_is_a_list(make):
    batch = make()
    plain = batch[:]
    assert isinstance(batch, list)
    assert batch == plain
    assert plain == batch
    assert batch != plain[:-1]
    assert batch[0] is plain[0]
    assert batch[-2:] == plain[-2:]
    assert plain[1] in batch
    assert batch.index(plain[1]) == 1
    assert bool(batch)
    assert not Messages()
    assert list(reversed(batch)) == plain[::-1]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(batch, protocol))
        assert type(again) is list
        assert again == plain


def test_messages_keep_their_context_when_the_list_changes(make, exporter):
    batch = make()
    batch.reverse()
    del batch[0]
    batch.append({"MessageId": "mine"})
    seen = [(message["MessageId"], current().is_recording()) for message in batch]
    assert seen == [("id1", True), ("id0", True), ("mine", False)]
    assert ids(exporter) == ["id1", "id0"]


def test_iteration_in_another_thread(make, exporter):
    inside = []

    def work():
        for _ in make(2):
            inside.append(current().is_recording())  # noqa: PERF401 - the loop is what is tested
        inside.append(current().is_recording())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [True, True, False]
    assert len(exporter.get_finished_spans()) == 2


def test_iterator_handed_to_another_thread_leaves_that_thread_s_context_alone(make, exporter, provider):
    steps = iter(make(2))
    next(steps)
    after = []

    def work():
        with provider.get_tracer("test").start_as_current_span("other") as other:
            next(steps)
            after.append(current().parent.span_id == other.get_span_context().span_id)
            list(steps)
            after.append(current() is other)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert after == [True, True]
    assert ids(exporter) == ["id0", "id1"]


def in_thread_with_this_context(function):
    copied = contextvars.copy_context()
    thread = threading.Thread(target=copied.run, args=(function,))
    thread.start()
    thread.join()


def test_iterator_stepped_in_a_thread_with_a_copy_of_the_context(make, exporter, provider):
    with provider.get_tracer("test").start_as_current_span("poll") as poll:
        steps = iter(make(2))
        next(steps)
        in_thread_with_this_context(lambda: next(steps))
    steps = None
    wait_for(lambda: ids(exporter) == ["id0", "id1"])
    assert {span.parent.span_id for span in processed(exporter)} == {poll.get_span_context().span_id}


def test_garbage_found_by_a_thread_that_works_for_the_message(make, exporter):
    steps = iter(make(1))
    next(steps)
    own, cycle, after = current(), [steps], []
    cycle.append(cycle)
    del steps, cycle

    def work():
        gc.collect()
        after.append(current() is own)

    gc.disable()
    try:
        in_thread_with_this_context(work)
    finally:
        gc.enable()
    assert after == [True]
    wait_for(lambda: ids(exporter) == ["id0"])


def test_suspended_generator_goes_on_under_its_consumer_s_span(make, exporter, provider):
    def bodies():
        for message in make(2, None):
            yield message["Body"]

    tracer, generator = provider.get_tracer("test"), bodies()
    parents = []
    for name in ("first", "second"):
        with tracer.start_as_current_span(name) as span:
            next(generator)
            parents.append(span.get_span_context().span_id)
    generator.close()
    wait_for(lambda: len(processed(exporter)) == 2)
    assert [span.parent.span_id for span in processed(exporter)] == parents


def test_two_threads_share_a_batch_without_a_second_span(make, exporter):
    batch = make(200)

    def work():
        for _ in batch:
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(exporter)) == sorted(f"id{index}" for index in range(200))


def test_iterator_in_a_garbage_cycle_ends_its_span(make, exporter, provider):
    class Enders(SpanProcessor):
        def on_end(self, span):
            # A finaliser may run while this very thread holds the lock of a processor.
            enders.append((span.name, threading.current_thread().name))

    enders = []
    provider.add_span_processor(Enders())

    def abandon():
        cycle = [iter(make(2))]
        cycle.append(cycle)
        next(cycle[0])

    with provider.get_tracer("test").start_as_current_span("first"):
        abandon()
    with provider.get_tracer("test").start_as_current_span("second") as second:
        gc.collect()
        assert current() is second
    wait_for(lambda: ids(exporter) == ["id0"])
    assert ("process orders", "spanwell-reaper") in enders


def test_span_ends_at_the_limit_and_only_once(make, exporter, monkeypatch):
    monkeypatch.setattr(module, "reaper", Reaper(limit=0.05))
    for _ in make(1):
        wait_for(exporter.get_finished_spans)
    (span,) = exporter.get_finished_spans()
    assert span.attributes["spanwell.ended_by"] == "time limit"
    assert not current().get_span_context().is_valid


def test_reaper_s_thread_goes_when_nothing_is_open(make, monkeypatch):
    reaper = Reaper(limit=0.05)
    monkeypatch.setattr(module, "reaper", reaper)
    for _ in make(3):
        pass
    thread = reaper._thread
    assert thread is not None
    wait_for(lambda: not thread.is_alive())
    for _ in make(1):
        assert reaper._thread is not None


def test_open_spans_are_bounded(exporter, provider, monkeypatch):
    monkeypatch.setattr(reaper_module, "_MAX_OPEN", 3)
    reaper = Reaper()
    tracer = provider.get_tracer("test")
    before = _guard.losses.total("process spans")
    keys = [reaper.watch(tracer.start_span(str(index))) for index in range(5)]
    early = exporter.get_finished_spans()
    assert [(span.name, span.attributes["spanwell.ended_by"]) for span in early] == [
        ("0", "too many open"),
        ("1", "too many open"),
    ]
    assert _guard.losses.total("process spans") == before + 2
    for key in keys:
        reaper.end(key)
    assert [span.name for span in exporter.get_finished_spans()] == ["0", "1", "2", "3", "4"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_leaves_the_parent_s_open_span_alone_and_traces_its_own(make, exporter):
    for _ in make(1):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                own = make(2)
                for _ in own:
                    pass
                gc.collect()
                status = len(exporter.get_finished_spans())
            finally:
                os._exit(status)
        _, state = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(state) == 2
    assert ids(exporter) == ["id0"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_that_goes_on_with_the_loop_does_not_end_the_parent_s_span(make, exporter):
    steps = iter(make(2))
    next(steps)
    child = os.fork()
    if child == 0:
        status = 99
        try:
            next(steps)
            status = len(exporter.get_finished_spans())
        finally:
            os._exit(status)
    _, state = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(state) == 0
    next(steps)
    assert ids(exporter) == ["id0"]


def test_an_error_of_ours_costs_the_span_and_not_the_message(monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)

    def opener(message, header):
        raise RuntimeError("ours")

    batch = Messages([{"Body": "1"}, {"Body": "2"}], opener, [None, None])
    before = _guard.losses.total("errors")
    assert [message["Body"] for message in batch] == ["1", "2"]
    assert _guard.losses.total("errors") == before + 2


def test_body_in_a_coroutine(make, exporter):
    import asyncio

    async def handle(batch):
        seen = []
        for _ in batch:
            own = current()
            await asyncio.sleep(0)
            seen.append(current() is own)
        return seen

    async def both():
        return await asyncio.gather(handle(make(2)), handle(make(2)))

    assert asyncio.run(both()) == [[True, True], [True, True]]
    assert len(exporter.get_finished_spans()) == 4
