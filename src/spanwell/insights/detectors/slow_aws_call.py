"""A call of an AWS SDK that takes long (default: over 1 s; of a model, which writes its answer, over 20 s).

Long polls (`ReceiveMessage`, `GetActivityTask`) are left alone. One insight a service and operation.
"""

from __future__ import annotations

from spanwell.analysis import calls
from spanwell.analysis.tree import SENDING
from spanwell.insights import wording
from spanwell.insights.model import INFO, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "slow_aws_call"
DEFAULTS = {"slow_aws_call.duration_ms": 1_000, "slow_aws_call.model_duration_ms": 20_000}

_MODELS = frozenset(("Bedrock Runtime", "Bedrock Agent Runtime", "Bedrock AgentCore", "SageMaker Runtime"))
_MS = 1_000_000
_MOST = 10


def may(hints: Hints) -> bool:
    """Whether an AWS call is as long as a slow one."""
    if hints.thresholds is None:
        return hints.longest_aws_ns > 0
    least = min(hints.threshold(name) for name in DEFAULTS)
    return hints.longest_aws_ns > least * _MS


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """Group the slow calls by service and operation."""
    operation = fragment.operation
    usual, model = (thresholds.get(name, operation) * _MS for name in DEFAULTS)
    least = min(usual, model)
    found: dict[tuple[str, str], list[SpanRecord]] = {}
    for span in fragment.spans:
        took = span.end_ns - span.start_ns
        if took <= least or span.kind not in SENDING or not calls.aws_service(span.attributes):
            continue
        call = calls.call_of(span)
        if call is None or calls.is_waiting(span):
            continue
        if took > (model if call.peer in _MODELS else usual):
            found.setdefault((call.peer, call.operation), []).append(span)
    asked = calls.operation_of(fragment.root) if fragment.root is not None else ""
    return [_insight(asked, *call, spans) for call, spans in found.items()]


def _insight(asked: str, peer: str, operation: str, spans: list[SpanRecord]) -> Insight:
    spans.sort(key=lambda span: -span.duration)
    longest = spans[0].duration / _MS
    took = f"took {wording.duration(longest)}"
    if len(spans) > 1:
        took = f"was slow {len(spans)} times, the longest {wording.duration(longest)}"
    retries = max(_retries(span) for span in spans)
    why = f"it was tried {retries + 1} times; " if retries else ""
    return Insight(
        NAME,
        INFO,
        f"The AWS call {operation} {took}: {why}look at retries, the size of what it moves, the "
        "connection (region, new connections) and the service's own latency metric.",
        (asked, peer, operation),
        tuple(span.span_id for span in spans[:_MOST]),
        {
            "count": len(spans),
            "duration_ms": longest,
            "peer": peer,
            "call": operation,
            "retries": retries,
        },
    )


def _retries(span: SpanRecord) -> int:
    for key in ("retry_attempts", "http.request.resend_count"):
        value = span.attributes.get(key)
        if value.__class__ is int and value > 0:
            return min(int(value), 1_000)
    return 0
