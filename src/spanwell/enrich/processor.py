"""One span processor for everything we do when a span starts or ends.

A stage is an object with `on_start(span, parent_context)`, `on_end(span)` or both. Several SDK span
processors would cost a call layer each for every span.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import SpanProcessor

from spanwell import _guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span


class FusedProcessor(SpanProcessor):
    """Runs `stages` in their order. A failing stage is counted and said once; the others go on."""

    def __init__(self, stages: Iterable[object]) -> None:
        stages = tuple(stages)
        self._starts = _bound(stages, "on_start")
        self._ends = _bound(stages, "on_end")

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
