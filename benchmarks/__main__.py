"""`python -m benchmarks`: build the environments, measure side by side, print (and write) the tables."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import children, envs, machine, table, targets
from benchmarks.sections import SECTIONS, Bench, Section
from benchmarks.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.envs import Environment
    from benchmarks.table import Result

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks --write`. All contenders are measured in one run, in turns, in environments
of their own with the same versions of the application's packages. All record every request and send OTLP over
HTTP to a stub collector on loopback (the X-Ray SDK: its own format over UDP). CPU is user plus system time of
the whole process, its launcher included. Peak memory is the largest resident set; MB are 10^6 bytes. Compare
ratios, not milliseconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; 1 if a contender failed."""
    options = _options(arguments)
    sections = _chosen(options.only)
    only = frozenset(options.contenders)
    machine_lines = machine.describe(options.python)
    results = {}
    with contextlib.ExitStack() as stack:
        if not options.use_env:
            stack.enter_context(envs.alone(_say))
        environments = _environments(options, sections, only)
        stubs = stack.enter_context(Stubs())
        home = stack.enter_context(tempfile.TemporaryDirectory())
        bench = Bench(
            environments=environments,
            stubs=stubs,
            repeats=options.repeats or (2 if options.quick else 11),
            quick=options.quick,
            budget=options.minutes * 60,
            progress=_say,
            only=only,
            home=Path(home),
        )
        for section in sections:
            _say(f"== {section.name}")
            results[section.name] = section.measure(bench)
    document = _document(machine_lines, environments, results)
    print(document)
    if options.write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document)
    if options.json:
        options.json.write_text(json.dumps(_raw(results), indent=1))
    found = [row.samples for result in results.values() for row in result.rows]
    return 1 if any(samples.error or samples.notes for samples in found) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(f"{section.name} ({section.letters})" for section in SECTIONS)
    about = f"sections, or letters (d is memory): {names}"
    parser.add_argument("--only", type=_names, default=(), metavar="a,b", help=about)
    parser.add_argument("--contenders", type=_names, default=(), metavar="bare,run", help="only these rows")
    parser.add_argument("--quick", action="store_true", help="a smoke run: two repeats, short loops")
    parser.add_argument("--repeats", type=int, default=0, help="rounds to measure (default 11)")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all rounds together (default 10)")
    parser.add_argument("--python", default=envs.default_python(), help="interpreter of the environments")
    parser.add_argument("--rebuild", action="store_true", help="make the environments again")
    parser.add_argument(
        "--use-env",
        action="append",
        default=[],
        metavar="NAME=PREFIX",
        help="measure an existing environment instead of building NAME",
    )
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw samples")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _chosen(only: tuple[str, ...]) -> list[Section]:
    known = {name for section in SECTIONS for name in (section.name, *section.letters)}
    unknown = sorted(set(only) - known)
    if unknown:
        raise SystemExit(f"no such section: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [section for section in SECTIONS if not only or {section.name, *section.letters} & set(only)]


def _environments(
    options: argparse.Namespace, sections: list[Section], only: frozenset[str]
) -> dict[str, Environment | str]:
    """Every environment that is needed, ready, or the reason why it is not."""
    given = dict(text.split("=", 1) for text in options.use_env)
    needed = set().union(*(section.environments(only) for section in sections))
    ready: dict[str, Environment | str] = {}
    for name in (name for name in envs.REQUIREMENTS if name in needed):
        _say(f"environment {name}")
        try:
            if name in given:
                ready[name] = envs.existing(name, Path(given[name]))
            else:
                ready[name] = envs.build(name, options.python, rebuild=options.rebuild)
        except envs.BuildError as error:
            _say(f"environment {name} failed: {error}")
            ready[name] = children.told(str(error))
    return ready


def _document(lines: list[str], environments: dict[str, Environment | str], results: dict[str, Result]) -> str:
    parts = [
        HEAD,
        "\n".join(f"- {line}" for line in lines),
        targets.markdown(results),
        *(table.markdown(result) for result in results.values()),
        "## Versions",
        machine.versions(environments),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _raw(results: dict[str, Result]) -> dict[str, dict[str, object]]:
    return {
        name: {row.key: row.samples.values or {"error": row.samples.error} for row in result.rows}
        for name, result in results.items()
    }


_BEGIN = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGIN:4.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
