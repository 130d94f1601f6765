"""One span processor for everything we do when a span starts or ends.

A stage is an object with `on_start(span, parent_context)`, `on_end(span)` or both. Several SDK span
processors would cost a call layer each for every span.
"""

from __future__ import annotations

from itertools import count
from time import perf_counter

from opentelemetry.sdk.trace import SpanProcessor

from spanwell import _guard
from spanwell._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span


class FusedProcessor(SpanProcessor):
    """Runs `stages` in their order, then `last`: what exports the spans and does nothing when they start.

    A failing stage is counted and said once; the others go on.
    """

    def __init__(self, stages: Iterable[object], last: Iterable[SpanProcessor] = ()) -> None:
        stages = tuple(stages)
        self._last = tuple(last)
        self._starts = _bound(stages, "on_start")
        self._ends = _bound((*stages, *self._last), "on_end")

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Run every stage's `on_start`; a `parent_context` of None means the current context."""
        for what, stage in self._starts:
            try:
                stage(span, parent_context)
            except Exception as error:
                _failed(what, error)

    def on_end(self, span: ReadableSpan) -> None:
        """Run every stage's `on_end`; the span can no longer be changed."""
        for what, stage in self._ends:
            try:
                stage(span)
            except Exception as error:
                _failed(what, error)

    def shutdown(self) -> None:
        """Shut `last` down."""
        for each in self._last:
            with _guard.guard(f"shutdown of {type(each).__name__}"):
                each.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush all of `last` within `timeout_millis` together; True if each of them could."""
        end = perf_counter() + timeout_millis / 1000
        flushed = True
        for each in self._last:
            flushed = each.force_flush(max(0, int((end - perf_counter()) * 1000))) and flushed
        return flushed


class MeasuredProcessor(FusedProcessor):
    """A `FusedProcessor` that knows what it costs.

    started, ended: spans so far. seconds: what both ends of one span cost here, averaged over the last few of a
    sample of one in 64; 0.0 before the first.
    """

    def __init__(self, stages: Iterable[object], last: Iterable[SpanProcessor] = ()) -> None:
        super().__init__(stages, last)
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: what was counted is the parent's."""
        self.started = self.ended = 0
        self._on_start = self._on_end = 0.0
        # Iterators, because their step is atomic.
        self._start_numbers, self._end_numbers = count(1), count(1)

    @property
    def seconds(self) -> float:
        """Seconds that one span costs here."""
        return self._on_start + self._on_end

    # The loops stand here again: a call through `super` would be a fifth of what the rest costs.

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Run every stage's `on_start`."""
        self.started = number = next(self._start_numbers)
        if number & _SAMPLED:
            for what, stage in self._starts:
                try:
                    stage(span, parent_context)
                except Exception as error:
                    _failed(what, error)
            return
        begun = perf_counter()
        super().on_start(span, parent_context)
        self._on_start = _averaged(self._on_start, perf_counter() - begun)

    def on_end(self, span: ReadableSpan) -> None:
        """Run every stage's `on_end`."""
        self.ended = number = next(self._end_numbers)
        if number & _SAMPLED:
            for what, stage in self._ends:
                try:
                    stage(span)
                except Exception as error:
                    _failed(what, error)
            return
        begun = perf_counter()
        super().on_end(span)
        self._on_end = _averaged(self._on_end, perf_counter() - begun)


_SAMPLED = 63  # a mask: one in 64
_WEIGHT = 16


def _averaged(average: float, seconds: float) -> float:
    return average + (seconds - average) / _WEIGHT if average else seconds


def _bound(stages: Iterable[object], method: str) -> tuple[tuple[str, Callable[..., Any]], ...]:
    return tuple(
        (f"span stage {type(stage).__name__}.{method}", getattr(stage, method))
        for stage in stages
        if hasattr(stage, method)
    )


def _failed(what: str, error: Exception) -> None:
    if _guard.strict:
        raise error
    _guard.failed(what, error)
