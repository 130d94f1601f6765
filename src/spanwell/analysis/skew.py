"""Clock skew: spans of another host moved to where their callers' clocks allow. What is stored stays raw."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from spanwell.analysis.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwell.record import SpanRecord

    Pair = tuple[str, str]
    Bounds = tuple[float, float]

_HOST = ("host.id", "host.name", "k8s.pod.uid", "k8s.pod.name", "container.id", "faas.instance")

_WAITING = ("client", "internal")  # of a server that calls without a client's span nobody knows whether it waited


class Adjusted(NamedTuple):
    """`tree` with the times adjusted. shifts: nanoseconds added to each of its spans, by position."""

    tree: Tree
    shifts: tuple[int, ...]

    @property
    def warning(self) -> bool:
        """Whether anything was moved, so that what is shown is not what was measured."""
        return any(self.shifts)

    @property
    def largest_ns(self) -> int:
        """The largest shift in either direction, nanoseconds."""
        return max(map(abs, self.shifts), default=0)


def adjust(tree: Tree) -> Adjusted:
    """Jaeger's adjustment on read, with one offset for two hosts. `tree` stays, and is returned if nothing moves.

    A span of another host has to lie within a caller that waited; it must not start before any other parent, nor
    if it takes longer. Where that is not so, the middle of the offsets with which all calls between the two hosts
    fit is added; if no offset does, or none is needed, nothing: work that goes on after an answer is no skew.
    Spans of one host move with their parents. Hosts are told apart by the resource, or if it names none by the
    service.
    Linear, but for sorting what moved by time.
    """
    spans, parents = tree.spans, tree.parents
    hosts = [_host(span) for span in spans]
    fits: dict[Pair, Bounds] = {}
    for position, parent in enumerate(parents):
        if parent is None or hosts[parent] == hosts[position]:
            continue
        if spans[parent].start_ns > 0 < spans[position].start_ns:  # some senders leave times out
            pair, fit = _fit(hosts[parent], hosts[position], *_bounds(spans[parent], spans[position]))
            known = fits.get(pair, (-inf, inf))
            fits[pair] = max(known[0], fit[0]), min(known[1], fit[1])
    offsets = {pair: offset for pair, fit in fits.items() if (offset := _offset(*fit))}
    if not offsets:
        return Adjusted(tree, (0,) * len(spans))
    shifts = [0] * len(spans)
    for position in tree.downwards:
        parent = parents[position]
        if parent is not None:
            shifts[position] = shifts[parent] + _between(offsets, hosts[parent], hosts[position])
    return _moved(tree, [shift if span.start_ns > 0 else 0 for span, shift in zip(spans, shifts, strict=True)])


def _bounds(parent: SpanRecord, child: SpanRecord) -> Bounds:
    """What the child's clock may be behind the parent's, at least and at most."""
    earliest = parent.start_ns - child.start_ns
    if child.duration > parent.duration or not parent.duration or parent.kind not in _WAITING:
        return earliest, inf
    return earliest, earliest + parent.duration - child.duration


def _fit(parent: str, child: str, low: float, high: float) -> tuple[Pair, Bounds]:
    """The bounds by the pair of hosts in alphabetical order, for the second of them."""
    return ((parent, child), (low, high)) if parent < child else ((child, parent), (-high, -low))


def _offset(low: float, high: float) -> int:
    if low <= 0 <= high or low > high:
        return 0
    if high == inf:
        return int(low)
    if low == -inf:
        return int(high)
    return int(low + (high - low) // 2)


def _between(offsets: dict[Pair, int], parent: str, child: str) -> int:
    return offsets.get((parent, child), 0) if parent < child else -offsets.get((child, parent), 0)


def _moved(tree: Tree, shifts: Sequence[int]) -> Adjusted:
    moved = [_shifted(span, shift) for span, shift in zip(tree.spans, shifts, strict=True)]
    order = sorted(range(len(moved)), key=lambda position: (moved[position].start_ns, -moved[position].end_ns))
    place = {old: new for new, old in enumerate(order)}
    found = Tree(moved[old] for old in order)
    # the same parents: where span ids repeat, the new order must not choose others
    parents = [tree.parents[old] for old in order]
    found.parents = tuple(None if parent is None else place[parent] for parent in parents)
    return Adjusted(found, tuple(shifts[old] for old in order))


def _shifted(span: SpanRecord, shift: int) -> SpanRecord:
    if not shift:
        return span
    events = tuple(event._replace(time_ns=event.time_ns + shift) for event in span.events)
    return span._replace(start_ns=span.start_ns + shift, end_ns=span.end_ns + shift, events=events)


def _host(span: SpanRecord) -> str:
    for name in _HOST:
        value = span.resource.get(name)
        if value:
            return f"{name}={value}"
    return span.service
