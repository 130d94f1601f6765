"""Ended spans made by hand, and the real traces of tests/data, as spans and as rows."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from spanwell.record import SpanRecord

NEZHA = Path(__file__).parent.parent / "data" / "nezha_onlineboutique_traces.csv"
START = 1_795_167_973_154_788_998

_ids = itertools.count(1)


def context(trace_id: int, span_id: int, *, remote: bool = False, state: str = "") -> SpanContext:
    tracestate = TraceState.from_header([state]) if state else None
    return SpanContext(trace_id, span_id, remote, TraceFlags(1), tracestate)


def make_span(
    *,
    trace_id: int = 1,
    span_id: int | None = None,
    parent: int | None = None,
    name: str = "work",
    service: str = "shop",
    start: int = START,
    duration: int = 1_000_000,
    kind: SpanKind = SpanKind.INTERNAL,
    error: str | None = None,
    attributes: dict[Any, Any] | None = None,
    events: tuple[Event, ...] = (),
    links: tuple[Link, ...] = (),
    resource: Resource | None = None,
    remote_parent: bool = False,
) -> ReadableSpan:
    return ReadableSpan(
        name=name,
        context=context(trace_id, next(_ids) if span_id is None else span_id),
        parent=None if parent is None else context(trace_id, parent, remote=remote_parent),
        resource=resource or Resource({"service.name": service}),
        attributes=attributes,
        events=events,
        links=links,
        kind=kind,
        status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error),
        start_time=start,
        end_time=start + duration,
        instrumentation_scope=InstrumentationScope("tests", "1.0"),
    )


def record(
    span_id: str,
    parent_id: str | None = None,
    *,
    name: str = "work",
    service: str = "shop",
    start: int = 0,
    duration: int = 1_000_000,
    kind: str = "internal",
    **more: Any,
) -> SpanRecord:
    return SpanRecord(
        "0" * 31 + "1", span_id, parent_id, name, kind, service, START + start, START + start + duration, **more
    )


def nezha() -> list[ReadableSpan]:
    """Every span of tests/data/nezha_onlineboutique_traces.csv; the service is the pod's deployment."""
    spans = []
    with NEZHA.open(newline="") as file:
        for row in csv.DictReader(file):
            parent = None if row["ParentID"] == "root" else int(row["ParentID"], 16)
            start = int(row["StartTimeUnixNano"])
            spans.append(
                make_span(
                    trace_id=int(row["TraceID"], 16),
                    span_id=int(row["SpanID"], 16),
                    parent=parent,
                    name=row["OperationName"],
                    service=row["PodName"].rsplit("-", 2)[0],
                    start=start,
                    duration=int(row["EndTimeUnixNano"]) - start,
                )
            )
    return spans
