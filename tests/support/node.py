"""Strict stand-ins for AWS services that are npm packages, each at its pinned version, on loopback.

They are installed once, into .envs/node, by the first test that needs one. Without Node.js or npm the test fails when
SPANWELL_STRICT=1 (as in CI); otherwise it is skipped and says what it would have proved.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.servers import _folder, _process, free_port, missing

HOME = Path(__file__).resolve().parents[2] / ".envs" / "node"
VERSIONS = {"kinesalite": "3.3.3", "dynalite": "4.0.0"}


def installed(name: str, proof: str) -> Path:
    """The folder in which Node.js finds package `name`."""
    if not shutil.which("node") or not shutil.which("npm"):
        missing(f"Node.js with npm (for {name})", proof)
    folder = HOME / f"{name}-{VERSIONS[name]}"
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:  # several test processes may come at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
            command = ["npm", "install", *quiet, "--prefix", str(folder), f"{name}@{VERSIONS[name]}"]
            folder.mkdir(exist_ok=True)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
            if done.returncode:
                missing(f"{name} (npm: {done.stderr.strip()[-300:]})", proof)
            (folder / "complete").touch()
    return folder


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
