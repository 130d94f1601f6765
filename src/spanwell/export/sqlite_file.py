"""The trace file on disk: opening it for writing, keeping it under its cap, setting a corrupt one aside."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from spanwell import schema

if TYPE_CHECKING:
    from sqlite3 import Connection

LOG_LIMIT = 4_000_000
"""Bytes to which sqlite cuts its write-ahead log back after use."""

LOG_LONG = 8_000_000
"""Bytes of write-ahead log from which each export tries to cut it back."""

LOG_CEILING = 32_000_000
"""Bytes of write-ahead log, held open by a reader that does not finish, at which writing pauses."""

PRUNE_SPANS = 512
"""Spans that one step of pruning removes at most."""

PRUNE_STEPS, PRUNE_LIMIT = 4, 16
"""Steps of pruning in one transaction: usually at most, and at most while what is to be added does not fit."""

_VACUUM_PAGES = 2048
_FILL = 0.9


class LogHeldError(Exception):
    """The write-ahead log cannot be cut back: a reader has held it for long."""


def prepare(path: str) -> None:
    """Make the folder (0700) and an empty file (0600) where there is none. Raises OSError.

    sqlite gives its two helper files the mode of the main file.
    """
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _refuse_planted(folder)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    os.close(os.open(path, flags, 0o600))


def _refuse_planted(folder: str) -> None:
    """In a folder that everybody may write to, such as /tmp, another user may have made `folder`
    beforehand.
    """
    if not hasattr(os, "getuid"):
        return
    shared = os.stat(os.path.dirname(folder) or ".").st_mode & stat.S_ISVTX
    if shared and os.lstat(folder).st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{folder} belongs to another user")


def identity(path: str) -> tuple[int, int] | None:
    """What tells this file from another that takes its name later; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: str, max_bytes: int, deadline: float) -> Connection:
    """Open the existing file `path` for writing, its tables made or migrated, waiting for others until
    `deadline` (monotonic seconds).

    Raises sqlite3.Error and `schema.SchemaError`.
    """
    import sqlite3

    # Not sqlite3.connect: the sqlite3 instrumentor wraps that, and we would trace ourselves.
    connection = sqlite3.Connection(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        wait(connection, deadline)
        schema.check(connection)  # before anything is written: the file may be somebody else's
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes on an empty file, before WAL
        _use_log(connection, deadline)
        for pragma in ("synchronous = NORMAL", "secure_delete = FAST", f"journal_size_limit = {LOG_LIMIT}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(64, max_bytes // page)}").fetchall()
        wait(connection, deadline)
        schema.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def wait(connection: Connection, deadline: float) -> None:
    """Let the statements that follow wait for other processes until `deadline`, at least a moment."""
    left = max(0.001, deadline - time.monotonic())
    connection.execute(f"PRAGMA busy_timeout = {int(left * 1000)}").fetchall()


def _use_log(connection: Connection, deadline: float) -> None:
    """Switch to write-ahead logging, so that readers and writers do not wait for one another.

    sqlite does not always wait here itself when several processes do this at once. Where the file system has no
    shared memory it keeps its rollback journal, which works too.
    """
    import sqlite3

    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def is_busy(error: BaseException) -> bool:
    """Whether other processes were in the way."""
    return "locked" in str(error) or "busy" in str(error)


def is_corrupt(error: BaseException) -> bool:
    """Whether sqlite says that the file is damaged."""
    shown = str(error)
    return "not a database" in shown or "malformed" in shown or "unsupported file format" in shown


def make_room(connection: Connection, max_bytes: int, incoming: int) -> None:
    """Before `incoming` bytes are added in this transaction: remove the oldest traces if they would not
    fit.
    """
    page = connection.execute("PRAGMA page_size").fetchone()[0]
    if _used(connection, page) + incoming * 2 <= max_bytes:  # indexes and summaries: about as much again
        return
    goal = max(0, int(max_bytes * _FILL) - incoming * 2)
    for step in range(1, PRUNE_LIMIT + 1):
        removed = schema.delete_oldest(connection, PRUNE_SPANS)
        used = _used(connection, page)
        if removed == 0 or used <= goal or (step >= PRUNE_STEPS and used + incoming * 2 <= max_bytes):
            break


def give_back(connection: Connection, max_bytes: int) -> None:
    """Cut a file that is over its cap (the cap was lowered) by some of its free pages."""
    page: int = connection.execute("PRAGMA page_size").fetchone()[0]
    count: int = connection.execute("PRAGMA page_count").fetchone()[0]
    goal = max(max_bytes // page, count - _VACUUM_PAGES)
    while count > goal:
        # Python 3.11 stops this statement after one page, others after the number asked for.
        connection.execute(f"PRAGMA incremental_vacuum({count - goal})").fetchall()
        before, count = count, connection.execute("PRAGMA page_count").fetchone()[0]
        if count == before:
            return  # no free page is left


def cut_log(connection: Connection, path: str, deadline: float) -> None:
    """Cut the write-ahead log back when busy writers have kept sqlite from doing so by itself.

    Past `LOG_CEILING` this waits until `deadline` and then raises `LogHeldError`.
    """
    while _size(path + "-wal") > min(LOG_LONG, LOG_CEILING):
        # Briefly each time: while this waits for a reader, no other process can write.
        connection.execute("PRAGMA busy_timeout = 20").fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if _size(path + "-wal") <= LOG_CEILING:
            return
        if time.monotonic() >= deadline:
            raise LogHeldError("a reader holds the write-ahead log")
        time.sleep(0.02)


def _used(connection: Connection, page: int) -> int:
    count: int = connection.execute("PRAGMA page_count").fetchone()[0]
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return (count - free) * page


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def set_aside(path: str, seen: tuple[int, int] | None, deadline: float) -> str | None:
    """Rename the corrupt file `seen` at `path`, and sqlite's helper files, to names with a time stamp.

    Returns the new name, or None when another process has done it already. An empty file `<path>.lock`, on which
    processes take turns, stays behind. Raises OSError.
    """
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _lock(lock, deadline)
        if seen is None or identity(path) != seen:
            return None
        aside = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        while os.path.exists(aside):
            aside += "x"
        # The log first: beside a new main file it would be taken for that file's own.
        for suffix in ("-wal", "-shm", ""):
            if suffix == "" or os.path.exists(path + suffix):
                os.rename(path + suffix, aside + suffix)
        return aside
    finally:
        os.close(lock)


def _lock(file: int, deadline: float) -> None:
    """Wait until `deadline` for other processes that set the same file aside. Raises OSError."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows, where a file in use cannot be renamed either
        return
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return
