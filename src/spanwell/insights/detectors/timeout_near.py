"""Work that came close to its time limit, or calls that ran into theirs.

- A Lambda invocation that had at most 10 % of its time left (default) when it ended: `spanwell.lambda.remaining_ms`
  on the local root, written by the Lambda wrapper. Any other entry whose limit is known, as `spanwell.timeout_ms`.
- A call that failed by a timeout of its own: the error's type says so, in the old or the stable conventions. Where
  its limit is known too (the message says `read timeout=5`, or `spanwell.timeout_ms` does), it must have come close
  to it. An answer 408 or 504 is somebody else's limit.
"""

from __future__ import annotations

import re

from spanwell.analysis import calls
from spanwell.analysis.tree import SENDING
from spanwell.insights import wording
from spanwell.insights.model import ERROR, WARNING, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "timeout_near"
DEFAULTS = {"timeout_near.ratio": 0.1}

REMAINING_MS = "spanwell.lambda.remaining_ms"
"""Milliseconds a Lambda invocation had left when its local root ended; 0 or less when it was cut."""
TIMEOUT_MS = "spanwell.timeout_ms"
"""Milliseconds that a request or a call may take, where somebody knows."""

_MS = 1_000_000
_MOST = 10
_MAX_READ = 512
_TYPE = re.compile(r"time[d_]?_?out|deadline_?exceeded", re.IGNORECASE)
_SAID = re.compile(r"\btimed out\b|\btimeout\b|deadline exceeded", re.IGNORECASE)
_LIMIT = re.compile(
    r"(?:time ?out[ =:]+(?:of |after )?|timed out after )(\d{1,9}(?:\.\d{1,9})?) ?(ms|milliseconds)?", re.IGNORECASE
)
_ANSWERED = frozenset(("408", "504"))


def may(hints: Hints) -> bool:
    """Whether the local root knows its limit, or anything failed."""
    return hints.errors > 0 or REMAINING_MS in hints.root_attributes or TIMEOUT_MS in hints.root_attributes


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """The local root first, then the calls by what they call."""
    ratio = thresholds.get("timeout_near.ratio", fragment.operation)
    if fragment.root is not None and fragment.root.kind not in SENDING:
        yield from _entry(fragment.root, ratio)
    found: dict[tuple[str, str], list[SpanRecord]] = {}
    for span in fragment.spans:
        if span.status == "error" and span.kind in SENDING and _timed_out(span, ratio):
            call = calls.call_of(span)
            if call is not None:
                found.setdefault((call.peer, call.operation), []).append(span)
    asked = calls.operation_of(fragment.root) if fragment.root is not None else ""
    for (peer, operation), spans in found.items():
        yield _call(asked, peer, operation, spans)


def _entry(root: SpanRecord, ratio: float) -> Iterable[Insight]:
    took = root.duration / _MS
    remaining, limit = _number(root.attributes, REMAINING_MS), _number(root.attributes, TIMEOUT_MS)
    if remaining is None and limit is not None:
        remaining = limit - took
    elif remaining is not None:
        limit = max(remaining, 0) + took
    if remaining is None or not limit or limit < 0 or remaining > ratio * limit:
        return
    name = calls.operation_of(root)
    left = f"{wording.duration(remaining)} left" if remaining > 0 else "nothing left"
    yield Insight(
        NAME,
        WARNING if remaining > 0 else ERROR,
        f"{name} took {wording.duration(took)} of the {wording.duration(limit)} it may take, {left}: find what made "
        "it slow, give slow calls shorter timeouts, or raise the limit.",
        (name,),
        (root.span_id,),
        {"duration_ms": took, "limit_ms": limit, "remaining_ms": remaining},
    )


def _call(asked: str, peer: str, operation: str, spans: list[SpanRecord]) -> Insight:
    longest = max(span.duration for span in spans) / _MS
    times = f"{len(spans)} times" if len(spans) > 1 else "once"
    what = f"{operation} at {peer}" if peer else operation
    return Insight(
        NAME,
        WARNING,
        f"The call {what} ran into its timeout {times}, after {wording.duration(longest)}: see why it is slow, and "
        "whether the timeout fits what its caller can wait.",
        (asked, peer, operation),
        tuple(span.span_id for span in spans[:_MOST]),
        {"count": len(spans), "duration_ms": longest, "peer": peer, "call": operation},
    )


def _timed_out(span: SpanRecord, ratio: float) -> bool:
    kind, message = _error(span)
    if kind in _ANSWERED:
        return False
    status = span.attributes.get("rpc.grpc.status_code")
    expired = _TYPE.search(kind) is not None or (status.__class__ is int and status == 4)
    # Drivers name the error after its effect: only the message says what cancelled a statement.
    if not expired and (kind.isdigit() or _SAID.search(message) is None):
        return False
    limit = _number(span.attributes, TIMEOUT_MS)
    if limit is None:
        limit = _limit(message)
    return limit is None or span.duration / _MS >= (1 - ratio) * limit


def _error(span: SpanRecord) -> tuple[str, str]:
    """(type, message) of what made the call fail."""
    kind, message = calls.first(span.attributes, "error.type", "rpc.response.status_code"), span.status_message
    for event in span.events:
        if event.name == "exception":
            kind = kind or calls.first(event.attributes, "exception.type")
            message = f"{message} {calls.first(event.attributes, 'exception.message')[:_MAX_READ]}"
            break
    return kind.rpartition(".")[2], message[: 2 * _MAX_READ]


def _limit(message: str) -> float | None:
    """Milliseconds that the message names as the limit."""
    found = _LIMIT.search(message)
    if found is None:
        return None
    return float(found[1]) * (1 if found[2] else 1_000)


def _number(attributes: Mapping[str, Any], key: str) -> float | None:
    value = attributes.get(key)
    if value.__class__ in (int, float) and value == value:
        return float(value)
    return None
