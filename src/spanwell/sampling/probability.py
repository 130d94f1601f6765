"""Consistent probability sampling: W3C randomness, thresholds and adjusted counts.

Source: the OpenTelemetry specification, "TraceState: Probability Sampling". A trace is kept if its 56 random bits
R are at least the threshold T = (1 - p) * 2**56, so services with other probabilities keep subsets of one another's
traces. The SDK's TraceIdRatioBased keeps the opposite end of the range and must not be mixed with this.
"""

from __future__ import annotations

from opentelemetry.trace import TraceState

MAX = 1 << 56
"""One more than the largest randomness; a threshold of MAX keeps nothing."""


def threshold(probability: float) -> int:
    """The threshold T of `probability`; MAX for none, 0 for all."""
    return min(MAX, max(0, round((1.0 - probability) * MAX)))


def randomness(trace_id: int, state: TraceState | None = None) -> int:
    """R: `rv` of the tracestate's `ot` entry where somebody set it, else the low 56 bits of the trace id."""
    if state:
        explicit = _field(state, "rv")
        if len(explicit) == 14 and _is_hex(explicit):
            return int(explicit, 16)
    return trace_id & (MAX - 1)


def encode(threshold: int) -> str:
    """The value of `th`: 14 hexadecimal digits without trailing zeros, at least one."""
    return f"{threshold:014x}".rstrip("0") or "0"


def decode(th: str) -> int | None:
    """The threshold in a `th` value of 1 to 14 hexadecimal digits, or None."""
    return int(th.ljust(14, "0"), 16) if 1 <= len(th) <= 14 and _is_hex(th) else None


def adjusted_count(state: TraceState | None) -> float | None:
    """How many traces the one with this tracestate stands for; None where nobody can know."""
    found = threshold_in(state)
    return None if found is None else MAX / (MAX - found)


def threshold_in(state: TraceState | None) -> int | None:
    """The threshold that `th` of the tracestate tells, or None."""
    return decode(_field(state, "th")) if state else None


def with_threshold(state: TraceState | None, threshold: int | None) -> TraceState | None:
    """`state` with `th` of its `ot` entry set to `threshold`, or removed for None; other fields stay."""
    if threshold is None and (not state or not _field(state, "th")):
        return state
    old = state.get("ot") if state else None
    fields = [each for each in (old or "").split(";") if each and not each.startswith("th:")]
    if threshold is not None:
        fields.insert(0, f"th:{encode(threshold)}")
    if not state:
        return TraceState([("ot", ";".join(fields))])
    if not fields:
        return state.delete("ot")
    value = ";".join(fields)
    return state.update("ot", value) if old is not None else state.add("ot", value)


def _field(state: TraceState, name: str) -> str:
    for each in (state.get("ot") or "").split(";"):
        key, _, value = each.partition(":")
        if key == name:
            return value
    return ""


def _is_hex(text: str) -> bool:
    return not text.strip("0123456789abcdef")
