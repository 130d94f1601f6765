"""What all our samplers share: a span with a parent follows it, a root is decided on."""

from __future__ import annotations

from abc import abstractmethod

from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import get_current_span

from spanwell import _guard
from spanwell._children import in_child
from spanwell.sampling.outcome import DROP, REASON, Tally, dropped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState
    from opentelemetry.util.types import Attributes


class Surroundings:
    """What a sampler may use beside the arguments of `should_sample`.

    resource: gives the resource's attributes as known by now (detection may still be going on); while they do not
    change it gives the same object. promote: exports an ended span although its trace flags say unsampled; None where
    nothing can. stages: whoever needs to see spans start or end adds an object with `on_start(span, parent_context)`
    or `on_end(span)` here; they run before the exporters get the span, unless `edits` is false: then what they write
    on sampled spans comes too late.
    """

    def __init__(
        self,
        resource: Callable[[], Mapping[str, Any]],
        promote: Callable[[ReadableSpan], None] | None = None,
        *,
        edits: bool = True,
    ) -> None:
        self.resource = resource
        self.promote = promote
        self.edits = edits
        self.stages: list[object] = []


class RootSampler(Sampler):
    """Decides on roots in `decide`; every other span follows its parent, unseen by any statistics.

    A local root with a sampled remote parent carries the reason "parent". `consistent` tells whether what `decide`
    keeps by chance is kept by `probability.randomness`, so that thresholds nest. `decisions` counts decisions.
    `first_use`, if set, is called before the first decision, unless `connect` was; it should call `connect`.
    """

    consistent = True
    kind = ""
    """The sampler's name as OTEL_TRACES_SAMPLER has it, for its metrics."""

    def __init__(self) -> None:
        self.decisions = Tally()
        self.first_use: Callable[[RootSampler], None] | None = None
        in_child(self.decisions.reset)

    def connect(self, around: Surroundings) -> None:
        """Learn the surroundings, once, before the first decision. Samplers that wrap another one pass it on."""
        self.first_use = None

    def nested(self) -> tuple[Sampler, ...]:
        """The samplers that this one asks."""
        return ()

    def figures(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """What its metrics show now beside `decisions`: name -> (attributes, value) pairs.

        rules.age: seconds. polls.failed, evictions: counts. held: spans.
        """
        return {}

    def begin_shutdown(self) -> None:
        """The process ends: start what is still to be sent. Does not wait."""

    def finish(self, seconds: float) -> None:
        """Wait at most `seconds` for what `begin_shutdown` started."""

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
        """The parent's decision, or `decide`'s for a root. Never raises: a root that fails is dropped and counted."""
        if self.first_use is not None:
            self._start()
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            return self.follow(parent, attributes)
        try:
            return self.decide(trace_id, name, kind, attributes, trace_state)
        except Exception as error:
            if _guard.strict:
                raise
            _guard.failed("sampling decision", error)
            return DROP

    def follow(self, parent: SpanContext, attributes: Mapping[str, Any] | None) -> SamplingResult:
        """What a span with this parent gets."""
        if not parent.trace_flags & 1:
            return dropped(parent.trace_state)
        if parent.is_remote:
            attributes = {**(attributes or {}), REASON: "parent"}
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)

    @abstractmethod
    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """What the root span of a new trace gets; `state` is the tracestate that it should carry on, if any."""

    def _start(self) -> None:
        first_use, self.first_use = self.first_use, None
        if first_use is not None:  # another thread may have been first
            with _guard.guard("sampler set-up"):
                first_use(self)
