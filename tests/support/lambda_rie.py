"""AWS's Runtime Interface Emulator: the one program of the package aws-sam-cli that is needed, kept below .envs.

LAMBDA_RIE names it elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.servers import free_port, missing

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / ".envs"
PACKAGE = "aws-sam-cli==1.170.0"
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def emulator(proof: str) -> str:
    """Its path; without it the test is skipped, or fails in strict mode: `proof` is what it would have shown."""
    named = os.environ.get("LAMBDA_RIE", "")
    if named:
        return named
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        missing(f"an emulator for {sys.platform} on {platform.machine()}", proof)
    name = f"aws-lambda-rie-{machine}"
    target = ENVS / f"rie-{PACKAGE.partition('==')[2]}" / name
    ENVS.mkdir(exist_ok=True)
    with (ENVS / "rie.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists() and not _fetch(name, target):
            missing(f"the package {PACKAGE}", proof)
    return str(target)


def _fetch(name: str, target: Path) -> bool:
    """Install the package without what it requires, which is not needed, and keep the program alone."""
    with tempfile.TemporaryDirectory(dir=ENVS) as folder:
        install = ["install", "-q", "--no-deps", "--target", folder, PACKAGE]
        uv = shutil.which("uv")
        commands = [[uv, "pip", *install]] if uv else []
        for command in [*commands, [sys.executable, "-m", "pip", "--disable-pip-version-check", *install]]:
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                break
        found = Path(folder) / "samcli" / "local" / "rapid" / name
        if not found.exists():
            return False
        target.parent.mkdir(exist_ok=True)
        found.chmod(0o755)
        found.rename(target)
    return True


class Emulated:
    """A function that the emulator runs."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        """What the emulator and the function have written."""
        return self._log.read_text(errors="replace")

    def invoke(self, event: object, seconds: float = 30.0) -> Any:
        """The function's answer to `event`."""
        request = urllib.request.Request(self.url, json.dumps(event).encode())
        limit = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(request, timeout=seconds) as answer:
                    return json.load(answer)
            except urllib.error.URLError:
                assert time.monotonic() < limit, self.log
                time.sleep(0.05)


@contextlib.contextmanager
def running(program: str, command: list[str], folder: Path, env: Mapping[str, str]) -> Iterator[Emulated]:
    """`program` (the emulator) with `command` as the runtime, on loopback, with `env` alone."""
    port, runtime_api = free_port(), free_port()
    addresses = ("--runtime-interface-emulator-address", f"127.0.0.1:{port}")
    addresses += ("--runtime-api-address", f"127.0.0.1:{runtime_api}")
    log = folder / "emulator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, *addresses, *command], cwd=folder, env=dict(env), stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield Emulated(f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations", log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
