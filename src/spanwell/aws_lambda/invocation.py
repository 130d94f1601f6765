"""One invocation, from the runtime client's call of the handler to the handler's end.

Whether it can be exported is told by `choice`; only then `traced`, and with it the SDK, is imported. What goes wrong
here costs telemetry and is said once; the handler is called, its result returned and its error raised in any case.
"""

from __future__ import annotations

import os
import sys
import time

from spanwell import _guard, where
from spanwell._guard import failed, guard, logger
from spanwell.aws_lambda import choice, counts, start
from spanwell.aws_lambda.counts import Seen
from spanwell.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from spanwell.aws_lambda.counts import Counts

TRACE_HEADER = "_X_AMZN_TRACE_ID"
_SPARE = 0.05  # seconds before the function's time limit that are left to the response itself
_API = "opentelemetry.trace"
_EARLY = ("SPANWELL_LAMBDA_EAGER", "SPANWELL_LAZY_INSTRUMENTATION")
INITIALIZATION = "AWS_LAMBDA_INITIALIZATION_TYPE"

_current: Running | None = None
"""The invocation under way, if it is not sampled: the runtime client runs one at a time in a process."""


class Invocations:
    """The invocations of this process.

    settings: of the process. init_ns: what INIT took, in nanoseconds. clock: monotonic, wall: since the epoch, both
    in nanoseconds. out: takes a line for stdout.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        init_ns: int = 0,
        clock: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
        out: Callable[[str], object] | None = None,
    ) -> None:
        self.choice = choice.choose(settings)
        self.counts: Counts = counts.from_settings(settings, environ)
        self.environ = environ
        self.init_ns = init_ns
        self.clock = clock
        self.wall = wall
        self.out = out or _print
        self.cold = True
        # With insights of its own the SDK counts what it traces, as the same metrics.
        self.sdk_counts = settings.insights and not {"emf", "cloudwatch"}.isdisjoint(settings.metrics_exporter)
        self._flush = settings.lambda_flush_timeout
        self._usable = True

    def begin(self, event: object, context: object) -> Running:
        """The handler is about to be called; never raises."""
        cold, self.cold = self.cold, False
        running = Running(self, context, cold)
        try:
            header = running.header = self.environ.get(TRACE_HEADER, "")
            if self.choice.never or not self._usable:  # an OpenTelemetry of the function's own stays as it is
                pass
            elif self.choice.needs_sdk(header):
                running.traced = self._traced(event, context, running)
            else:
                self._unsampled(running)
        except Exception as error:
            _said(error)
        return running

    def _traced(self, event: object, context: object, running: Running) -> Any:
        if not start.usable():
            self._usable = False
            return None
        try:
            start.wake()
            from spanwell.aws_lambda import traced
        except ImportError as error:
            self._usable = False
            _guard.warn_once("lambda sdk", "spanwell: nothing is traced: %s", error)
            return None
        return traced.begin(
            event,
            context,
            header=running.header,
            cold=running.cold,
            started_ns=running.started_ns,
            init_ns=self.init_ns if running.cold else 0,
        )

    def budget(self, remaining: float | None) -> float:
        """Seconds that the export before a response may take, with `remaining` milliseconds to the time limit."""
        return self._flush if remaining is None else max(0.0, min(self._flush, remaining / 1000 - _SPARE))

    def _unsampled(self, running: Running) -> None:
        global _current
        _current = running
        if _API in sys.modules:
            running.enter_unsampled()
        if running.cold:
            logger.info("spanwell: %s", self.choice.why_nothing(running.header))


class Running:
    """One invocation under way. started_ns: since the epoch."""

    __slots__ = (
        "_began",
        "_context",
        "_pid",
        "_token",
        "cold",
        "header",
        "invocations",
        "started_ns",
        "traced",
    )

    def __init__(self, invocations: Invocations, context: Any, cold: bool) -> None:
        self.invocations = invocations
        self.header = ""
        self.cold = cold
        self.traced: Any = None
        self.started_ns = invocations.wall()
        self._began = invocations.clock()
        self._context = context
        self._pid = os.getpid()
        self._token: object = None

    def enter_unsampled(self) -> None:
        """Let spans, if there are any, belong to an invocation that is not sampled."""
        if self._token is None:
            from spanwell.aws_lambda import unsampled

            self._token = unsampled.enter(self.header)

    def end(self, result: object, error: BaseException | None) -> None:
        """The handler is done; never raises. A child that a handler forked has no part in its parent's invocation."""
        global _current
        _current = None
        try:
            if self._token is not None:
                from spanwell.aws_lambda import unsampled

                unsampled.leave(self._token)
            if os.getpid() == self._pid:
                self._end(result, error)
        except Exception as problem:
            _said(problem)

    def _end(self, result: object, error: BaseException | None) -> None:
        remaining = self._remaining_ms()
        took = self.invocations.clock() - self._began
        if self.traced is not None:
            self._end_traced(result, error, remaining)
        elif "spanwell.aws_lambda.traced" in sys.modules:  # what ended after an earlier response
            sys.modules["spanwell.aws_lambda.traced"].flush_left(self.invocations.budget(remaining))
        if self.traced is None or not self.invocations.sdk_counts:
            self._count(took, remaining, failed=error is not None or _is_failure(result))

    def _end_traced(self, result: object, error: BaseException | None, remaining: float | None) -> None:
        try:
            self.traced.end(result, error)
        finally:
            self.traced.flush(self.invocations.budget(remaining))

    def _remaining_ms(self) -> float | None:
        try:
            return float(self._context.get_remaining_time_in_millis())
        except Exception:  # another runtime client's context
            return None

    def _count(self, took: int, remaining: float | None, *, failed: bool) -> None:
        one = self.invocations
        waited = self.cold and one.environ.get(INITIALIZATION) != "provisioned-concurrency"
        seen = Seen(took / 1e6, failed=failed, cold=waited, init_ms=one.init_ns / 1e6, remaining_ms=remaining)
        found = one.counts.add(seen)
        if found and one.counts.prints:
            for line in one.counts.lines(found, one.wall() // 1_000_000):
                one.out(line)


def _is_failure(result: object) -> bool:
    """Whether it is an API's response that says 5xx."""
    status = result.get("statusCode") if type(result) is dict else None
    if type(status) is str and status.isdecimal() and len(status) == 3:
        status = int(status)
    return type(status) is int and 500 <= status < 600


def _print(line: str) -> None:
    """Past `sys.stdout`, which is the application's to replace: a metric has to be a line of its own."""
    data = line.encode("ascii") + b"\n"
    while data:
        data = data[os.write(1, data) :]


def _said(error: Exception) -> None:
    if _guard.strict:
        raise error
    failed("a Lambda invocation", error)


def _settings() -> Settings:
    return Settings.from_env(os.environ, layers=where.lambda_defaults(os.environ))


# --- INIT ---------------------------------------------------------------------------------------------------------


def initialising() -> None:
    """The handler's module is about to be imported; never raises."""
    if not any(os.environ.get(name) for name in _EARLY):
        return
    with guard("SPANWELL_LAMBDA_EAGER"):
        settings = _settings()
        if settings.lambda_eager or not settings.lazy_instrumentation:
            _set_up(settings)


def _set_up(settings: Settings) -> None:
    """The SDK during INIT, if there may be anything to export."""
    if choice.choose(settings).never or not start.usable():
        return
    start.wake()
    from spanwell.aws_lambda import traced

    traced.set_up()


def initialised() -> Invocations | None:
    """The handler is there; None where its invocations cannot be followed. Never raises."""
    with guard("the start in Lambda"):
        settings = _settings()
        if os.environ.get(INITIALIZATION) == "snap-start":  # done once, and then part of the snapshot
            with guard("the set-up before a snapshot"):
                _set_up(settings)
        return Invocations(settings, os.environ, init_ns=start.init_ns())
    return None


def not_initialised(error: BaseException) -> None:
    """The handler's module could not be imported; never raises."""
    with guard("the span of a failed INIT"):
        settings = _settings()
        if choice.choose(settings).never or not start.usable():
            return
        start.wake()
        from spanwell.aws_lambda import traced

        took = start.init_ns()
        traced.init_failed(error, began_ns=time.time_ns() - took, init_ns=took)


def sdk_came(name: str) -> None:
    """Module `name` has been instrumented: an invocation under way that is not sampled has to say so to the SDK."""
    running = _current
    if running is not None and (name == _API or not name.startswith("opentelemetry.")):
        spec = getattr(sys.modules.get(_API), "__spec__", None)
        if spec is not None and (name == _API or not getattr(spec, "_initializing", False)):
            running.enter_unsampled()
