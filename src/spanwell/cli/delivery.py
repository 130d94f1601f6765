"""`spanwell doctor --send`: one test span to every destination of traces, through its own exporter, and what became
of it. The span passes no sampler, redaction or batch: what does not arrive was lost on the way, not before it."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from spanwell import exporters
from spanwell._forks import whole
from spanwell._otel.exporting import endpoint_of, keep_cause, quiet_exporters, stop_retries, suppressed
from spanwell.cli.probe import hint, sqlite_path
from spanwell.export.encoding import EncodingExporter
from spanwell.export.udp import UdpExporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.settings import Settings

    Build = Callable[[], Any]

SECONDS = 5.0
"""How long one destination may take."""

CLOSING = 1.0
NAME = "spanwell doctor"
MARK = "spanwell.doctor"
ARRIVED, SENT, FAILED = "arrived", "sent", "failed"


class Delivery(NamedTuple):
    """What became of the test span at one destination.

    outcome: ``arrived``, ``sent`` (no answer is given) or ``failed``. seconds: how long it took. reason: why it
    failed, with the remedy, or what the exporter found fault with; "" for nothing.
    """

    exporter: str
    where: str
    outcome: str
    seconds: float
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The five fields, seconds to the millisecond."""
        return {**self._asdict(), "seconds": round(self.seconds, 3)}

    def finding(self) -> tuple[str, str]:
        """(level, sentence) for the report."""
        to = self.exporter + (f" ({self.where})" if self.where else "")
        took = f"{self.seconds:.1f} s" if self.seconds >= 1 else f"{self.seconds * 1000:.0f} ms"
        if self.outcome == FAILED:
            return "problem", f"{to}: did not arrive ({took}): {self.reason}"
        said = "sent, no answer is given" if self.outcome == SENT else f"arrived ({took})"
        return ("note", f"{to}: {said}; {self.reason}") if self.reason else ("ok", f"{to}: {said}")


class Destinations:
    """Where the spans of this environment go: by OTEL_TRACES_EXPORTER, or by OTEL_CONFIG_FILE where it is set."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.resource: Resource | None = None
        self.failures: list[Delivery] = []
        self.exporters: list[tuple[str, str, Build]] = []
        if settings.config_file:
            self._from_file(settings.config_file)
        else:
            self._from_names(settings, environ)

    def _from_file(self, path: str) -> None:
        from spanwell._otel.sdk import quiet_resources

        try:
            with quiet_resources():
                from spanwell.declarative import file_exporters

                self.resource, found = file_exporters(path)
        except Exception as error:
            self.failures.append(Delivery("OTEL_CONFIG_FILE", path, FAILED, 0.0, _line(error)))
            return
        self.exporters = [(type(each).__name__, "", partial(_made, each)) for each in found]

    def _from_names(self, settings: Settings, environ: Mapping[str, str]) -> None:
        with _heard() as heard:
            known = dict(exporters.trace_exporters(settings))
        for name in dict.fromkeys(settings.traces_exporter):
            if name in known:
                where = sqlite_path(settings, environ) if name == "sqlite" else exporters.endpoint(name, settings)
                self.exporters.append((name, where, known[name]))
            elif name != "none":
                said = next((line for line in heard if repr(name) in line), "no installed package registers it")
                self.failures.append(Delivery(name, "", FAILED, 0.0, said))


def _made(exporter: Any) -> Any:
    return exporter


def send(found: Destinations, span: ReadableSpan, *, seconds: float = SECONDS) -> Iterator[Delivery]:
    """Send `span` to each destination in turn, `seconds` at most each."""
    yield from found.failures
    for name, where, build in found.exporters:
        yield _Attempt(name, where, build, span).wait(seconds)


def untested(settings: Settings) -> Iterator[str]:
    """What is configured and gets nothing, each in a sentence."""
    if settings.config_file:
        yield "metrics and logs of OTEL_CONFIG_FILE are not tested: what is sent there stays, and may be billed"
        return
    for signal, chosen in (("metrics", settings.metrics_exporter), ("logs", settings.logs_exporter)):
        names = [name for name in chosen if name != "none"]
        if names:
            yield f"{signal} ({', '.join(names)}) are not tested: what is sent there stays, and may be billed"


def make_span(settings: Settings, environ: Mapping[str, str], resource: Resource | None = None) -> ReadableSpan:
    """A sampled root span that has just ended, with the resource and the ids that the application's spans have."""
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from spanwell import __version__
    from spanwell.configurator import make_id_generator
    from spanwell.pipeline import complete
    from spanwell.resource import build

    unset = SpanLimits.UNSET  # the user's limits could take the mark off
    resource = resource or build(settings, environ, "")
    complete(resource, settings.resource_timeout)
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=resource,
        id_generator=make_id_generator(settings),
        span_limits=SpanLimits(unset, unset, unset, unset, unset, unset, unset, unset),
        shutdown_on_exit=False,
    )
    kept = _keeper()
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("spanwell.doctor", __version__)
    tracer.start_span(NAME, context=Context(), attributes={MARK: True}).end()
    ended: ReadableSpan = kept.ended[0]
    return ended


def _keeper() -> Any:
    from opentelemetry.sdk.trace import SpanProcessor

    class Keeper(SpanProcessor):
        def __init__(self) -> None:
            self.ended: list[ReadableSpan] = []

        def on_end(self, span: ReadableSpan) -> None:
            self.ended.append(span)

    return Keeper()


class _Attempt:
    """One exporter, made and used in a thread of its own: it may hang for ever."""

    def __init__(self, name: str, where: str, build: Build, span: ReadableSpan) -> None:
        self._name = name
        self._where = where
        self._build = build
        self._span = span
        self._exporter: Any = None
        self._outcome = FAILED
        self._reason = ""
        self._cause = ""
        self._done = threading.Event()

    def wait(self, seconds: float) -> Delivery:
        """What became of it, after `seconds` at most."""
        thread = threading.Thread(target=self._run, name=f"spanwell-doctor-{self._name}", daemon=True)
        begun = time.monotonic()
        thread.start()
        in_time = self._done.wait(seconds)
        took = time.monotonic() - begun
        if not in_time:
            reason = f"no answer within {seconds:g} s: is a firewall or a proxy in between, or the destination hung?"
            return Delivery(self._name, self._where, FAILED, took, reason)
        thread.join(CLOSING)  # it closes its files and connections
        return Delivery(self._name, self._where, self._outcome, took, self._reason)

    def _run(self) -> None:
        with suppressed(), _heard() as heard, quiet_exporters() as said:
            try:
                with whole:
                    self._exporter = self._build()
            except Exception as error:
                self._reason = f"cannot be set up: {_line(error)}"
                self._done.set()
                return
            try:
                self._export(heard, lambda: said.last)
            except Exception as error:
                self._reason = _line(error)
            self._done.set()
            try:
                self._exporter.shutdown()
            except Exception:
                pass  # the span has its answer

    def _export(self, heard: list[str], said: Callable[[], str]) -> None:
        exporter = self._exporter
        self._where = self._where or endpoint_of(exporter)
        if type(exporter).__name__ == "ConsoleSpanExporter":
            exporter.out = sys.stderr  # the report has standard output for itself
            self._where = "the error output"
        # One attempt tells the cause; retries would only hide it until the time is up.
        if isinstance(exporter, EncodingExporter):
            exporter.last_attempt()
            sent = exporter.send([exporter.encode(self._span)[0]])
            arrived, self._reason = sent.reached and not sent.lost, sent.reason
            if exporter.name == "spanwell_otlp" and ": " not in sent.reason:  # the bare status or cause
                self._reason = _with_remedy(sent.reason)
        else:
            keep_cause(exporter, self._keep)
            stop_retries(exporter)
            arrived = exporter.export([self._span]).name == "SUCCESS"
            first = heard[0] if heard else ""
            if arrived:
                self._reason = said() or first
            else:
                self._reason = _with_remedy(self._cause or said() or first or "the exporter reported a failure")
        if arrived:
            self._outcome = SENT if isinstance(exporter, UdpExporter) else ARRIVED

    def _keep(self, cause: str) -> None:
        self._cause = cause


def _with_remedy(reason: str) -> str:
    """What exporters of OTLP say, and what to do about it; our others say that themselves."""
    answered = re.match(r"it answers (\d{3})\b", reason)
    if answered:
        return f"{reason}: {hint(int(answered[1]))}"
    if re.search(r"refused|unreachable|not known|name resolution|no answer", reason, re.IGNORECASE):
        return f"{reason.rstrip('.')}: start a collector there, or change OTEL_EXPORTER_OTLP_ENDPOINT"
    return reason


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What spanwell logs in this thread at WARNING or above, without its own name in front."""
    heard: list[str] = []
    thread = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if threading.get_ident() == thread:
                heard.append(record.getMessage().removeprefix("spanwell: "))

    ear = Ear(logging.WARNING)
    logger = logging.getLogger("spanwell")
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)
