"""Trace and span id on log records, without getting in the way of what the application puts there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from spanwell.enrich import log_records

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
EMPTY = {
    "trace_id": "",
    "span_id": "",
    "xray_trace_id": "",
    "otelTraceID": "0",
    "otelSpanID": "0",
    "otelTraceSampled": False,
    "otelServiceName": "shop",
}


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    log_records.set_service("shop")
    log_records.install_logging()
    yield
    log_records.uninstall()


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def log() -> tuple[logging.Logger, Kept]:
    logger, kept = logging.Logger("tests", logging.DEBUG), Kept()
    logger.addHandler(kept)
    return logger, kept


def ids(span: trace.Span) -> dict[str, str]:
    context = span.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    return {
        "trace_id": trace_id,
        "span_id": f"{context.span_id:016x}",
        "xray_trace_id": f"1-{trace_id[:8]}-{trace_id[8:]}",
    }


def chosen(record: logging.LogRecord, names: Any = EMPTY) -> dict[str, Any]:
    return {name: vars(record)[name] for name in names}


def test_a_record_within_a_span_has_its_ids(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    with TRACER.start_as_current_span("s") as span:
        logger.info("one")
        with TRACER.start_as_current_span("inner") as inner:
            logger.info("two")
        logger.info("three")
    expected = [ids(span), ids(inner), ids(span)]
    assert [chosen(record, log_records.IDS) for record in kept.records] == expected
    first = kept.records[0]
    assert chosen(first, log_records.UPSTREAM) == {
        "otelTraceID": expected[0]["trace_id"],
        "otelSpanID": expected[0]["span_id"],
        "otelTraceSampled": True,
        "otelServiceName": "shop",
    }


def test_a_record_outside_a_span_has_the_fields_too(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    logger.warning("x")
    assert chosen(kept.records[0]) == EMPTY
    formatted = logging.Formatter("%(trace_id)s|%(otelTraceID)s|%(message)s").format(kept.records[0])
    assert formatted == "|0|x"


def test_extra_fields_of_the_same_names_stay(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    with TRACER.start_as_current_span("s") as span:
        logger.info("x", extra={"trace_id": "mine", "otelSpanID": "theirs"})
    record = kept.records[0]
    assert chosen(record, ["trace_id", "otelSpanID", "span_id"]) == {
        "trace_id": "mine",
        "otelSpanID": "theirs",
        "span_id": ids(span)["span_id"],
    }


def test_a_record_factory_of_the_application_set_later_goes_on(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    before = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.tenant = "t-1"
        record.trace_id = "from the factory"
        return record

    logging.setLogRecordFactory(factory)
    try:
        logger.info("x")
        assert logging.getLogRecordFactory() is factory
    finally:
        logging.setLogRecordFactory(before)
    assert chosen(kept.records[0], ["tenant", "trace_id", "span_id"]) == {
        "tenant": "t-1",
        "trace_id": "from the factory",
        "span_id": "",
    }


def test_the_place_of_the_call_is_still_the_caller(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    logger.info("x", stack_info=True)
    assert kept.records[0].funcName == "test_the_place_of_the_call_is_still_the_caller"


def test_a_record_that_arrives_from_elsewhere_keeps_its_ids() -> None:
    record = logging.makeLogRecord({"msg": "x", "trace_id": "sent along"})
    assert (vars(record)["trace_id"], "span_id" in vars(record)) == ("sent along", False)


def test_installing_twice_and_uninstalling(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    log_records.install_logging()
    log_records.uninstall()
    logger.info("x")
    assert not EMPTY.keys() & vars(kept.records[0]).keys()


def test_a_failure_of_ours_costs_the_ids_only(
    log: tuple[logging.Logger, Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, kept = log

    def fail() -> Any:
        raise ValueError("broken")

    monkeypatch.setattr(log_records._fields, "record", fail)
    logger.info("x")
    assert kept.records[0].getMessage() == "x"


def test_exported_records_do_not_say_their_ids_twice() -> None:
    trace_id, span_id = 0xAB, 0xCD
    own = {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
    assert log_records.strip({**EMPTY, **own, "tenant": 1}, trace_id, span_id) == {"tenant": 1}
    assert log_records.strip({**EMPTY, "tenant": 1}, None, None) == {"tenant": 1}
    assert log_records.strip({**EMPTY, "trace_id": "mine"}, trace_id, span_id) == {"trace_id": "mine"}


def test_json_formatters_write_the_fields(log: tuple[logging.Logger, Kept]) -> None:
    formatter = import_module("pythonjsonlogger.json").JsonFormatter("%(message)s")
    logger, kept = log
    with TRACER.start_as_current_span("s") as span:
        logger.info("x", extra={"order": 7})
    written = json.loads(formatter.format(kept.records[0]))
    assert {name: written[name] for name in (*log_records.IDS, "order")} == {**ids(span), "order": 7}


# --- structlog ------------------------------------------------------------------------------------------------------


def structured() -> tuple[Any, Any]:
    structlog = import_module("structlog")
    log_records.install_structlog()
    return structlog, structlog.testing.CapturingLogger()


def test_structlog_events_have_the_ids_whatever_its_configuration() -> None:
    structlog, output = structured()
    logger = structlog.wrap_logger(output, processors=[structlog.processors.JSONRenderer()])
    with TRACER.start_as_current_span("s") as span:
        logger.bind(order=7).info("hello")
        logger.bind(trace_id="mine").info("hello", span_id="theirs")
    logger.info("outside")
    first, second, third = (json.loads(call.args[0]) for call in output.calls)
    assert first == {"order": 7, "event": "hello", **ids(span)}
    assert (second["trace_id"], second["span_id"]) == ("mine", "theirs")
    assert third == {"event": "outside"}


def test_structlog_through_the_standard_library_keeps_one_set_of_fields(log: tuple[logging.Logger, Kept]) -> None:
    structlog, _ = structured()
    logger, kept = log
    bound = structlog.wrap_logger(
        logger, processors=[structlog.stdlib.render_to_log_kwargs], wrapper_class=structlog.stdlib.BoundLogger
    )
    with TRACER.start_as_current_span("s") as span:
        bound.info("hello", order=7)
    assert chosen(kept.records[0], [*log_records.IDS, "order"]) == {**ids(span), "order": 7}


def test_the_processor_serves_other_loggers() -> None:
    with TRACER.start_as_current_span("s") as span:
        assert log_records.structlog_processor(None, "info", {"span_id": "mine"}) == {**ids(span), "span_id": "mine"}
    assert log_records.structlog_processor(None, "info", {}) == {}


# --- loguru ---------------------------------------------------------------------------------------------------------


def test_loguru_records_have_the_ids_and_a_patcher_of_the_application_stays() -> None:
    logger = import_module("loguru").logger
    logger.remove()
    out = io.StringIO()
    sink = logger.add(out, serialize=True)
    try:
        logger.configure(patcher=lambda record: record["extra"].update(tenant="early"))
        log_records.install_loguru()
        with TRACER.start_as_current_span("s") as span:
            logger.info("one")
            logger.configure(patcher=lambda record: record["extra"].update(tenant="late"))
            logger.bind(trace_id="mine").info("two")
        logger.info("three")
    finally:
        logger.remove(sink)
    one, two, three = (json.loads(line)["record"]["extra"] for line in out.getvalue().splitlines())
    assert one == {**ids(span), "tenant": "early"}
    assert two == {**ids(span), "tenant": "late", "trace_id": "mine"}
    assert three == {"tenant": "late"}
