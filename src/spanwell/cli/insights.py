"""`spanwell insights` lists what is wrong in stored traces, `spanwell check` fails a build for it."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from typing import TYPE_CHECKING, NamedTuple

from spanwell.cli.stores import add_options, open_store
from spanwell.cli.terminal import (
    Style,
    clean,
    duration,
    format_time,
    progress,
    quiet_pipe,
    say_error,
    terminal_width,
    wants_colour,
)
from spanwell.explore.model import ExploreError, UnknownTraceError
from spanwell.explore.problems import History, Judge, Problems, problem_json
from spanwell.explore.stores.sqlite import TraceFilter
from spanwell.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TextIO

    from spanwell.explore.problems import Problem
    from spanwell.insights.loading import Loaded

    Run = Callable[[argparse.Namespace, Mapping[str, str], TextIO], int]

DEGRADATION, OVERHEAD = "latency_degradation", "tracing_overhead"
_ROLES = {"error": "error", "warning": "warning"}
_SERVICES_SHOWN = 4
_INDENT = "  "


class _BadOption(Exception):
    """An option that makes no sense: one line."""


class _Found(NamedTuple):
    """What there is to say: the problems, in how many traces one looked, and detectors that failed."""

    problems: list[Problem]
    traces: int
    failed: Mapping[str, str]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    listing = commands.add_parser("insights", help="what is slow, failing or repeated in the stored traces")
    listing.add_argument(
        "--type", action="append", metavar="NAME", help="only this type, e.g. n_plus_one; repeatable"
    )
    listing.add_argument("--limit", type=_number(1), default=20, metavar="N", help="at most N problems (20)")
    _add_common(listing, run_insights)
    gate = commands.add_parser("check", help="fail if the stored traces have certain problems: a gate for CI")
    gate.add_argument(
        "--fail-on", required=True, action="append", metavar="NAMES", help="types, e.g. n_plus_one,slow_trace"
    )
    gate.add_argument("--max", type=_number(0), default=0, metavar="N", help="tolerate N insights of these types (0)")
    _add_common(gate, run_check)


def _add_common(parser: argparse.ArgumentParser, run: Run) -> None:
    parser.add_argument("--since", type=duration, metavar="TIME", help="only traces this young, e.g. 1h")
    parser.add_argument("--service", help="only problems of this service")
    parser.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="NAME=N",
        help="e.g. slow_trace.duration_ms=3000, or slow_trace.duration_ms@GET /export=60000; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser)
    parser.set_defaults(run=run)


def _number(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text[:10]) <= 1_000_000:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to 1000000")
        return int(text)

    return read


def run_insights(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """List problems: exit code 0; 1 when the file cannot be read; 2 for an option that makes no sense.

    JSON: `{"insights": [problem, …], "more": number left out by --limit, "trace_count": number looked at,
    "failed_detectors": {name: error}}`, a problem as in `explore.problems.problem_json`.
    """
    try:
        found = _find(args, environ, args.type or ())
    except _BadOption as error:
        say_error(str(error))
        return 2
    except ExploreError as error:
        say_error(str(error))
        return 1
    shown = found.problems[: args.limit]
    more = len(found.problems) - len(shown)
    with quiet_pipe(out):
        if args.json:
            _dump({**_as_json(found, shown), "more": more}, out)
        else:
            screen = _Screen(environ, out)
            screen.problems(shown)
            screen.end(found, more)
    return 0


def run_check(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """The gate: exit code 0 when nothing listed was found, 1 when it was, 2 when that cannot be told.

    It cannot be told with a bad option, without a readable file, without any trace in it, and when a listed detector
    fails. JSON: as of `insights`, and `passed`, `tolerated` and `count`.
    """
    try:
        found = _find(args, environ, args.fail_on)
        if not found.traces:
            raise _BadOption("there is no trace to check" + (" this young" if args.since is not None else ""))
    except (_BadOption, ExploreError) as error:
        say_error(str(error))
        return 2
    count = sum(problem.times for problem in found.problems)
    passed = count <= args.max
    with quiet_pipe(out):
        if args.json:
            verdict = {"passed": passed and not found.failed, "tolerated": args.max, "count": count}
            _dump({**_as_json(found, found.problems), **verdict}, out)
        else:
            screen = _Screen(environ, out)
            screen.problems(found.problems)
            screen.verdict(passed, count, args.max, found.traces)
    return 1 if not passed else 2 if found.failed else 0


# --- finding ----------------------------------------------------------------------------------------------------


def _find(args: argparse.Namespace, environ: Mapping[str, str], types: Sequence[str]) -> _Found:
    settings = Settings.from_env(environ)
    loaded = _load(settings, args.threshold)
    detectors = {module.NAME: module.detect for module in loaded.local}
    named = _named(types, (*detectors, DEGRADATION), "--fail-on" if "fail_on" in args else "--type")
    off = frozenset() if named else frozenset(settings.insights_disabled)
    chosen = (named or {*detectors, DEGRADATION}) - off
    judge = Judge({name: detectors[name] for name in detectors if name in chosen}, loaded.thresholds)
    looks = [judge.findings]
    if DEGRADATION in chosen:
        looks.append(History(loaded.thresholds).findings)
    wanted = TraceFilter(service=args.service, since_ns=None if args.since is None else time.time_ns() - args.since)
    problems = Problems()
    with open_store(args, environ) as store:
        ids = store.ids(wanted)
        show = progress("looking at traces", len(ids), quiet=args.json)
        for done, trace_id in enumerate(ids):
            show(done)
            try:
                trace = store.get(trace_id)
            except UnknownTraceError:
                continue  # the file makes room while it is read
            for finding in (finding for look in looks for finding in look(trace)):
                if finding.type not in off:
                    problems.add(finding)
        show(len(ids))
    for name, error in judge.failed.items():
        say_error(f"the detector {name} failed and was switched off: {error}")
    return _Found(problems.list(service=args.service, types=named), len(ids), judge.failed)


def _load(settings: Settings, thresholds: Sequence[str]) -> Loaded:
    """All detectors. What is wrong in the environment is said, and left out; a bad option is refused."""
    from importlib.metadata import entry_points

    from spanwell.insights.loading import GROUP, load, parse

    bad: list[str] = []
    loaded = load(
        chosen=(*settings.insight_thresholds, *thresholds), plugins=entry_points(group=GROUP), report=bad.append
    )
    refused: list[str] = []
    known = [key for module in (*loaded.local, *loaded.over_time.values()) for key in module.DEFAULTS]
    parse(thresholds, known, refused.append)
    if refused:
        raise _BadOption(f"--threshold: {refused[0].partition(';')[0]}")
    for problem in bad:
        say_error(problem)
    return loaded


def _named(texts: Sequence[str], known: Sequence[str], option: str) -> set[str]:
    """The names in the options, each known."""
    from difflib import get_close_matches

    named = [name.strip() for text in texts for name in text.split(",")]
    for name in named:
        if name in known:
            continue
        if name == OVERHEAD:
            raise _BadOption(
                f"{option} {name}: no stored trace shows it, since it is about a process: see `spanwell doctor`"
            )
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise _BadOption(f"{option} {name!r} is no detector: {hint}")
    return set(named)


# --- the screen -------------------------------------------------------------------------------------------------


class _Screen:
    """Writes for people."""

    def __init__(self, environ: Mapping[str, str], out: TextIO) -> None:
        self._style = Style(wants_colour(environ, out))
        self._width = max(40, terminal_width(environ, out))
        self._out = out

    def _line(self, text: str = "") -> None:
        self._out.write(text + "\n")

    def problems(self, problems: list[Problem]) -> None:
        """Each problem as a head, its sentence, and when and where."""
        for problem in problems:
            self._problem(problem)
            self._line()

    def _problem(self, problem: Problem) -> None:
        style = self._style
        names = [clean(name) for name in problem.services]
        more = f" +{len(names) - _SERVICES_SHOWN}" if len(names) > _SERVICES_SHOWN else ""
        head = style(_ROLES.get(problem.severity, "dim"), f"{clean(problem.severity):<7}")
        self._line(
            f"{head}  {style('title', clean(problem.type))}  {_times(problem.times)} in "
            f"{style('service', ', '.join(names[:_SERVICES_SHOWN]) + more)}"
        )
        for line in textwrap.wrap(clean(problem.sentence), self._width - len(_INDENT)):
            self._line(_INDENT + line)
        first, last = format_time(problem.first_ns)[:19], format_time(problem.last_ns)[:19]
        seen = f"at {first} UTC" if first == last else f"from {first} to {last} UTC"
        self._line(_INDENT + style("dim", f"{seen}, problem {clean(problem.fingerprint)}"))
        for trace_id in problem.examples:
            self._line(_INDENT + style("dim", f"spanwell trace {trace_id}"))

    def end(self, found: _Found, more: int) -> None:
        """How much there was."""
        if not found.traces:
            self._line("no traces match")
        elif not found.problems:
            self._line(f"no insights in {_count(found.traces, 'trace')}")
        else:
            left = f"; {more} more with a higher --limit" if more else ""
            self._line(f"{_count(len(found.problems), 'problem')} in {_count(found.traces, 'trace')}{left}")

    def verdict(self, passed: bool, count: int, tolerated: int, traces: int) -> None:
        """Whether the gate opens."""
        said = f"{_count(count, 'insight')} in {_count(traces, 'trace')}"
        limit = f", {tolerated} tolerated" if tolerated else ""
        self._line(f"{self._style('good', 'passed') if passed else self._style('error', 'failed')}: {said}{limit}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _as_json(found: _Found, shown: list[Problem]) -> dict[str, Any]:
    return {
        "insights": [problem_json(problem) for problem in shown],
        "trace_count": found.traces,
        "failed_detectors": dict(found.failed),
    }


def _dump(tree: object, out: TextIO) -> None:
    json.dump(tree, out, indent=2, ensure_ascii=True)
    out.write("\n")
