"""Our samplers under a provider that somebody else built."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, StaticSampler
from opentelemetry.trace import Status, StatusCode

from spanwell import _guard, attach
from spanwell._otel import sdk, spans
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from spanwell.sampling.outcome import PROMOTED, REASON
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.tail import TailSampler
from support.exporters import ListExporter
from support.spans import make_span

SetGlobal = Callable[[Any], None]
ALWAYS_RECORD = StaticSampler(Decision.RECORD_ONLY)


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", True)


@pytest.fixture
def set_global(monkeypatch: pytest.MonkeyPatch) -> SetGlobal:
    """Makes a provider the global one until the test ends."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    return lambda provider: monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


class Seen(SpanProcessor):
    """Some other processor of the application's."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def tail(rate: float = 0.0) -> TailSampler:
    sampler = TailSampler(RatioSampler(rate))
    sampler.first_use = attach.to_global_provider
    return sampler


def fail(provider: TracerProvider, name: str = "root") -> None:
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span(name) as root:
        tracer.start_span(f"child of {name}").end()
        root.set_status(Status(StatusCode.ERROR, "no"))


@pytest.mark.parametrize("kind", [SimpleSpanProcessor, BatchSpanProcessor])
def test_the_sdks_processors_export_what_is_promoted(kind: Any, set_global: SetGlobal) -> None:
    exporter, other = ListExporter(), Seen()
    provider = TracerProvider(sampler=tail(), shutdown_on_exit=False)
    provider.add_span_processor(kind(exporter))
    provider.add_span_processor(other)
    set_global(provider)
    fail(provider)
    provider.get_tracer("tests").start_span("fine").end()
    provider.force_flush()
    assert [span.name for span in exporter.spans] == ["child of root", "root"]
    for span in exporter.spans:
        assert span.attributes is not None
        assert span.attributes[PROMOTED] is False
        assert span.context.trace_flags.sampled  # the SDK's processors let no other through
    assert exporter.spans[1].attributes[REASON] == "error"  # type: ignore[index]
    assert [span.name for span in other.ended] == ["child of root", "root", "fine"]  # once each
    assert not any(span.context.trace_flags.sampled for span in other.ended)
    provider.shutdown()


def test_a_sampled_root_gets_its_reason_in_time(set_global: SetGlobal) -> None:
    exporter = ListExporter()
    provider = TracerProvider(sampler=tail(1.0), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_global(provider)
    fail(provider)
    assert exporter.spans[1].attributes[REASON] == "error"  # type: ignore[index]
    assert exporter.spans[1].context.trace_state.get("ot") is None


def test_processors_in_parallel_cannot_wait_for_what_is_written(set_global: SetGlobal) -> None:
    exporter = ListExporter()
    parallel = ConcurrentMultiSpanProcessor()
    provider = TracerProvider(sampler=tail(1.0), active_span_processor=parallel, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_global(provider)
    fail(provider)
    assert exporter.spans[1].attributes[REASON] == "rate"  # type: ignore[index]
    assert not sdk.keeps_order(provider)
    parallel._executor.shutdown()


def test_our_batch_processor_takes_the_span_as_it_is(set_global: SetGlobal) -> None:
    exporter = ListExporter()
    batch = BatchProcessor(GuardedExporter("list", lambda: exporter), delay=60)
    provider = TracerProvider(sampler=tail(), shutdown_on_exit=False)
    provider.add_span_processor(batch)
    set_global(provider)
    fail(provider)
    assert batch.force_flush(10_000)
    assert [span.context.trace_flags.sampled for span in exporter.spans] == [False, False]
    batch.finish(1)


def test_before_there_is_a_provider_it_is_its_head_and_says_so_once(
    set_global: SetGlobal, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, sampler = ListExporter(), tail()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    fail(provider, "before the provider")
    set_global(provider)
    fail(provider, "before the exporter")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    fail(provider, "then")
    assert [span.name for span in exporter.spans] == ["child of then", "then"]
    assert [record.message for record in caplog.records] == [
        "spanwell: the sampler tail{ratio{0}} finds no OpenTelemetry SDK provider with an exporter; until there is "
        "one it knows no resource, and keeps nothing for how it ends"
    ]
    assert sampler.first_use is None


def test_it_gives_up_after_so_many_decisions(
    set_global: SetGlobal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "TRIES", 5)
    sampler = tail()
    for _ in range(10):
        assert not sampler.should_sample(None, 1, "root").decision.is_recording()
    assert sampler.first_use is None
    assert [record.message.partition(" (")[0] for record in caplog.records][1:] == [
        "spanwell: the sampler tail decides as its head sampler alone"
    ]


class Curious(RatioSampler):
    """Wants to know its surroundings, and no spans."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.around: list[Surroundings] = []
        self.told: list[object] = []

    def connect(self, around: Surroundings) -> None:
        super().connect(around)
        self.around.append(around)

    def begin_shutdown(self) -> None:
        self.told.append("begin")

    def finish(self, seconds: float) -> None:
        self.told.append(seconds)


def test_a_sampler_learns_the_resource_once_and_of_the_end(
    set_global: SetGlobal, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[tuple[Any, ...]] = []
    monkeypatch.setattr(attach.atexit, "register", lambda *call: registered.append(call))
    sampler = Curious()
    sampler.first_use = attach.to_global_provider
    provider = TracerProvider(sampler=sampler, resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ListExporter()))
    set_global(provider)
    before = sdk.span_processors(provider)
    provider.get_tracer("tests").start_span("root").end()
    [around] = sampler.around
    assert around.resource()["service.name"] == "shop"
    assert sdk.span_processors(provider) == before  # no stages, no processor
    [(end, reference)] = registered
    end(reference)
    assert sampler.told == ["begin", 0.3]


def test_threads_connect_a_sampler_once(set_global: SetGlobal) -> None:
    sampler = Curious()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ListExporter()))
    set_global(provider)
    barrier = threading.Barrier(8)

    def connect() -> None:
        barrier.wait()
        attach.to_global_provider(sampler)

    threads = [threading.Thread(target=connect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sampler.around) == 1


def test_a_provider_that_is_not_the_sdks(set_global: SetGlobal, caplog: pytest.LogCaptureFixture) -> None:
    set_global(trace.NoOpTracerProvider())
    assert not tail().should_sample(None, 1, "root").decision.is_recording()
    assert len(caplog.records) == 1


# --- the spans themselves -------------------------------------------------------------------------------------------


def test_writing_keeps_the_rest_and_what_readers_hold() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    seen = Seen()
    provider.add_span_processor(seen)
    live = provider.get_tracer("tests").start_span("root", attributes={f"k{i}": i for i in range(130)})
    live.end()
    [span] = seen.ended
    held = span.attributes
    spans.write(span, {"new": "value", "k129": -1})
    assert span.attributes is not None
    assert len(span.attributes) == 129  # past the limit of 128: nothing of the application's goes for it
    assert (span.attributes["new"], span.attributes["k129"], span.dropped_attributes) == ("value", -1, 2)
    assert held is not None
    assert "new" not in held
    with pytest.raises(TypeError):
        span._attributes["x"] = 1  # type: ignore[index]


def test_writing_on_a_span_made_by_hand() -> None:
    for attributes in (None, {"a": 1}):
        span = make_span(attributes=attributes)
        spans.write(span, {"b": 2})
        assert dict(span.attributes or {}) == {**(attributes or {}), "b": 2}


def test_a_sampled_copy_differs_in_its_flag_alone() -> None:
    provider, seen = TracerProvider(sampler=ALWAYS_RECORD, shutdown_on_exit=False), Seen()
    provider.add_span_processor(seen)
    provider.get_tracer("tests").start_span("root", attributes={f"k{i}": i for i in range(130)}).end()
    [span] = seen.ended
    copy = spans.sampled_copy(span)
    assert (copy.context.trace_flags.sampled, span.context.trace_flags.sampled) == (True, False)
    assert (copy.to_json(), copy.dropped_attributes) == (span.to_json(), 2)
    spans.set_trace_state(copy, trace.TraceState([("ot", "th:8")]))
    assert (copy.context.trace_state.get("ot"), span.context.trace_state.get("ot")) == ("th:8", None)
    assert copy.context.trace_flags.sampled
