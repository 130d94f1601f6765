"""The spans of this process that have not ended: copies of them are exported before a time limit kills it."""

from __future__ import annotations

import threading

from spanwell._children import in_child
from spanwell._otel.spans import FLAGS, SPAN_ID, context_of, open_copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

MOST = 10_000
"""Spans known at a time, and left ones remembered; further ones are not."""


class OpenSpans:
    """A stage of the fused processor that knows the sampled spans that are open.

    left: the ids of those whose copies were taken. A span is exported by its end or its copy, whichever comes first.
    """

    def __init__(self) -> None:
        self._open: dict[int, Span] = {}
        self.left: set[int] = set()
        self._forget()
        in_child(self._forget)

    def _forget(self) -> None:
        self._lock = threading.RLock()  # a finalizer that ends a span may come at any moment
        self._open.clear()
        self.left.clear()

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """Remember `span`."""
        context = context_of(span)
        if context is not None and context[FLAGS] & 1 and len(self._open) < MOST:
            self._open[context[SPAN_ID]] = span

    def on_end(self, span: ReadableSpan) -> None:
        """Forget `span`."""
        context = context_of(span)
        if context is not None:
            with self._lock:
                self._open.pop(context[SPAN_ID], None)

    def copies(self, now: int, marks: Mapping[str, Any]) -> list[ReadableSpan]:
        """Every open span as if it had ended `now` (Unix nanoseconds), with the attributes `marks`; once each."""
        if len(self.left) > MOST:
            self.left.clear()
        found = []
        for span_id in self._open.copy():
            with self._lock:
                span = self._open.pop(span_id, None)
                if span is not None:
                    self.left.add(span_id)
            if span is not None:
                found.append(open_copy(span, now, marks))
        return found
