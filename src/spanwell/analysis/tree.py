"""How the spans of one trace hang together, whatever state they are in."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from typing import TypeVar

    from spanwell.record import SpanRecord

    Key = TypeVar("Key", bound=Hashable)

RECEIVING = ("server", "consumer")
SENDING = ("client", "producer")


class Tree:
    """`spans` by start time, of two that start together the longer first, and who is whose child, as positions in it.

    Every span is reached exactly once from `roots`, `orphans` and `loops` over `children`, also when span
    ids repeat (a client and a server may share one), a parent is missing, or parents lead in a circle.
    Nothing recurses. Linear in the number of spans, but for sorting them by time.
    """

    def __init__(self, spans: Iterable[SpanRecord]) -> None:
        self.spans = tuple(sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)))

    @cached_property
    def parents(self) -> tuple[int | None, ...]:
        """For each span the position of its parent; None for those in `roots`, `orphans` and `loops`."""
        named = _Named(self.spans)
        found = [named.parent(position, span) for position, span in enumerate(self.spans)]
        for position in _cuts(found):
            found[position] = None
        return tuple(found)

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """Positions of the children of each span that has any, by start time."""
        found: dict[int, list[int]] = {}
        for position, parent in enumerate(self.parents):
            if parent is not None:
                found.setdefault(parent, []).append(position)
        return {parent: tuple(children) for parent, children in found.items()}

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """Spans without a parent here, by start time: `roots`, `orphans` and `loops` together."""
        return tuple(position for position, parent in enumerate(self.parents) if parent is None)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """Spans without a parent id, by start time."""
        return tuple(position for position in self.tops if self.spans[position].parent_id is None)

    @cached_property
    def orphans(self) -> tuple[int, ...]:
        """Spans whose parent is not among the spans, by start time."""
        present = {span.span_id for span in self.spans}
        return tuple(
            position
            for position in self.tops
            if self.spans[position].parent_id is not None and self.spans[position].parent_id not in present
        )

    @cached_property
    def loops(self) -> tuple[int, ...]:
        """Spans at which a circle of parents was cut open."""
        shown = {*self.roots, *self.orphans}
        return tuple(position for position in self.tops if position not in shown)

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

    @property
    def main(self) -> int | None:
        """Where the trace begins: the earliest root, else the earliest of `tops`; None without spans."""
        return (self.roots or self.tops or (None,))[0]

    def position(self, span: SpanRecord) -> int | None:
        """Where this very record stands; None if it is not here."""
        return next((position for position, found in enumerate(self.spans) if found is span), None)

    @cached_property
    def downwards(self) -> tuple[int, ...]:
        """All positions, every parent before its children. Reversed, every child comes before its parent."""
        return tuple(self.below(*self.tops))

    def below(self, *tops: int) -> list[int]:
        """The positions `tops` and all their descendants, every parent before its children."""
        reached = list(tops)
        children = self.children
        for position in reached:  # grows while it is walked
            if position in children:
                reached += children[position]
        return reached


class _Named:
    """Where each span id stands. Ids repeat, so the first two of each are kept: a span is never its own parent."""

    def __init__(self, spans: Iterable[SpanRecord]) -> None:
        self._senders: dict[str, int] = {}
        self._anywhere: dict[str, tuple[int, ...]] = {}
        self._in_service: dict[tuple[str, str], tuple[int, ...]] = {}
        for position, span in enumerate(spans):
            if span.kind in SENDING:
                self._senders.setdefault(span.span_id, position)
            _keep_two(self._anywhere, span.span_id, position)
            _keep_two(self._in_service, (span.span_id, span.service), position)

    def parent(self, position: int, span: SpanRecord) -> int | None:
        if span.kind in RECEIVING and span.span_id in self._senders:
            return self._senders[span.span_id]  # a shared span id: the sender's half is the parent
        if span.parent_id is None:
            return None
        for other in self._in_service.get((span.parent_id, span.service), ()):
            if other != position:
                return other
        for other in self._anywhere.get(span.parent_id, ()):
            if other != position:
                return other
        return None


def _keep_two(places: dict[Key, tuple[int, ...]], key: Key, position: int) -> None:
    found = places.get(key, ())
    if len(found) < 2:
        places[key] = (*found, position)


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
