"""A trace put together from spans of any number of processes, whatever state they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.record import SpanRecord


class ExploreError(Exception):
    """Something the user asked for cannot be shown; the message is one line that says why."""


class NoStoreError(ExploreError):
    """There is no file of traces yet."""


class StoreError(ExploreError):
    """The file of traces cannot be read."""


class UnknownTraceError(ExploreError):
    """No trace has that id."""


class AmbiguousTraceError(ExploreError):
    """Several traces have ids that begin like that."""


class Trace(Tree):
    """The spans of one trace, and how they hang together."""

    def __init__(self, trace_id: str, spans: Iterable[SpanRecord]) -> None:
        super().__init__(spans)
        self.trace_id = trace_id
