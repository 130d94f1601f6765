"""Adaptive sampling: spans that ended badly raise the rate of their rule, and go out although they were not sampled.

As AWS's distro does it, with the same configuration, attributes and tracestate; it needs no Application Signals.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from opentelemetry.trace import StatusCode

from spanwell import _guard
from spanwell._children import in_child
from spanwell._otel import spans
from spanwell.sampling.outcome import PROMOTED, REASON
from spanwell.sampling.reservoir import TokenBucket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceState

    from spanwell.sampling.adaptive_config import Config
    from spanwell.sampling.parentbased import Surroundings

    class BoostCounter(Protocol):
        """Counts the traces of one rule that the service may boost."""

        @property
        def default_detection(self) -> bool:
            """Whether 5xx and errors are anomalies of it where the configuration has no conditions."""

        def count(self, *, anomalous: bool, sampled: bool) -> None:
            """One more trace."""

    class Boosts(Protocol):
        """The rules that the service may boost, as known by now."""

        @property
        def any_boost(self) -> bool:
            """Whether there is one at all."""

        def for_hash(self, hashed_rule_name: str) -> BoostCounter | None:
            """The rule whose hashed name this is, if it may be boosted."""


CONFIGURED = "aws.xray.adaptive_sampling_configured"
"""True on the local roots of a process that has an adaptive sampling configuration."""

RULE_HASH = "xrsr"
"""The key in the tracestate that tells which rule decided, by `rule_hash` of its name."""

_COUNTED, _ANOMALOUS, _CAPTURED = 1, 2, 4


def rule_hash(name: str) -> str:
    """What stands for a rule in the tracestate: the first 8 bytes of the name's SHA-256, in hexadecimal."""
    from hashlib import sha256

    return sha256(name.encode("utf-8", "replace")).hexdigest()[:16]


class Adaptive:
    """Looks at every ended span, for one sampler: a stage (`on_end`), and what that sampler asks about recording.

    config: None where nothing is configured; then only rules that the service may boost are looked after. boosts:
    where traces are counted. A trace is counted once, when its local root ends, as anomalous if one of its spans was
    until then. With capture, one token makes every span of that trace that ends from then on leave; sampled traces
    take none. At most `limit` traces are remembered, the latest.
    """

    def __init__(
        self,
        config: Config | None,
        boosts: Boosts,
        *,
        clock: Callable[[], float] = time.monotonic,
        limit: int = 10_000,
    ) -> None:
        self.configured = config is not None
        self._config = config
        self._boosts = boosts
        self._clock = clock
        self._limit = limit
        self._promote: Callable[[ReadableSpan], None] | None = None
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        # Re-entrant: the garbage collector may end a generator's span while this thread is in here.
        self._lock = threading.RLock()
        self._traces: OrderedDict[int, int] = OrderedDict()
        self._tokens = TokenBucket(self._config.traces_per_second if self._config else 0.0)

    def connect(self, around: Surroundings) -> None:
        """Learn where spans go, and be shown those that end."""
        if self._config is not None and self._config.captures:
            self._promote = around.promote
            if around.promote is None:
                _guard.warn_once(
                    "adaptive:promote",
                    "spanwell: adaptive sampling counts anomalies but captures none: nothing here can export a span "
                    "that is not sampled; use spanwell's configurator",
                )
        around.stages.append(self)

    @property
    def captures(self) -> bool:
        """Whether unsampled spans may leave: then all of them must be recorded."""
        return self._promote is not None

    def records_root(self, boosted: bool) -> bool:
        """Whether an unsampled root must be recorded; `boosted`: the service may boost the rule that decided."""
        return boosted or self._promote is not None

    def records_child(self, parent: SpanContext) -> bool:
        """Whether an unsampled span with this parent must be recorded. Without capture local roots are enough: then
        only they are looked at, whether sampled or not."""
        if self._promote is not None:
            return True
        return parent.is_remote and self._boosts.any_boost and self._counter(parent.trace_state) is not None

    def on_end(self, span: ReadableSpan) -> None:
        """Detect, count, capture."""
        counting = self._boosts.any_boost
        context = span.get_span_context()
        if context is None or not (counting or (self._promote is not None and not context.trace_flags & 1)):
            return
        parent = span.parent
        is_local_root = parent is None or parent.is_remote
        if self._promote is None and not is_local_root:
            return
        counter = self._counter(context.trace_state) if counting else None
        sampled = bool(context.trace_flags & 1)
        if counter is None and sampled:
            return
        boosts, captures = detect(self._config, span, counter is None or counter.default_detection)
        wants_capture = captures and not sampled and self._promote is not None and not _has_left(span)
        before, after = self._remember(context.trace_id, counter is not None, is_local_root, boosts, wants_capture)
        if counter is not None and after & _COUNTED and not before & _COUNTED:
            counter.count(anomalous=bool(after & _ANOMALOUS), sampled=sampled)
        if after & _CAPTURED and not sampled:
            self._capture(span, is_local_root)

    def _counter(self, state: TraceState) -> BoostCounter | None:
        hashed = state.get(RULE_HASH) if state else None
        return self._boosts.for_hash(hashed) if hashed else None

    def _remember(self, trace_id: int, counts: bool, is_root: bool, boosts: bool, captures: bool) -> tuple[int, int]:
        """What was known of the trace, and what is now."""
        with self._lock:
            traces = self._traces
            before = traces.get(trace_id, 0)
            after = before
            if counts:
                after |= (_ANOMALOUS if boosts else 0) | (_COUNTED if is_root else 0)
            if captures and not before & _CAPTURED and self._tokens.take(self._clock()):
                after |= _CAPTURED
            if after != before:
                traces[trace_id] = after
                if len(traces) > self._limit:
                    traces.popitem(last=False)
            if before:
                traces.move_to_end(trace_id)
        return before, after

    def _capture(self, span: ReadableSpan, is_local_root: bool) -> None:
        promote = self._promote
        if promote is None or _has_left(span):
            return
        written: dict[str, Any] = {PROMOTED: False}
        if is_local_root:
            written[REASON] = "anomaly"
        spans.write(span, written)
        promote(span)


def detect(config: Config | None, span: ReadableSpan, default: bool = True) -> tuple[bool, bool]:
    """Whether this ended span is an anomaly (that may boost, that may be captured).

    default: whether 5xx and errors are anomalies where `config` has no conditions.
    """
    attributes = span.attributes or {}
    code = _status_code(attributes)
    if config is None or not config.conditions:
        found = default and _is_failure(span, code)
        return found, found
    nanoseconds = (span.end_time or 0) - (span.start_time or 0)
    operation: str | None = None
    boosts = captures = False
    for condition in config.conditions:
        if (boosts or not condition.boosts) and (captures or not condition.captures):
            continue  # it could add nothing
        if condition.operations is not None:
            operation = operation_of(attributes) if operation is None else operation
            if operation not in condition.operations:
                continue
        if condition.holds(code, nanoseconds):
            boosts, captures = boosts or condition.boosts, captures or condition.captures
    return boosts, captures


def _has_left(span: ReadableSpan) -> bool:
    """Whether another stage, `tail`, has promoted it already."""
    return PROMOTED in (span.attributes or {})


def _status_code(attributes: Mapping[str, Any]) -> str:
    """The HTTP status as text, of either convention; "" where there is none."""
    code = attributes.get("http.response.status_code")
    if code is None:
        code = attributes.get("http.status_code")
    if isinstance(code, str):
        return code
    return str(code) if isinstance(code, int) else ""


def _is_failure(span: ReadableSpan, code: str) -> bool:
    if code.isdecimal():
        return len(code) < 8 and int(code) > 499
    return span.status.status_code is StatusCode.ERROR


def operation_of(attributes: Mapping[str, Any]) -> str:
    """The name by which conditions know what a span does: aws.local.operation, else `GET /first-segment` of an HTTP
    request, else UnknownOperation."""
    named = attributes.get("aws.local.operation")
    if named is not None:
        return str(named)
    path = _path(attributes)
    if path is None:
        return "UnknownOperation"
    method = attributes.get("http.request.method") or attributes.get("http.method")
    first = "/" + path[1:].partition("/")[0] if path.startswith("/") else "/"
    return f"{method} {first}" if method else first


def _path(attributes: Mapping[str, Any]) -> str | None:
    """The path of the request without its query, or None where none is known."""
    for key in ("url.path", "http.target"):
        found = attributes.get(key)
        if found is not None:
            return str(found).partition("?")[0].partition("#")[0]
    for key in ("url.full", "http.url"):
        found = attributes.get(key)
        if found is not None:
            rest = str(found).partition("://")[2].partition("?")[0].partition("#")[0]
            slash, path = rest.partition("/")[1:]
            return slash + path
    return None
