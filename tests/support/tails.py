"""A provider with the `tail` sampler as spanwell wires it: its stage first, then a real batch processor."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from spanwell.enrich.processor import FusedProcessor
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from spanwell.sampling.outcome import PROMOTED, REASON
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.tail import TailSampler
from spanwell.sampling.tail_buffer import TailBuffer
from support.exporters import ListExporter

NOTHING, EVERYTHING = RatioSampler(0.0), RatioSampler(1.0)


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Tailed:
    """One provider with `tail` around `head`; what left it is in `spans()`."""

    def __init__(
        self,
        head: Sampler = NOTHING,
        *,
        ids: IdGenerator | None = None,
        exporter: SpanExporter | None = None,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.exporter = ListExporter()
        self.batch = BatchProcessor(
            GuardedExporter("tested", lambda: exporter or self.exporter), max_queue=100_000, delay=60
        )
        self.sampler = TailSampler(head, clock=self.clock, **options)
        around = Surroundings(dict, self.batch.promote)
        self.sampler.connect(around)
        self.provider = TracerProvider(sampler=self.sampler, id_generator=ids, shutdown_on_exit=False)
        self.provider.add_span_processor(FusedProcessor(around.stages))
        self.provider.add_span_processor(self.batch)
        self.tracer = self.provider.get_tracer("tests")

    @property
    def buffer(self) -> TailBuffer:
        assert self.sampler.buffer is not None
        return self.sampler.buffer

    def spans(self) -> list[ReadableSpan]:
        """Every exported span so far, in order."""
        assert self.batch.force_flush(10_000)
        return self.exporter.spans

    def names(self) -> list[str]:
        """Their names, in order."""
        return [span.name for span in self.spans()]


def remote(trace_id: int = 0xABC, span_id: int = 0x123, *, sampled: bool, state: str = "") -> Context:
    """A context whose parent is another service's span."""
    tracestate = TraceState.from_header([state]) if state else None
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, flags, tracestate)))


def reason(span: ReadableSpan) -> str | None:
    """Why a local root was kept."""
    found = (span.attributes or {}).get(REASON)
    return found if isinstance(found, str) else None


def is_promoted(span: ReadableSpan) -> bool:
    """Marked, and without the sampled flag."""
    marked = (span.attributes or {}).get(PROMOTED)
    assert (marked is False) == (not span.context.trace_flags.sampled), span.name
    return marked is False


def weight(span: ReadableSpan) -> str | None:
    """The `ot` entry of the tracestate."""
    return span.context.trace_state.get("ot")
