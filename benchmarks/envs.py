"""One environment for each contender, built with uv (else venv and pip) below the git-ignored `.envs`."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".envs"

APPLICATION = ("flask", "requests", "boto3")

# What opentelemetry-bootstrap proposes for an application of flask, requests and boto3, with the packages
# those bring. boto3sqs, which it proposes too, is left out everywhere: it leaks spans.
INSTRUMENTORS = tuple(
    f"opentelemetry-instrumentation-{name}"
    for name in (
        "asyncio",
        "botocore",
        "click",
        "dbapi",
        "flask",
        "jinja2",
        "logging",
        "requests",
        "sqlite3",
        "threading",
        "urllib",
        "urllib3",
        "wsgi",
    )
)

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "bare": (),
    "upstream": ("opentelemetry-distro", "opentelemetry-exporter-otlp", *INSTRUMENTORS),
    "adot": ("aws-opentelemetry-distro",),
    "xray": ("aws-xray-sdk",),
    "spanwell": INSTRUMENTORS,
}


class BuildError(Exception):
    """An environment that could not be built; the text is the last lines of the installer."""


@dataclass(frozen=True)
class Environment:
    """A ready environment: its prefix and the packages installed in it (name -> version)."""

    name: str
    prefix: Path
    packages: dict[str, str]

    @property
    def bin(self) -> Path:
        """The folder of its programs."""
        return self.prefix / "bin"


@contextlib.contextmanager
def alone(say: Callable[[str], None]) -> Iterator[None]:
    """Have the environments to oneself: two runs at once would disturb, or even rebuild, each other's."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another benchmark to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def existing(name: str, prefix: Path) -> Environment:
    """An environment somebody else made, measured as it is."""
    return Environment(name, prefix, _packages(prefix))


def build(name: str, python: str, *, rebuild: bool = False) -> Environment:
    """The environment `name`, for the interpreter `python`; made again when what it is made from changed.

    Raises `BuildError`.
    """
    prefix = CACHE / f"bench-{name}"
    constraints = [] if name == "bare" else _application_pins(python)
    stamp = _stamp(name, python, constraints)
    marker = prefix / "bench.json"
    if rebuild or not marker.exists() or json.loads(marker.read_text()) != stamp:
        shutil.rmtree(prefix, ignore_errors=True)
        _install(name, prefix, python, constraints)
        marker.write_text(json.dumps(stamp))
    return Environment(name, prefix, _packages(prefix))


def _application_pins(python: str) -> list[str]:
    """The application's own packages have the same versions everywhere."""
    return [f"{name}=={version}" for name, version in sorted(build("bare", python).packages.items())]


def _stamp(name: str, python: str, constraints: list[str]) -> dict[str, object]:
    version = _output([python, "-c", "import sys; print(sys.version)"]).strip()
    return {
        "python": version,
        "requirements": list(REQUIREMENTS[name]),
        "constraints": constraints,
        "source": _source_hash() if name == "spanwell" else "",
    }


def _source_hash() -> str:
    digest = hashlib.sha256()
    files = [ROOT / "pyproject.toml", *(ROOT / "src").rglob("*"), *(ROOT / "examples" / "shop").rglob("*")]
    for path in sorted(files):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _install(name: str, prefix: Path, python: str, constraints: list[str]) -> None:
    CACHE.mkdir(exist_ok=True)
    pins = CACHE / f"bench-{name}.constraints"
    pins.write_text("\n".join(constraints) + "\n")
    wanted = [*APPLICATION, *REQUIREMENTS[name]]
    if name == "spanwell":
        wanted.append(str(_wheel(python)))
    uv = shutil.which("uv")
    interpreter = str(prefix / "bin" / "python")
    if uv:
        _output([uv, "venv", "-q", "-p", python, str(prefix)])
        _output([uv, "pip", "install", "-q", "-p", interpreter, "-c", str(pins), *wanted])
    else:
        _output([python, "-m", "venv", str(prefix)])
        _output([interpreter, "-m", "pip", "install", "-q", "--no-compile", "-c", str(pins), *wanted])
    # Compiled the same way everywhere: otherwise the first run of each file pays for the compiler.
    _output([interpreter, "-m", "compileall", "-q", str(site_packages(prefix))], check=False)


def _wheel(python: str) -> Path:
    """This repository as users get it: a wheel, not an editable install."""
    target = CACHE / "bench-wheel"
    shutil.rmtree(target, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        _output([uv, "build", "-q", "--wheel", "-p", python, "-o", str(target), str(ROOT)])
    else:
        _output([python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), str(ROOT)])
    return next(target.glob("spanwell-*.whl"))


def _output(command: list[str], *, check: bool = True) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{Path(command[0]).name}: {error}") from None
    if check and done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BuildError(" ".join(line.strip() for line in lines[-3:]))
    return done.stdout


def site_packages(prefix: Path) -> Path:
    """The folder of an environment's packages."""
    return next((prefix / "lib").glob("python3*/site-packages"))


def _packages(prefix: Path) -> dict[str, str]:
    """Name -> version, from the names of the metadata folders."""
    names = sorted(folder.name for folder in site_packages(prefix).glob("*.dist-info"))
    pairs = (name.removesuffix(".dist-info").rsplit("-", 1) for name in names)
    return {
        name.replace("_", "-").lower(): version
        for name, version in pairs
        if name not in ("pip", "setuptools", "wheel")
    }


def apparent_bytes(prefix: Path) -> tuple[int, int]:
    """Bytes of an environment's packages: (as installed from wheels, of compiled bytecode)."""
    files = compiled = 0
    for path in site_packages(prefix).rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        if path.suffix == ".pyc":
            compiled += path.stat().st_size
        else:
            files += path.stat().st_size
    return files, compiled


def default_python() -> str:
    """The interpreter that the environments use: the one below the environment this runs in."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))
