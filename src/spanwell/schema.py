"""The sqlite tables, once: written by the `sqlite` exporter, read by `spanwell traces` and everything after
it.

A span is one row. Beside it the writer keeps two small tables up to date, so that listing traces never has
to read spans: `trace` (one row a trace) and `trace_service` (one row a trace and service). Ids are
lower-case hexadecimal text, times and durations are nanoseconds, attribute trees are JSON
(`spanwell.values`). `span.id` only ever grows, also when rows go: a reader can remember how far it came.

The version stands in `PRAGMA user_version`; `MIGRATIONS` leads from any older one to `VERSION`.
"""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from sqlite3 import Connection
    from typing import Any

    Row = tuple[Any, ...]

APPLICATION_ID = 0x73706E77  # "spnw"

SPAN_COLUMNS = (
    "trace_id",
    "span_id",
    "parent_id",
    "name",
    "kind",
    "service",
    "scope",
    "scope_version",
    "start_ns",
    "end_ns",
    "status",
    "status_message",
    "attributes",
    "events",
    "links",
    "resource_id",
    "trace_state",
    "flags",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
)
"""The columns of `span` in the order of a row for `insert`; `id` is given by the database."""

_FIRST = (
    """CREATE TABLE resource (
        id TEXT PRIMARY KEY NOT NULL,   -- a hash of body
        service TEXT NOT NULL,
        body TEXT NOT NULL,             -- its attributes
        seen_ns INTEGER NOT NULL        -- when its latest span ended
    ) WITHOUT ROWID""",
    """CREATE TABLE span (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        trace_id TEXT NOT NULL,
        span_id TEXT NOT NULL,
        parent_id TEXT,                 -- NULL for a root
        name TEXT NOT NULL,
        kind TEXT NOT NULL,             -- internal, server, client, producer, consumer
        service TEXT NOT NULL,
        scope TEXT,
        scope_version TEXT,
        start_ns INTEGER NOT NULL,
        end_ns INTEGER NOT NULL,
        status TEXT NOT NULL,           -- unset, ok, error
        status_message TEXT,
        attributes TEXT,
        events TEXT,                    -- [{"name", "time_ns", "attributes"}]
        links TEXT,                     -- [{"trace_id", "span_id", "attributes", "trace_state"}]
        resource_id TEXT NOT NULL,
        trace_state TEXT,
        flags INTEGER NOT NULL,         -- as in OTLP
        dropped_attributes INTEGER NOT NULL,
        dropped_events INTEGER NOT NULL,
        dropped_links INTEGER NOT NULL
    )""",
    # Not unique: a client and a server may share one span id (Zipkin), and both are kept.
    "CREATE INDEX span_trace ON span (trace_id, span_id)",
    "CREATE INDEX span_operation ON span (service, name, start_ns, end_ns)",
    "CREATE INDEX span_start ON span (start_ns)",
    "CREATE INDEX span_error ON span (start_ns, service) WHERE status = 'error'",
    """CREATE TABLE trace (
        id INTEGER PRIMARY KEY,
        trace_id TEXT NOT NULL UNIQUE,
        start_ns INTEGER NOT NULL,
        end_ns INTEGER NOT NULL,
        duration_ns INTEGER NOT NULL,
        spans INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        root_start_ns INTEGER,          -- of the earliest span without a parent; NULL until there is one
        root_service TEXT,
        root_name TEXT
    )""",
    "CREATE INDEX trace_start ON trace (start_ns)",
    "CREATE INDEX trace_duration ON trace (duration_ns)",
    "CREATE INDEX trace_error ON trace (start_ns) WHERE errors > 0",
    """CREATE TABLE trace_service (
        trace_id TEXT NOT NULL,
        service TEXT NOT NULL,
        spans INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        PRIMARY KEY (trace_id, service)
    ) WITHOUT ROWID""",
    "CREATE INDEX trace_service_name ON trace_service (service)",
    """CREATE TABLE loss (
        id INTEGER PRIMARY KEY,
        time_ns INTEGER NOT NULL,
        signal TEXT NOT NULL,
        reason TEXT NOT NULL,
        number INTEGER NOT NULL,
        service TEXT NOT NULL,
        pid INTEGER NOT NULL
    )""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""Statements that lead from version N to N + 1, at index N. Only ever appended to."""

VERSION = len(MIGRATIONS)

_MAX_LOSSES = 10_000


class SchemaError(Exception):
    """The file is a sound sqlite database, but not one this version of spanwell can use."""


def default_path(environ: Mapping[str, str]) -> str:
    """Where traces are kept unless SPANWELL_SQLITE_PATH names another file; touches nothing.

    XDG_STATE_HOME, else ~/.local/state, else (no HOME, as in some containers) a folder of this user's own
    under TMPDIR.
    """
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the XDG specification: a relative path is to be ignored
        home = environ.get("HOME") or environ.get("USERPROFILE", "")
        if os.path.isabs(home):
            state = os.path.join(home, ".local", "state")
        else:
            user = os.getuid() if hasattr(os, "getuid") else environ.get("USERNAME", "user")
            folder = environ.get("TMPDIR") or environ.get("TEMP") or "/tmp"
            return os.path.join(folder, f"spanwell-{user}", "traces.db")
    return os.path.join(state, "spanwell", "traces.db")


def version(connection: Connection) -> int:
    """The version of the tables; 0 for an empty file. Raises `SchemaError` for a file of somebody else's."""
    for _ in range(2):  # another process may make the tables between two of these statements: then look again
        if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return 0
    raise SchemaError("it is the database of another program")


def check(connection: Connection) -> int:
    """As `version`, and raises `SchemaError` for a version newer than this spanwell knows."""
    found = version(connection)
    if found > VERSION:
        raise SchemaError(f"it was written by a newer spanwell (tables version {found}, this one knows {VERSION})")
    return found


def migrate(connection: Connection) -> None:
    """Bring the tables to `VERSION` in one transaction; several processes may try at once.

    `connection` is in autocommit mode (`isolation_level=None`). Raises `SchemaError` (see `check`) and
    sqlite3.Error.
    """
    if check(connection) == VERSION:
        return
    with transaction(connection):
        found = check(connection)  # another process may have been quicker
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


class transaction:  # noqa: N801 - used as a statement: `with transaction(connection):`
    """One write transaction on a connection in autocommit mode: committed at the end, rolled back on any
    error.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            # Some errors, such as a full disk, have rolled back already; a failing rollback must not hide
            # the cause.
            if self._connection.in_transaction:
                with suppress(Exception):
                    self._connection.execute("ROLLBACK")


_INSERT_SPAN = f"INSERT INTO span ({', '.join(SPAN_COLUMNS)}) VALUES ({', '.join('?' * len(SPAN_COLUMNS))})"

_UPSERT_TRACE = """INSERT INTO trace
    (trace_id, start_ns, end_ns, duration_ns, spans, errors, root_start_ns, root_service, root_name)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (trace_id) DO UPDATE SET
        start_ns = min(start_ns, excluded.start_ns),
        end_ns = max(end_ns, excluded.end_ns),
        duration_ns = max(0, max(end_ns, excluded.end_ns) - min(start_ns, excluded.start_ns)),
        spans = spans + excluded.spans,
        errors = errors + excluded.errors,
        root_service = CASE WHEN excluded.root_start_ns < ifnull(root_start_ns, excluded.root_start_ns + 1)
            THEN excluded.root_service ELSE root_service END,
        root_name = CASE WHEN excluded.root_start_ns < ifnull(root_start_ns, excluded.root_start_ns + 1)
            THEN excluded.root_name ELSE root_name END,
        root_start_ns = min(ifnull(root_start_ns, excluded.root_start_ns),
                            ifnull(excluded.root_start_ns, root_start_ns))"""

_UPSERT_SERVICE = """INSERT INTO trace_service (trace_id, service, spans, errors) VALUES (?, ?, ?, ?)
    ON CONFLICT (trace_id, service) DO UPDATE SET spans = spans + excluded.spans, errors = errors +
    excluded.errors"""

_UPSERT_RESOURCE = """INSERT INTO resource (id, service, body, seen_ns) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET seen_ns = max(seen_ns, excluded.seen_ns)"""

_TRACE, _PARENT, _NAME, _SERVICE, _START, _END, _STATUS, _RESOURCE = map(
    SPAN_COLUMNS.index,
    ("trace_id", "parent_id", "name", "service", "start_ns", "end_ns", "status", "resource_id"),
)


def insert(connection: Connection, rows: list[Row], resources: Mapping[str, tuple[str, str]]) -> None:
    """Add span rows (`SPAN_COLUMNS`) inside the caller's transaction and keep the summary tables true.

    `resources` is resource id -> (service, body as JSON) for every id that `rows` name.
    """
    traces: dict[str, list[Any]] = {}
    services: dict[tuple[str, str], list[int]] = {}
    seen: dict[str, int] = {}
    for row in rows:
        trace_id, service, start, end = row[_TRACE], row[_SERVICE], row[_START], row[_END]
        failed = row[_STATUS] == "error"
        trace = traces.get(trace_id)
        if trace is None:
            trace = traces[trace_id] = [trace_id, start, end, 0, 0, None, None, None]
        if start < trace[1]:
            trace[1] = start
        if end > trace[2]:
            trace[2] = end
        trace[3] += 1
        trace[4] += failed
        if row[_PARENT] is None and (trace[5] is None or start < trace[5]):
            trace[5:] = start, service, row[_NAME]
        count = services.get((trace_id, service))
        if count is None:
            count = services[trace_id, service] = [0, 0]
        count[0] += 1
        count[1] += failed
        resource, last = row[_RESOURCE], end if end > start else start
        if seen.get(resource, -1) < last:
            seen[resource] = last
    connection.executemany(_INSERT_SPAN, rows)
    connection.executemany(_UPSERT_TRACE, [(*t[:3], max(0, t[2] - t[1]), *t[3:]) for t in traces.values()])
    connection.executemany(_UPSERT_SERVICE, [(*key, *count) for key, count in services.items()])
    connection.executemany(_UPSERT_RESOURCE, [(key, *resources[key], last) for key, last in seen.items()])


def delete_oldest(connection: Connection, spans: int) -> int:
    """Remove the oldest traces inside the caller's transaction, at most `spans` spans; return how many went.

    Whole traces go, but for one that is larger than `spans` itself: it goes piece by piece, and until the
    last piece its errors and services are still counted as they were.
    """
    removed = 0
    for trace_id, number in connection.execute(
        "SELECT trace_id, spans FROM trace ORDER BY start_ns LIMIT ?", (spans,)
    ).fetchall():
        if removed + number > spans:
            if removed == 0:
                removed = _shorten(connection, trace_id, spans)
            break
        for table in ("span", "trace_service", "trace"):
            connection.execute(f"DELETE FROM {table} WHERE trace_id = ?", (trace_id,))
        removed += number
    connection.execute(
        "DELETE FROM resource WHERE seen_ns < (SELECT ifnull(min(start_ns), 0) FROM trace)",
    )
    return removed


def _shorten(connection: Connection, trace_id: str, spans: int) -> int:
    connection.execute(
        "DELETE FROM span WHERE id IN (SELECT id FROM span WHERE trace_id = ? ORDER BY id LIMIT ?)",
        (trace_id, spans),
    )
    connection.execute("UPDATE trace SET spans = spans - ? WHERE trace_id = ?", (spans, trace_id))
    return spans


def insert_losses(
    connection: Connection, losses: Iterable[tuple[str, str, int]], *, service: str, pid: int, now_ns: int
) -> None:
    """Add (signal, reason, number) rows of lost telemetry; the newest 10,000 are kept."""
    connection.executemany(
        "INSERT INTO loss (time_ns, signal, reason, number, service, pid) VALUES (?, ?, ?, ?, ?, ?)",
        [(now_ns, signal, reason, number, service, pid) for signal, reason, number in losses],
    )
    connection.execute("DELETE FROM loss WHERE id <= (SELECT max(id) FROM loss) - ?", (_MAX_LOSSES,))
