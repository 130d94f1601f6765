"""What start-up imports with spanwell: `python -m benchmarks.imports CASE [--launcher L] [--top N]`.

CASE is a section of start-up (`pass`, `import`, `first`, `handler`) or a file. Runs the command with
`-X importtime` under `spanwell run` (or `--launcher instrument`) and prints the modules that cost most, by
themselves and in all, of those that bare Python does not import for the same case. `--calls` prints what cProfile
says of the functions instead, for what start-up does besides importing.
"""

from __future__ import annotations

import argparse
import io
import pstats
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import contenders, envs
from benchmarks.sections import APPS
from benchmarks.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMANDS = {
    "pass": ("-c", "pass"),
    "import": (str(APPS / "imported.py"),),
    "first": (str(APPS / "first.py"),),
    "handler": (str(APPS / "handler.py"),),
}


@dataclass(frozen=True)
class Import:
    """One line of `-X importtime`: microseconds of the module alone, and with what it imports first."""

    name: str
    own: int
    total: int


def parse(text: str) -> list[Import]:
    """The imports in the standard error of a process run with `-X importtime`."""
    found = []
    for line in text.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and len(fields) == 3 and fields[0].strip().isdigit():
            found.append(Import(fields[2].strip(), int(fields[0]), int(fields[1])))
    return found


def packages(imports: Iterable[Import]) -> list[tuple[str, int, int]]:
    """(package, microseconds, modules) of the imports by their first two names, most first."""
    sums: dict[str, tuple[int, int]] = {}
    for item in imports:
        parts = item.name.split(".")
        name = ".".join(parts[:2]) if parts[0] in ("opentelemetry", "spanwell") else parts[0]
        time, count = sums.get(name, (0, 0))
        sums[name] = time + item.own, count + 1
    return sorted(((name, time, count) for name, (time, count) in sums.items()), key=lambda row: -row[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lists; the exit code of the case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--launcher", default="run", choices=sorted(contenders.ALL), help="how it is started")
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--calls", action="store_true", help="profile the functions of a case that is a file")
    options = parser.parse_args(arguments)
    with envs.alone(lambda text: print(text, file=sys.stderr)):
        return _profile(options)


def _profile(options: argparse.Namespace) -> int:
    command = COMMANDS.get(options.case, (options.case,))
    if options.calls:
        return _calls(options.launcher, command, options.top)
    with Stubs() as stubs, tempfile.TemporaryDirectory() as home:
        timed = ("-X", "importtime", *command)
        bare = _run("bare", timed, stubs, Path(home))
        seen = _run(options.launcher, timed, stubs, Path(home))
    base = {item.name for item in parse(bare.stderr)}
    code, errors = seen.returncode, seen.stderr
    imports = parse(errors)
    extra = [item for item in imports if item.name not in base]
    if code:
        sys.stderr.write(errors)
    print(f"{len(imports)} imports, {len(extra)} of them not in bare: {sum(i.own for i in extra) / 1e3:.1f} ms")
    _print("by package, what bare does not import", packages(extra)[: options.top])
    own = sorted(extra, key=lambda item: -item.own)[: options.top]
    _print("alone", [(item.name, item.own, 1) for item in own])
    total = sorted(extra, key=lambda item: -item.total)[: options.top]
    _print("with what they import first", [(item.name, item.total, 1) for item in total])
    return code


def _calls(key: str, command: tuple[str, ...], top: int) -> int:
    with Stubs() as stubs, tempfile.TemporaryDirectory() as home:
        profile = Path(home) / "profile"
        done = _run(key, ("-m", "cProfile", "-o", str(profile), *command), stubs, Path(home))
        if done.returncode:
            sys.stderr.write(done.stderr)
            return done.returncode
        text = io.StringIO()
        stats = pstats.Stats(str(profile), stream=text)
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats("/spanwell/|/opentelemetry/|importlib/metadata", top)
    print(re.sub(r"/\S*/(site-packages|lib/python[\d.]+)/", "", text.getvalue()))
    return 0


def _run(key: str, arguments: tuple[str, ...], stubs: Stubs, home: Path) -> subprocess.CompletedProcess[str]:
    contender = contenders.ALL[key]
    environment = envs.build(contender.environment, envs.default_python())
    command = [*contender.launcher, "python", *arguments]
    command[0] = str(environment.bin / command[0])
    return subprocess.run(
        command,
        env=contenders.environ(contender, environment, stubs.ports, home),
        capture_output=True,
        text=True,
        timeout=60,
    )


def _print(title: str, rows: Sequence[tuple[str, int, int]]) -> None:
    print(f"\n{title}, ms")
    for name, time, count in rows:
        print(f"{time / 1e3:8.1f}  {name}{f' ({count} modules)' if count > 1 else ''}")


if __name__ == "__main__":
    sys.exit(main())
