"""Trace and span id on every log record: the standard library's logging, structlog, loguru.

The record gets the fields once it is complete, so a field that the application or another tool set stays, and `extra`
may have any of these names (a record factory would make logging raise KeyError for it). Outside a span `trace_id`,
`span_id` and `xray_trace_id` are empty and upstream's names have upstream's values ("0"); structlog and loguru, whose
formats do not name fields, get none there.
"""

from __future__ import annotations

import functools
import logging
from importlib import import_module

from opentelemetry.trace import get_current_span

from spanwell import _guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any

    from opentelemetry.trace import SpanContext

IDS = ("trace_id", "span_id", "xray_trace_id")
"""Lower-case hex; lower-case hex; the form by which X-Ray and CloudWatch correlate, 1-8-24."""

UPSTREAM = ("otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName")
"""The names of OpenTelemetry's instrumentor of logging."""


class Fields:
    """The fields for the span that is current; `service` is the name of this service."""

    def __init__(self, service: str = "") -> None:
        self._service = service
        self._none: dict[str, Any] = {
            **dict.fromkeys(IDS, ""),
            "otelTraceID": "0",
            "otelSpanID": "0",
            "otelTraceSampled": False,
            "otelServiceName": service,
        }
        # A span logs several records in a row. One tuple, because threads replace it.
        self._last: tuple[SpanContext | None, dict[str, Any]] = (None, self._none)

    def record(self) -> dict[str, Any]:
        """All fields. The dict is shared: copy from it, do not change it."""
        context = get_current_span().get_span_context()
        last = self._last
        if last[0] is context:
            return last[1]
        if not context.is_valid:
            return self._none
        trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        fields = {
            "trace_id": trace_id,
            "span_id": span_id,
            "xray_trace_id": f"1-{trace_id[:8]}-{trace_id[8:]}",
            "otelTraceID": trace_id,
            "otelSpanID": span_id,
            "otelTraceSampled": bool(context.trace_flags & 1),
            "otelServiceName": self._service,
        }
        self._last = (context, fields)
        return fields

    def ids(self) -> dict[str, Any]:
        """A new dict of IDS, empty outside a span."""
        fields = self.record()
        return {} if fields is self._none else {name: fields[name] for name in IDS}


_fields = Fields()
_undo: list[Callable[[], None]] = []
_done: set[str] = set()


def set_service(name: str) -> None:
    """What `otelServiceName` says."""
    global _fields
    _fields = Fields(name)


def is_installed() -> bool:
    """Whether records of the standard library's logging get the fields."""
    return "logging" in _done


def strip(attributes: Mapping[str, Any], trace_id: int | None, span_id: int | None) -> dict[str, Any]:
    """The attributes of an exported log record without the fields that it got here: it has ids of its own."""
    ours = {"trace_id": f"{trace_id or 0:032x}", "span_id": f"{span_id or 0:016x}"}
    return {
        key: value
        for key, value in attributes.items()
        if key != "xray_trace_id" and key not in UPSTREAM and not (key in ours and value in ("", ours[key]))
    }


# --- logging --------------------------------------------------------------------------------------------------------


def install_logging() -> None:
    """Put the fields on every record that a Logger makes, whichever factory, formatter and handlers there are."""
    if "logging" in _done:
        return
    _done.add("logging")
    original = logging.Logger.makeRecord

    @functools.wraps(original)
    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(self, *args, **kwargs)
        try:
            _put(record.__dict__, _fields.record())
        except Exception as error:
            _guard.failed("ids on log records", error)
        return record

    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]

    def undo() -> None:
        if logging.Logger.makeRecord is make_record:
            logging.Logger.makeRecord = original  # type: ignore[method-assign]

    _undo.append(undo)


def _put(own: dict[str, Any], fields: dict[str, Any]) -> None:
    if own.keys().isdisjoint(fields):
        own.update(fields)
    else:
        for name, value in fields.items():
            own.setdefault(name, value)


# --- structlog ------------------------------------------------------------------------------------------------------


def structlog_processor(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that adds IDS within a span; what the event has already stays. Never raises.

    For loggers whose wrapper class is not one of structlog's; the others have the ids without it.
    """
    with _guard.guard("ids on structlog's events"):
        for name, value in _fields.ids().items():
            event.setdefault(name, value)
    return event


def install_structlog() -> None:
    """Add IDS to every event before the application's processors see it; its configuration stays as it is."""
    owner: Any = import_module("structlog").BoundLoggerBase
    original = getattr(owner, "_process_event", None)  # documented for wrapper classes
    if "structlog" in _done or original is None:
        return
    _done.add("structlog")

    @functools.wraps(original)
    def process_event(self: Any, method_name: str, event: Any, event_kw: dict[str, Any]) -> Any:
        with _guard.guard("ids on structlog's events"):
            bound = self._context
            for name, value in _fields.ids().items():
                if name not in bound:
                    event_kw.setdefault(name, value)
        return original(self, method_name, event, event_kw)

    owner._process_event = process_event

    def undo() -> None:
        if owner._process_event is process_event:
            owner._process_event = original

    _undo.append(undo)


# --- loguru ---------------------------------------------------------------------------------------------------------


def loguru_patcher(record: MutableMapping[str, Any]) -> None:
    """A loguru patcher that adds IDS to `extra` within a span; what is there already stays. Never raises."""
    with _guard.guard("ids on loguru's records"):
        extra = record["extra"]
        for name, value in _fields.ids().items():
            extra.setdefault(name, value)


def install_loguru() -> None:
    """Add IDS to the `extra` of every record, before a patcher of the application's own, set earlier or later."""
    logger: Any = import_module("loguru").logger
    owner = type(logger)
    original = owner.configure
    if "loguru" in _done:
        return
    _done.add("loguru")
    theirs = getattr(getattr(logger, "_core", None), "patcher", None)
    logger.configure(patcher=_before(theirs))

    @functools.wraps(original)
    def configure(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("patcher") is not None:
            kwargs["patcher"] = _before(kwargs["patcher"])
        return original(self, *args, **kwargs)

    owner.configure = configure

    def undo() -> None:
        if owner.configure is configure:
            owner.configure = original
        logger.configure(patcher=theirs or (lambda record: None))

    _undo.append(undo)


def _before(patcher: Callable[[Any], None] | None) -> Callable[[Any], None]:
    if patcher is None or patcher is loguru_patcher:
        return loguru_patcher

    def both(record: Any) -> None:
        loguru_patcher(record)
        patcher(record)

    return both


def uninstall() -> None:
    """Undo every install; what somebody else wrapped meanwhile stays."""
    while _undo:
        _undo.pop()()
    _done.clear()
