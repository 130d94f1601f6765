"""The words that the sentences of all detectors share."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.analysis.calls import Call
    from spanwell.insights.model import Fragment
    from spanwell.record import SpanRecord

MS = 1_000_000
MAX_EVIDENCE = 10


def duration(milliseconds: float) -> str:
    """`8.2 ms`, `340 ms`, `7.2 s`."""
    if milliseconds >= 1_000:
        return f"{milliseconds / 1_000:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def took(nanoseconds: float) -> str:
    """The same for nanoseconds."""
    return duration(nanoseconds / MS)


def milliseconds(nanoseconds: float) -> float:
    """As a value of an insight."""
    return round(nanoseconds / MS, 3)


def operation(fragment: Fragment) -> str:
    """What the service was asked for, without values; "" where the local root has not ended."""
    from spanwell.analysis.calls import operation_of

    return operation_of(fragment.root) if fragment.root is not None else ""


def subject(fragment: Fragment) -> str:
    """The same, to begin a sentence with."""
    return operation(fragment) or "A trace without its root"


def called(call: Call) -> str:
    """`SELECT items (postgresql:shop)`."""
    return f"{call.operation} ({call.peer})" if call.peer and call.peer not in call.operation else call.operation


def what(span: SpanRecord) -> str:
    """A span in a sentence or a fingerprint: what it calls, or its own name."""
    from spanwell.analysis.calls import call_of, operation_of

    call = call_of(span)
    return called(call) if call is not None else operation_of(span)


def evidence(spans: Iterable[SpanRecord]) -> tuple[str, ...]:
    """The ids of the first ten."""
    return tuple(span.span_id for span, _ in zip(spans, range(MAX_EVIDENCE), strict=False))


def plural(count: int, noun: str) -> str:
    """`1 call`, `3 calls`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
