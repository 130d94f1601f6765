"""Health checks, empty polls and calls for credentials are recorded apart, and leave only if they fail.

No sampler is asked about them, so they take nothing from a reservoir, a budget or a rate, count in no statistics and
are not seen by the stages of a sampler (the tail's among them). A poll or a call within a trace follows the trace;
one that would begin a trace is put before the sampler at its end, if it got messages.

`Watch` holds what is under way, `QuietSampler` sees spans before they start, `QuietStage` when they start and end.
"""

from __future__ import annotations

from threading import get_ident

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import INVALID_SPAN, SpanKind, get_current_span, set_span_in_context

from spanwell import _guard
from spanwell._children import in_child
from spanwell._otel import spans
from spanwell.sampling.outcome import PROMOTED, REASON, Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Link, SpanContext, TraceState
    from opentelemetry.util.types import Attributes

    class Rules(Protocol):
        """What may be left out; `label` gives "" for everything else."""

        def label(self, kind: SpanKind | None, attributes: Mapping[str, Any] | None, name: str = "") -> str: ...

    class Stage(Protocol):
        """What sees spans start and end."""

        def on_start(self, span: Span, parent_context: Context | None) -> object: ...
        def on_end(self, span: ReadableSpan) -> object: ...

    Describe = Callable[[Mapping[str, Any] | None, SpanContext], Mapping[str, Any] | None]

_SERVER, _INTERNAL = SpanKind.SERVER, SpanKind.INTERNAL  # each look into an enumeration costs as much as a call
MOST_OPEN = 10_000
"""Spans under way that are remembered; beyond, the oldest are forgotten and stay unexported."""

MOST_CHILDREN = 100
"""Ended spans that a health check holds until it ends."""


class _Held:
    """A call of this `label`; `deferred` if the sampler was not asked yet."""

    __slots__ = ("deferred", "label")

    def __init__(self, label: str, deferred: bool) -> None:
        self.label = label
        self.deferred = deferred


class _Check:
    """A health check and what has ended within it."""

    __slots__ = ("children", "label", "root_id")

    def __init__(self, label: str, root_id: int) -> None:
        self.label = label
        self.root_id = root_id
        self.children: list[ReadableSpan] = []


class Watch:
    """The quiet spans under way in this process. `suppressed` counts, by label, the spans that were left out.

    rules: what may be left out. failed, idle: whether an ended span tells of a failure; whether one that does not may
    go. `asked` is the sampler within the `QuietSampler`; without one the stage recognises the spans by itself.
    """

    def __init__(
        self,
        rules: Rules | None,
        failed: Callable[[ReadableSpan], bool],
        idle: Callable[[str, ReadableSpan], bool],
    ) -> None:
        self.rules = rules
        self.failed = failed
        self.idle = idle
        self.asked: Sampler | None = None
        self.suppressed = Tally(100)
        self.forget()
        in_child(self.forget)

    def forget(self) -> None:
        """Start again from nothing: in a forked child what is under way belongs to the parent."""
        self.suppressed.reset()
        self.checks: dict[int, _Check] = {}  # every open span of a health check
        self.held: dict[int, _Held] = {}
        self.expected: dict[int, tuple[str, str, bool]] = {}  # by thread: the span that it is about to start

    def counts(self) -> dict[str, int]:
        """How many spans were left out in this process, by label."""
        return {label: number for (label, _), number in self.suppressed.snapshot().items()}

    def remember(self, table: dict[int, Any], key: int, value: Any) -> None:
        """Put a span under way into `checks` or `held`."""
        table[key] = value
        if len(table) > MOST_OPEN:
            for oldest in list(table)[: MOST_OPEN // 10]:
                table.pop(oldest, None)


class QuietSampler(Sampler):
    """Hands everything to `inner` but health checks, what happens in them, and calls that begin a trace and may turn
    out to be empty: these are recorded and not sampled, so that nobody downstream samples them either.

    describe: gives further attributes for the span of an incoming request, or None; `inner` sees them.
    """

    def __init__(self, inner: Sampler, watch: Watch, describe: Describe | None = None) -> None:
        self.inner = inner
        self._watch = watch
        self._label = None if watch.rules is None else watch.rules.label
        self._describe = describe
        watch.asked = inner

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
        """The inner sampler's result, except as said above."""
        watch, label = self._watch, ""
        if kind is not _INTERNAL and kind is not None:
            try:
                label = "" if self._label is None else self._label(kind, attributes, name)
                if label or kind is _SERVER:
                    parent = get_current_span(parent_context).get_span_context()
                    if kind is _SERVER and parent.is_valid and not parent.is_remote:
                        label = ""
                    elif not label:
                        attributes = self._described(attributes, parent)
                    elif kind is _SERVER or not parent.is_valid:
                        watch.expected[get_ident()] = (label, name, True)
                        return SamplingResult(Decision.RECORD_ONLY, attributes, parent.trace_state)
            except Exception as error:
                _failed(error)
        if watch.checks:
            parent = get_current_span(parent_context).get_span_context()
            if parent.span_id in watch.checks and not parent.trace_flags & 1:
                return SamplingResult(Decision.RECORD_ONLY, attributes, parent.trace_state)
        result = self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if label and result.decision is not Decision.DROP:
            watch.expected[get_ident()] = (label, name, False)
        return result

    def _described(self, attributes: Attributes, parent: SpanContext) -> Attributes:
        more = None if self._describe is None else self._describe(attributes, parent)
        return {**(attributes or {}), **more} if more else attributes

    def get_description(self) -> str:
        """The inner sampler's description: this wrapper has no policy of its own."""
        return self.inner.get_description()


class QuietStage:
    """The stage in front of a sampler's own, `rest`, which never see what is left out.

    promote: exports an ended span that is not sampled; None where nothing can. Under a provider that the application
    made nothing announces spans: there they are recognised at their start, were sampled, and are taken back in place
    before the exporters see them.
    """

    def __init__(
        self,
        watch: Watch,
        promote: Callable[[ReadableSpan], None] | None,
        rest: Stage | None = None,
    ) -> None:
        self._watch = watch
        self._promote = promote
        self._rest = rest

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """Hold a span that the sampler announced, or that belongs to a health check."""
        watch = self._watch
        if watch.expected or watch.asked is None:
            found = self._announced(span)
            if found is not None:
                label, deferred = found
                span_id = span.context.span_id
                if span.kind is _SERVER:
                    watch.remember(watch.checks, span_id, _Check(label, span_id))
                else:
                    watch.remember(watch.held, span_id, _Held(label, deferred))
                return
        if watch.checks and span.parent is not None:
            check = watch.checks.get(span.parent.span_id)
            if check is not None:
                watch.remember(watch.checks, span.context.span_id, check)
                return
        if self._rest is not None:
            self._rest.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Leave the span out, or let it go on."""
        watch = self._watch
        if watch.checks or watch.held:
            span_id = span.context.span_id
            check = watch.checks.pop(span_id, None)
            if check is not None:
                if check.root_id == span_id:
                    self._end_check(check, span)
                else:
                    spans.set_sampled(span, False)
                    if len(check.children) < MOST_CHILDREN:
                        check.children.append(span)
                return
            held = watch.held.pop(span_id, None)
            if held is not None:
                self._end_held(held, span)
                return
        if self._rest is not None:
            self._rest.on_end(span)

    def _announced(self, span: Span) -> tuple[str, bool] | None:
        watch = self._watch
        if watch.asked is not None:
            label, name, deferred = watch.expected.pop(get_ident(), ("", "", False))
            return (label, deferred) if label and name == span.name else None
        if watch.rules is None:
            return None
        label = "" if span.kind is SpanKind.INTERNAL else watch.rules.label(span.kind, span.attributes, span.name)
        if not label or (span.kind is _SERVER and span.parent is not None and not span.parent.is_remote):
            return None
        return label, False

    def _end_check(self, check: _Check, span: ReadableSpan) -> None:
        if self._watch.failed(span):
            for each in check.children:
                self._send(each)
            self._send(span, "error")
        else:
            for _ in range(len(check.children) + 1):
                self._watch.suppressed.add(check.label, "")
            spans.set_sampled(span, False)
        check.children = []

    def _end_held(self, held: _Held, span: ReadableSpan) -> None:
        watch = self._watch
        failed = watch.failed(span)
        if not failed and watch.idle(held.label, span):
            watch.suppressed.add(held.label, "")
            spans.set_sampled(span, False)
            return
        if held.deferred:
            if failed:
                self._send(span, "error")
                return
            if not self._decide(span):
                return
        if self._rest is not None:
            self._rest.on_start(span, Context())  # type: ignore[arg-type]  # what ended has all that they look at
            self._rest.on_end(span)

    def _decide(self, span: ReadableSpan) -> bool:
        """Ask the sampler about a span that it was not asked about at its start."""
        sampler, context = self._watch.asked, span.context
        if sampler is None:
            return False
        result = sampler.should_sample(
            set_span_in_context(INVALID_SPAN, Context()),
            context.trace_id,
            span.name,
            span.kind,
            dict(span.attributes or {}),
        )
        if result.decision is Decision.DROP:
            return False
        spans.write(span, result.attributes or {})
        if result.decision is Decision.RECORD_AND_SAMPLE:
            spans.set_sampled(span, True)
        if result.trace_state:
            spans.set_trace_state(span, result.trace_state)
        return True

    def _send(self, span: ReadableSpan, reason: str = "") -> None:
        if span.context.trace_flags & 1 or self._promote is None:
            return
        spans.write(span, {PROMOTED: False, REASON: reason} if reason else {PROMOTED: False})
        with _guard.guard("promotion"):
            self._promote(span)


def _failed(error: Exception) -> None:
    if _guard.strict:
        raise error
    _guard.failed("what is quiet", error)
