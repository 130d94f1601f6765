"""The SDK's side of an invocation: its span, what it exports before the response is posted, and before a time limit.

Imported at the first invocation that may export something, or at INIT with SPANWELL_LAMBDA_EAGER=true. The SDK is set
up as everywhere else (`late`), with the exporters flushed here instead of in threads.
"""

from __future__ import annotations

import os
import time

from spanwell._collector import without_gc
from spanwell._forks import whole
from spanwell._guard import failed, guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.configurator import Wiring
    from spanwell.export.synchronous import SynchronousProcessor
    from spanwell.propagation.carried import Extracted

MOST_LINKS = 800
"""Links of one span: about 40 kB, which fits into a datagram. Further ones are on spans below it."""
_CUT = 0.1
"""Seconds that the export before a time limit may take."""

_ready: _Ready | None = None
_broken = False
"""Whether the set-up failed: no further invocation pays for another attempt."""


class _Ready:
    """The SDK, set up."""

    def __init__(self) -> None:
        from spanwell import late
        from spanwell.where import follow_invocations

        follow_invocations()
        from spanwell import configurator

        if configurator.current is None:  # else opentelemetry-instrument was first
            late.get().ensure()
        from opentelemetry import context, trace

        from spanwell import __version__, incoming
        from spanwell._otel import api
        from spanwell.aws_lambda import deadline, described, parent, restore
        from spanwell.exporters import to_xray
        from spanwell.propagation import carriers

        self.wiring: Wiring | None = configurator.current
        self.to_xray = to_xray(late.get().settings if self.wiring is None else self.wiring.settings)
        self.tracer = trace.get_tracer("spanwell.aws_lambda", __version__)
        self.trace, self.attach, self.leave, self.forget_root = trace, context.attach, api.leave, incoming.forget_root
        self.described, self.parent, self.extract = described, parent, carriers.extract
        self.deadline = deadline.Deadline()
        self.processors = _processors(self.wiring)
        for each in self.processors:
            each.prepare()
        restore.install(self)

    def flush(self, seconds: float) -> bool:
        """Export what waits, of all signals, within about `seconds`; True if all of it arrived."""
        end = time.monotonic() + seconds
        arrived = True
        for each in self.processors:
            arrived = each.flush(max(0.0, end - time.monotonic())) and arrived
        for flush in self._others():
            left = max(1, int((end - time.monotonic()) * 1000))
            with guard("a flush"):
                arrived = bool(flush(left)) and arrived
        return arrived

    def _others(self) -> list[Callable[[int], object]]:
        """`force_flush` of providers that we have no processors of, or that export other signals."""
        wiring = self.wiring
        found: list[Any] = []
        if wiring is None:
            return []
        if wiring.joined or not self.processors:
            found.append(self.trace.get_tracer_provider())
        if wiring.has_metrics:
            from opentelemetry.metrics import get_meter_provider

            found.append(get_meter_provider())
        if wiring.has_logs:
            from opentelemetry._logs import get_logger_provider

            found.append(get_logger_provider())
        return [each.force_flush for each in found if hasattr(each, "force_flush")]


def _processors(wiring: Wiring | None) -> list[SynchronousProcessor]:
    from spanwell.export.synchronous import SynchronousProcessor

    return [each for each in wiring.batches if isinstance(each, SynchronousProcessor)] if wiring is not None else []


def set_up() -> _Ready:
    """Set the SDK up, once a process."""
    global _ready, _broken
    if _ready is None:
        _broken = True
        with whole, without_gc(settled=True):
            _ready = _Ready()
        _broken = False
    return _ready


def begin(
    event: object, context: object, *, header: str, cold: bool, started_ns: int, init_ns: int = 0
) -> Traced | None:
    """Start the span of an invocation and make it current; None if that failed. Never raises.

    header: the trace header of the invocation, or "". started_ns: when it began, since the epoch; init_ns: what INIT
    before it took, 0 unless `cold`.
    """
    if _broken:
        return None
    with guard("the span of an invocation"):
        return Traced(set_up(), event, context, header, cold, started_ns, init_ns)
    return None


class Traced:
    """The span of one invocation, current until `end`."""

    __slots__ = ("_context", "_found", "_number", "_ready", "_token", "span")

    def __init__(
        self, ready: _Ready, event: object, context: object, header: str, cold: bool, started_ns: int, init_ns: int
    ) -> None:
        described = ready.described
        found = ready.extract(event)
        entered = ready.parent.enter(found, header, context, to_xray=ready.to_xray)
        attributes = described.starting(event, context, found, os.environ, cold=cold, init_ns=init_ns)
        links = [ready.trace.Link(each) for each in entered.links[:MOST_LINKS]]
        self._ready, self._found, self._context = ready, found, context
        self._number = 0
        self.span: Any = ready.tracer.start_span(
            described.name_of(found, str(getattr(context, "function_name", ""))),
            entered.context,
            described.kind_of(found),
            attributes,
            links,
            started_ns,
        )
        ready.forget_root()  # a trace id that nothing took is not for a later span
        current = ready.trace.set_span_in_context(self.span, entered.context)
        self._token = ready.attach(current)
        if self.span.is_recording():
            _complete_links(ready, self.span, links, entered.links, current, found)
            self._watch()

    def _watch(self) -> None:
        remaining = self._ready.described.remaining_ms(self._context)
        if remaining is not None and remaining > 0 and self._ready.processors:
            self._number = self._ready.deadline.watch(remaining / 1000, self.cut)

    def end(self, result: object = None, error: BaseException | None = None) -> None:
        """The handler returned `result` or raised `error`. Never raises."""
        ready = self._ready
        if self._number:
            ready.deadline.release(self._number)
        try:
            if self.span.is_recording():
                self._describe(result, error)
        except Exception as problem:
            failed("the end of an invocation's span", problem)
        finally:
            self.span.end()
            ready.leave(self._token)

    def _describe(self, result: object, error: BaseException | None) -> None:
        span, described = self.span, self._ready.described
        remaining = described.remaining_ms(self._context)
        if remaining is not None:
            span.set_attribute(described.REMAINING_MS, remaining)
        attributes = described.ended(self._found, result)
        status = self._ready.trace.Status
        code = attributes.get(described.STATUS, 0)
        if error is not None:
            span.record_exception(error)
            kind = type(error)
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            attributes["error.type"] = name
            span.set_status(status(self._ready.trace.StatusCode.ERROR, f"{name}: {_text(error)}"))
        elif code >= 500:
            attributes["error.type"] = str(code)
            span.set_status(status(self._ready.trace.StatusCode.ERROR))
        if attributes:
            span.set_attributes(attributes)

    def flush(self, seconds: float) -> bool:
        """Export what waits, within about `seconds`; True if all of it arrived. Never raises."""
        with guard("the flush of an invocation"):
            return self._ready.flush(seconds)
        return False

    def open_spans(self) -> list[ReadableSpan]:
        """Copies of the spans that are open, redacted and marked. They themselves are not exported any more."""
        wiring, described = self._ready.wiring, self._ready.described
        if wiring is None or wiring.open is None or wiring.copies is None:
            return []
        marks = {described.TIMEOUT: True}
        copies = wiring.open.copies(time.time_ns(), marks)
        mine = self.span.get_span_context().span_id
        for copy in copies:
            if copy.context is not None and copy.context.span_id == mine:
                self._mark(copy)
            wiring.copies.on_end(copy)
        return copies

    def _mark(self, copy: ReadableSpan) -> None:
        from spanwell._otel import spans

        remaining = self._ready.described.remaining_ms(self._context)
        more = {"error.type": "timeout"}
        spans.write(copy, more if remaining is None else {**more, self._ready.described.REMAINING_MS: remaining})
        spans.fail(copy, "the function's time limit is about to end it")

    def cut(self) -> None:
        """The time limit is near: export everything, what is open too."""
        copies = self.open_spans()
        for each in self._ready.processors:
            each.put_copies(copies)
            each.flush(_CUT)


def flush_left(seconds: float) -> None:
    """Export what ended after the last response, if anything did. Never raises."""
    ready = _ready
    if ready is not None and any(each.waiting for each in ready.processors):
        with guard("the flush of an invocation"):
            ready.flush(seconds)


def init_failed(error: BaseException, *, began_ns: int, init_ns: int) -> None:
    """A span for an INIT that failed with `error`, exported at once. began_ns: since the epoch. Never raises."""
    with guard("the span of a failed INIT"):
        ready = set_up()
        name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        attributes: dict[str, Any] = {"faas.coldstart": True, ready.described.INIT_MS: init_ns / 1e6}
        kind = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "")
        if kind:
            attributes[ready.described.INITIALIZATION] = kind
        span = ready.tracer.start_span(f"init {name}".strip(), attributes=attributes, start_time=began_ns)
        span.record_exception(error)
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(ready.trace.Status(ready.trace.StatusCode.ERROR, f"{type(error).__name__}: {_text(error)}"))
        span.end()
        ready.flush(0.5)


def _complete_links(
    ready: _Ready, span: Any, links: list[Any], contexts: list[Any], current: Any, found: Extracted
) -> None:
    """Every message is linked: past the SDK's limit, and those too many for one span on spans below it."""
    from spanwell._otel import spans

    if len(span.links) < len(links):
        spans.replace_links(span, links)
    for first in range(MOST_LINKS, len(contexts), MOST_LINKS):
        more = [ready.trace.Link(each) for each in contexts[first : first + MOST_LINKS]]
        kind = ready.trace.SpanKind.CONSUMER
        below: Any = ready.tracer.start_span(f"process {found.source}".strip(), current, kind)
        if below.is_recording():
            spans.replace_links(below, more)
        below.end()


def _text(error: BaseException) -> str:
    try:
        return str(error)[:1000]
    except Exception:
        return ""
