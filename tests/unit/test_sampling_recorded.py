"""Where spans are counted, what a sampler drops is recorded: not sampled, not exported, with its attributes."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased

from spanwell.sampling.recorded import RecordingSampler


def test_what_is_dropped_is_recorded_with_what_it_began_with() -> None:
    result = RecordingSampler(ALWAYS_OFF).should_sample(None, 1, "x", attributes={"a": 1})
    assert result.decision is Decision.RECORD_ONLY
    assert dict(result.attributes) == {"a": 1}


def test_what_is_sampled_is_left_alone() -> None:
    inner = ALWAYS_ON.should_sample(None, 1, "x", attributes={"a": 1})
    result = RecordingSampler(ALWAYS_ON).should_sample(None, 1, "x", attributes={"a": 1})
    assert (result.decision, dict(result.attributes)) == (inner.decision, {"a": 1})
    assert RecordingSampler(ALWAYS_ON).get_description() == ALWAYS_ON.get_description()


def test_a_recorded_tree_is_not_exported_and_says_that_it_is_not_sampled() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=RecordingSampler(ParentBased(ALWAYS_OFF)), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("x")
    with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("child") as child:
        assert root.is_recording()
        assert child.is_recording()
        assert not trace.get_current_span().get_span_context().trace_flags.sampled
    assert exporter.get_finished_spans() == ()
