"""Filter expressions on the table of the `dynamodb` exporter: what they find in the trace file, they find there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind

from spanwell.cli.dynamodb_table import make
from spanwell.explore.filters import parse
from spanwell.explore.stores.dynamodb import DynamoDbStore
from spanwell.explore.stores.sqlite import SqliteStore
from spanwell.export import aws_client
from spanwell.export.dynamodb import DynamoDbSpanExporter
from spanwell.export.sqlite import SqliteSpanExporter
from support.servers import moto
from support.spans import make_span
from support.tables import endpoint

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000


def test_the_table_and_the_file_find_the_same(tmp_path: Path) -> None:
    now = time.time_ns() - 60 * SECOND
    spans = []
    for number in range(6):
        failed = "boom" if number % 2 else None
        told = {"http.response.status_code": 500 if failed else 200, "number": number}
        spans += [
            make_span(trace_id=number + 1, span_id=1, kind=SpanKind.SERVER, attributes=told, error=failed,
                      start=now + number * SECOND, duration=number * SECOND),
            make_span(trace_id=number + 1, span_id=2, parent=1, service=f"s{number % 3}", kind=SpanKind.SERVER,
                      start=now + number * SECOND),
        ]  # fmt: skip
    file = SqliteSpanExporter(str(tmp_path / "traces.db"))
    file.export(spans)
    file.shutdown()
    with moto() as url, endpoint(url):
        list(make(aws_client.make_client("dynamodb"), "filters", ttl=True))
        table = DynamoDbSpanExporter("filters")
        table.export(spans)
        table.shutdown()
        looked: list[int] = []
        with DynamoDbStore("filters") as stored, SqliteStore(str(tmp_path / "traces.db")) as local:
            for text, number in (
                ("fault", 3), ('service("s1")', 2), ('edge("shop", "s2") { ok }', 2), ("responsetime > 2", 3),
                ("annotation.number = 4", 1), ("boom !nothing", 3), ("partial", 0),
            ):  # fmt: skip
                expression = parse(text)
                found = stored.search(expression, report=lambda done, _of: looked.append(done))
                assert [each.trace_id for each in found] == [each.trace_id for each in local.search(expression)], text
                assert len(found) == number, text
            looked.clear()
            assert len(stored.search(parse("responsetime > 2"), limit=2, report=lambda d, _of: looked.append(d))) == 2
            assert looked == [1, 2]
