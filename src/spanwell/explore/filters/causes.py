"""Root causes as X-Ray tells them: a path of services, and of entities in them, down to where it went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spanwell.analysis.calls import call_of
from spanwell.analysis.intervals import detached, inner
from spanwell.analysis.tree import SENDING
from spanwell.explore.filters.fields import exceptions
from spanwell.explore.filters.subjects import inferred_node, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwell.explore.filters.subjects import View
    from spanwell.record import SpanRecord

_LONGEST = 200_000
"""Spans on all paths of a trace together."""


class Item(NamedTuple):
    """An element of an enumerated list: `number` counts from 0; `coverage` is its share of the root's time."""

    names: tuple[str, ...]
    number: int
    last: bool
    types: tuple[str, ...] = ()
    inferred: bool = False
    remote: bool = False
    coverage: float = 0.0
    message: str = ""


Path = list[int]


def paths(view: View, kind: str) -> list[Path]:
    """Positions from where it is first felt down to the span that is it. `kind`: fault, error or responsetime."""
    return _slowest(view) if kind == "responsetime" else list(_failed(view, kind))


def _failed(view: View, kind: str) -> Iterator[Path]:
    trace = view.trace
    bad = {position for position, span in enumerate(trace.spans) if kind in status_of(span)}
    parents = {position: _felt_by(view, position, bad) for position in bad}
    reached = {parent for parent in parents.values() if parent is not None}
    left = _LONGEST
    for position in sorted(bad - reached):
        path: Path = []
        step: int | None = position
        while step is not None and left > 0:
            path.append(step)
            step = parents[step]
            left -= 1
        yield path[::-1]


def _felt_by(view: View, position: int, bad: set[int]) -> int | None:
    spans, parent = view.trace.spans, view.trace.parents[position]
    return parent if parent in bad and parent is not None and not detached(spans[parent], spans[position]) else None


def _slowest(view: View) -> list[Path]:
    """From the root to the longest child as long as that takes half of its parent's time or more."""
    trace = view.trace
    if trace.main is None:
        return []
    times = inner(trace, trace.main)
    path = [trace.main]
    while True:
        start, end = times[path[-1]]
        below = [child for child in trace.children.get(path[-1], ()) if child in times]
        longest = max(below, key=lambda child: times[child][1] - times[child][0], default=None)
        if longest is None or 2 * (times[longest][1] - times[longest][0]) < max(1, end - start):
            return [path]
        path.append(longest)


def items(view: View, path: Path, part: str) -> list[Item]:
    """What `rootcause.….part` enumerates on a path."""
    if part == "exception":
        return _exceptions(view.trace.spans[path[-1]])
    return _services(view, path) if part == "service" else _entities(view, path)


def _services(view: View, path: Path) -> list[Item]:
    found: list[tuple[tuple[str, ...], tuple[str, ...], bool]] = []
    entry = -1
    for position in path:
        if view.entries[position] != entry:
            entry = view.entries[position]
            node = view.segments[entry]
            found.append((node.names, node.types, False))
        if position in view.inferred:
            called = view.inferred[position]
            found.append((called.names, called.types, True))
    last = len(found) - 1
    return [
        Item(names, index, index == last, types, inferred) for index, (names, types, inferred) in enumerate(found)
    ]


def _entities(view: View, path: Path) -> list[Item]:
    spans = view.trace.spans
    whole = spans[view.trace.main or 0].duration
    found = []
    for index, position in enumerate(path):
        span = spans[position]
        coverage = min(1.0, span.duration / whole) if whole else 0.0
        remote = span.kind in SENDING
        found.append(
            Item(_entity_names(view, position), index, index == len(path) - 1, remote=remote, coverage=coverage)
        )
    return found


def _entity_names(view: View, position: int) -> tuple[str, ...]:
    """A segment goes by its service, a call by its peer; both, like any span, by their own names, too."""
    span = view.trace.spans[position]
    if view.entries[position] == position:
        return span.service, span.name
    call = call_of(span)
    return (span.name, *inferred_node(span, call).names) if call is not None else (span.name,)


def _exceptions(span: SpanRecord) -> list[Item]:
    found = list(exceptions(span))
    return [
        Item(
            tuple(dict.fromkeys(filter(None, (kind, kind.rpartition(".")[2])))),
            index,
            index == len(found) - 1,
            remote=span.kind in SENDING,
            message=message,
        )
        for index, (kind, message) in enumerate(found)
    ]
