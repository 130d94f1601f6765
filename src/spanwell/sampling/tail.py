"""`tail`: what the head sampler keeps, and what turns out to be slow, to fail or to match, in this process."""

from __future__ import annotations

import time

from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, get_current_span, set_span_in_context

from spanwell import _guard
from spanwell._otel.spans import REMOTE, SPAN_ID, STATE, VALID
from spanwell.sampling.arguments import Nested, boolean, nested, number, parse, whole
from spanwell.sampling.outcome import DROP, REASON
from spanwell.sampling.parentbased import RootSampler
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.tail_buffer import DEFAULT, Bounds, TailBuffer
from spanwell.sampling.tail_rules import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

    from spanwell.sampling.build import Making
    from spanwell.sampling.parentbased import Surroundings


class TailSampler(RootSampler):
    """Decides as `head`, and records the local trees that head does not sample until their local root has ended.

    head: any sampler. rules: what keeps a trace. base: the probability (0 to 1) of keeping what neither a rule nor
    head keeps. clock: seconds that run steadily.

    A trace that head samples is always exported: other services were told so. When its local root ends, a rule that
    holds becomes its reason and takes its weight away, since it would have been kept in any case. What head has not
    sampled leaves, if at all, marked `aws.trace.flag.sampled=false`, and without the sampled flag. Where a remote
    parent decided, nothing tells the probability: what `base` keeps there has no weight.

    Where nothing can be promoted (`Surroundings.promote` is None, or nobody called `connect`) this is `head` alone.
    """

    kind = "tail"

    def __init__(
        self,
        head: Sampler,
        rules: Rules | None = None,
        *,
        base: float = 0.0,
        bounds: Bounds = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if not 0.0 <= base <= 1.0:
            raise ValueError(f"a probability from 0 to 1, not {base!r}")
        self._head = head
        self._ours = head if isinstance(head, RootSampler) else None
        # A head that looks at the parent as this one does need not do so again,
        self._plain = self._ours if type(head).should_sample is RootSampler.should_sample else None
        # and what it says to an unsampled one is known.
        self._follows = self._plain is not None and type(head).follow is RootSampler.follow  # type: ignore[attr-defined]
        self.consistent = self._ours is not None and self._ours.consistent
        self._rules = rules or Rules()
        self._base = base
        self._bounds = bounds
        self._clock = clock
        self.buffer: TailBuffer | None = None

    def connect(self, around: Surroundings) -> None:
        """Begin to record; without a way to promote, say once that only the head decides."""
        super().connect(around)
        self._begin(around)
        if self._ours is not None:  # after ours: what adaptive sampling captures beside us is no part of our counts
            self._ours.connect(around)

    def _begin(self, around: Surroundings) -> None:
        if around.promote is None:
            _guard.warn_once(
                "tail:promote",
                "spanwell: the sampler tail decides as its head sampler alone (%s): nothing here can export a span "
                "that is not sampled; use spanwell's configurator, or a batch span processor of the SDK's",
                self._head.get_description(),
            )
        elif self.buffer is None:
            buffer = TailBuffer(
                self._rules,
                around,
                self.decisions,
                base=self._base,
                consistent=self.consistent,
                foreign=self._ours is None,
                bounds=self._bounds,
                clock=self._clock,
            )
            around.stages.append(buffer)
            self.buffer = buffer

    def nested(self) -> tuple[Sampler, ...]:
        """The head sampler."""
        return (self._head,)

    def figures(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """evictions by cause, and held spans."""
        buffer = self.buffer
        if buffer is None:
            return {}
        evictions = [({"cause": cause}, float(number)) for cause, number in tuple(buffer.evictions.items())]
        return {"evictions": evictions, "held": [({}, float(buffer.held))]}

    def begin_shutdown(self) -> None:
        """The head sampler's; what waits here has no verdict, so it goes."""
        if self._ours is not None:
            self._ours.begin_shutdown()

    def finish(self, seconds: float) -> None:
        """The head sampler's."""
        if self._ours is not None:
            self._ours.finish(seconds)

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
        """The head's result; an unsampled one is recorded where it may still leave."""
        parent = get_current_span(parent_context).get_span_context()
        buffer = self.buffer
        if buffer is not None:
            # The common case, in as few steps as may be: a span in an unsampled tree that may still be kept.
            fragment = buffer.open.get(parent[SPAN_ID])
            if fragment is not None and fragment.recorded and self._follows and not parent[REMOTE]:
                return SamplingResult(Decision.RECORD_ONLY, attributes, parent[STATE])
        elif self.first_use is not None:
            self._start()
            buffer = self.buffer
        if self._plain is None:
            result = self._ask(parent, parent_context, trace_id, name, kind, attributes, links, trace_state)
        elif parent[VALID]:
            result = self._plain.follow(parent, attributes)
        else:
            result = self.decide(trace_id, name, kind, attributes, trace_state)
        if buffer is None or result.decision is not Decision.DROP:
            return result
        if parent[VALID] and not parent[REMOTE]:
            fragment = buffer.open.get(parent[SPAN_ID]) or buffer.find(parent)
            if fragment is None or not fragment.recorded:
                return result
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """The head's decision on a root."""
        if self._plain is None:
            context = set_span_in_context(INVALID_SPAN)
            return self._ask(INVALID_SPAN_CONTEXT, context, trace_id, name, kind, attributes, None, state)
        try:
            return self._plain.decide(trace_id, name, kind, attributes, state)
        except Exception as error:
            return _failed(error)

    def _ask(self, parent: SpanContext, *question: Any) -> SamplingResult:
        """What a head says that goes its own ways."""
        try:
            result = self._head.should_sample(*question)
        except Exception as error:
            return _failed(error)
        if self._ours is None and (parent.is_remote or not parent.is_valid):
            return _with_reason(result, parent)
        return result

    def get_description(self) -> str:
        """Name and head."""
        return f"tail{{{self._head.get_description()}}}"


def _failed(error: Exception) -> SamplingResult:
    if _guard.strict:
        raise error
    _guard.failed("sampling decision", error)
    return DROP


def _with_reason(result: SamplingResult, parent: SpanContext) -> SamplingResult:
    """The SDK's samplers give no reason: `head`, or `parent` where a remote one decided."""
    if result.decision is not Decision.RECORD_AND_SAMPLE or REASON in result.attributes:
        return result
    reason = "parent" if parent.is_valid and parent.trace_flags & 1 else "head"
    return SamplingResult(result.decision, {**result.attributes, REASON: reason}, result.trace_state)


# --- the argument ---------------------------------------------------------------------------------------------------


def from_argument(argument: str, making: Making) -> TailSampler:
    """`head=(ratio;0.05),slow_ms=1000,errors=true,status=5xx,base=0,attribute=key:glob`, and the bounds `max_traces`,
    `max_spans`, `max_total` and `max_age` (seconds).

    `status` takes several with `|`, or `none`; slow_ms=0 is no such rule; attribute may be repeated. The default of a
    second is what a user takes for a pause; services aim far below it.
    """
    known: dict[str, Callable[[str], Any]] = {
        "head": nested,
        "slow_ms": number(),
        "errors": boolean,
        "status": _status,
        "base": number(0.0, 1.0, "a probability from 0 to 1"),
        "attribute": _attribute,
        "max_traces": whole(1),
        "max_spans": whole(1),
        "max_total": whole(1),
        "max_age": number(1.0, what="a number of seconds from 1"),
    }
    given = parse("tail", argument, known, making.report)
    head: Sampler = RatioSampler(_HEAD)
    wanted: Nested | None = given.pop("head", None)
    if wanted is not None:
        head = making.nested(wanted, head)
    attributes = given.pop("attribute", [])
    base = given.pop("base", 0.0)
    bounds = {key[4:]: given.pop(key) for key in tuple(given) if key.startswith("max_")}
    return TailSampler(
        head, Rules(attributes=attributes, **given), base=base, bounds=Bounds(**bounds), clock=making.clock
    )


_HEAD = 0.05
"""The rate of X-Ray's default rule."""


def _status(raw: str) -> tuple[tuple[int, int], ...]:
    """The ranges of `5xx|429`."""
    if raw in ("", "none"):
        return ()
    ranges = []
    for part in raw.lower().split("|"):
        digits = part.rstrip("x")
        if len(part) != 3 or not digits.isascii() or not digits.isdecimal():
            raise ValueError("a list of HTTP statuses such as 5xx|429, or none")
        ranges.append((int(digits.ljust(3, "0")), int(digits.ljust(3, "9"))))
    return tuple(ranges)


def _attribute(raw: str) -> list[tuple[str, str]]:
    """The pair of `key:glob`, as a list, to which a repeated argument adds."""
    key, mark, pattern = raw.partition(":")
    if not key or not mark:
        raise ValueError("an attribute and a glob such as user.tier:gold*")
    return [(key, pattern)]
