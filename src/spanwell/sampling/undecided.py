"""A header that leaves the sampling decision open must not look like one that has made it."""

from __future__ import annotations

from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from spanwell import incoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind
    from opentelemetry.util.types import Attributes


class UndecidedSampler(Sampler):
    """Hands `inner` the parent it should see when the parent came in an `X-Amzn-Trace-Id` header.

    - Parent without a decision (`Sampled=?` or absent): no parent, so the decision for roots applies.
    - A decision without a Parent (`Root=…;Sampled=0`): a remote parent with that decision.
    - Everything else goes to `inner` unchanged.
    """

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
        """The inner sampler's result; the tracestate of the real parent is kept."""
        came = incoming.of(parent_context)
        if came is not None:
            if came.undecided is not None:
                if get_current_span(parent_context).get_span_context() is came.undecided:
                    context = set_span_in_context(INVALID_SPAN, parent_context)
                    result = self._inner.should_sample(context, trace_id, name, kind, attributes, links, trace_state)
                    return _with_state(result, came.undecided.trace_state)
            elif came.parentless and came.sampled in ("0", "1"):
                parent_context = _decided(came, trace_id, parent_context)
        return self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """The inner sampler's description: this wrapper has no policy of its own."""
        return self._inner.get_description()


def _with_state(result: SamplingResult, state: TraceState) -> SamplingResult:
    """`result` with the parent's tracestate behind what the sampler wrote."""
    if not state:
        return result
    written = result.trace_state
    if written:
        state = TraceState([*written.items(), *((key, value) for key, value in state.items() if key not in written)])
    # A new one, because a sampler may hand out the same result again and again.
    return SamplingResult(result.decision, result.attributes, state)


def _decided(came: incoming.Incoming, trace_id: int, context: Context | None) -> Context | None:
    if trace_id != came.trace_id or get_current_span(context).get_span_context().is_valid:
        return context
    # Only samplers see this span id; the SDK took the span's real parent, none, from the original context.
    flags = TraceFlags(TraceFlags.SAMPLED if came.sampled == "1" else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, 1, True, flags)), context)
