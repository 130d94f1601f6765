"""`make test`: every Python from 3.10 to 3.14 on this machine, with the newest and the lowest dependencies.

Makes an environment for each below .envs/, installs what the tests need (Debian packages too, where that is
possible), and runs pytest in each. The interpreter of this script runs everything and comes last, so that its closing
line is the last. The others leave out the checks of the project itself, most of Lambda, and what is proved against
servers of others; all but the oldest with its lowest dependencies leave out the long contract suites too. With the
newest dependencies the oldest runs the unit part. What is missing is skipped loudly; with SPANWELL_STRICT=1 it is a
failure.

    python tests/run.py [--only 3.13] [--quick] [pytest arguments]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVS = ROOT / ".envs"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
UV = "uv==0.13.8"
# Many tests wait for processes.
WORKERS = str(2 * (os.cpu_count() or 1))
STRICT = os.environ.get("SPANWELL_STRICT") == "1"

# What the tests use beside Python packages: program -> (Debian package, what goes unproved without it).
PROGRAMS = {
    "postgres": ("postgresql", "psycopg, psycopg2 and sqlalchemy spans are the same lazily and eagerly applied"),
    "redis-server": ("redis-server", "redis and celery spans are the same lazily and eagerly applied"),
    "npm": ("npm", "kinesis and dynamodb keep to limits that are enforced; a second OTLP receiver reads us"),
}
LEFT_OUT = {
    "unit": ["meta", "full", "slow"],
    "most": ["meta", "full", "services", "functions"],
    "almost all": ["meta", "services", "functions"],
    "all": [],
}


def main() -> int:
    """Run everything; the exit status is the worst of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="VERSION", help="one Python version, newest dependencies")
    parser.add_argument("--quick", action="store_true", help="without the tests that start processes and servers")
    args, pytest_arguments = parser.parse_known_args()
    install_programs()
    runs = plan(find_interpreters(), args.only)
    if not runs:
        print(f"no Python {args.only or 'from 3.10 to 3.14'} was found", file=sys.stderr)
        return 1
    status = 0
    for version, python, pins, scope in runs:
        say(f"Python {version}, {pins} dependencies, {scope} tests")
        environment = make_environment(version, python, pins)
        status = max(status, run_pytest(environment, scope, args.quick, pytest_arguments))
    return status


def plan(found: dict[str, str], only: str | None) -> list[tuple[str, str, str, str]]:
    """(version, interpreter, pins, scope) in the order of running: the one that proves most comes last."""
    if only:
        return [(only, found[only], "newest", "all")] if only in found else []
    if not found:
        return []
    first = "{}.{}".format(*sys.version_info[:2])
    first = first if first in found else max(found, key=VERSIONS.index)
    lowest = min(found, key=VERSIONS.index)
    scopes = {lowest: "unit"}  # the rest of it with the lowest dependencies
    runs = [(each, found[each], "newest", scopes.get(each, "most")) for each in found if each != first]
    return [*runs, (lowest, found[lowest], "lowest", "almost all"), (first, found[first], "newest", "all")]


def find_interpreters() -> dict[str, str]:
    """version -> path of every supported Python on the path and below pyenv's folder, and this one."""
    found = {}
    for version in VERSIONS:
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        root = Path(os.environ.get("PYENV_ROOT", "/nowhere"))
        pyenv += sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
        own = [sys.executable] if version == "{}.{}".format(*sys.version_info[:2]) else []
        for candidate in (*own, *map(str, pyenv), shutil.which(f"python{version}")):
            if candidate and works(candidate, version):
                found[version] = candidate
                break
    missing = [version for version in VERSIONS if version not in found]
    if missing:
        say(f"not on this machine, so not tested: Python {', '.join(missing)}")
    return found


def works(python: str, version: str) -> bool:
    """Whether `python` is that version and can make environments."""
    check = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return done.stdout.strip() == version


def install_programs() -> None:
    """Install what is missing with apt-get, as root; say what stays unproved otherwise."""
    missing = {name: row for name, row in PROGRAMS.items() if not find_program(name)}
    if not missing:
        return
    packages = [package for package, _ in missing.values()]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {', '.join(packages)}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False, stdout=subprocess.DEVNULL)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(install, env=quiet, check=False, stdout=subprocess.DEVNULL)
    for name, (package, unproved) in missing.items():
        if not find_program(name):
            say(f"MISSING {name} (Debian package {package}): not proved: {unproved}")


def find_program(name: str) -> str | None:
    """On the path, or where Debian keeps PostgreSQL's programs."""
    found = shutil.which(name)
    if found is None and name == "postgres":
        candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        found = str(candidates[-1]) if candidates else None
    return found


def make_environment(version: str, python: str, pins: str) -> Path:
    """A virtual environment with the project in it, editable, at the pinned versions."""
    environment = ENVS / f"test-{version}-{pins}"
    constraints = ROOT / "constraints" / f"{pins}.txt"
    stamp = environment / "stamp"
    wanted = constraints.read_text() + (ROOT / "pyproject.toml").read_text() + python
    if stamp.exists() and stamp.read_text() == wanted:
        return environment
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    project = ["-c", str(constraints), "-e", f"{ROOT}[test]"]
    own = str(environment / "bin" / "python")
    uv = find_uv(python)
    # uv may not know the certificates of a network that pip was told of: pip has the last word.
    if not uv or subprocess.run([uv, "pip", "install", "-q", "-p", own, *project], check=False).returncode:
        subprocess.run([own, "-m", "pip", "install", "-q", "--disable-pip-version-check", *project], check=True)
    stamp.write_text(wanted)
    return environment


def find_uv(python: str) -> str | None:
    """uv makes an environment in seconds where pip takes a minute; without it pip does."""
    found = shutil.which("uv")
    tools = ENVS / "tools"
    if found is None and not (tools / "bin" / "uv").exists():
        subprocess.run([python, "-m", "venv", str(tools)], check=True)
        pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", UV]
        subprocess.run(pip, check=False)
    if found is None and (tools / "bin" / "uv").exists():
        found = str(tools / "bin" / "uv")
    return found


def run_pytest(environment: Path, scope: str, quick: bool, arguments: list[str]) -> int:
    """Run the tests of `scope` in `environment` and return pytest's exit status."""
    python = str(environment / "bin" / "python")
    unwanted = ["slow", "full"] if quick else []
    unwanted += LEFT_OUT[scope]
    command = [python, "-m", "pytest", "-n", WORKERS, "--dist", "loadgroup", *arguments]
    if unwanted:
        command += ["-m", " and ".join(f"not {mark}" for mark in unwanted)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environ["PATH"] = f"{environment / 'bin'}{os.pathsep}{environ.get('PATH', '')}"
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode


def say(text: str) -> None:
    """A line that stands out."""
    print(f"\n=== {text} ===", flush=True)


if __name__ == "__main__":
    sys.exit(main())
