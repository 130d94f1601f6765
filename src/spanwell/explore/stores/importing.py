"""Spans of other programs' files into the sqlite file, many at a time; a span that is there already is left.

The same span: the same trace id, span id, kind, service and start. Zipkin lets a client and a server share one id, so
the ids alone are not enough.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from spanwell import schema
from spanwell.explore.model import StoreError
from spanwell.export import sqlite_file
from spanwell.values import MAX_TREE, cut, dumps, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from spanwell.record import EventRecord, LinkRecord, SpanRecord

    Row = tuple[Any, ...]
    Key = tuple[Any, ...]

BATCH = 20_000
"""Spans in one transaction."""

UNLIMITED = 2**46
"""More bytes than any file may have."""

_PATIENCE = 30.0
_MAX_RESOURCES = 10_000
_AT_ONCE = 400
_TRACE, _IDS = 0, 2


class Batch(NamedTuple):
    """Rows to be written. bodies: their resources, id -> (service, JSON). spans: how many there were, with repeated
    ones."""

    rows: list[Row]
    bodies: dict[str, tuple[str, str]]
    spans: int


class RowMaker:
    """Turns spans into rows of `schema.SPAN_COLUMNS`; remembers the resources it has met."""

    def __init__(self) -> None:
        self._resources: dict[int, tuple[Mapping[str, Any], str, str]] = {}

    def batches(self, spans: Iterable[SpanRecord]) -> Iterator[Batch]:
        """All of them, `BATCH` at a time."""
        waiting = iter(spans)
        while some := list(islice(waiting, BATCH)):
            yield self.batch(some)

    def batch(self, spans: list[SpanRecord]) -> Batch:
        """`spans` as rows, each span once."""
        bodies: dict[str, tuple[str, str]] = {}
        rows: dict[Key, Row] = {}
        for span in spans:
            row = self._row(span, bodies)
            rows.setdefault(_key(row), row)
        return Batch(list(rows.values()), bodies, len(spans))

    def _row(self, span: SpanRecord, bodies: dict[str, tuple[str, str]]) -> Row:
        (
            trace_id,
            span_id,
            parent_id,
            name,
            kind,
            service,
            start_ns,
            end_ns,
            status,
            message,
            attributes,
            events,
            links,
            resource,
            scope,
            version,
            state,
            *counts,
        ) = span
        flags, dropped, dropped_events, dropped_links = counts
        told_events = told_links = None
        if events:
            told_events, lost = _list([(_event(event), event.attributes) for event in events])
            dropped_events += lost
        if links:
            told_links, lost = _list([(_link(link), link.attributes) for link in links])
            dropped_links += lost
        return (
            trace_id,
            span_id,
            parent_id,
            _name(name),
            kind,
            _name(service),
            _name(scope) if scope else None,
            _name(version) if version else None,
            start_ns,
            end_ns,
            status,
            _name(message) if message else None,
            dumps(attributes) if attributes else None,
            told_events,
            told_links,
            self._resource(resource, service, bodies),
            text(state) if state else None,
            flags,
            dropped,
            dropped_events,
            dropped_links,
        )

    def _resource(self, resource: Mapping[str, Any], service: str, bodies: dict[str, tuple[str, str]]) -> str:
        # By identity: the spans of one document share it, and the tuple keeps it alive.
        known = self._resources.get(id(resource))
        if known is None:
            if len(self._resources) >= _MAX_RESOURCES:
                self._resources = {}
            body = dumps(resource)
            key = blake2b(body.encode(), digest_size=8).hexdigest()
            known = self._resources[id(resource)] = resource, key, body
        if known[1] not in bodies:
            bodies[known[1]] = _name(service), known[2]
        return known[1]


class Importer:
    """Writes into the file at `path`, made if it is not there; with more than `max_bytes` in it, it is full.

    Other processes may write to it at the same time. Use it as a context manager. Raises `StoreError`.
    """

    def __init__(self, path: str, *, max_bytes: int = UNLIMITED, patience: float = _PATIENCE) -> None:
        self.path = os.path.abspath(path)
        self.spans = self.known = 0
        """Spans that were written; that were there already."""
        self.traces: set[str] = set()
        """The ids of all traces that were met."""
        self._patience = patience
        self._waiting: list[SpanRecord] = []
        self._maker = RowMaker()
        with self._writable():
            sqlite_file.prepare(self.path)
            self._connection = sqlite_file.connect(self.path, max_bytes, self._deadline())
            self._connection.execute("PRAGMA cache_size = -65536")  # 64 MB: the index by trace is written all over

    def __enter__(self) -> Importer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._connection.close()

    def add(self, span: SpanRecord) -> None:
        """Take one span; it is written with others, at the latest by `flush`."""
        self._waiting.append(span)
        if len(self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.write(self._maker.batch(waiting))

    def write(self, batch: Batch) -> None:
        """Write one batch, in one transaction."""
        with self._writable():
            sqlite_file.wait(self._connection, self._deadline())
            with schema.transaction(self._connection):
                rows = self._new(batch.rows)
                if rows:
                    schema.insert(self._connection, rows, batch.bodies)
            self.spans += len(rows)
            self.known += batch.spans - len(rows)
            self.traces.update({row[_TRACE] for row in batch.rows})
            sqlite_file.cut_log(self._connection, self.path, self._deadline())

    def _new(self, rows: list[Row]) -> list[Row]:
        """Those that are not in the file."""
        known = self._known({row[_TRACE] for row in rows})
        if not known:
            return rows
        pairs = list({row[:_IDS] for row in rows if row[_TRACE] in known})
        present: set[Key] = set()
        for start in range(0, len(pairs), _AT_ONCE):
            some = pairs[start : start + _AT_ONCE]
            # The cross join makes sqlite look each of them up in the index.
            present.update(
                self._connection.execute(
                    "SELECT span.trace_id, span.span_id, span.kind, span.service, span.start_ns"
                    f" FROM (VALUES {', '.join(['(?, ?)'] * len(some))}) AS wanted CROSS JOIN span"
                    " ON span.trace_id = wanted.column1 AND span.span_id = wanted.column2",
                    [part for pair in some for part in pair],
                )
            )
        return [row for row in rows if _key(row) not in present]

    def _known(self, traces: set[str]) -> set[str]:
        """Those of the traces that are in the file."""
        ids = list(traces)
        known: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            found = self._connection.execute(f"SELECT trace_id FROM trace WHERE trace_id IN ({marks})", some)
            known.update(row[0] for row in found)
        return known

    def _deadline(self) -> float:
        return time.monotonic() + self._patience

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, schema.SchemaError, sqlite_file.LogHeldError, OSError) as error:
            said = str(error)
            if "full" in said:
                said = "it is full (SPANWELL_SQLITE_MAX_MB), or the disk is; name a file of its own with --db"
            raise StoreError(f"cannot write {self.path}: {said}") from error


def _key(row: Row) -> Key:
    """trace_id, span_id, kind, service, start_ns: as they are selected above."""
    return row[0], row[1], row[4], row[5], row[8]


def _name(value: str) -> str:
    # Half a surrogate pair, which JSON can say, is no text for sqlite.
    return value if len(value) < 1000 and value.isascii() else cut(text(value))


def _event(event: EventRecord) -> str:
    return dumps({"name": event.name, "time_ns": event.time_ns})


def _link(link: LinkRecord) -> str:
    head = {"trace_id": link.trace_id, "span_id": link.span_id}
    return dumps(head | {"trace_state": link.trace_state} if link.trace_state else head)


def _list(items: list[tuple[str, Mapping[str, Any]]]) -> tuple[str | None, int]:
    """Events or links as JSON text, and how many were left out because the text passed 1 MiB."""
    parts: list[str] = []
    size = left_out = 0
    for head, attributes in items:
        if size > MAX_TREE:
            left_out += 1
            continue
        parts.append(f'{head[:-1]},"attributes":{dumps(attributes) if attributes else "{}"}}}')
        size += len(parts[-1])
    return (f"[{','.join(parts)}]" if parts else None), left_out
