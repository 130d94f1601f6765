"""Upstream's exporters: their retries, their log lines, the cause of a failure."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from logging import Filter, LogRecord, getLogger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any


@contextmanager
def suppressed() -> Iterator[None]:
    """No instrumentor traces what this thread does in the block (the key has no public name)."""
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        detach(token)


def stop_retries(exporter: object) -> None:
    """Let upstream's OTLP exporters end the running or next export after one attempt.

    They wait between attempts on an event that only their shutdown sets, which also forbids further exports
    (opentelemetry-python #4555: no timeout reaches `export`).
    """
    for owner, name in (
        (getattr(exporter, "_client", None), "_shutdown_event"),
        (exporter, "_shutdown_in_progress"),
        (exporter, "_shutdown_is_occuring"),  # log records, before 1.45
    ):
        event = getattr(owner, name, None)
        if isinstance(event, threading.Event):
            event.set()


def endpoint_of(exporter: object) -> str:
    """Where an OTLP exporter sends to, upstream's or ours, or ""."""
    found = getattr(exporter, "_endpoint", "") or getattr(exporter, "url", "")
    return without_credentials(found) if isinstance(found, str) else ""


def without_credentials(url: str) -> str:
    """`url` without user and password, fit for a log."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, slash, path = rest.partition("/")
    return scheme + mark + authority.rpartition("@")[2] + slash + path


def keep_cause(exporter: object, keep: Callable[[str], None]) -> None:
    """Call `keep` with what became of each request of upstream's OTLP/HTTP exporters.

    `export` returns no reason, and what it logs after a single attempt does not tell it either ("due to timeout,
    max retries or shutdown"). Their transport (before 1.45 a requests.Session) knows.
    """
    for owner in (
        getattr(getattr(exporter, "_client", None), "_transport", None),
        getattr(exporter, "_session", None),
    ):
        if hasattr(owner, "request"):
            _watch_requests(owner, keep)
            return


def _watch_requests(transport: Any, keep: Callable[[str], None]) -> None:
    original = transport.request

    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except Exception as error:
            keep(root_cause(error))
            raise
        failed = getattr(result, "error", None)
        status, reason = getattr(result, "status_code", None), getattr(result, "reason", None)
        keep(root_cause(failed) if isinstance(failed, Exception) else f"it answers {status} {reason or ''}".rstrip())
        return result

    transport.request = request


def sign_requests(exporter: object, sign: Callable[[str, bytes, Mapping[str, str]], Mapping[str, str]]) -> None:
    """Let `sign` (url, body, headers -> headers) have the last word on requests of upstream's OTLP/HTTP exporters.

    By the `auth` of their requests.Session, which they offer no setting for.
    """
    transport = getattr(getattr(exporter, "_client", None), "_transport", None)
    session: Any = getattr(transport, "_session", None) or getattr(exporter, "_session", None)
    if session is None:
        return
    own = getattr(exporter, "_headers", None) or getattr(getattr(exporter, "_client", None), "_headers", None) or {}
    if any(name.lower() == "authorization" for name in own):  # a bearer token, for example
        return

    def auth(request: Any) -> Any:
        # Only what tells of the content: a proxy may change the rest.
        kept = {
            name: value for name, value in request.headers.items() if name.lower().startswith(("content-", "x-aws-"))
        }
        kept.pop("Content-Length", None)
        request.headers.update(sign(request.url, request.body or b"", kept))
        return request

    session.auth = auth


def root_cause(error: BaseException) -> str:
    """What the operating system said ("Connection refused"), out of the wrappings of requests and urllib3."""
    chain = [error]
    while len(chain) < 20 and (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(deeper)
    # The innermost error may be a library's own detour, which the system's error then went through.
    spoken = [each for each in chain if isinstance(each, OSError) and each.strerror]
    innermost = spoken[-1] if spoken else chain[-1]
    if isinstance(innermost, TimeoutError) and not innermost.strerror:
        return "no answer in time"
    said = getattr(innermost, "strerror", None) or str(innermost)
    return (said if isinstance(said, str) and said else type(innermost).__name__)[:500]


_EXPORTER_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.common._internal",
    "opentelemetry.util.re",  # says what is wrong with the headers, once a build
)


class Said(Filter):
    """Keeps what upstream's exporters log in this thread, and keeps it from the application's log."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""
        self._thread = threading.get_ident()

    def filter(self, record: LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True
        # The first line tells the cause ("Transient error Connection refused"), later ones only that it went on.
        self.last = self.last or _message(record)
        return False


def _message(record: LogRecord) -> str:
    if record.name == "opentelemetry.util.re":  # its own text quotes the header, which may be a secret
        return "OTEL_EXPORTER_OTLP_HEADERS is no list such as name=value,name=value; what is malformed is left out"
    said = record.getMessage()
    # The gRPC exporter wraps its cause: "Transient error … Error details: …; last error: UNKNOWN: … refused".
    for mark in ("rror details: ", "last error: ", "UNKNOWN: "):
        said = said.partition(mark)[2] or said
    return said[:500]


@contextmanager
def quiet_exporters(names: tuple[str, ...] = _EXPORTER_LOGGERS) -> Iterator[Said]:
    """Upstream's exporters log every attempt; spanwell says once what is lost and why (`Said.last`)."""
    said = Said()
    loggers = [getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(said)
    try:
        yield said
    finally:
        for logger in loggers:
            logger.removeFilter(said)


@contextmanager
def quiet_config_loader() -> Iterator[None]:
    """The loader of configuration files logs a traceback for what it raises anyway; spanwell says it in one line."""
    logger = getLogger("opentelemetry.configuration.file._loader")
    nothing = Filter("nothing of this name")
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
