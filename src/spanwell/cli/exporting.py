"""`spanwell export`: stored traces as a file for other programs."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from spanwell.cli.stores import add_options, open_store
from spanwell.cli.terminal import duration, progress, quiet_pipe, say_error
from spanwell.explore.formats.files import WRITERS
from spanwell.explore.model import ExploreError, UnknownTraceError
from spanwell.explore.stores.sqlite import TraceFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanwell.record import SpanRecord

_CHUNK = 2**16


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    command = subparsers.add_parser(
        "export",
        help="write stored traces as OTLP, Jaeger, Zipkin or X-Ray JSON",
        description="Writes the traces with the given ids, or those that the options choose (at least one of them).",
    )
    command.add_argument("ids", nargs="*", metavar="TRACE_ID", help="as for `spanwell trace`")
    command.add_argument("--since", type=duration, metavar="TIME", help="traces this young, e.g. 1h")
    command.add_argument("--service", help="traces in which this service took part")
    command.add_argument("--name", metavar="TEXT", help="traces with a span whose name contains TEXT")
    command.add_argument("--errors", action="store_true", help="traces with an error")
    command.add_argument("--min-duration", type=duration, default=0, metavar="TIME", help="traces this long")
    command.add_argument("--all", action="store_true", help="every trace")
    command.add_argument("--format", choices=list(WRITERS), default="otlp", help="otlp if not given")
    command.add_argument("-o", "--output", metavar="FILE", help="the file to write, packed if it ends in .gz")
    command.add_argument("--json", action="store_true", help="with -o: print a summary as JSON")
    add_options(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Export: exit code 0, 1 when there is no such trace or a file cannot be used, 2 when nothing is asked for."""
    chosen = args.since is not None or args.service or args.name or args.errors or args.min_duration or args.all
    if bool(chosen) == bool(args.ids):
        say_error(
            "name trace ids, or choose traces with --since, --service, --name, --errors, --min-duration or --all"
        )
        return 2
    counted = _Counted()
    try:
        with open_store(args, environ) as store:
            ids = list(dict.fromkeys(args.ids)) if args.ids else store.ids(_filter(args))
            written = WRITERS[args.format](counted.traces(store, ids, skip=not args.ids))
            if args.output:
                with _file(args.output) as file:
                    _copy(written, file)
            else:
                with quiet_pipe(out):
                    _copy(written, out)
    except ExploreError as error:
        say_error(str(error))
        return 1
    except OSError as error:
        say_error(f"cannot write {args.output or 'standard output'}: {error.strerror or error}")
        return 1
    if args.output:
        _say(counted, args, out)
    return 0


def _filter(args: argparse.Namespace) -> TraceFilter:
    return TraceFilter(
        service=args.service,
        name=args.name,
        errors=args.errors,
        min_duration_ns=args.min_duration,
        since_ns=None if args.since is None else time.time_ns() - args.since,
    )


class _Counted:
    """Reads traces one by one, and counts them."""

    def __init__(self) -> None:
        self.number = self.spans = 0

    def traces(self, store: Any, ids: list[str], *, skip: bool) -> Iterator[list[SpanRecord]]:
        """The spans of each trace. skip: one that has gone since it was listed is no error."""
        show = progress("export", len(ids), quiet=not ids)
        for number, trace_id in enumerate(ids, 1):
            try:
                spans = list(store.get(trace_id).spans)
            except UnknownTraceError:
                if not skip:
                    raise
                spans = []
            if spans:
                self.number += 1
                self.spans += len(spans)
                yield spans
            show(number)


def _copy(written: Iterator[str], file: TextIO) -> None:
    parts: list[str] = []
    size = 0
    for part in written:
        parts.append(part)
        size += len(part)
        if size >= _CHUNK:
            file.write("".join(parts))
            parts, size = [], 0
    file.write("".join(parts))


@contextmanager
def _file(path: str) -> Iterator[TextIO]:
    """A file that is there whole, or not at all. Only its owner may read it: traces may tell secrets."""
    beside = f"{path}.{os.getpid()}.tmp"
    packed: Any
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            if path.endswith(".gz"):
                import gzip

                packed = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
            else:
                packed = raw
            with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as file:
                yield file
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def _say(counted: _Counted, args: argparse.Namespace, out: TextIO) -> None:
    if args.json:
        told = {"path": args.output, "format": args.format, "traces": counted.number, "spans": counted.spans}
        out.write(json.dumps(told, indent=2) + "\n")
    else:
        print(f"{counted.spans} spans of {counted.number} traces in {args.output} ({args.format})", file=sys.stderr)
