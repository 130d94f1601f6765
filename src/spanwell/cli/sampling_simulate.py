"""`spanwell sampling simulate`: what a sampling configuration would keep of a stored or a stated load."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from spanwell.cli.terminal import (
    Style,
    clean,
    duration,
    format_duration,
    progress,
    quiet_pipe,
    say_error,
    table,
    wants_colour,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TextIO

    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.cli.sampling_loads import Request, StatedLoad
    from spanwell.cli.sampling_replay import Clock, Results, Seen
    from spanwell.sampling.build import Making
    from spanwell.sampling.rules import Rule
    from spanwell.settings import Settings

_MONTH = 30.44 * 86400.0
_MAX_FILE = 4 << 20  # characters
_RATIO = (
    "The monthly figure multiplies each minute's load by the share of that minute's spans that was kept: a ratio"
    " estimate, whose bias shrinks like 1/n with the n traces of a minute."
)
_PROCESSES = (
    "One process for each service is assumed: reservoirs, floors and budgets apply to every process by itself."
)
_STORED = (
    "Stored traces count as many as their weight says, those without a weight as one: a store that was sampled before"
    " understates the load, and reservoirs and budgets look emptier than they would be."
)
_XRAY = (
    "X-Ray's rules were read once: quotas, boosts and anomaly capture are left out, and each process has a reservoir"
    " of its own."
)
_ATTRIBUTES = "All that a stored span says but the response counts as known at its start."


class _Unusable(Exception):
    """Why there is nothing to simulate: one line. `status` is the exit code."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


class _Chosen(NamedTuple):
    name: str
    argument: str
    adaptive: str


class _Load(NamedTuple):
    """What is played: `seconds()` is known at the end."""

    requests: Iterable[Request]
    number: int
    seconds: Callable[[], float]
    described: dict[str, Any]
    notes: Callable[[], list[str]]


def register(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the part; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    parser = parts.add_parser("simulate", help="what a sampler would keep of a stored or a stated load")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--store", metavar="FILE", help="replay the traces of this file (SPANWELL_SQLITE_PATH)")
    source.add_argument(
        "--load",
        metavar="LOAD",
        help="play a load such as rps=50,operations=10,spans=8,errors=1%%,slow=2%%,minutes=60",
    )
    parser.add_argument("--sampler", metavar="NAME", help="the sampler (OTEL_TRACES_SAMPLER)")
    parser.add_argument("--arg", metavar="ARG", help="its argument (OTEL_TRACES_SAMPLER_ARG)")
    parser.add_argument("--slow", type=duration, default=10**9, metavar="TIME", help="a trace this long is slow (1s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number, other random traces (1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Play the load. Exit code 0; 1 for a problem with the configuration or the file; 2 for a load or name unknown.

    JSON: `sampler`, `load`, `traces`, `spans`, `errors`, `slow` (each `seen` and `kept`), `estimated_requests`,
    `monthly_spans`, `reasons`, `operations`, `windows`, `problems`, `notes`.
    """
    from spanwell._otel.registry import readable_limits
    from spanwell.cli.config import load as settings_of

    settings = settings_of(environ)
    problems: list[str] = []
    try:
        with readable_limits():  # the SDK reads them while it is imported
            found = _simulate(args, environ, settings, problems)
    except _Unusable as error:
        say_error(str(error))
        return error.status
    for problem in problems:
        say_error(problem)
    found["problems"] = problems
    with quiet_pipe(out):
        if args.json:
            json.dump(found, out, indent=2, ensure_ascii=True)
            out.write("\n")
        else:
            _print(found, Style(wants_colour(environ, out)), out)
    return 1 if problems else 0


def _simulate(
    args: argparse.Namespace, environ: Mapping[str, str], settings: Settings, problems: list[str]
) -> dict[str, Any]:
    from spanwell.cli.sampling_replay import Clock, Replay
    from spanwell.explore.model import ExploreError

    if settings.sdk_disabled:
        raise _Unusable("OTEL_SDK_DISABLED=true switches the SDK off, in a simulation as well; unset it")
    if not args.slow:
        raise _Unusable("--slow must be longer than 0", 2)
    # A sampler's argument belongs to it: with --sampler alone that of the environment does not count.
    argument = args.arg if args.arg is not None else "" if args.sampler else settings.sampler_arg
    chosen = _Chosen(args.sampler or settings.sampler, argument, settings.adaptive_sampling)
    clock = Clock()
    rules = _Rules()
    make = _maker(chosen, clock, problems, rules)
    description = make().get_description()
    replay = Replay(make, clock, args.seed)
    shown = {"name": chosen.name, "argument": chosen.argument, "description": description}
    try:
        with ExitStack() as stack:
            load = _stated(args) if args.load is not None else _stored(args, environ, stack)
            show = progress("simulating", load.number, quiet=args.json)
            results = replay.run(load.requests, show)
            show(load.number)
            notes = [_RATIO, *load.notes(), *([_XRAY] if rules.used else []), _PROCESSES]
            return _as_json(results, load, shown, notes)
    except ExploreError as error:
        raise _Unusable(str(error)) from error


# --- the load ---------------------------------------------------------------------------------------------------


def _stated(args: argparse.Namespace) -> _Load:
    from spanwell.cli.sampling_loads import parse_load

    try:
        load: StatedLoad = parse_load(args.load)
    except ValueError as error:
        raise _Unusable(f"--load: {error}", 2) from error
    described = {"stated": load._asdict(), "seconds": load.seconds}
    return _Load(load.requests(args.seed, args.slow / 1e9), load.number, lambda: load.seconds, described, list)


def _stored(args: argparse.Namespace, environ: Mapping[str, str], stack: ExitStack) -> _Load:
    from spanwell.cli.sampling_loads import StoredLoad
    from spanwell.cli.stores import database
    from spanwell.explore.stores.sqlite import SqliteStore

    path = database(args.store, environ)
    load = StoredLoad(stack.enter_context(SqliteStore(path)))
    if not load.number:
        raise _Unusable(f"no traces to replay in {path}")

    def notes() -> list[str]:
        said = [_STORED, _ATTRIBUTES]
        if load.headless:
            said.append(f"{load.headless} parts of traces, whose callers are not in the file, were decided as roots.")
        return said

    return _Load(load.requests(args.slow / 1e9), load.number, lambda: load.seconds, {"store": path}, notes)


# --- the sampler ------------------------------------------------------------------------------------------------


def _maker(chosen: _Chosen, clock: Clock, problems: list[str], rules: _Rules) -> Callable[[], Sampler]:
    """What makes the sampler, a new one each time; fails at once where it cannot be made."""
    from spanwell.sampling.build import Making, make

    def report(problem: str) -> None:
        if problem not in problems:  # it is made once for each service
            problems.append(problem)

    making = Making(report, adaptive=chosen.adaptive, clock=clock, instead={"xray": rules})

    def made() -> Sampler:
        try:
            return make(chosen.name, chosen.argument, making)
        except _Unusable:
            raise
        except LookupError as error:
            raise _Unusable(f"there is no sampler {chosen.name!r}: {error}", 2) from error
        except Exception as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise _Unusable(
                f"the sampler {chosen.name} with --arg {chosen.argument!r} cannot be made: {said}"
            ) from error

    return made


class _Rules:
    """`xray` in simulated time: the rules are read once, and reservoirs are taken as this process's own."""

    def __init__(self) -> None:
        self._read: dict[str, list[Rule]] = {}

    @property
    def used(self) -> bool:
        """Whether any sampler wanted them."""
        return bool(self._read)

    def __call__(self, argument: str, making: Making) -> Sampler:
        from spanwell.sampling.arguments import nested, parse
        from spanwell.sampling.client import check_endpoint
        from spanwell.sampling.local import RulesSampler, standard_fallback

        known: dict[str, Callable[[str], Any]] = {"endpoint": check_endpoint, "region": str, "rules_file": str}
        known |= {"fallback": nested, "polling_interval": str}  # nothing is polled here
        values = parse("xray", argument, known, making.report)
        if argument not in self._read:
            path = values.get("rules_file")
            self._read[argument] = _from_file(path, making) if path else _from_service(values, making)
        fallback: Sampler = standard_fallback(making.clock)
        if "fallback" in values:
            fallback = making.nested(values["fallback"], fallback)
        return RulesSampler(self._read[argument], fallback, clock=making.clock)


def _from_file(path: str, making: Making) -> list[Rule]:
    from spanwell.sampling.local import read_rules

    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_MAX_FILE)
    except (OSError, ValueError) as error:
        raise _Unusable(f"rules_file={path!r} cannot be read: {error}") from error
    rules = read_rules(text, making.report)
    if rules is None:
        raise _Unusable(f"rules_file={path!r} has no rule that can be used")
    return rules


def _from_service(values: Mapping[str, Any], making: Making) -> list[Rule]:
    from spanwell.sampling.client import ClientError, SamplingClient
    from spanwell.sampling.rules import parse

    client = SamplingClient(values.get("endpoint", "http://127.0.0.1:2000"), region=values.get("region", ""))
    try:
        return parse(client.rules(making.report), making.report)
    except ClientError as error:
        raise _Unusable(f"X-Ray's rules cannot be fetched: {error}; name a file with rules_file=") from error
    finally:
        client.close()


# --- the report -------------------------------------------------------------------------------------------------


def _as_json(results: Results, load: _Load, sampler: dict[str, str], notes: list[str]) -> dict[str, Any]:
    seconds = load.seconds()
    operations = sorted(results.operations.items(), key=lambda item: (-item[1].seen, item[0]))
    return {
        "sampler": sampler,
        "load": {**load.described, "seconds": seconds},
        "traces": _seen(results.traces),
        "spans": _seen(results.spans),
        "errors": _seen(results.errors),
        "slow": _seen(results.slow),
        "estimated_requests": results.estimate,
        "monthly_spans": results.spans_in(_MONTH, seconds),
        "reasons": dict(results.reasons.most_common()),
        "operations": [{"name": name, **_seen(each)} for name, each in operations],
        "windows": {"seconds": 60, "number": len(results.windows)},
        "notes": notes,
    }


def _seen(each: Seen) -> dict[str, int]:
    return {"seen": each.seen, "kept": each.kept}


_OPERATIONS_SHOWN = 10


def _print(found: dict[str, Any], style: Style, out: TextIO) -> None:
    load = found["load"]
    stated = load.get("stated")
    source = ",".join(f"{key}={value:g}" for key, value in stated.items()) if stated else load["store"]
    out.write(clean(f"sampler  {found['sampler']['description']}") + "\n")
    out.write(clean(f"load     {source}, {format_duration(int(load['seconds'] * 1e9))}") + "\n\n")
    kinds = (("traces", "traces"), ("spans", "spans"), ("traces with an error", "errors"), ("slow traces", "slow"))
    _table([(label, found[key]) for label, key in kinds], "", style, out)
    out.write(f"\nspans a month: about {found['monthly_spans']:,.0f}\n")
    out.write(f"requests, to judge by the weights of what was kept: about {found['estimated_requests']:,.0f}\n\n")
    reasons = [(reason, f"{number:,}") for reason, number in found["reasons"].items()]
    if reasons:
        _lines(table(reasons, ("REASON", "LOCAL ROOTS"), right=(1,)), style, out)
        out.write("\n")
    shown = found["operations"][:_OPERATIONS_SHOWN]
    _table([(each["name"], each) for each in shown], "OPERATION", style, out)
    if len(found["operations"]) > len(shown):
        out.write(f"and {len(found['operations']) - len(shown)} more operations\n")
    out.write("\n")
    for note in found["notes"]:
        out.write(style("dim", note) + "\n")


def _table(rows: list[tuple[str, dict[str, int]]], title: str, style: Style, out: TextIO) -> None:
    cells = [
        (
            label,
            f"{each['seen']:,}",
            f"{each['kept']:,}",
            f"{each['kept'] / each['seen']:.2%}" if each["seen"] else "",
        )
        for label, each in rows
    ]
    _lines(table(cells, (title, "SEEN", "KEPT", "SHARE"), right=(1, 2, 3)), style, out)


def _lines(lines: list[str], style: Style, out: TextIO) -> None:
    out.write(style("title", lines[0]) + "\n")
    out.writelines(f"{line}\n" for line in lines[1:])
