"""`spanwell traces` lists stored traces, `spanwell trace ID` shows one as a tree."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, TextIO

from spanwell.cli.stores import add_options, open_store
from spanwell.cli.terminal import (
    Style,
    duration,
    format_duration,
    format_time,
    progress,
    quiet_pipe,
    say_error,
    table,
    terminal_width,
    wants_colour,
)
from spanwell.explore.filters import FilterError, doubts, parse
from spanwell.explore.model import ExploreError
from spanwell.explore.stores.sqlite import TraceFilter
from spanwell.explore.summary import summary_json, trace_json
from spanwell.explore.tree import render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spanwell.explore.summary import TraceSummary

_SERVICES_SHOWN = 4


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    listing = subparsers.add_parser("traces", help="list traces, newest first")
    listing.add_argument("--service", help="only traces in which this service took part")
    listing.add_argument("--name", metavar="TEXT", help="only traces with a span whose name contains TEXT")
    listing.add_argument("--errors", action="store_true", help="only traces with an error")
    listing.add_argument(
        "--min-duration", type=duration, default=0, metavar="TIME", help="only traces this long, e.g. 500ms"
    )
    listing.add_argument("--since", type=duration, metavar="TIME", help="only traces this young, e.g. 1h")
    listing.add_argument(
        "--filter", metavar="EXPR", help="only traces that X-Ray's filter expression matches: docs/filters.md"
    )
    listing.add_argument("--limit", type=_limit, default=20, metavar="N", help="at most N traces (20)")
    _add_common(listing, run_traces)
    one = subparsers.add_parser("trace", help="show one trace as a tree")
    one.add_argument("id", help="trace id, a beginning of it that no other has, or X-Ray's form 1-…")
    _add_common(one, run_trace)


def _add_common(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace, Mapping[str, str], TextIO], int]
) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser)
    parser.set_defaults(run=run)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:10]) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000000")
    return int(text)


def run_traces(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """List traces: exit code 0, 1 when the file cannot be read, 2 for an expression that cannot be.

    JSON: `{"traces": [summary, …]}`.
    """
    wanted = TraceFilter(
        service=args.service,
        name=args.name,
        errors=args.errors,
        min_duration_ns=args.min_duration,
        since_ns=None if args.since is None else time.time_ns() - args.since,
    )
    try:
        expression = None if args.filter is None else parse(args.filter)
    except FilterError as error:
        say_filter_error(error)
        return 2
    try:
        with open_store(args, environ) as store:
            if expression is None:
                summaries = store.newest(wanted, limit=args.limit)
            else:
                summaries = store.search(expression, wanted, limit=args.limit, report=_Looking(quiet=args.json))
                for doubt in () if summaries else doubts(expression):
                    say_error(doubt)
    except ExploreError as error:
        say_error(str(error))
        return 1
    with quiet_pipe(out):
        if args.json:
            _dump({"traces": [summary_json(summary) for summary in summaries]}, out)
        else:
            _print_list(summaries, Style(wants_colour(environ, out)), out)
    return 0


class _Looking:
    """How far a search has come, on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._of = self._said = -1
        self._show: Callable[[int], object] = lambda _done: None

    def __call__(self, done: int, of: int) -> None:
        """`done` traces of `of` have been looked at; 0 if nobody knows."""
        if of and of != self._of:
            self._of = of
            self._show = progress("looking at traces", of, quiet=self._quiet)
        step = max(1, of // 200)
        done = of if done >= of else done - done % step
        if done != self._said:
            self._said = done
            self._show(done)


def say_filter_error(error: FilterError) -> None:
    """What is wrong with an expression, and the place, on the error output."""
    print(f"spanwell: --filter: {error}", file=sys.stderr)


def run_trace(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Show one trace: exit code 0, or 1 when there is no such trace or the file cannot be read."""
    try:
        with open_store(args, environ) as store:
            trace = store.get(args.id)
    except ExploreError as error:
        say_error(str(error))
        return 1
    with quiet_pipe(out):
        if args.json:
            _dump(trace_json(trace), out)
        else:
            style = Style(wants_colour(environ, out))
            for line in render(trace, width=terminal_width(environ, out), paint=style):
                out.write(line + "\n")
    return 0


def _dump(tree: object, out: TextIO) -> None:
    json.dump(tree, out, indent=2, ensure_ascii=True)
    out.write("\n")


def _print_list(summaries: list[TraceSummary], style: Style, out: TextIO) -> None:
    if not summaries:
        out.write("no traces match\n")
        return
    lines = table(
        [_row(summary) for summary in summaries],
        ("START (UTC)", "TRACE", "ROOT", "DURATION", "SPANS", "ERRORS", "SERVICES"),
        right=(3, 4, 5),
    )
    out.write(style("title", lines[0]) + "\n")
    for summary, line in zip(summaries, lines[1:], strict=True):
        out.write(style("error" if summary.errors else "name", line) + "\n")


def _row(summary: TraceSummary) -> tuple[str, ...]:
    names = [service.name for service in summary.services]
    more = f" +{len(names) - _SERVICES_SHOWN}" if len(names) > _SERVICES_SHOWN else ""
    return (
        format_time(summary.start_ns),
        summary.trace_id,
        summary.root_name or "(root is missing)",
        format_duration(summary.duration),
        f"{summary.spans}{'' if summary.complete else '?'}",
        str(summary.errors or ""),
        ", ".join(names[:_SERVICES_SHOWN]) + more,
    )
