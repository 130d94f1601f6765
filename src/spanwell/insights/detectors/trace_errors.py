"""Spans failed: where it began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import error_type
from spanwell.analysis.root_cause import find_errors
from spanwell.insights.model import ERROR, Insight
from spanwell.insights.wording import evidence, operation, plural, subject, what

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "trace_errors"
DEFAULTS = {"trace_errors.count": 1}


def may(hints: Hints) -> bool:
    return hints.errors > 0


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """At most one: of the errors that brought the root down, or else of all, the first is named."""
    tree, root = fragment.tree, fragment.root
    failed = sum(span.is_error for span in tree.spans)
    if failed < max(1, thresholds.get("trace_errors.count", fragment.operation)):
        return
    errors = find_errors(tree, None if root is None else tree.spans.index(root))
    origins = [tree.spans[position] for position in errors.causes or errors.own]
    first = origins[0]
    kind, where = error_type(first) or "an error", what(first)
    yield Insight(
        NAME,
        ERROR,
        _sentence(fragment, first, kind, where, len(origins)),
        (operation(fragment), where, kind),
        evidence(origins),
        {"count": failed, "root_cause": where, "error": kind, "failed": root is not None and root.is_error},
    )


def _sentence(fragment: Fragment, first: SpanRecord, kind: str, where: str, origins: int) -> str:
    root, name = fragment.root, subject(fragment)
    others = f" (and {plural(origins - 1, 'other span')})" if origins > 1 else ""
    if root is first:
        return f"{name} failed by itself with {kind}: no call below it failed, so look at its own code."
    service = f" in {first.service}" if root is not None and first.service != root.service else ""
    if root is not None and root.is_error:
        return f"{name} failed because {where}{service} failed with {kind}{others}: start there."
    return f"In {name}, {where}{service} failed with {kind}{others}, and the request went on: check what was lost."
