"""Real servers on ephemeral loopback ports, in a temporary folder, stopped by whoever started them.

Each function is a context manager that yields the server's address. A binary that is missing fails the test
when SPANWELL_STRICT=1 (as in CI); otherwise the test is skipped and says what it would have proved.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def missing(what: str, proof: str) -> None:
    """Fail in strict mode, else skip loudly: `proof` is what the test would have shown."""
    message = f"{what} not found; this would have proved that {proof}"
    if os.environ.get("SPANWELL_STRICT") == "1":
        pytest.fail(message)
    pytest.skip(message)


def find_binary(name: str, *patterns: str) -> str | None:
    """`name` on PATH, else the newest match of the glob `patterns`."""
    found = shutil.which(name)
    if found:
        return os.path.realpath(found)
    matches = [path for pattern in patterns for path in glob.glob(pattern)]
    return max(matches, key=lambda path: [int(part) for part in path.split("/") if part.isdigit()], default=None)


def free_port() -> int:
    """A TCP port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres(proof: str) -> Iterator[str]:
    """A PostgreSQL with trust authentication; yields a libpq URL of database `postgres`."""
    initdb = find_binary("initdb", "/usr/lib/postgresql/*/bin/initdb")
    server = initdb and os.path.join(os.path.dirname(initdb), "postgres")
    if not initdb or not server or not os.path.exists(server):
        missing("PostgreSQL (initdb, postgres)", proof)
    assert initdb
    assert server
    become, user = _unprivileged()
    with _folder(user) as folder:
        data = folder / "data"
        subprocess.run(
            [initdb, "-D", str(data), "-U", "tester", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=become,
            cwd=folder,
        )
        port = free_port()
        command = [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
        with _process(command, folder, port, preexec_fn=become):
            url = f"postgresql://tester@127.0.0.1:{port}/postgres"
            _wait_until(lambda: _pg_answers(server, folder, port), "postgres")
            yield url


def _pg_answers(server: str, folder: Path, port: int) -> bool:
    ready = os.path.join(os.path.dirname(server), "pg_isready")
    done = subprocess.run([ready, "-h", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL)
    return done.returncode == 0


@contextlib.contextmanager
def redis_server(proof: str) -> Iterator[str]:
    """A Redis without persistence; yields a redis:// URL."""
    binary = find_binary("redis-server", "/usr/bin/redis-server")
    if not binary:
        missing("redis-server", proof)
    assert binary
    with _folder(None) as folder:
        port = free_port()
        # Debian's redis-server is a link to redis-check-rdb, which looks at the name it is called by.
        command = [
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--save",
            "",
            "--dir",
            str(folder),
        ]
        with _process(command, folder, port, executable=shutil.which("redis-server") or binary):
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """A moto server, every AWS service in one; yields its endpoint URL."""
    port = free_port()
    with _folder(None) as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with _process(command, folder, port):
            yield f"http://127.0.0.1:{port}"


class _Stub(BaseHTTPRequestHandler):
    """`/status/404` answers 404, `/echo` the body it was sent, anything else a short text."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = int(self.path.rsplit("/", 1)[1]) if self.path.startswith("/status/") else 200
        answer = body if self.path == "/echo" else b"hello"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def http_stub(handler: type[BaseHTTPRequestHandler] = _Stub) -> Iterator[str]:
    """A small HTTP server in a thread; yields its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- processes ------------------------------------------------------------------------------------------------


def _unprivileged() -> tuple[Callable[[], None] | None, pwd.struct_passwd | None]:
    """How a child stops being root, which initdb refuses to be: (preexec function, account)."""
    if os.geteuid() != 0:
        return None, None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            break
    else:
        pytest.fail("no account to run PostgreSQL as")

    def become() -> None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    return become, user


@contextlib.contextmanager
def _folder(user: pwd.struct_passwd | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="spanwell-test-"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _process(command: list[str], folder: Path, port: int, **options: object) -> Iterator[None]:
    """Run `command` until the block ends; the block starts when its port accepts connections."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, **options)  # type: ignore[call-overload]
    try:
        _wait_until(lambda: _accepts(port), command[0], process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait_until(
    ready: Callable[[], bool],
    what: str,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    for _ in range(600):
        if ready():
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:] if log else ""
    pytest.fail(f"{what} did not start: {said}")
