"""One request is spread over many services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import outermost
from spanwell.insights.model import INFO, Insight
from spanwell.insights.wording import evidence, operation, plural, subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "high_service_count"
DEFAULTS = {"high_service_count.count": 5}

_SHOWN = 8


def may(hints: Hints) -> bool:
    # One process sees itself and those that it calls.
    return hints.thresholds is None or hints.clients >= hints.threshold("high_service_count.count")


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """At most one. Of a whole trace its services count (scope=whole), else this service and whom it calls (local)."""
    found = _services(fragment) if fragment.whole else _peers(fragment)
    if len(found) <= thresholds.get("high_service_count.count", fragment.operation):
        return
    own = {span.service for span in fragment.spans} if not fragment.whole else set()
    names = sorted(name for name in found if name not in own)
    listed = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    name = subject(fragment)
    services = f"{'itself and ' if own else ''}{plural(len(names), 'service')} ({listed})"
    sentence = f"{name} needs {services}: each can fail or delay it, so merge calls, or answer before they are done."
    yield Insight(
        NAME,
        INFO,
        sentence,
        (operation(fragment),),
        evidence(found.values()),
        {"count": len(found), "scope": "whole" if fragment.whole else "local"},
    )


def _services(fragment: Fragment) -> dict[str, SpanRecord]:
    found: dict[str, SpanRecord] = {}
    for span in fragment.spans:
        found.setdefault(span.service, span)
    return found


def _peers(fragment: Fragment) -> dict[str, SpanRecord]:
    found = _services(fragment)
    for position, call in outermost(fragment.tree):
        if call.peer:
            found.setdefault(call.peer, fragment.tree.spans[position])
    return found
