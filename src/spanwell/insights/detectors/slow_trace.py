"""The local root takes longer than it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import is_waiting
from spanwell.analysis.self_time import self_times
from spanwell.insights.model import WARNING, Insight
from spanwell.insights.wording import MS, milliseconds, operation, took, what

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds

NAME = "slow_trace"
DEFAULTS = {"slow_trace.duration_ms": 5_000}


def may(hints: Hints) -> bool:
    return hints.thresholds is None or hints.root_ns > hints.threshold("slow_trace.duration_ms") * MS


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """At most one. A long poll or a web socket is not slow: it waits."""
    root = fragment.root
    if root is None:
        return
    limit = thresholds.get("slow_trace.duration_ms", fragment.operation) * MS
    if root.duration <= limit or is_waiting(root):
        return
    tree = fragment.tree
    times = self_times(tree, tree.spans.index(root))
    most = max(times, key=times.__getitem__, default=0)
    span = tree.spans[most]
    where, share = what(span), took(times.get(most, 0))
    if span is root:
        advice = f"{share} of it in its own code: profile it, or add spans around its steps."
    else:
        advice = f"{share} of it in {where}: start there."
    name = operation(fragment)
    yield Insight(
        NAME,
        WARNING,
        f"{name} took {took(root.duration)} (more than {took(limit)}), {advice}",
        (name,),
        (root.span_id,) if span is root else (root.span_id, span.span_id),
        {"duration_ms": milliseconds(root.duration), "slowest": where},
    )
