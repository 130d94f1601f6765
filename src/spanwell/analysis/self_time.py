"""Self time: how long a span ran while none of its children did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.intervals import inner

if TYPE_CHECKING:
    from spanwell.analysis.tree import Tree


def self_times(tree: Tree, top: int | None = None) -> dict[int, int]:
    """Nanoseconds of the span at `top` (default: `tree.main`) and of what is below it, by position, parents first.

    A span's time minus the union of its children's, all cut to their parents' time (`intervals.inner`; what
    that leaves out is missing here). Never negative, never more than `top`'s duration. All together they are
    `top`'s duration if no siblings overlap; work side by side counts for each of those that did it. Linear.
    """
    if top is None:
        top = tree.main
    if top is None:
        return {}
    times = inner(tree, top)
    found = {position: end - start for position, (start, end) in times.items()}
    for position, children in tree.children.items():
        if position not in times:
            continue
        covered = times[position][0]  # children stand by start time, also when cut
        for child in children:
            if child in times:
                start, end = times[child]
                start = max(start, covered)
                if end > start:
                    found[position] -= end - start
                    covered = end
    return found
