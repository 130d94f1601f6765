"""Start real processes under `spanwell run` or `opentelemetry-instrument`, and read what they stored with sqlite."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(sys.executable).parent

# The two ways in which a user starts an application with spanwell.
LAUNCHERS: dict[str, list[str]] = {
    "run": [sys.executable, "-m", "spanwell", "run", "--"],
    "instrument": [str(BIN / "opentelemetry-instrument")],
}

_DROPPED = ("OTEL_", "SPANWELL_", "AWS_", "ECS_", "KUBERNETES_", "LAMBDA_", "_X_AMZN", "PYTHON", "PYTEST", "XDG_")


class Done(NamedTuple):
    """What came out of a process."""

    code: int
    out: str
    err: str


class Stored(NamedTuple):
    """One span of the sqlite file."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


def clean(**extra: str) -> dict[str, str]:
    """The environment of a user who configured nothing, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def traced(db: Path, **extra: str) -> dict[str, str]:
    """`clean`, with a service name and spans stored in `db`."""
    stored = {
        "OTEL_SERVICE_NAME": "scenario",
        "OTEL_TRACES_EXPORTER": "sqlite",
        "SPANWELL_SQLITE_PATH": str(db),
        "SPANWELL_SHUTDOWN_TIMEOUT": "20",
    }
    return clean(**{**stored, **extra})


def run(
    arguments: Sequence[str],
    env: dict[str, str],
    *,
    launcher: str = "run",
    stdin: str = "",
    cwd: Path | None = None,
    timeout: float = 30,
) -> Done:
    """Run a whole command line under a launcher of LAUNCHERS, with pipes for a terminal."""
    done = subprocess.run(
        [*LAUNCHERS[launcher], *arguments],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def python(code: str, env: dict[str, str], *arguments: str, **options: Any) -> Done:
    """Run this Python with ``-c code`` under a launcher."""
    return run([sys.executable, "-c", code, *arguments], env, **options)


def stored(db: Path) -> list[Stored]:
    """Every span in `db`, in the order of arrival; none if there is no file."""
    if not db.exists():
        return []
    with contextlib.closing(sqlite3.connect(db)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'span'").fetchone():
            return []  # a process is about to make the tables
        rows = connection.execute(
            "SELECT trace_id, span_id, parent_id, name, span.service, attributes, body FROM span"
            " JOIN resource ON resource.id = span.resource_id ORDER BY span.id"
        ).fetchall()
    return [Stored(*row[:5], json.loads(row[5] or "{}"), json.loads(row[6] or "{}")) for row in rows]


def names(db: Path) -> list[str]:
    """The names of all spans in `db`, sorted."""
    return sorted(span.name for span in stored(db))


def register(folder: Path, package: str, group: str, entry: str) -> None:
    """Lay metadata into `folder` as an installer would: `package` registers `entry` in the entry-point `group`."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    with (info / "entry_points.txt").open("a") as file:
        file.write(f"[{group}]\n{entry}\n")


def reader_goes_away(command: Sequence[str]) -> tuple[int, str]:
    """Run this, read one line and close the pipe; (exit status, what it says on the error output)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    return process.wait(60), said


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and make it after half a minute."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
