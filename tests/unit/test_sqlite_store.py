"""Reading the trace file: lists, filters, ids, real traces."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from spanwell import schema
from spanwell.explore.model import AmbiguousTraceError, NoStoreError, StoreError, UnknownTraceError
from spanwell.explore.stores.sqlite import SqliteStore, TraceFilter, normal_id
from spanwell.explore.summary import summarise
from spanwell.explore.tree import render
from spanwell.export.sqlite import SqliteSpanExporter
from support.spans import START, make_span, nezha

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten traces, one a second: the orders service takes part in the even ones, the fourth and the ninth failed."""
    path = str(tmp_path_factory.mktemp("store") / "traces.db")
    exporter = SqliteSpanExporter(path)
    for number in range(1, 11):
        start = START + number * SECOND
        failed = "boom" if number in (4, 9) else None
        exporter.export([
            make_span(trace_id=number << 96, span_id=1, name=f"GET /Item{number}", start=start,
                      duration=number * 100_000_000, error=failed),
            make_span(trace_id=number << 96, span_id=2, parent=1, start=start, name="SELECT 50%_off",
                      service="orders" if number % 2 == 0 else "stock"),
        ])  # fmt: skip
    exporter.shutdown()
    return path


def listed(path: str, limit: int = 20, **wanted: object) -> list[int]:
    with SqliteStore(path) as store:
        summaries = store.newest(TraceFilter(**wanted), limit=limit)  # type: ignore[arg-type]
        return [int(summary.trace_id, 16) >> 96 for summary in summaries]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"limit": 3}, [10, 9, 8]),
        ({"service": "orders"}, [10, 8, 6, 4, 2]),
        ({"service": "unheard"}, []),
        ({"errors": True}, [9, 4]),
        ({"errors": True, "service": "orders"}, [4]),
        ({"min_duration_ns": 800_000_000}, [10, 9, 8]),
        ({"since_ns": START + 8 * SECOND}, [10, 9, 8]),
        ({"name": "item1"}, [10, 1]),
        ({"name": "50%_OFF", "service": "orders"}, [10, 8, 6, 4, 2]),
        ({"name": "50%_OFF", "service": "shop"}, []),
        ({"name": "5%"}, []),
        ({"name": "'; DROP TABLE span; --"}, []),
    ],
)
@pytest.mark.parametrize("shortcut", ["few spans", "many spans", "many names"])
def test_filters(
    path: str, wanted: dict, expected: list[int], shortcut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The three ways to find a name must agree.
    if shortcut == "many spans":
        monkeypatch.setattr("spanwell.explore.stores.sqlite._FEW_SPANS", 0)
    if shortcut == "many names":
        monkeypatch.setattr("spanwell.explore.stores.sqlite._MANY_OPERATIONS", 0)
    assert listed(path, **wanted) == expected


def test_the_list_uses_indexes(path: str) -> None:
    with SqliteStore(path) as store:
        for order in ("", "WHERE errors > 0", "WHERE start_ns >= 5"):
            plan = store._connection.execute(
                f"EXPLAIN QUERY PLAN SELECT trace_id FROM trace {order} ORDER BY start_ns DESC LIMIT 5"
            ).fetchall()
            assert "USING INDEX" in plan[0][3]


def test_ids(path: str) -> None:
    whole = f"{3 << 96:032x}"
    with SqliteStore(path) as store:
        for given in (whole, whole.upper(), "00000003", f"1-{whole[:8]}-{whole[8:]}", "1-00000003", " 00000003 "):
            assert store.get(given).trace_id == whole
        with pytest.raises(AmbiguousTraceError, match="several traces begin with 0000000: 0000") as raised:
            store.get("0000000")
        assert str(raised.value).endswith("…")
        for given in ("", "ff", "xyz", "1-", whole + "0", "%", "0000000_"):
            with pytest.raises(UnknownTraceError, match="no trace"):
                store.get(given)
    assert normal_id("1-5759e988-bd862e3fe1be46a994272793") == "5759e988bd862e3fe1be46a994272793"


def test_no_file_an_empty_file_and_files_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError, match="does not exist"):
        SqliteStore(str(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(NoStoreError, match="is empty"):
        SqliteStore(str(tmp_path / "empty.db"))
    (tmp_path / "text.db").write_text("hello " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore(str(tmp_path / "text.db"))
    with pytest.raises(StoreError, match="cannot read"):
        SqliteStore(str(tmp_path))
    other = sqlite3.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreError, match="another program"):
        SqliteStore(str(tmp_path / "other.db"))


def test_a_newer_file_is_refused_and_an_older_one_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "traces #1?.db")  # a name that an URI must quote
    SqliteSpanExporter(path).export([make_span()])
    with monkeypatch.context() as later:
        later.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)",)))
        later.setattr(schema, "VERSION", schema.VERSION + 1)
        with SqliteStore(path) as store:
            assert len(store.newest()) == 1
    with pytest.raises(StoreError, match="newer spanwell"):
        SqliteStore(path)


def test_damaged_rows_are_an_error_of_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    SqliteSpanExporter(path).export([make_span(attributes={"k": 1})])
    connection = sqlite3.Connection(path, isolation_level=None)
    connection.execute("UPDATE span SET attributes = '{not json'")
    connection.close()
    with SqliteStore(path) as store, pytest.raises(StoreError, match="cannot read"):
        store.get("0" * 31 + "1")


def test_a_reader_sees_what_is_written_meanwhile(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span(trace_id=1)])
    with SqliteStore(path) as store:
        assert len(store.newest()) == 1
        exporter.export([make_span(trace_id=2)])
        assert len(store.newest()) == 2
    exporter.shutdown()
    assert os.listdir(tmp_path) == ["traces.db"]


def test_real_traces(tmp_path: Path) -> None:
    """Traces of OnlineBoutique go through exporter, store, summary and tree without a span lost."""
    spans = nezha()
    path = str(tmp_path / "traces.db")
    exporter = SqliteSpanExporter(path)
    for position in range(0, len(spans), 50):
        exporter.export(spans[position : position + 50])
    exporter.shutdown()
    expected: dict[str, set[str]] = {}
    for span in spans:
        assert span.context is not None
        expected.setdefault(f"{span.context.trace_id:032x}", set()).add(f"{span.context.span_id:016x}")
    with SqliteStore(path) as store:
        summaries = store.newest(limit=100)
        assert {summary.trace_id: summary.spans for summary in summaries} == {
            trace_id: len(found) for trace_id, found in expected.items()
        }
        assert [summary.start_ns for summary in summaries] == sorted(
            (summary.start_ns for summary in summaries), reverse=True
        )
        for summary in summaries:
            trace = store.get(summary.trace_id)
            assert {span.span_id for span in trace.spans} == expected[summary.trace_id]
            assert summarise(trace) == summary
            assert summary.complete
            lines = list(render(trace, width=120))
            assert len(lines) == 1 + summary.spans
            assert sum("frontend" in line for line in lines[1:]) >= 1


def test_the_summary_of_a_broken_trace_agrees_with_the_store(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    SqliteSpanExporter(path).export([
        make_span(span_id=1, parent=99),
        make_span(span_id=2, parent=1, error="x"),
        make_span(span_id=3, parent=3),
        make_span(span_id=4, parent=98, service="b"),
    ])  # fmt: skip
    with SqliteStore(path) as store:
        (summary,) = store.newest()
        assert summarise(store.get(summary.trace_id)) == summary
    assert (summary.orphans, summary.errors, summary.root_name, summary.complete) == (2, 1, None, False)
