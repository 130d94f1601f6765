"""Container images: AWS's own Runtime Interface Emulator runs what their ENTRYPOINT says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import lambda_rie
from support.daemon import Daemon

CODE = """
import os, sys

def handler(event, context):
    found = sorted(name for name in sys.modules if name.partition(".")[0] in ("spanwell", "opentelemetry"))
    return {"event": event, "modules": found, "pythonpath": os.environ.get("PYTHONPATH")}
"""


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lambda-layer")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def container(folder: Path, order: str, **env: str) -> Iterator[str]:
    """What a container runs, in a process; gives the URL of its function."""
    port, runtime_api = free_port(), free_port()
    emulated = [
        lambda_rie.emulator("AWS's Runtime Interface Emulator runs what a container image's ENTRYPOINT says"),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{runtime_api}"),
    ]
    entry = [sys.executable, "-m", "spanwell", "lambda"]
    client = [sys.executable, "-m", "awslambdaric", "app.handler"]
    command = {"outside": [*entry, *emulated, *client], "inside": [*emulated, *entry, *client]}.get(
        order, [*emulated, *client]
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OTEL", "SPANWELL"))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**kept, **env}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def invoke(url: str, event: object) -> Any:
    request = urllib.request.Request(url, json.dumps(event).encode())
    limit = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("order", ["outside", "inside"])
def test_the_command_stands_before_the_emulator_or_before_the_runtime(order: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CODE)
    daemon = Daemon()
    env = {"OTEL_TRACES_EXPORTER": "xray_otlp_udp", "AWS_XRAY_DAEMON_ADDRESS": daemon.address}
    try:
        with container(tmp_path, order, **env) as url:
            answers = [invoke(url, number) for number in range(3)]
            waited = time.monotonic() + 5
            while len(daemon.datagrams) < 3 and time.monotonic() < waited:  # the sink reads in a thread of its own
                time.sleep(0.05)
        arrived = len(daemon.datagrams)
    finally:
        daemon.close()
    assert [answer["event"] for answer in answers] == [0, 1, 2]
    assert {answer["pythonpath"] for answer in answers} == {None}
    assert arrived == 3  # the emulator sends no trace header, so the sampler decides


@pytest.mark.parametrize("order", ["outside", "without"])
def test_switched_off_it_is_the_runtime_alone(order: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CODE)
    with container(tmp_path, order, SPANWELL_DISABLED="true") as url:
        found = invoke(url, 1)["modules"]
    assert found == ([] if order == "without" else ["spanwell", "spanwell.aws_lambda", "spanwell.aws_lambda.start"])
