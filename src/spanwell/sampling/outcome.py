"""What a decision says: the result for the SDK, its reason, and how often each was made."""

from __future__ import annotations

import threading

from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.trace import TraceState

REASON = "spanwell.sampling.reason"
"""Why a local root was kept: parent, reservoir, borrowed, rate, boost, fallback, slow, error, status, attribute, …"""

RULE = "aws.xray.sampling_rule"
"""Which rule decided, by its name."""

PROMOTED = "aws.trace.flag.sampled"
"""False on a span that leaves although its trace flags say unsampled."""

DROP = SamplingResult(Decision.DROP)


def dropped(state: TraceState | None = None) -> SamplingResult:
    """Not recorded, not sampled; what came in `state` goes on to the children."""
    return SamplingResult(Decision.DROP, None, state) if state else DROP


def kept(
    attributes: Mapping[str, Any] | None, reason: str, rule: str = "", state: TraceState | None = None
) -> SamplingResult:
    """Recorded and sampled, for `reason`, by the rule of that name."""
    written = dict(attributes) if attributes else {}
    written[REASON] = reason
    if rule:
        written[RULE] = rule
    return SamplingResult(Decision.RECORD_AND_SAMPLE, written, state)


class Tally:
    """Counts of decisions in this process: (rule, reason) -> number. Thread-safe; bounded by `limit` keys.

    The reason of a trace that is not kept is "dropped".
    """

    def __init__(self, limit: int = 1000) -> None:
        self._lock = threading.RLock()  # re-entrant: a finalizer may end a span while this thread is in here
        self._counts: dict[tuple[str, str], int] = {}
        self._limit = limit

    def add(self, rule: str, reason: str) -> None:
        """One more decision."""
        key = (rule, reason)
        with self._lock:
            counts = self._counts
            if key in counts:
                counts[key] += 1
                return
            if len(counts) >= self._limit:
                key = ("other", reason)
            counts[key] = counts.get(key, 0) + 1

    def snapshot(self) -> dict[tuple[str, str], int]:
        """A copy of every count."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Start again from nothing, in a forked child."""
        self._lock = threading.RLock()
        self._counts = {}
