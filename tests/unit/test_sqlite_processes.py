"""The sqlite exporter and the world around it: several processes, forks, a full disk, a read-only file system."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SUPPORT = str(Path(__file__).parent.parent)

PRELUDE = """
import json, os, sys, time
from spanwell import _guard
from spanwell.export.sqlite import SqliteSpanExporter
from support.spans import START, make_span
path = sys.argv[1]
def report(**more):
    lost = {reason: n for (signal, reason), n in _guard.losses.snapshot().items() if signal == "spans"}
    print(json.dumps({"lost": lost, **more}), flush=True)
"""


def start(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A process that runs `code` after the prelude, with `arguments` as sys.argv[1:]."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", PRELUDE + textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH")]))},
    )


def result(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return {**json.loads(out.splitlines()[-1]), "stderr": err}


def query(path: str, statement: str) -> list[tuple]:
    connection = sqlite3.Connection(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


WRITER = """
number = int(sys.argv[2])
exporter = SqliteSpanExporter(path, busy_timeout=60)
for batch in range(20):
    # Every process adds to the same 100 traces.
    exporter.export([make_span(trace_id=1 + i, span_id=number * 10**6 + batch * 1000 + i + 1, service=f"s{number}")
                     for i in range(100)])
    if batch % 7 == 0:
        exporter._close()  # the last one out removes the write-ahead log, under the feet of newcomers
exporter.shutdown()
report()
"""


def test_many_processes_write_at_once_from_the_very_start(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "folder" / "traces.db")
    reports = [result(process) for process in [start(WRITER, path, str(number)) for number in range(5)]]
    assert [report["lost"] for report in reports] == [{}] * 5
    assert query(path, "SELECT count(*), count(DISTINCT span_id) FROM span") == [(10_000, 10_000)]
    assert query(path, "SELECT count(*), sum(spans), min(spans), max(spans) FROM trace") == [(100, 10_000, 100, 100)]
    assert query(path, "SELECT count(*), sum(spans) FROM trace_service") == [(500, 10_000)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_many_processes_find_the_same_corrupt_file(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    path.write_bytes(b"no database at all" * 500)
    reports = [result(process) for process in [start(WRITER, str(path), str(number)) for number in range(4)]]
    assert [report["lost"] for report in reports] == [{}] * 4
    assert query(str(path), "SELECT count(*) FROM span") == [(8_000,)]
    asides = [name for name in os.listdir(tmp_path) if ".corrupt-" in name]
    assert len(asides) == 1
    assert (tmp_path / asides[0]).read_bytes() == b"no database at all" * 500


FORKING = """
exporter = SqliteSpanExporter(path, busy_timeout=60)
exporter.export([make_span(name="parent before") for _ in range(10)])
exporter.export([make_span(name="parent before") for _ in range(10)])
assert exporter._connection is not None
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for _ in range(10):
            exporter.export([make_span(name=f"child {number}") for _ in range(10)])
        exporter.shutdown()
        os._exit(0 if not _guard.losses.snapshot() else 1)
    children.append(child)
    exporter.export([make_span(name="parent after") for _ in range(10)])
exporter.shutdown()  # the parent closes first: it must not take the log away from its children
report(children=[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_forked_children_write_too(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    found = result(start(FORKING, path))
    assert found["lost"] == {}
    assert found["children"] == [0, 0, 0]
    assert dict(query(path, "SELECT name, count(*) FROM span GROUP BY name")) == {
        "parent before": 20,
        "parent after": 30,
        "child 0": 100,
        "child 1": 100,
        "child 2": 100,
    }
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_fork_while_other_threads_export(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    code = """
    import threading
    exporter = SqliteSpanExporter(path, busy_timeout=60)
    stop = threading.Event()
    written = []
    def work():
        while not stop.is_set():
            exporter.export([make_span(name="thread") for _ in range(50)])
            written.append(50)
    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads]
    codes = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            exporter.export([make_span(name="child")])
            os._exit(0 if not _guard.losses.snapshot() else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    [thread.join() for thread in threads]
    exporter.shutdown()
    report(codes=codes, written=sum(written))
    """
    found = result(start(code, path))
    assert found["lost"] == {}
    assert found["codes"] == [0] * 10
    assert dict(query(path, "SELECT name, count(*) FROM span GROUP BY name")) == {
        "thread": found["written"],
        "child": 10,
    }


def test_a_fork_that_python_hears_nothing_of_loses_spans_but_harms_nothing(tmp_path: Path) -> None:
    # As a C program that embeds Python may fork: without the hooks of os.fork.
    path = str(tmp_path / "traces.db")
    code = """
    import ctypes
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span()])
    exporter.export([make_span()])
    fork = ctypes.PyDLL(None).fork
    child = fork()
    if child == 0:
        failed = exporter.export([make_span()]).name == "FAILURE"
        counted = _guard.losses.snapshot() == {("spans", "sqlite: inherited over a fork"): 1}
        os._exit(0 if failed and counted else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    exporter.export([make_span()])
    time.sleep(1.1)
    exporter.export([make_span()])  # after a quiet second the connection is not kept open
    child = fork()
    if child == 0:
        os._exit(0 if exporter.export([make_span()]).name == "SUCCESS" else 1)
    report(codes=[code, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])])
    """
    assert result(start(code, path))["codes"] == [0, 0]
    assert query(path, "SELECT count(*) FROM span") == [(5,)]


FILLING = """
limit_file = len(sys.argv) > 2
if limit_file:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
exporter = SqliteSpanExporter(path)
results = []
for batch in range(6):
    results.append(exporter.export([make_span(attributes={"x": "y" * 500}) for _ in range(200)]).name)
# Room again: the disk is cleared (the filler goes) or the limit is lifted.
if limit_file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    os.unlink(os.path.join(os.path.dirname(path), "filler"))
exporter._retry_at = 0.0
results.append(exporter.export([make_span()]).name)
exporter.shutdown()
report(results=results)
"""


def check_filled(found: dict, path: str) -> None:
    assert found["results"][0] == "SUCCESS"
    assert found["results"][-2:] == ["FAILURE", "SUCCESS"]
    assert set(found["lost"]) <= {"sqlite: disk full", "sqlite: disk error"}
    assert found["stderr"].count("cannot write spans") == len(found["stderr"].splitlines()) == 1
    written = query(path, "SELECT count(*) FROM span")[0][0]
    assert written + sum(found["lost"].values()) == 6 * 200 + 1
    assert query(path, "SELECT sum(spans) FROM trace") == [(written,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    check_filled(result(start(FILLING, path, "limit")), path)


def mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (source.encode(), str(target).encode(), kind.encode(), flags, options.encode())
    return os.geteuid() == 0 and libc.mount(*arguments) == 0


def unmount(target: Path) -> None:
    ctypes.CDLL(None).umount2(str(target).encode(), 2)


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("tmpfs", disk, "tmpfs", 0, "size=1m"):
        # Without the right to mount: the limit on a file's size takes the place of the disk's.
        path = str(tmp_path / "traces.db")
        check_filled(result(start(FILLING, path, "limit")), path)
        return
    try:
        (disk / "filler").write_bytes(bytes(300_000))
        path = str(disk / "traces.db")
        found = result(start(FILLING, path))
        copy = tmp_path / "copy"
        shutil.copytree(disk, copy)  # with the write-ahead log, if the disk had no room to end it
        check_filled(found, str(copy / "traces.db"))
    finally:
        unmount(disk)


READ_ONLY = """
exporter = SqliteSpanExporter(path)
results = [exporter.export([make_span()]).name for _ in range(3)]
recorded = exporter.record_losses(_guard.losses.snapshot())
exporter.shutdown()
report(results=results, recorded=recorded)
"""


@pytest.mark.parametrize("existing", [False, True])
def test_a_read_only_file_system(tmp_path: Path, existing: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    path = str(disk / "traces.db")
    if existing:
        result(start(WRITER, path, "1"))
    read_only, remount = 1, 32
    mounted = mount(str(disk), disk, "", 4096) and mount("", disk, "", 4096 | read_only | remount)
    if not mounted:
        disk.chmod(0o500)
        if existing:
            Path(path).chmod(0o400)
    try:
        found = result(start(READ_ONLY, path))
        if existing:
            listing = subprocess.run(
                [sys.executable, "-c", "import sys; from spanwell.explore.stores.sqlite import SqliteStore\n"
                 "print(len(SqliteStore(sys.argv[1]).newest(limit=500)))", path],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert listing.stdout == "100\n"
    finally:
        unmount(disk) if mounted else disk.chmod(0o700)
    assert found["results"] == ["FAILURE"] * 3
    assert found["recorded"] is False
    assert found["lost"] == {"sqlite: not writable": 3}
    assert found["stderr"].count("cannot write spans") == len(found["stderr"].splitlines()) == 1


def test_a_process_that_is_killed_leaves_a_sound_file(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    code = """
    exporter = SqliteSpanExporter(path)
    exporter.export([make_span() for _ in range(10)])
    report()
    while True:
        exporter.export([make_span(name="more") for _ in range(10)])
    """
    process = start(code, path)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    after = result(start(WRITER, path, "1"))
    assert after["lost"] == {}
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    written, counted = query(path, "SELECT (SELECT count(*) FROM span), (SELECT sum(spans) FROM trace)")[0]
    assert written == counted
    assert written >= 2010
