"""The other side of every measurement, on loopback, in a process of its own so that its CPU is nobody's.

`python -m benchmarks.stubs` prints one JSON object of ports and serves until its standard input ends:
`http` answers OTLP with 200, DynamoDB's GetItem with one item, a GET with a small JSON document and
`/received` with the number of telemetry messages so far; `udp` swallows X-Ray segments; `hanging` accepts
connections and never answers; nothing listens on `dead`.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

received: list[str] = []
ITEM = {"Item": {"id": {"S": "7"}, "name": {"S": "kettle"}, "stock": {"N": "12"}}}


class Stub(BaseHTTPRequestHandler):
    """Answers at once and in one write, over kept connections."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("X-Amz-Target"):
            self.answer("application/x-amz-json-1.0", json.dumps(ITEM).encode())
        elif self.path.startswith("/v1/"):
            received.append(self.path)
            self.answer("application/x-protobuf", b"")
        else:
            self.answer("application/json", b'{"SamplingRuleRecords": []}')

    def do_GET(self) -> None:
        if self.path == "/received":
            return self.answer("application/json", str(len(received)).encode())
        return self.answer("application/json", b'{"price": 1999, "currency": "EUR"}')

    def answer(self, kind: str, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    """A client that goes away in the middle is no news here."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def _hold(listener: socket.socket) -> None:
    held = []
    while True:
        held.append(listener.accept()[0])


def _drain(receiver: socket.socket) -> None:
    while True:
        receiver.recv(65536)
        received.append("udp")


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Serve until standard input ends."""
    server = Quiet(("127.0.0.1", 0), Stub)
    hanging = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    for target, args in ((server.serve_forever, ()), (_hold, (hanging,)), (_drain, (udp,))):
        threading.Thread(target=target, args=args, daemon=True).start()
    ports = {
        "http": server.server_port,
        "udp": udp.getsockname()[1],
        "hanging": hanging.getsockname()[1],
        "dead": _unused_port(),
    }
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


class Stubs:
    """The stub process as a context manager; `ports` maps the names above to port numbers."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Stubs:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stubs"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.ports = json.loads(self._process.stdout.readline())
        return self

    def received(self) -> int:
        """How many telemetry messages came in so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/received", timeout=10) as answer:
            return int(answer.read())

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    main()
