"""Words that were looked for as text, but read like keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.explore.filters.errors import nearest
from spanwell.explore.filters.keywords import KEYWORDS
from spanwell.explore.filters.nodes import And, Edge, Not, Or, Service, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwell.explore.filters.nodes import Filter


def doubts(node: Filter) -> Iterator[str]:
    """`falt was looked for as text; did you mean fault?` for each such word: to be said when nothing matches."""
    if isinstance(node, Words):
        near = "" if node.quoted else nearest(node.text, KEYWORDS)
        if near:
            yield f"{node.text} was looked for as text{near}"
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            yield from doubts(part)
    elif isinstance(node, (Not, Service, Edge)) and node.inner is not None:
        yield from doubts(node.inner)
