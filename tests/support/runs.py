"""Run a plain script as a user would run it traced: all at start, deferred, or under `spanwell run`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).parent.parent / "contract" / "instrumentors"

# Every mode is the same application with the same settings; only the way of instrumenting differs.
MODES = ("eager", "lazy", "run")


class Run(NamedTuple):
    """What came out of a process."""

    code: int
    stdout: str
    stderr: str


def environment(mode: str, endpoint: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The variables of a run: nothing telemetry-related is inherited, spans go to `endpoint` by OTLP."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "SPANWELL_", "AWS_", "DJANGO_", "PYTEST"))
    }
    return {
        **kept,
        "OTEL_SERVICE_NAME": "scenario",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_PYTHON_DISTRO": "spanwell",
        "OTEL_PYTHON_CONFIGURATOR": "spanwell",
        "SPANWELL_LAZY_INSTRUMENTATION": "false" if mode == "eager" else "true",
        "SPANWELL_SHUTDOWN_TIMEOUT": "10",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def command(mode: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs this Python with `arguments` in `mode`."""
    if mode == "bare":
        return [sys.executable, *arguments]
    if mode == "run":
        return [sys.executable, "-m", "spanwell", "run", "--", sys.executable, *arguments]
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    return [str(instrument), sys.executable, *arguments]


def start(mode: str, arguments: Sequence[str], endpoint: str, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start this Python with `arguments` in `mode`, in the folder of the scenario scripts."""
    return subprocess.Popen(
        command(mode, arguments),
        env=environment(mode, endpoint, extra),
        cwd=SCRIPTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Run:
    """Wait for the end of a process; one that does not end is killed and the test fails."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {timeout} s\n{stdout}\n{stderr}") from None
    return Run(process.returncode, stdout, stderr)


def kill(process: subprocess.Popen[str]) -> None:
    """End a process of `start` and the children it may have left behind, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
