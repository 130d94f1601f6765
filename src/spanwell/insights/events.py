"""A log event for each problem that is new in this process, through OpenTelemetry's Logs API."""

from __future__ import annotations

import threading
import time

from spanwell._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.trace import SpanContext

    from spanwell.insights.model import Insight

NAME = "spanwell.insight"
BURST, RATE = 10.0, 1.0
"""Events at once, and a second."""

MOST = 2000
"""Fingerprints remembered; beyond, the oldest are forgotten, and would be told of again."""


class Events:
    """Emits one log event for each new fingerprint, no more than `RATE` a second after a burst of `BURST`.

    What the rate leaves out is told of when it is found again; `held_back` counts how often that was.
    """

    def __init__(
        self, emit: Callable[[Insight, str, SpanContext | None], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[str, None] = {}
        self._tokens = BURST
        self._at = self._clock()
        self.held_back = 0

    def __call__(self, insight: Insight, fingerprint: str, context: SpanContext | None) -> None:
        """An insight was found; context: of the local root, if it is about one."""
        if fingerprint not in self._known and self._is_new(fingerprint):
            self._emit(insight, fingerprint, context)

    def _is_new(self, fingerprint: str) -> bool:
        with self._lock:
            if fingerprint in self._known:
                return False
            now = self._clock()
            self._tokens = min(BURST, self._tokens + max(0.0, now - self._at) * RATE)
            self._at = now
            if self._tokens < 1:
                self.held_back += 1
                return False
            self._tokens -= 1
            self._known[fingerprint] = None
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]
            return True


def emit(insight: Insight, fingerprint: str, context: SpanContext | None) -> None:
    """One event to the global LoggerProvider."""
    from opentelemetry._logs import SeverityNumber, get_logger
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    numbers = {"error": SeverityNumber.ERROR, "warning": SeverityNumber.WARN}
    attributes: dict[str, Any] = {
        "spanwell.insight.type": insight.type,
        "spanwell.insight.severity": insight.severity,
        "spanwell.insight.fingerprint": fingerprint,
        "spanwell.insight.evidence": tuple(insight.evidence[:10]),
    }
    for key, value in list(insight.values.items())[:8]:
        if isinstance(value, (bool, int, float, str)):
            attributes.setdefault(f"spanwell.insight.{insight.type}.{key}", value)
    now = time.time_ns()
    get_logger("spanwell.insights").emit(
        timestamp=now,
        observed_timestamp=now,
        # The local root's, which is no longer current when its end is looked at.
        context=Context() if context is None else set_span_in_context(NonRecordingSpan(context), Context()),
        severity_number=numbers.get(insight.severity, SeverityNumber.INFO),
        severity_text=insight.severity.upper(),
        body=insight.sentence[:1000],
        attributes=attributes,
        event_name=NAME,
    )
