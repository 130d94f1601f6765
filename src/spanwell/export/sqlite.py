"""Spans into one sqlite file: the embedded default, for development, `spanwell demo` and `spanwell traces`.

Several processes may write to the file at once. It stays under `max_bytes` by removing the oldest traces;
sqlite's write-ahead log beside it adds at most `LOG_CEILING` (32 MB) and one transaction (about 8 MB), and
is normally under `LOG_LIMIT` (4 MB). When the file cannot be written, spans are lost, counted and reported
once, and writing is tried again after a pause of 1 second that doubles up to 60. A corrupt file is renamed,
never deleted.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanwell import _guard, schema
from spanwell.export import sqlite_file
from spanwell.export.span_rows import RowEncoder
from spanwell.schema import default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from sqlite3 import Connection

    from opentelemetry.sdk.trace import ReadableSpan

    Row = tuple[Any, ...]

__all__ = ["SqliteSpanExporter", "default_path"]

DEFAULT_MAX_BYTES = 512_000_000
DEFAULT_BUSY_TIMEOUT = 2.0
_MIN_BYTES = 1_000_000
_CHUNK = 4_000_000
_ROW = 300
_BODY = schema.SPAN_COLUMNS.index("attributes")
_IDLE = 1.0
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 60.0


class SqliteSpanExporter(SpanExporter):
    """Writes ended spans into the sqlite file at `path`. Nothing is opened before the first export.

    `max_bytes` caps the file, at least 1 MB. `busy_timeout` is the longest, in seconds, that one export
    waits for other processes. `service` names this process in the table of losses until the first span has
    named it.
    """

    counts_losses = True
    """What is lost here is counted and reported here: whoever calls need not."""

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        busy_timeout: float = DEFAULT_BUSY_TIMEOUT,
        service: str = "",
    ) -> None:
        self.path = os.path.abspath(path)
        self.max_bytes = max(max_bytes, _MIN_BYTES)
        self.busy_timeout = busy_timeout
        self._encoder = RowEncoder()
        self._encoder.service = service
        self._connection: Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._inherited = False
        self._closed = False
        self._last_export = 0.0
        self._retry_at = 0.0
        self._pause = _FIRST_PAUSE
        self._reason = ""
        self._written = 0
        self._recorded: dict[tuple[str, str], int] = {}
        _exporters.add(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write `spans`; FAILURE if any of them was lost. Never raises."""
        number = 0
        try:
            number = len(spans)
            if self._closed:
                return self._lost(number, "shut down", None)
            if not spans:
                return SpanExportResult.SUCCESS
            if time.monotonic() < self._retry_at:
                return self._lost(number, self._reason, None)
            rows, resources = self._rows(spans)

            def write(connection: Connection, deadline: float) -> None:
                self._write(connection, rows, resources, deadline)

            if rows and self._attempt(write, len(rows)) and len(rows) == number:
                return SpanExportResult.SUCCESS
            return SpanExportResult.FAILURE
        except Exception as error:
            if _guard.strict:
                raise
            return self._lost(number, "failed", error)

    def record_losses(self, losses: Mapping[tuple[str, str], int]) -> bool:
        """Write (signal, reason) -> number into the table of losses, e.g. `_guard.losses.snapshot()` at exit.

        May be called again, also after `shutdown`: only what was added since is written. Never raises;
        tells whether it was written.
        """
        try:
            new = [
                (signal, reason, number - self._recorded.get((signal, reason), 0))
                for (signal, reason), number in losses.items()
            ]
            new = [row for row in new if row[2] > 0]
            if not new:
                return True

            def write(connection: Connection, deadline: float) -> None:
                sqlite_file.wait(connection, deadline)
                with schema.transaction(connection):
                    schema.insert_losses(
                        connection, new, service=self._encoder.service, pid=os.getpid(), now_ns=time.time_ns()
                    )

            if not self._attempt(write, 0):
                return False
            self._recorded.update(losses)
            return True
        except Exception as error:
            _guard.failed("recording losses in sqlite", error)
            return False

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """True: an export is on disk when it returns, nothing waits here."""
        return True

    def shutdown(self) -> None:
        """Close the file. Safe to call again; waits at most the busy timeout for an export under way."""
        self._closed = True
        if self._pid == os.getpid() and self._lock.acquire(timeout=self.busy_timeout):
            try:
                self._close()
            finally:
                self._lock.release()

    # --- one attempt: lock, open, transaction, and what to do when it fails ---------------------------------

    def _attempt(self, write: Callable[[Connection, float], None], spans: int) -> bool:
        """Run `write(connection, deadline)`; on failure count those of `spans` lost that were not written."""
        if self._pid != os.getpid():
            self._after_fork_in_child(held=False)
        if self._inherited:
            self._lost(spans, "inherited over a fork", None)
            return False
        deadline = time.monotonic() + self.busy_timeout
        if not self._lock.acquire(timeout=self.busy_timeout):
            self._lost(spans, "busy", None)
            return False
        try:
            self._written = 0
            self._try(write, deadline)
            self._pause = _FIRST_PAUSE
            return True
        except Exception as error:
            self._failed(error, max(0, spans - self._written))
            return False
        finally:
            self._lock.release()

    def _try(self, write: Callable[[Connection, float], None], deadline: float) -> None:
        try:
            write(self._open(deadline), deadline)
        except Exception as error:
            if not sqlite_file.is_corrupt(error):
                raise
            self._set_aside(deadline)
            write(self._open(deadline), deadline)
        # A connection must not be open when the process forks, and not every fork announces itself to
        # Python. So it stays open only while exports follow one another quickly.
        now = time.monotonic()
        if self._closed or now - self._last_export > _IDLE:
            self._close()
        self._last_export = now

    def _open(self, deadline: float) -> Connection:
        """The connection to the file that has our path now: it may have been deleted or set aside."""
        while self._connection is None or sqlite_file.identity(self.path) != self._opened:
            self._close()
            sqlite_file.prepare(self.path)
            # Taken before sqlite reads the file: if that proves corrupt, this is the file to set aside.
            self._opened = sqlite_file.identity(self.path)
            self._connection = sqlite_file.connect(self.path, self.max_bytes, deadline)
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.execute("PRAGMA busy_timeout = 0").fetchall()
            connection.close()
        except Exception as error:
            _guard.logger.debug("spanwell: closing %s failed: %s", self.path, error)

    def _set_aside(self, deadline: float) -> None:
        self._close()
        aside = sqlite_file.set_aside(self.path, self._opened, deadline)
        if aside:
            _guard.warn_once(
                f"sqlite corrupt {aside}",
                "spanwell: %s is corrupt; it was set aside as %s and a new file was started",
                self.path,
                aside,
            )

    # --- writing --------------------------------------------------------------------------------------------

    def _rows(self, spans: Sequence[ReadableSpan]) -> tuple[list[Row], dict[str, tuple[str, str]]]:
        rows: list[Row] = []
        resources: dict[str, tuple[str, str]] = {}
        for span in spans:
            try:
                rows.append(self._encoder.row(span, resources))
            except Exception as error:
                self._lost(1, "odd span", error)
        return rows, resources

    def _write(
        self, connection: Connection, rows: list[Row], resources: dict[str, tuple[str, str]], deadline: float
    ) -> None:
        self._written = 0
        for chunk, size in _chunks(rows, min(_CHUNK, self.max_bytes // 8)):
            sqlite_file.cut_log(connection, self.path, deadline)
            sqlite_file.wait(connection, deadline)
            with schema.transaction(connection):
                sqlite_file.make_room(connection, self.max_bytes, size)
                schema.insert(connection, chunk, resources)
            self._written += len(chunk)
        sqlite_file.give_back(connection, self.max_bytes)

    # --- losses ---------------------------------------------------------------------------------------------

    def _failed(self, error: Exception, spans: int) -> None:
        reason = self._reason = _reason(error)
        self._lost(spans, reason, error)
        if reason == "failed" and _guard.strict:
            raise error
        if reason == "busy":
            return
        self._close()
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE)

    def _lost(self, number: int, reason: str, error: Exception | None) -> SpanExportResult:
        if number:
            _guard.losses.add("spans", f"sqlite: {reason}", number)
        if error is not None and _guard.warn_once(
            f"sqlite {reason} {self.path}",
            "spanwell: cannot write spans to %s (%s: %s); they are lost until it works again",
            self.path,
            reason,
            error,
        ):
            _guard.losses.tell(number)
        return SpanExportResult.FAILURE

    # --- fork -----------------------------------------------------------------------------------------------
    # sqlite keeps its locks on a file in memory of the process, and in a child they are believed held but
    # are not: even a connection of the child's own would then be unsafe. So no connection is open while the
    # process forks.

    def _before_fork(self) -> bool:
        """Close the connection and hold the lock over the fork; False if an export would not end in time."""
        held = self._lock.acquire(timeout=self.busy_timeout)
        if held and self._pid == os.getpid():
            self._close()
        return held

    def _after_fork_in_child(self, *, held: bool) -> None:
        self._pid = os.getpid()
        in_use = self._connection is not None or (self._lock.locked() and not held)
        self._lock = threading.Lock()
        if in_use:
            _inherited.append(self._connection)  # closing it here would disturb the parent's locks
            self._connection = None
            self._inherited = True
            _guard.warn_once(
                f"sqlite inherited {self.path}",
                "spanwell: this process was forked during an export; its spans cannot be written to %s",
                self.path,
            )
        self._opened = None
        self._last_export = 0.0
        self._retry_at = 0.0
        self._pause = _FIRST_PAUSE
        self._recorded = {}


def _chunks(rows: list[Row], limit: int) -> Iterator[tuple[list[Row], int]]:
    """Cut `rows` where their text passes `limit` bytes, so that room is made in steps; yields (rows, bytes).

    A row over the limit by itself, possible only under a small cap, loses its attributes, events and links.
    """
    chunk: list[Row] = []
    size = 0
    for whole in rows:
        row, length = whole, _length(whole)
        if length > limit:
            row = (*row[:_BODY], '{"$cut":"span"}', None, None, *row[_BODY + 3 :])
            length = _length(row)
        chunk.append(row)
        size += length
        if size >= limit:
            yield chunk, size
            chunk, size = [], 0
    if chunk:
        yield chunk, size


def _length(row: Row) -> int:
    return _ROW + sum([len(value) for value in row if type(value) is str])


def _reason(error: Exception) -> str:
    """A few fixed words: they are the key of a loss counter."""
    shown = str(error)
    if isinstance(error, schema.SchemaError):
        return "unusable file"
    if isinstance(error, sqlite_file.LogHeldError):
        return "log held by a reader"
    if sqlite_file.is_busy(error):
        return "busy"
    if "full" in shown or "No space" in shown or "too large" in shown or "quota" in shown:
        return "disk full"
    if sqlite_file.is_corrupt(error):
        return "corrupt"
    if isinstance(error, OSError) or "readonly" in shown or "read-only" in shown or "unable to open" in shown:
        return "not writable"
    if "disk I/O" in shown:
        return "disk error"
    return "failed"


_exporters: weakref.WeakSet[SqliteSpanExporter] = weakref.WeakSet()
_held: list[SqliteSpanExporter] = []
_inherited: list[Connection | None] = []


def _before_fork() -> None:
    _held[:] = [exporter for exporter in list(_exporters) if exporter._before_fork()]


def _after_fork_in_parent() -> None:
    for exporter in _held:
        exporter._lock.release()
    _held.clear()


def _after_fork_in_child() -> None:
    for exporter in list(_exporters):
        exporter._after_fork_in_child(held=exporter in _held)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
