"""How the trace file answers filters: by its indexes, the newest first, and not more than it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanwell.explore.filters import bounds, parse
from spanwell.explore.stores.sqlite import SqliteStore, TraceFilter
from spanwell.explore.stores.sqlite_filters import condition
from support.big_store import make

TRACES = 2_100  # more than one window of the search


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("filters") / "traces.db")
    make(path, TRACES)
    return path


@pytest.mark.parametrize(
    ("text", "found", "most_loaded"),
    [
        ("fault", 20, 40),
        ("error", 20, 60),
        ("http.status = 404", 20, 40),
        ('service("orders") { fault }', 7, 80),
        ('service("nosuch")', 0, 0),
        ('service("pay.example") { inferred }', 20, 21),
        ("annotation.order_rare", 1, 1),
        ('annotation[order.rare] = "white raven"', 1, 1),
        ("raven", 1, 1),
        ("responsetime > 10000", 0, 0),
        ("partial", 0, 0),
        ("http.status = 0", 0, 0),
        ("http.url CONTAINS '/orders/2099'", 1, 5),
    ],
)
def test_what_is_loaded(path: str, text: str, found: int, most_loaded: int) -> None:
    loaded: list[tuple[int, int]] = []
    with SqliteStore(path) as store:
        summaries = store.search(parse(text), report=lambda done, of: loaded.append((done, of)))
    assert len(summaries) == found
    assert len(loaded) - 1 <= most_loaded
    starts = [summary.start_ns for summary in summaries]
    assert starts == sorted(starts, reverse=True)


def test_progress_ends_at_all(path: str) -> None:
    told: list[tuple[int, int]] = []
    with SqliteStore(path) as store:
        store.search(parse("!root"), report=lambda done, of: told.append((done, of)))
    assert {of for _, of in told} == {TRACES}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (TRACES, TRACES)


def test_with_the_other_options(path: str) -> None:
    with SqliteStore(path) as store:
        all_of_them = store.search(parse("fault"), limit=TRACES)
        assert len(all_of_them) == TRACES // 50
        middle = all_of_them[20].start_ns
        assert store.search(parse("fault"), TraceFilter(since_ns=middle), limit=TRACES) == all_of_them[:21]
        assert store.search(parse("fault"), TraceFilter(service="nosuch")) == []


@pytest.mark.parametrize("text", ["fault", 'service("orders") { throttle }', "annotation.a = 1", "partial", "word"])
def test_spans_are_reached_through_an_index(path: str, text: str) -> None:
    sql, values = condition(bounds(parse(text)))
    with SqliteStore(path) as store:
        plan = store._connection.execute(
            f"EXPLAIN QUERY PLAN SELECT trace_id FROM trace WHERE start_ns <= 5 AND {sql} ORDER BY start_ns DESC",
            values,
        ).fetchall()
    said = [row[3] for row in plan]
    assert not [line for line in said if line.startswith("SCAN")], said
    assert any("USING INDEX trace_start" in line for line in said), said


def test_the_generator_makes_the_same(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.db") for number in range(2)]
    for file in files:
        make(file, 3)
    ids = []
    for file in files:
        with SqliteStore(file) as store:
            ids.append(store.ids())
            assert [len(store.get(trace_id).spans) for trace_id in ids[-1]] == [20, 20, 20]
    assert ids[0] == ids[1]
