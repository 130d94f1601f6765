"""The sqlite exporter in one process: what is written, and what happens when it cannot be."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanKind

from spanwell import _guard, schema
from spanwell.explore.stores.sqlite import SqliteStore
from spanwell.export.sqlite import SqliteSpanExporter, default_path
from support.spans import START, context, make_span

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


@pytest.fixture(autouse=True)
def _fresh_guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_guard, "_warned", set())
    monkeypatch.setattr(_guard, "strict", True)
    _guard.losses.reset()
    yield
    _guard.losses.reset()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "traces.db")


def lost(reason: str) -> int:
    return _guard.losses.snapshot().get(("spans", f"sqlite: {reason}"), 0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]


def numbers(path: str) -> tuple[int, int]:
    """Spans in the table, and spans as the summaries count them."""
    connection = sqlite3.Connection(path)
    try:
        spans = connection.execute("SELECT count(*) FROM span").fetchone()[0]
        return spans, connection.execute("SELECT ifnull(sum(spans), 0) FROM trace").fetchone()[0]
    finally:
        connection.close()


def test_a_span_is_read_back_as_it_was(path: str) -> None:
    span = make_span(
        trace_id=0xABC,
        span_id=0xD,
        parent=0xE,
        remote_parent=True,
        name="GET /orders",
        kind=SpanKind.SERVER,
        error="no stock",
        attributes={"http.route": "/orders", "none": None, "raw": b"\x00\xff", "nan": float("inf")},
        events=(Event("exception", {"exception.type": "KeyError"}, timestamp=START + 5),),
        links=(Link(context(7, 8, state="a=b"), {"why": "batch"}),),
    )
    exporter = SqliteSpanExporter(path)
    assert exporter.export([span]) is SUCCESS
    exporter.shutdown()
    with SqliteStore(path) as store:
        (found,) = store.get("abc".zfill(32)).spans
    assert (found.trace_id, found.span_id, found.parent_id) == ("abc".zfill(32), "d".zfill(16), "e".zfill(16))
    assert (found.name, found.kind, found.service) == ("GET /orders", "server", "shop")
    assert (found.start_ns, found.duration) == (START, 1_000_000)
    assert (found.status, found.status_message) == ("error", "no stock")
    assert found.attributes == {
        "http.route": "/orders",
        "none": None,
        "raw": b"\x00\xff",
        "nan": float("inf"),
    }
    assert [tuple(event) for event in found.events] == [("exception", START + 5, {"exception.type": "KeyError"})]
    assert [tuple(link) for link in found.links] == [("7".zfill(32), "8".zfill(16), {"why": "batch"}, "a=b")]
    assert found.resource == {"service.name": "shop"}
    assert (found.scope, found.scope_version, found.flags) == ("tests", "1.0", 0x301)


def test_nothing_is_opened_before_the_first_export_and_the_file_is_private(path: str) -> None:
    exporter = SqliteSpanExporter(path)
    assert not os.path.exists(os.path.dirname(path))
    exporter.export([make_span()])
    exporter.export([make_span()])  # quick succession: the write-ahead log is still there
    for name in os.listdir(os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert len(os.listdir(os.path.dirname(path))) == 3
    exporter.shutdown()
    assert os.listdir(os.path.dirname(path)) == ["traces.db"]


def test_attributes_are_fetched_once_a_span(path: str) -> None:
    fetched = []

    class Counting(type(make_span())):  # type: ignore[misc]
        @property
        def attributes(self):
            fetched.append(self)
            return super().attributes

    span = make_span(attributes={"a": 1})
    span.__class__ = Counting
    assert SqliteSpanExporter(path).export([span]) is SUCCESS
    assert len(fetched) == 1


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/spanwell/traces.db"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.local/state/spanwell/traces.db"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/spanwell/traces.db"),
        ({"TMPDIR": "/scratch"}, f"/scratch/spanwell-{os.getuid()}/traces.db"),
        ({}, f"/tmp/spanwell-{os.getuid()}/traces.db"),
    ],
)
def test_default_path(environ: dict[str, str], expected: str) -> None:
    assert default_path(environ) == expected


def test_a_folder_planted_by_another_user_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.getuid() != 0:  # only root can give a folder away; the others meet the same code in a read-only folder
        return
    tmp_path.chmod(0o1777)
    planted = tmp_path / "spanwell-0"
    planted.mkdir()
    os.chown(planted, 12345, 12345)
    assert SqliteSpanExporter(str(planted / "traces.db")).export([make_span()]) is FAILURE
    assert "belongs to another user" in warnings(caplog)[0]


def test_unwritable_is_counted_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "folder"
    blocker.write_text("a file where the folder should be")
    exporter = SqliteSpanExporter(str(blocker / "traces.db"))
    for _ in range(3):
        assert exporter.export([make_span(), make_span()]) is FAILURE
    assert lost("not writable") == 6
    assert len(warnings(caplog)) == 1
    assert "cannot write spans" in warnings(caplog)[0]
    blocker.unlink()
    assert exporter.export([make_span()]) is FAILURE  # still pausing
    now = time.monotonic()
    monkeypatch.setattr("spanwell.export.sqlite.time.monotonic", lambda: now + 5)
    assert exporter.export([make_span()]) is SUCCESS
    assert lost("not writable") == 7


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    exporter = SqliteSpanExporter(str(tmp_path))
    assert exporter.export([make_span()]) is FAILURE
    assert lost("not writable") == 1


@pytest.mark.parametrize("damage", ["garbage", "torn"])
def test_a_corrupt_file_is_set_aside(path: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = SqliteSpanExporter(path)
    first.export([make_span(trace_id=i + 1) for i in range(300)])
    first.shutdown()
    content = bytearray(Path(path).read_bytes())
    if damage == "garbage":
        content[:] = b"this is no database " * 1000
    else:
        content[100:40_000] = os.urandom(39_900)
    Path(path).write_bytes(content)
    exporter = SqliteSpanExporter(path)
    assert exporter.export([make_span(), make_span()]) is SUCCESS
    exporter.shutdown()
    assert numbers(path) == (2, 2)
    (aside,) = [name for name in os.listdir(os.path.dirname(path)) if ".corrupt-" in name]
    assert Path(path).with_name(aside).read_bytes() == bytes(content)
    assert [line for line in warnings(caplog) if "set aside" in line and aside in line]
    assert _guard.losses.total("spans") == 0


def test_a_file_that_is_deleted_is_started_again(path: str) -> None:
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span()])
    exporter.export([make_span()])
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))
    assert exporter.export([make_span()]) is SUCCESS
    exporter.shutdown()
    assert numbers(path) == (1, 1)


def test_a_newer_schema_is_refused_and_left_alone(path: str, caplog: pytest.LogCaptureFixture) -> None:
    SqliteSpanExporter(path).export([make_span()])
    connection = sqlite3.Connection(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    before = Path(path).read_bytes()
    assert SqliteSpanExporter(path).export([make_span()]) is FAILURE
    assert lost("unusable file") == 1
    assert "newer spanwell" in warnings(caplog)[0]
    assert Path(path).read_bytes() == before


def test_an_older_schema_is_migrated(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteSpanExporter(path).export([make_span()])
    later = (*schema.MIGRATIONS, ("CREATE TABLE annotation (key TEXT)", "INSERT INTO annotation VALUES ('x')"))
    monkeypatch.setattr(schema, "MIGRATIONS", later)
    monkeypatch.setattr(schema, "VERSION", len(later))
    assert SqliteSpanExporter(path).export([make_span()]) is SUCCESS
    assert SqliteSpanExporter(path).export([make_span()]) is SUCCESS
    connection = sqlite3.Connection(path)
    assert connection.execute("SELECT * FROM annotation").fetchall() == [("x",)]
    assert schema.version(connection) == schema.VERSION
    connection.close()
    assert numbers(path) == (3, 3)


def test_a_failing_migration_changes_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteSpanExporter(path).export([make_span()])
    version = schema.VERSION
    later = (*schema.MIGRATIONS, ("CREATE TABLE annotation (key TEXT)", "CREATE TABLE span (again)"))
    monkeypatch.setattr(schema, "MIGRATIONS", later)
    monkeypatch.setattr(schema, "VERSION", len(later))
    connection = sqlite3.Connection(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        schema.migrate(connection)
    assert schema.version(connection) == version
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'annotation'").fetchone() == (0,)
    connection.close()


def test_the_database_of_another_program_is_refused_and_left_alone(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    connection = sqlite3.Connection(path)
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    before = Path(path).read_bytes()
    assert SqliteSpanExporter(path).export([make_span()]) is FAILURE
    assert lost("unusable file") == 1
    assert Path(path).read_bytes() == before
    assert os.listdir(os.path.dirname(path)) == ["traces.db"]


def test_the_cap_removes_the_oldest_traces(path: str) -> None:
    cap = 2_000_000
    exporter = SqliteSpanExporter(path, max_bytes=cap)
    trace = 0
    for _ in range(60):
        batch = []
        for _ in range(50):
            trace += 1
            moment = START + trace * 1_000_000
            batch += [make_span(trace_id=trace, start=moment, attributes={"x": "y" * 200}) for _ in range(4)]
        assert exporter.export(batch) is SUCCESS
        assert os.path.getsize(path) <= cap
        assert os.path.getsize(path + "-wal") <= 16_000_000 if os.path.exists(path + "-wal") else True
    exporter.shutdown()
    spans, counted = numbers(path)
    assert spans == counted
    assert 500 < spans < 12_000
    connection = sqlite3.Connection(path)
    kept = [row[0] for row in connection.execute("SELECT start_ns FROM trace ORDER BY start_ns")]
    assert kept[-1] == START + trace * 1_000_000
    # An unbroken run of the newest: nothing newer was removed before something older.
    assert kept == [START + number * 1_000_000 for number in range(trace - len(kept) + 1, trace + 1)]
    stale = "SELECT count(*) FROM trace_service WHERE trace_id NOT IN (SELECT trace_id FROM trace)"
    assert connection.execute(stale).fetchone() == (0,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert _guard.losses.total("spans") == 0


def test_one_trace_larger_than_the_cap(path: str) -> None:
    exporter = SqliteSpanExporter(path, max_bytes=1_000_000)
    for _ in range(40):
        assert exporter.export([make_span(attributes={"x": "y" * 200}) for _ in range(100)]) is SUCCESS
    exporter.shutdown()
    assert os.path.getsize(path) <= 1_000_000
    spans, counted = numbers(path)
    assert 0 < spans < 4000
    assert spans == counted


def test_a_lowered_cap_shrinks_the_file(path: str) -> None:
    wide = SqliteSpanExporter(path)
    for trace in range(1, 40):
        wide.export([make_span(trace_id=trace, start=START + trace, attributes={"x": "y" * 500}) for _ in range(200)])
    wide.shutdown()
    assert os.path.getsize(path) > 5_000_000
    narrow = SqliteSpanExporter(path, max_bytes=1_000_000)
    for _ in range(30):
        assert narrow.export([make_span(trace_id=99, start=START + 1000)]) is SUCCESS
    narrow.shutdown()
    assert os.path.getsize(path) <= 1_000_000


def test_a_span_too_large_for_a_small_cap_keeps_its_place(path: str) -> None:
    exporter = SqliteSpanExporter(path, max_bytes=1_000_000)
    huge = {f"k{number}": "x" * 60_000 for number in range(100)}
    assert exporter.export([make_span(name="huge", attributes=huge), make_span(name="small")]) is SUCCESS
    exporter.shutdown()
    with SqliteStore(path) as store:
        found = {span.name: span.attributes for span in store.get("1".zfill(32)).spans}
    assert found == {"huge": {"$cut": "span"}, "small": {}}


def test_a_held_log_pauses_writing_instead_of_filling_the_disk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanwell.export.sqlite_file.LOG_CEILING", 2_000_000)
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span()])
    reader = sqlite3.Connection(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM span").fetchone()
    results = [exporter.export([make_span(attributes={"x": "y" * 1000}) for _ in range(500)]) for _ in range(8)]
    assert results[0] is SUCCESS
    assert results[-1] is FAILURE
    assert lost("log held by a reader") > 0
    assert os.path.getsize(path + "-wal") < 6_000_000
    reader.close()
    exporter.shutdown()


def test_another_writer_is_waited_for_no_longer_than_the_busy_timeout(path: str) -> None:
    exporter = SqliteSpanExporter(path, busy_timeout=0.2)
    exporter.export([make_span()])
    writer = sqlite3.Connection(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert exporter.export([make_span()]) is FAILURE
    assert time.monotonic() - started < 10  # sqlite's own default, and no hang
    assert lost("busy") == 1
    writer.execute("ROLLBACK")
    writer.close()
    assert exporter.export([make_span()]) is SUCCESS  # no pause after that


def test_an_odd_span_does_not_cost_the_others(path: str) -> None:
    odd = make_span()
    odd._context = None
    exporter = SqliteSpanExporter(path)
    assert exporter.export([make_span(), odd, make_span()]) is FAILURE
    assert numbers(path) == (2, 2)
    assert lost("odd span") == 1


def test_losses_are_recorded_once(path: str) -> None:
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span(service="orders")])
    exporter.shutdown()
    assert exporter.record_losses({("spans", "queue full"): 3})
    assert exporter.record_losses({("spans", "queue full"): 5, ("metrics", "timeout"): 1})
    assert exporter.record_losses({("spans", "queue full"): 5})
    with SqliteStore(path) as store:
        assert store.losses() == {("spans", "queue full"): 5, ("metrics", "timeout"): 1}
    connection = sqlite3.Connection(path)
    assert set(connection.execute("SELECT service, pid FROM loss")) == {("orders", os.getpid())}
    connection.close()


def test_recording_losses_where_nothing_can_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "folder"
    blocker.write_text("")
    assert SqliteSpanExporter(str(blocker / "traces.db")).record_losses({("spans", "x"): 1}) is False


def test_the_sqlite3_instrumentor_does_not_trace_the_exporter(path: str) -> None:
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    SQLite3Instrumentor().instrument(tracer_provider=provider)
    try:
        exporter = SqliteSpanExporter(path)
        assert exporter.export([make_span()]) is SUCCESS
        with SqliteStore(path) as store:
            store.newest()
        assert memory.get_finished_spans() == ()
        sqlite3.connect(":memory:").cursor().execute("SELECT 1")
        assert len(memory.get_finished_spans()) == 1  # the instrumentor itself works
    finally:
        SQLite3Instrumentor().uninstrument()


def test_operations_and_roots_of_the_summary_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    spans = [
        make_span(span_id=1, name="root", service="a", start=START, duration=100),
        make_span(span_id=2, parent=1, name="child", service="b", start=START + 10, duration=500, error="x"),
        make_span(span_id=3, name="late root", service="c", start=START + 50, duration=10),
    ]
    seen = set()
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        path = str(tmp_path / f"{order}.db")
        exporter = SqliteSpanExporter(path)
        for position in order:
            exporter.export([spans[position]])
        with SqliteStore(path) as store:
            seen.add(store.newest()[0])
    (summary,) = seen
    assert (summary.root_service, summary.root_name) == ("a", "root")
    assert (summary.start_ns, summary.end_ns) == (START, START + 510)
    assert [tuple(service) for service in summary.services] == [("a", 1, 0), ("b", 1, 1), ("c", 1, 0)]
