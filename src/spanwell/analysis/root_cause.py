"""Where errors began, how far they went, and where they were swallowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spanwell.analysis.intervals import detached

if TYPE_CHECKING:
    from spanwell.analysis.tree import Tree


class Errors(NamedTuple):
    """Positions of the spans with status error, by start time; each is either in `own` or in `propagated`.

    own: no child failed, the error began here, as far as the spans show: a caller that gave up may hide a child
    that was cancelled without an error. propagated: a child failed too. suppressed: those of both whose parent
    did not fail. causes: those of `own` that brought the span asked for down, over an unbroken chain of
    errors; several may have. The failure of who handles a message is not one of who sent it.
    """

    own: tuple[int, ...]
    propagated: tuple[int, ...]
    suppressed: tuple[int, ...]
    causes: tuple[int, ...]


def find_errors(tree: Tree, top: int | None = None) -> Errors:
    """All errors of the tree, and the causes of the one at `top` (default: `tree.main`). Linear."""
    if top is None:
        top = tree.main
    failed = tree.errors
    raised: dict[int, list[int]] = {}
    suppressed = []
    for position in failed:
        parent = tree.parents[position]
        if parent is None or detached(tree.spans[parent], tree.spans[position]):
            continue
        if tree.spans[parent].is_error:
            raised.setdefault(parent, []).append(position)
        else:
            suppressed.append(position)
    chain = [top] if top is not None and tree.spans[top].is_error else []
    for position in chain:  # grows while it is walked
        chain += raised.get(position, ())
    return Errors(
        own=tuple(position for position in failed if position not in raised),
        propagated=tuple(position for position in failed if position in raised),
        suppressed=tuple(suppressed),
        causes=tuple(sorted(position for position in chain if position not in raised)),
    )
