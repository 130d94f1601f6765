"""A call was made again because it had failed.

A loop that asks the same for each of its items, and goes on when one fails, looks the same in a trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import error_type
from spanwell.analysis.retries import find_retries
from spanwell.insights.model import WARNING, Insight
from spanwell.insights.wording import MS, called, evidence, milliseconds, operation, subject, took

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.analysis.retries import Attempts
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "retried_call"
DEFAULTS = {"retried_call.count": 2, "retried_call.gap_ms": 5_000}


def may(hints: Hints) -> bool:
    return hints.retries > 0 or (hints.errors > 0 and hints.clients >= 2)


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """One a call: that with the most attempts."""
    gap = thresholds.get("retried_call.gap_ms", fragment.operation) * MS
    least = max(2, thresholds.get("retried_call.count", fragment.operation))
    most: dict[tuple[str, str], Attempts] = {}
    for attempts in find_retries(fragment.tree, gap):
        key = (attempts.call.peer, attempts.call.operation)
        if attempts.times >= least and (key not in most or attempts.times > most[key].times):
            most[key] = attempts
    for attempts in most.values():
        yield _insight(fragment, attempts, [fragment.tree.spans[position] for position in attempts.spans])


def _insight(fragment: Fragment, attempts: Attempts, spans: list[SpanRecord]) -> Insight:
    call, taken = attempts.call, max(span.end_ns for span in spans) - spans[0].start_ns
    kind = next((error_type(span) for span in spans if span.is_error), "")
    reason = f" because of {kind}" if kind else ""
    if attempts.recovered:
        end = f"the last attempt worked: find out why {call.peer or call.operation} fails at first."
    else:
        end = "all failed: fail earlier, or wait longer between attempts."
    return Insight(
        NAME,
        WARNING,
        f"{subject(fragment)} called {called(call)} {attempts.times} times{reason} ({took(taken)}), {end}",
        (operation(fragment), call.peer, call.operation),
        evidence(spans),
        {
            "attempts": attempts.times,
            "outcome": "recovered" if attempts.recovered else "exhausted",
            "duration_ms": milliseconds(taken),
            "peer": call.peer,
            "operation": call.operation,
            **({"error": kind} if kind else {}),
        },
    )
