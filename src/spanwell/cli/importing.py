"""`spanwell import FILE…`: traces of other programs into the trace file."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from spanwell.cli.stores import database
from spanwell.cli.terminal import clean, quiet_pipe, say_error
from spanwell.explore.formats.files import Tally
from spanwell.explore.model import ExploreError
from spanwell.explore.stores.import_files import load
from spanwell.explore.stores.importing import UNLIMITED, Importer
from spanwell.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanwell.explore.formats.files import Source

_SHOWN = 10


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    command = subparsers.add_parser(
        "import",
        help="read traces out of OTLP, Jaeger, Zipkin or X-Ray files",
        description="Reads OTLP JSON, Jaeger JSON, Zipkin v2 JSON and X-Ray segment documents, also in .gz files; "
        "which of them a file has is found out. A span that is there already is not written again.",
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="a file, or - for standard input")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--db", metavar="PATH", help="the trace file to write (SPANWELL_SQLITE_PATH)")
    where.add_argument("--store", metavar="sqlite:FILE", help="the same")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Import; exit code 0, or 1 when anything was refused or a file could not be read or written."""
    tally = Tally()
    begun = time.monotonic()
    failed = []
    importer = None
    try:
        with _uncollected(), _target(args, environ) as importer:
            for path in args.files:
                try:
                    load(path, importer, tally, _show)
                except ExploreError as error:
                    if not str(error).startswith("cannot read"):
                        raise
                    failed.append(str(error))
                finally:
                    _clear()
    except ExploreError as error:
        before = f" ({importer.spans} spans were imported before)" if importer is not None and importer.spans else ""
        say_error(f"{error}{before}")
        return 1
    for message in failed:
        say_error(message)
    with quiet_pipe(out):
        if args.json:
            json.dump(_json(importer, tally, failed), out, indent=2)
            out.write("\n")
        else:
            _print(importer, tally, time.monotonic() - begun, out)
    return 1 if tally.refused or failed else 0


def _target(args: argparse.Namespace, environ: Mapping[str, str]) -> Importer:
    """The file to write. One that is named may grow as it must; the default one has its limit."""
    kind, _, name = (args.store or f"sqlite:{args.db or ''}").partition(":")
    if kind != "sqlite":
        raise ExploreError(f"--store {args.store!r} cannot be imported into: write sqlite:FILE")
    limit = UNLIMITED if name else Settings.from_env(environ).sqlite_max_mb * 1_000_000
    return Importer(database(name, environ), max_bytes=limit)


def _show(source: Source, number: int) -> None:
    """Says on a terminal, on the error output, how far a file is."""
    if sys.stderr.isatty():
        part = f"{100 * source.done // source.size} %, " if source.size else ""
        sys.stderr.write(f"\r\x1b[K{clean(source.name)}: {part}{number} spans")
        sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: what JSON gives has no cycles, and looking for them takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _json(importer: Importer, tally: Tally, failed: list[str]) -> dict[str, Any]:
    return {
        "path": importer.path,
        "traces": len(importer.traces),
        "spans": importer.spans,
        "already_there": importer.known,
        "refused": tally.refused,
        "left_out": tally.left_out,
        "formats": sorted(tally.formats),
        "problems": [problem._asdict() for problem in tally.problems],
        "unread": failed,
    }


def _print(importer: Importer, tally: Tally, seconds: float, out: TextIO) -> None:
    for problem in tally.problems[:_SHOWN]:
        out.write(f"refused: {clean(problem.place)}: {clean(problem.reason)}\n")
    if tally.refused > _SHOWN:
        out.write(f"refused: {tally.refused - _SHOWN} more (--json lists the first hundred)\n")
    line = f"{importer.spans} spans of {len(importer.traces)} traces imported in {seconds:.1f} s into {importer.path}"
    line += f"; {importer.known} were there already" if importer.known else ""
    line += f"; {tally.left_out} documents are no spans" if tally.left_out else ""
    out.write(f"{clean(line)}; {tally.refused} refused\n")
    if not tally.formats and not tally.refused:
        out.write("no traces in it\n")
    elif importer.spans and importer.spans + importer.known:
        out.write("`spanwell traces` lists them; they are as old as they are, so --since may hide them\n")
