"""`spanwell import` and `spanwell export` by their functions, and what is in the trace file after them."""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanwell.cli import exporting, importing, traces
from spanwell.explore.formats.files import WRITERS
from spanwell.explore.model import StoreError
from spanwell.explore.stores import import_files
from spanwell.explore.stores import importing as store_importing
from spanwell.explore.stores.importing import Importer
from spanwell.explore.stores.sqlite import SqliteStore
from spanwell.explore.summary import summarise
from spanwell.record import EventRecord, LinkRecord, SpanRecord
from support.formats import JAEGER, OTLP, SEGMENT, ZIPKIN, written
from support.real_traces import DATA, nezha

ZIPKIN_FILE = str(DATA / "zipkin_smartthings_call.json")
XRAY_FILE = str(DATA / "xray_sdk_python_capture.jsonl")


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for module in (importing, exporting, traces):
        module.register(commands)
    args = parser.parse_args(arguments)
    out = io.StringIO()
    return args.run(args, environ or {}, out), out.getvalue()


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "made" / "traces.db")


def summary(*arguments: str) -> dict[str, Any]:
    _, out = run("import", *arguments, "--json")
    made: dict[str, Any] = json.loads(out)
    return made


def test_the_same_file_twice_does_not_double_spans(db: str) -> None:
    first = summary(ZIPKIN_FILE, XRAY_FILE, "--db", db)
    assert (first["spans"], first["traces"], first["already_there"], first["refused"]) == (39, 6, 0, 0)
    assert first["formats"] == ["xray", "zipkin"]
    second = summary(XRAY_FILE, ZIPKIN_FILE, XRAY_FILE, "--db", db)
    assert (second["spans"], second["already_there"]) == (0, 57)
    with SqliteStore(db) as store:
        listed = store.newest(limit=10)
        assert sum(each.spans for each in listed) == 39
        for each in listed:
            assert each == summarise(store.get(each.trace_id))


def test_all_formats_over_one_another(db: str, tmp_path: Path) -> None:
    names = []
    for number, content in enumerate((OTLP, JAEGER, ZIPKIN, SEGMENT)):
        names.append(str(tmp_path / f"{number}.json"))
        Path(names[-1]).write_text(json.dumps(content))
    code, out = run("import", *names, "--db", db)
    assert code == 0
    assert out.startswith("8 spans of 4 traces imported in ")
    assert out.splitlines()[0].endswith("; 0 refused")
    code, out = run("traces", "--db", db)
    assert len(out.splitlines()) == 5
    assert "GET /dispatch" in out


def test_refusals_and_missing_files_are_said(db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([{**ZIPKIN[0], "id": "x\x1b[31m"}, *ZIPKIN]))
    code, out = run("import", str(bad), str(tmp_path / "none.json"), "--db", db)
    assert code == 1
    assert "refused: " in out
    assert "bad.json: item 0: the span id 'x\\x1b[31m' is not 1 to 16 hexadecimal digits" in out
    assert "\x1b" not in out
    assert "3 spans of 1 traces imported" in out
    assert "none.json: No such file or directory" in capsys.readouterr().err


def test_what_is_no_trace_file(db: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    code, out = run("import", str(tmp_path / "empty"), "--db", db)
    assert (code, out.splitlines()[1]) == (0, "no traces in it")


def test_where_it_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    assert run("import", XRAY_FILE, "--db", str(other))[0] == 1
    assert "cannot write" in capsys.readouterr().err
    assert run("import", XRAY_FILE, "--store", "dynamodb:t")[0] == 1
    assert "cannot be imported into: write sqlite:FILE" in capsys.readouterr().err


def test_the_default_file_has_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"SPANWELL_SQLITE_PATH": str(tmp_path / "t.db"), "SPANWELL_SQLITE_MAX_MB": "1"}
    many = [
        [SpanRecord(f"{trace:032x}", f"{number:016x}", None, "x" * 200, "internal", "s", 10**18, 10**18)]
        for trace in range(1, 4)
        for number in range(trace * 3000, trace * 3000 + 3000)
    ]
    (tmp_path / "many.json").write_text(written("otlp", many))
    assert run("import", str(tmp_path / "many.json"), environ=environ)[0] == 1
    assert "it is full (SPANWELL_SQLITE_MAX_MB)" in capsys.readouterr().err
    assert (
        run("import", str(tmp_path / "many.json"), "--store", f"sqlite:{tmp_path / 'own.db'}", environ=environ)[0]
        == 0
    )


def test_every_field_of_a_span_is_stored(db: str) -> None:
    span = SpanRecord(
        "ab" * 16, "cd" * 8, "ef" * 8, "näme", "client", "shop", 5, 4, "error", "said \ud800",
        {"a": 1, "b": b"\x00", "f": float("inf"), "l": [1, {"x": None}]},
        (EventRecord("e", 7, {"k": "v"}),), (LinkRecord("12" * 16, "34" * 8, {"l": 1}, "a=b"),),
        {"service.name": "shop", "host.name": "h"}, "scope", "1.0", "c=d", 0x301, 1, 2, 3,
    )  # fmt: skip
    with Importer(db) as importer:
        importer.add(span)
        importer.add(span)
    assert (importer.spans, importer.known) == (1, 1)
    with SqliteStore(db) as store:
        (found,) = store.get("ab" * 16).spans
    assert found == span._replace(status_message="said ?")


def test_batches_and_traces_that_reach_over_them(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_importing, "BATCH", 7)
    spans = [
        SpanRecord(
            f"{1 + number % 3:032x}", f"{number + 1:016x}", None, "n", "server", "s", 10**18 + number, 10**18 + 99
        )
        for number in range(50)
    ]
    for _ in range(2):
        with Importer(db) as importer:
            for span in [*spans, *spans[::2]]:
                importer.add(span)
    assert (importer.spans, importer.known) == (0, 75)
    with SqliteStore(db) as store:
        assert sorted(each.spans for each in store.newest()) == [16, 17, 17]


def test_an_import_that_fails_leaves_whole_batches(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_importing, "BATCH", 100)
    span = SpanRecord("01" * 16, "01" * 8, None, "n" * 1000, "server", "s", 1, 2)
    importer = Importer(db, max_bytes=1_500_000)
    with pytest.raises(StoreError, match=r"cannot write .* it is full"), importer:
        _add_many(importer, span, 5000)
    assert importer.spans % 100 == 0
    with SqliteStore(db) as store:
        assert store.newest()[0].spans == importer.spans > 0


def _add_many(importer: Importer, span: SpanRecord, number: int) -> None:
    for each in range(number):
        importer.add(span._replace(span_id=f"{each + 1:016x}"))


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_export_and_import_again(db: str, tmp_path: Path, name: str) -> None:
    given = tmp_path / "given.json"
    given.write_text(written("otlp", nezha().values()))
    run("import", str(given), "--db", db)
    file = tmp_path / f"out.{name}.gz"
    code, out = run("export", "--all", "--format", name, "-o", str(file), "--json", "--db", db)
    assert (code, json.loads(out)) == (0, {"path": str(file), "format": name, "traces": 7, "spans": 217})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.glob("*.tmp")) == []
    assert gzip.decompress(file.read_bytes())
    again = str(tmp_path / "again.db")
    assert summary(str(file), "--db", again)["spans"] == 217
    with SqliteStore(db) as one, SqliteStore(again) as other:
        for trace_id in one.ids():
            before, after = one.get(trace_id), other.get(trace_id)
            assert set(before.services) == set(after.services)
            assert len(before.roots) == len(after.roots)
            assert {span.name for span in before.spans} == {span.name for span in after.spans}


def test_what_to_export_must_be_said(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("import", XRAY_FILE, "--db", db)
    assert run("export", "--db", db)[0] == 2
    assert run("export", "6affffa3", "--all", "--db", db)[0] == 2
    assert "name trace ids, or choose traces with" in capsys.readouterr().err
    assert run("export", "dddd", "--db", db)[0] == 1
    assert "no trace 'dddd'" in capsys.readouterr().err
    code, out = run("export", "1-6affffa3-a89a6ab1e83392c8277b0abb", "--db", db)
    assert code == 0
    assert len(json.loads(out)["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 4
    assert run("export", "--errors", "--db", db)[1].count("\n") == 5
    assert run("export", "--since", "1s", "--db", db)[1] == ""
    assert run("export", "--all", "-o", "/nowhere/x", "--db", db)[0] == 1
    assert "cannot write /nowhere/x" in capsys.readouterr().err


def test_a_large_file_is_read_in_a_second_process(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "_large", lambda _source, _path: True)
    monkeypatch.setattr(store_importing, "BATCH", 50)
    given = tmp_path / "given.json"
    given.write_text(written("otlp", nezha().values()) + "{\n")
    told = summary(str(given), ZIPKIN_FILE, "--db", db)
    assert (told["spans"], told["refused"], told["formats"]) == (238, 1, ["otlp", "zipkin"])
    assert told["problems"][0]["place"] == f"{given}: line 8"
    monkeypatch.undo()
    assert summary(str(given), ZIPKIN_FILE, "--db", db)["already_there"] == 238


def test_a_second_process_that_dies_or_is_not_needed_any_more(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forked, fork = [], os.fork

    def remembered() -> int:
        pid = fork()
        if pid:
            forked.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", remembered)

    def dying() -> Iterator[tuple[Any, ...]]:
        yield 0, "x" * 200_000
        os._exit(9)

    parts = import_files._elsewhere(dying())
    assert next(parts) == (0, "x" * 200_000)
    with pytest.raises(StoreError, match="the process that reads the file ended early"):
        next(parts)

    def failing() -> Iterator[tuple[Any, ...]]:
        yield from ()
        raise LookupError("odd")

    with pytest.raises(StoreError, match="ended early"):
        list(import_files._elsewhere(failing()))
    assert "LookupError: odd" in capfd.readouterr().err

    endless = import_files._elsewhere((0, number) for number in itertools.count())
    assert [next(endless), next(endless)] == [(0, 0), (0, 1)]
    endless.close()
    assert len(forked) == 3
    for pid in forked:  # none is left behind
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
