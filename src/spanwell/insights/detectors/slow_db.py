"""A database call that takes long (default: over 500 ms). Calls to DynamoDB are AWS calls: see `slow_aws_call`.

Commands that wait for something by design (`BLPOP`, `SUBSCRIBE`) are left alone. One insight a database and
operation, however many calls were slow.
"""

from __future__ import annotations

from spanwell.analysis import calls
from spanwell.insights import wording
from spanwell.insights.model import INFO, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "slow_db"
DEFAULTS = {"slow_db.duration_ms": 500}

_KINDS = ("client", "internal")
_MS = 1_000_000
_MOST = 10


def may(hints: Hints) -> bool:
    """Whether any span is as long as a slow call. Of databases in the own process the spans may be INTERNAL."""
    if hints.thresholds is None:
        return hints.longest_ns > 0
    return hints.longest_ns > hints.threshold("slow_db.duration_ms") * _MS


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """Group the slow calls by database and operation."""
    limit = thresholds.get("slow_db.duration_ms", fragment.operation) * _MS
    slow = {span.span_id: span for span in fragment.spans if span.end_ns - span.start_ns > limit and _is_call(span)}
    found: dict[tuple[str, str], list[SpanRecord]] = {}
    for span in slow.values():
        outer = slow.get(span.parent_id or "")
        # An ORM's span around that of its driver is the same call.
        if outer is None or outer is span or outer.trace_id != span.trace_id:
            call = calls.call_of(span._replace(kind="client"))
            if call is not None:
                found.setdefault((call.peer, call.operation), []).append(span)
    asked = calls.operation_of(fragment.root) if fragment.root is not None else ""
    return [_insight(asked, *call, spans) for call, spans in found.items()]


def _is_call(span: SpanRecord) -> bool:
    if span.kind not in _KINDS or not _system(span) or calls.aws_service(span.attributes):
        return False
    return not calls.is_waiting(span)


def _system(span: SpanRecord) -> str:
    return calls.first(span.attributes, "db.system.name", "db.system")


def _insight(asked: str, peer: str, operation: str, spans: list[SpanRecord]) -> Insight:
    spans.sort(key=lambda span: -span.duration)
    longest = spans[0].duration / _MS
    took = f"took {wording.duration(longest)}"
    if len(spans) > 1:
        took = f"was slow {len(spans)} times, the longest {wording.duration(longest)}"
    return Insight(
        NAME,
        INFO,
        f"{operation} at {peer} {took}: look at its query plan, its indexes and how many rows it reads.",
        (asked, peer, operation),
        tuple(span.span_id for span in spans[:_MOST]),
        {"count": len(spans), "duration_ms": longest, "peer": peer, "call": operation},
    )
