"""The part of each span's time that lies within its parent's: what a caller can have waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.tree import RECEIVING, SENDING

if TYPE_CHECKING:
    from spanwell.analysis.tree import Tree
    from spanwell.record import SpanRecord

    Interval = tuple[int, int]


def detached(parent: SpanRecord, child: SpanRecord) -> bool:
    """Whether `child` handles a message of `parent`, which does not wait for it."""
    return child.kind == RECEIVING[1] and parent.kind == SENDING[1]


def inner(tree: Tree, top: int) -> dict[int, Interval]:
    """(start, end) in Unix nanoseconds of `top` and of what is below it, each cut to its parent's; parents first.

    Left out, with all below: what lies outside its parent, and what handles its parent's message. A span
    whose clock went backwards takes no time. Linear.
    """
    spans, children = tree.spans, tree.children
    found = {top: (spans[top].start_ns, max(spans[top].start_ns, spans[top].end_ns))}
    reached = [top]
    for position in reached:  # grows while it is walked
        start, end = found[position]
        for child in children.get(position, ()):
            span = spans[child]
            cut = max(start, span.start_ns), min(end, max(span.start_ns, span.end_ns))
            if cut[0] <= cut[1] and not detached(spans[position], span):
                found[child] = cut
                reached.append(child)
    return found
