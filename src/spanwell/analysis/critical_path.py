"""The critical path: at each moment of a request the span that kept it from ending earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spanwell.analysis.intervals import inner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.analysis.intervals import Interval
    from spanwell.analysis.tree import Tree


class Section(NamedTuple):
    """From `start_ns` to `end_ns` (Unix nanoseconds) the request waited for the span at `position` itself."""

    position: int
    start_ns: int
    end_ns: int

    @property
    def duration(self) -> int:
        """Nanoseconds, always above 0."""
        return self.end_ns - self.start_ns


def critical_path(tree: Tree, top: int | None = None) -> list[Section]:
    """The sections of the critical path of the span at `top` (default: `tree.main`), in order of time.

    They follow one another without a gap and add up to that span's duration. Walked from the end: the child
    that ends last is on the path, then the one that ends last until that one's start, and so on. Children
    are cut to their parents' time (`intervals.inner`); nobody waits for the consumer of a message.
    Linear, but for sorting the children of spans on the path by their end.
    """
    if top is None:
        top = tree.main
    if top is None:
        return []
    times = inner(tree, top)
    found: list[Section] = []
    now = times[top][1]
    open_spans = [(top, _by_end(tree, top, times))]
    while open_spans:
        position, waiting = open_spans[-1]
        while waiting and times[waiting[-1]][1] > now:
            waiting.pop()  # it ran beside the child that was taken
        until = times[waiting[-1]][1] if waiting else times[position][0]
        if until < now:
            found.append(Section(position, until, now))
            now = until
        if waiting:
            child = waiting.pop()
            open_spans.append((child, _by_end(tree, child, times)))
        else:
            open_spans.pop()
    found.reverse()
    return found


def time_on_path(sections: Iterable[Section]) -> dict[int, int]:
    """Nanoseconds on the critical path of each span on it, by position."""
    found: dict[int, int] = {}
    for section in sections:
        found[section.position] = found.get(section.position, 0) + section.duration
    return found


def _by_end(tree: Tree, position: int, times: dict[int, Interval]) -> list[int]:
    """Children that took time, the last to end at the end, and of two that end together the longer."""
    children = [
        child for child in tree.children.get(position, ()) if child in times and times[child][0] < times[child][1]
    ]
    children.sort(key=lambda child: (times[child][1], -times[child][0]))
    return children
