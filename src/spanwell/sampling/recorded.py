"""Every span is recorded, whether or not it is sampled: metrics are to count them all."""

from __future__ import annotations

from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes


class RecordingSampler(Sampler):
    """Asks `inner`, and records what it drops. That is not exported, and its context says that it is not sampled."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """The inner sampler's result, with RECORD_ONLY in place of DROP."""
        result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is not Decision.DROP:
            return result
        # A dropped span keeps nothing; of one that is recorded the metrics need what it began with.
        return SamplingResult(Decision.RECORD_ONLY, result.attributes or attributes, result.trace_state)

    def get_description(self) -> str:
        """The inner sampler's description: this wrapper has no policy of its own."""
        return self._inner.get_description()
