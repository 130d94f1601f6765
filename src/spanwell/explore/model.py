"""A trace put together from spans of any number of processes, whatever state they are in."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.record import SpanRecord

_RECEIVING = ("server", "consumer")
_SENDING = ("client", "producer")


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


class Trace:
    """The spans of one trace, by start time, and how they hang together. Positions index `spans`.

    Every span is reached exactly once from `roots`, `orphans` and `loops` over `children`, also when span
    ids repeat (a client and a server may share one), a parent is missing, or parents lead in a circle.
    """

    def __init__(self, trace_id: str, spans: Iterable[SpanRecord]) -> None:
        self.trace_id = trace_id
        self.spans = tuple(sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)))

    @cached_property
    def parents(self) -> tuple[int | None, ...]:
        """For each span the position of its parent; None for those in `roots`, `orphans` and `loops`."""
        by_id: dict[str, list[int]] = {}
        for position, span in enumerate(self.spans):
            by_id.setdefault(span.span_id, []).append(position)
        found = [self._parent(position, by_id) for position in range(len(self.spans))]
        for position in self._cuts(found):
            found[position] = None
        return tuple(found)

    def _parent(self, position: int, by_id: dict[str, list[int]]) -> int | None:
        span = self.spans[position]
        if span.kind in _RECEIVING:
            for other in by_id[span.span_id]:
                if self.spans[other].kind in _SENDING:
                    return other  # a shared span id: the sender's half is the parent
        if span.parent_id is None:
            return None
        candidates = [other for other in by_id.get(span.parent_id, ()) if other != position]
        for other in candidates:
            if self.spans[other].service == span.service:
                return other
        return candidates[0] if candidates else None

    @staticmethod
    def _cuts(parents: list[int | None]) -> list[int]:
        """The earliest span of each circle of parents."""
        cuts: list[int] = []
        walk_of = [-1] * len(parents)
        for start in range(len(parents)):
            position: int | None = start
            path = []
            while position is not None and walk_of[position] == -1:
                walk_of[position] = start
                path.append(position)
                position = parents[position]
            if position is not None and walk_of[position] == start:
                cuts.append(min(path[path.index(position) :]))
        return cuts

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """Positions of the children of each span that has any, by start time."""
        found: dict[int, list[int]] = {}
        for position, parent in enumerate(self.parents):
            if parent is not None:
                found.setdefault(parent, []).append(position)
        return {parent: tuple(children) for parent, children in found.items()}

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """Spans without a parent id, by start time."""
        return tuple(
            position
            for position, parent in enumerate(self.parents)
            if parent is None and self.spans[position].parent_id is None
        )

    @cached_property
    def orphans(self) -> tuple[int, ...]:
        """Spans whose parent is not among the spans, by start time."""
        present = {span.span_id for span in self.spans}
        return tuple(
            position
            for position, span in enumerate(self.spans)
            if span.parent_id is not None and span.parent_id not in present
            if self.parents[position] is None
        )

    @cached_property
    def loops(self) -> tuple[int, ...]:
        """Spans at which a circle of parents was cut open."""
        shown = {*self.roots, *self.orphans}
        return tuple(
            position for position, parent in enumerate(self.parents) if parent is None and position not in shown
        )

    @property
    def root(self) -> SpanRecord | None:
        """The earliest span without a parent id."""
        return self.spans[self.roots[0]] if self.roots else None

    @cached_property
    def services(self) -> tuple[str, ...]:
        """The services in order of their first span."""
        return tuple(dict.fromkeys(span.service for span in self.spans))

    @cached_property
    def errors(self) -> tuple[int, ...]:
        """Positions of the spans with status error."""
        return tuple(position for position, span in enumerate(self.spans) if span.is_error)

    @property
    def start_ns(self) -> int:
        """When the first span started, Unix nanoseconds; 0 without spans."""
        return self.spans[0].start_ns if self.spans else 0

    @cached_property
    def end_ns(self) -> int:
        """When the last span ended, Unix nanoseconds."""
        return max((span.end_ns for span in self.spans), default=0)

    @property
    def duration(self) -> int:
        """Nanoseconds from the first start to the last end."""
        return max(0, self.end_ns - self.start_ns)
