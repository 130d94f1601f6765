"""The trace file of the `sqlite` exporter, read only."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from spanwell import schema
from spanwell.explore.filters import bounds, matches
from spanwell.explore.model import AmbiguousTraceError, NoStoreError, StoreError, Trace, UnknownTraceError
from spanwell.explore.stores.rows import record_of
from spanwell.explore.stores.sqlite_filters import SUMMARY, candidates, literal
from spanwell.explore.summary import ServiceCount, TraceSummary
from spanwell.values import loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from spanwell.explore.filters.nodes import Filter

_HEX = frozenset("0123456789abcdef")
_FEW_SPANS = 20_000
_SUGGESTIONS = 5
_MANY_OPERATIONS = 5_000
_RESOURCE = schema.SPAN_COLUMNS.index("resource_id")

_ORPHANS = """SELECT count(*) FROM span AS child WHERE child.trace_id = ? AND child.parent_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM span WHERE trace_id = child.trace_id AND span_id = child.parent_id)"""


class TraceFilter(NamedTuple):
    """Which traces to list; the default is all. Times are nanoseconds, `name` is part of an operation's
    name.
    """

    service: str | None = None
    name: str | None = None
    errors: bool = False
    min_duration_ns: int = 0
    since_ns: int | None = None


class SqliteStore:
    """Reads the file at `path`. Raises `NoStoreError` or `StoreError` when it is not there or not readable.

    `timeout` is the longest, in seconds, that a read waits for a writer (it seldom does: the file has a
    write-ahead log). Use it as a context manager, or call `close`.
    """

    def __init__(self, path: str, *, timeout: float = 5.0) -> None:
        self.path = path
        if not os.path.exists(path):
            raise NoStoreError(f"no traces yet: {path} does not exist (run `spanwell run -- your command` first)")
        with self._readable():
            self._connection = self._connect(timeout)

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def newest(self, wanted: TraceFilter = TraceFilter(), *, limit: int = 20) -> list[TraceSummary]:  # noqa: B008
        """The newest traces first, by their start, at most `limit`."""
        with self._readable():
            conditions, values = self._conditions(wanted)
            where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
            rows = self._connection.execute(
                f"SELECT {SUMMARY} FROM trace {where} ORDER BY start_ns DESC, trace_id LIMIT ?", (*values, limit)
            ).fetchall()
            return [self._summary(row) for row in rows]

    def get(self, trace_id: str) -> Trace:
        """The trace with this id, a beginning of it that no other has, or X-Ray's form `1-xxxxxxxx-…`.

        Raises `UnknownTraceError` and `AmbiguousTraceError`.
        """
        with self._readable():
            return self._load(self._resolve(trace_id), {})

    def search(
        self,
        expression: Filter,
        wanted: TraceFilter = TraceFilter(),  # noqa: B008
        *,
        limit: int = 20,
        report: Callable[[int, int], object] = lambda _done, _of: None,
    ) -> list[TraceSummary]:
        """The newest traces that `expression` (`explore.filters`) matches, too; `report(done, of)` is told of each
        trace that is loaded to be looked at.
        """
        found: list[TraceSummary] = []
        resources: dict[str, dict[str, Any]] = {}
        with self._readable():
            conditions, values = self._conditions(wanted)
            of = 0
            for done, of, row in candidates(self._connection, bounds(expression), conditions, values):
                report(done, of)
                if matches(self._load(row[0], resources), expression):
                    found.append(self._summary(row))
                    if len(found) == limit:
                        break
            report(of, of)
        return found

    def ids(self, wanted: TraceFilter = TraceFilter()) -> list[str]:  # noqa: B008
        """The ids of the traces, the oldest first."""
        with self._readable():
            conditions, values = self._conditions(wanted)
            where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
            rows = self._connection.execute(f"SELECT trace_id FROM trace {where} ORDER BY start_ns, trace_id", values)
            return [row[0] for row in rows]

    def losses(self, since_ns: int = 0) -> dict[tuple[str, str], int]:
        """Telemetry that was lost since `since_ns`, as processes recorded it: (signal, reason) -> number."""
        with self._readable():
            rows = self._connection.execute(
                "SELECT signal, reason, sum(number) FROM loss WHERE time_ns >= ? GROUP BY signal, reason", (since_ns,)
            )
            return {(signal, reason): number for signal, reason, number in rows}

    # --- opening --------------------------------------------------------------------------------------------

    def _connect(self, timeout: float) -> sqlite3.Connection:
        location = f"file:{quote(os.path.abspath(self.path))}"
        connection = self._open(f"{location}?mode=ro", timeout)
        try:
            try:
                found = schema.check(connection)
            except sqlite3.OperationalError as error:
                denied = "unable to open" in str(error) or "readonly" in str(error)
                if not denied or os.path.exists(self.path + "-wal"):
                    raise
                # A file without a log in a folder that cannot be written: nobody can be changing it.
                connection.close()
                connection = self._open(f"{location}?immutable=1", timeout)
                found = schema.check(connection)
            if found == 0:
                raise NoStoreError(f"no traces yet: {self.path} is empty")
            if found < schema.VERSION:
                self._migrate(timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, uri: str, timeout: float) -> sqlite3.Connection:
        # Not sqlite3.connect: the reader may run in a traced process, and that function may be instrumented.
        return sqlite3.Connection(uri, timeout=timeout, isolation_level=None, uri=True)

    def _migrate(self, timeout: float) -> None:
        connection = sqlite3.Connection(self.path, timeout=timeout, isolation_level=None)
        try:
            schema.migrate(connection)
        finally:
            connection.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, schema.SchemaError, ValueError) as error:
            raise StoreError(f"cannot read {self.path}: {error}") from error

    # --- listing --------------------------------------------------------------------------------------------

    def _conditions(self, wanted: TraceFilter) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        if wanted.errors:
            conditions.append("errors > 0")
        if wanted.since_ns is not None:
            conditions.append("start_ns >= ?")
            values.append(wanted.since_ns)
        if wanted.min_duration_ns > 0:
            conditions.append("duration_ns >= ?")
            values.append(wanted.min_duration_ns)
        if wanted.name:
            condition, names = self._with_name(wanted.name, wanted.service)
            conditions.append(condition)
            values += names
        elif wanted.service is not None:
            conditions.append("trace_id IN (SELECT trace_id FROM trace_service WHERE service = ?)")
            values.append(wanted.service)
        return conditions, values

    def _with_name(self, name: str, service: str | None) -> tuple[str, list[Any]]:
        """A condition on traces with a span of `service` whose name contains `name`, in any case."""
        part = name.casefold()
        operations = self._operations(service)
        if operations is None:  # names that are nearly all different: no index helps
            return (
                "EXISTS (SELECT 1 FROM span WHERE span.trace_id = trace.trace_id"
                " AND name LIKE ? ESCAPE '\\' AND service = ifnull(?, service))",
                [f"%{literal(name)}%", service],
            )
        found = [operation for operation in operations if part in operation[1].casefold()]
        if not found:
            return "0", []
        values = [value for operation in found for value in operation]
        # The cross join keeps sqlite from scanning all spans: it looks up each operation.
        spans = (
            f"(VALUES {', '.join(['(?, ?)'] * len(found))}) AS wanted CROSS JOIN span"
            " ON span.service = wanted.column1 AND span.name = wanted.column2"
        )
        if self._at_most(_FEW_SPANS, spans, values):
            return f"trace_id IN (SELECT span.trace_id FROM {spans})", values
        # In that many spans the newest traces are soon found one by one.
        return (
            "EXISTS (SELECT 1 FROM span INDEXED BY span_trace WHERE span.trace_id = trace.trace_id"
            f" AND (service, name) IN (VALUES {', '.join(['(?, ?)'] * len(found))}))",
            values,
        )

    def _at_most(self, number: int, spans: str, values: list[Any]) -> bool:
        query = f"SELECT count(*) FROM (SELECT 1 FROM {spans} LIMIT {number + 1})"
        found: int = self._connection.execute(query, values).fetchone()[0]
        return found <= number

    def _operations(self, service: str | None) -> list[tuple[str, str]] | None:
        """Each distinct (service, name) by one step through the index; None if there are very many."""
        found: list[tuple[str, str]] = []
        for owner in [service] if service is not None else self._steps("service", "service > ?", ()):
            for name in self._steps("name", "service = ? AND name > ?", (owner,)):
                found.append((owner, name))
                if len(found) > _MANY_OPERATIONS:
                    return None
        return found

    def _steps(self, column: str, after: str, fixed: tuple[str, ...]) -> Iterator[str]:
        query = f"SELECT {column} FROM span WHERE {after} ORDER BY {column} LIMIT 1"
        row = self._connection.execute(query.replace(" > ", " >= "), (*fixed, "")).fetchone()
        while row:
            yield row[0]
            row = self._connection.execute(query, (*fixed, row[0])).fetchone()

    def _summary(self, row: tuple[Any, ...]) -> TraceSummary:
        trace_id, start_ns, end_ns, root_service, root_name, spans, errors = row
        services = self._connection.execute(
            "SELECT service, spans, errors FROM trace_service WHERE trace_id = ? ORDER BY service", (trace_id,)
        ).fetchall()
        orphans = self._connection.execute(_ORPHANS, (trace_id,)).fetchone()[0]
        return TraceSummary(
            trace_id,
            start_ns,
            end_ns,
            root_service,
            root_name,
            spans,
            errors,
            orphans,
            tuple(ServiceCount(*service) for service in services),
        )

    # --- one trace ------------------------------------------------------------------------------------------

    def _resolve(self, given: str) -> str:
        wanted = normal_id(given)
        if wanted:
            rows = self._connection.execute(
                "SELECT trace_id FROM trace WHERE trace_id >= ? AND trace_id < ? ORDER BY trace_id LIMIT ?",
                (wanted, wanted + "g", _SUGGESTIONS + 1),
            ).fetchall()
            if len(rows) == 1:
                return str(rows[0][0])
            if rows:
                shown = ", ".join(row[0] for row in rows[:_SUGGESTIONS])
                more = ", …" if len(rows) > _SUGGESTIONS else ""
                raise AmbiguousTraceError(f"several traces begin with {given}: {shown}{more}")
        raise UnknownTraceError(f"no trace {given!r} in {self.path}")

    def _load(self, trace_id: str, resources: dict[str, dict[str, Any]]) -> Trace:
        columns = ", ".join(schema.SPAN_COLUMNS)
        rows = self._connection.execute(f"SELECT {columns} FROM span WHERE trace_id = ? ORDER BY id", (trace_id,))
        return Trace(trace_id, [record_of(row, self._resource(row[_RESOURCE], resources)) for row in rows])

    def _resource(self, resource_id: str, resources: dict[str, dict[str, Any]]) -> dict[str, Any]:
        if resource_id not in resources:
            query = "SELECT body FROM resource WHERE id = ?"
            row = self._connection.execute(query, (resource_id,)).fetchone()
            resources[resource_id] = loads(row[0]) if row else {}
        return resources[resource_id]


def normal_id(given: str) -> str:
    """A trace id or a beginning of one as lower-case hexadecimal digits; "" if it cannot be one."""
    wanted = given.strip().lower()
    if wanted.startswith("1-"):  # X-Ray: version, eight digits of time, twenty-four more
        wanted = wanted[2:].replace("-", "", 1)
    return wanted if _HEX.issuperset(wanted) else ""
