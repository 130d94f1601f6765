"""Receivers that are npm packages, each at its pinned version, on loopback: strict stand-ins for AWS, and OTLP.

They are installed once, into .envs/node, by the first test that needs one. Without Node.js or npm the test fails when
SPANWELL_STRICT=1 (as in CI); otherwise it is skipped and says what it would have proved.
"""

from __future__ import annotations

import contextlib
import fcntl
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.servers import _folder, _process, free_port, missing

HOME = Path(__file__).resolve().parents[2] / ".envs" / "node"
VERSIONS = {"kinesalite": "3.3.3", "dynalite": "4.0.0", "autotel-devtools": "27.1.0"}
NODE_22 = "22.23.3"


def installed(name: str, proof: str, *beside: str) -> Path:
    """The folder in which Node.js finds package `name` and the packages `beside` it (as `name@version`)."""
    if not shutil.which("node") or not shutil.which("npm"):
        missing(f"Node.js with npm (for {name})", proof)
    folder = HOME / f"{name}-{VERSIONS[name]}"
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:  # several test processes may come at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
            command = ["npm", "install", *quiet, "--prefix", str(folder), f"{name}@{VERSIONS[name]}", *beside]
            folder.mkdir(exist_ok=True)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
            if done.returncode:
                missing(f"{name} (npm: {done.stderr.strip()[-300:]})", proof)
            (folder / "complete").touch()
    return folder


@contextlib.contextmanager
def autotel(proof: str) -> Iterator[str]:
    """An OTLP receiver with its own reading of protobuf and JSON, which are read back by GET /v1/traces; it takes no
    compressed requests. Yields its URL. It needs Node.js 22, which is a package too."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        missing("Node.js 22 as a package (Linux on x86-64 or arm64)", proof)
    package = f"node-linux-{machine}"
    home = installed("autotel-devtools", proof, f"{package}@{NODE_22}") / "node_modules"
    ports = [free_port(), free_port()]
    command = [str(home / package / "bin" / "node"), str(home / "autotel-devtools" / "dist" / "cli.js")]
    command += ["--host", "127.0.0.1", "--port", str(ports[0]), "--grpc-port", str(ports[1])]
    with _folder(None) as folder:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
        with _process(command, folder, ports[0], env=environment):
            yield f"http://127.0.0.1:{ports[0]}"


@contextlib.contextmanager
def _started(name: str, options: str, proof: str) -> Iterator[str]:
    home = installed(name, proof)
    port = free_port()
    # Its own command listens on every interface.
    script = f"require({name!r})({options}).listen({port}, '127.0.0.1')"
    with _folder(None) as folder:
        environment = {"NODE_PATH": str(home / "node_modules"), "PATH": "/usr/bin:/bin"}
        with _process([shutil.which("node") or "node", "-e", script], folder, port, env=environment):
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def kinesalite(proof: str) -> Iterator[str]:
    """Kinesis with its limits: 500 records and 5 MiB a request, 1 MiB a record. Yields its endpoint URL."""
    with _started("kinesalite", "{createStreamMs: 0, deleteStreamMs: 0, shardLimit: 20}", proof) as url:
        yield url


@contextlib.contextmanager
def dynalite(proof: str) -> Iterator[str]:
    """DynamoDB with its limits: 25 items without duplicates, 400 KB an item; no TTL. Yields its endpoint URL."""
    with _started("dynalite", "{createTableMs: 0, deleteTableMs: 0, updateTableMs: 0}", proof) as url:
        yield url
