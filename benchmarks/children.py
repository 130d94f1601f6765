"""Children of the benchmark: started, timed, given a deadline, and ended by process id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPAWN = Path(__file__).with_name("spawn.py")


class ChildError(Exception):
    """A child that did not do what it should; the text says what happened, in one line."""


@dataclass(frozen=True)
class Child:
    """What one child cost: seconds, bytes, and its answer (the JSON object it printed last, if any)."""

    cpu: float
    wall: float
    peak_rss: float
    end: float
    answer: dict[str, Any]

    def figure(self, name: str) -> float:
        """A number of the answer. Raises `ChildError` where the child did not give it."""
        try:
            return float(self.answer[name])
        except (KeyError, TypeError, ValueError):
            raise ChildError(f"gave no {name}") from None


def run(command: Sequence[str], environ: Mapping[str, str], timeout: float) -> Child:
    """Run `command` with exactly `environ`, for at most `timeout` seconds. Raises `ChildError`."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as report:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SPAWN), str(writer), *command],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                pass_fds=(writer,),
                start_new_session=True,
            )
            os.close(writer)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise ChildError(f"no end after {timeout:.0f} s") from None
            finally:
                _end(process)
            fields = report.read().split()
        return _child(fields, _text(output), _text(errors))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind: the spawner leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace"))


def _child(fields: list[bytes], output: str, errors: str) -> Child:
    if len(fields) != 6:
        raise ChildError(told(errors) or "did not start")
    code, user, system, wall, peak, end = (float(field) for field in fields)
    if code != 0:
        raise ChildError(f"exit {code:.0f}: {told(errors)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Child(user + system, wall, peak * unit, end, _answer(output))


def _answer(output: str) -> dict[str, Any]:
    last = _last_line(output)
    if not last.startswith("{"):
        return {}
    try:
        return dict(json.loads(last))
    except ValueError:
        return {}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def told(text: str) -> str:
    """The last line of `text`, short and without the folders of this machine: it may end up in a document."""
    return re.sub(r"(?:/[^/\s'\":,]+)+/", "", _last_line(text))[:200]
