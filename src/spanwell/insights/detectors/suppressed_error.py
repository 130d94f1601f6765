"""A call or a step failed, and whoever asked for it went on as if nothing had happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import error_type, status_of
from spanwell.analysis.retries import find_retries
from spanwell.analysis.root_cause import find_errors
from spanwell.insights.model import INFO, Insight
from spanwell.insights.wording import evidence, operation, plural, subject, what

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.analysis.tree import Tree
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "suppressed_error"
DEFAULTS = {"suppressed_error.count": 1}

# Answers that say "there is none" or "somebody was faster", which callers ask for.
_ANSWERS = frozenset((404, 409, 410, 412))
_CODES = frozenset(
    (
        "404",
        "NoSuchKey",
        "ConditionalCheckFailedException",
        "ResourceNotFoundException",
        "NOT_FOUND",
        "ALREADY_EXISTS",
    )
)
_RECEIVING = ("server", "consumer")


def may(hints: Hints) -> bool:
    return hints.errors > 0 and hints.spans > 1


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """One a failed step. Not: retries that worked in the end, and errors that the caller was told of by a status."""
    tree = fragment.tree
    suppressed = find_errors(tree).suppressed
    if not suppressed:
        return
    recovered = {position for attempts in find_retries(tree) if attempts.recovered for position in attempts.spans}
    told = _told(tree)
    found: dict[tuple[str, str], list[SpanRecord]] = {}
    for position in suppressed:
        span = tree.spans[position]
        kind = error_type(span)
        if position not in recovered and not told[position] and not _is_answer(span, kind):
            found.setdefault((what(span), kind), []).append(span)
    for (where, kind), spans in found.items():
        if len(spans) >= max(1, thresholds.get("suppressed_error.count", fragment.operation)):
            yield _insight(fragment, where, kind or "an error", spans)


def _told(tree: Tree) -> list[bool]:
    """For each span whether the request that it belongs to was answered with an error, by status or otherwise."""
    told = [False] * len(tree.spans)
    for position in tree.downwards:
        span, parent = tree.spans[position], tree.parents[position]
        above = parent is not None and told[parent]
        told[position] = status_of(span.attributes) >= 400 if span.kind in _RECEIVING else above
    return told


def _is_answer(span: SpanRecord, kind: str) -> bool:
    return status_of(span.attributes) in _ANSWERS or kind in _CODES


def _insight(fragment: Fragment, where: str, kind: str, spans: list[SpanRecord]) -> Insight:
    times = f" {plural(len(spans), 'time')}" if len(spans) > 1 else ""
    return Insight(
        NAME,
        INFO,
        f"{subject(fragment)} went on although {where} failed{times} with {kind}: "
        "if that is meant, record it (a log line, a fallback's span); else let it fail.",
        (operation(fragment), where, kind),
        evidence(spans),
        {"count": len(spans), "step": where, "error": kind},
    )
