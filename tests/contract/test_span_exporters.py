"""What every span exporter of ours promises, run by each. A new exporter joins with one line in EXPORTERS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind

from spanwell import _guard
from spanwell.export.otlp import OtlpSpanExporter
from spanwell.export.sqlite import SqliteSpanExporter
from support.collector import collector
from support.spans import START, context, make_span

RECEIVER: list[str] = []
"""The URL of an OTLP receiver that runs for this module."""

EXPORTERS: dict[str, Callable[[Path], SpanExporter]] = {
    "sqlite": lambda folder: SqliteSpanExporter(str(folder / "traces.db")),
    "otlp": lambda folder: OtlpSpanExporter(RECEIVER[0]),
    "otlp json": lambda folder: OtlpSpanExporter(RECEIVER[0], encoding="json"),
}
"""Name -> a factory that takes an empty folder and returns a working exporter."""


@pytest.fixture(scope="module", autouse=True)
def receiver() -> Iterator[None]:
    with collector() as otlp:
        RECEIVER[:] = [f"{otlp.url}/v1/traces"]
        yield


@pytest.fixture(params=sorted(EXPORTERS))
def exporter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SpanExporter]:
    _guard.losses.reset()
    made = EXPORTERS[request.param](tmp_path)
    yield made
    made.shutdown()
    _guard.losses.reset()


class Raises:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def _broken(name: str, value: object) -> ReadableSpan:
    span = make_span()
    setattr(span, name, value)
    return span


NESTED: list[object] = []
NESTED += [NESTED, {"deep": NESTED}]

ODD = {
    "no attributes": make_span(attributes=None),
    "None": make_span(attributes={"k": None}),
    "nested": make_span(attributes={"k": {"a": [1, {"b": (None, b"x")}]}}),
    "a circle": make_span(attributes={"k": NESTED}),
    "bytes": make_span(attributes={"k": b"\xff\x00"}),
    "not finite": make_span(attributes={"k": float("nan"), "l": float("-inf")}),
    "a huge number": make_span(attributes={"k": 10**6000}),
    "a huge text": make_span(attributes={"k": "x" * 5_000_000}),
    "keys that are no text": make_span(attributes={1: "a", None: "b", ("t",): "c"}),
    "half a surrogate pair": make_span(name="a\ud800", attributes={"\udc00": "\ud800"}),
    "control characters": make_span(name="\x00\x1b[31m\n", attributes={"\x00": "\x1b"}),
    "a value without text": make_span(attributes={"k": Raises()}),
    "no name": make_span(name=""),
    "a name that is no text": make_span(name=17),  # type: ignore[arg-type]
    "no resource attributes": make_span(resource=Resource({})),
    "ends before it starts": make_span(duration=-5),
    "never ended": _broken("_end_time", None),
    "no times": ReadableSpan("no times", context(1, 2)),
    "times past 64 bits": make_span(start=2**70),
    "negative times": make_span(start=-5),
    "its own parent": make_span(span_id=5, parent=5),
    "ids of zero": make_span(trace_id=0, span_id=0),
    "no context": ReadableSpan("no context"),
    "no scope": _broken("_instrumentation_scope", None),
    "no status": _broken("_status", None),
    "odd events": make_span(events=(Event("", None, timestamp=0), Event("e", {"k": NESTED}))),
    "many events": make_span(events=tuple(Event("e", {"k": "x" * 60_000}) for _ in range(128))),
    "an invalid link": make_span(links=(Link(SpanContext(0, 0, False), {"k": None}),)),
    "a producer": make_span(kind=SpanKind.PRODUCER),
}


@pytest.mark.parametrize("name", sorted(ODD))
def test_an_odd_span_never_raises_and_is_written_or_counted(exporter: SpanExporter, name: str) -> None:
    ordinary = make_span()
    result = exporter.export([ordinary, ODD[name], ordinary])
    assert isinstance(result, SpanExportResult)
    assert (result is SpanExportResult.SUCCESS) == (_guard.losses.total("spans") == 0)


def test_all_odd_spans_at_once(exporter: SpanExporter) -> None:
    result = exporter.export([*ODD.values(), make_span(start=START)])
    assert (result is SpanExportResult.SUCCESS) == (_guard.losses.total("spans") == 0)
    assert _guard.losses.total("spans") < len(ODD) / 2


def test_nothing_to_export_is_a_success(exporter: SpanExporter) -> None:
    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert exporter.export(()) is SpanExportResult.SUCCESS


def test_the_spans_are_not_changed(exporter: SpanExporter) -> None:
    span = make_span(attributes={"k": [1, 2], "n": None})
    before = span.to_json()
    exporter.export([span])
    assert span.to_json() == before


def test_force_flush_answers_yes_or_no(exporter: SpanExporter) -> None:
    assert exporter.force_flush() is True
    exporter.export([make_span()])
    assert exporter.force_flush(1) in (True, False)
    assert exporter.force_flush(timeout_millis=1000) in (True, False)


def test_shutdown_may_be_called_at_any_time_and_again(exporter: SpanExporter) -> None:
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.force_flush() in (True, False)


def test_after_shutdown_spans_are_refused_and_counted(exporter: SpanExporter) -> None:
    exporter.export([make_span()])
    exporter.shutdown()
    assert exporter.export([make_span(), make_span()]) is SpanExportResult.FAILURE
    assert _guard.losses.total("spans") == 2
