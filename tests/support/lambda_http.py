"""A loopback HTTP/1.1 server small enough not to disturb what it times: a thread a connection, plain sockets.

http.server costs a millisecond a request, more than the invocations that are timed with it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple


class Request(NamedTuple):
    """One request; header and trailer names are in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    trailers: dict[str, str]
    arrived_ns: int
    """Wall clock at its first line: it was on its way by then."""
    connection: socket.socket


def answer(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    """A whole response; `Content_Type="text/plain"` becomes the header Content-Type."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("latin-1") + body


class Server:
    """Calls `respond(request)` in the connection's thread and sends what it returns; None ends the connection."""

    def __init__(self, respond: Callable[[Request], bytes | None]) -> None:
        self._respond = respond
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End every connection; their threads end by themselves."""
        with self._lock:
            self._closed = True
            open_ones = [*self._connections, self._listener]
        for each in open_ones:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while (request := _read(connection, stream)) is not None:
                    response = self._respond(request)
                    if response is None:
                        return
                    connection.sendall(response)
        except (OSError, ValueError):
            pass  # the other side is gone, or was killed in the middle of a request
        finally:
            with self._lock:
                self._connections.discard(connection)


def _read(connection: socket.socket, stream: BinaryIO) -> Request | None:
    first = stream.readline()
    if not first.endswith(b"\r\n"):
        return None
    arrived = time.time_ns()
    method, path, _ = first.decode("latin-1").split(" ", 2)
    headers = _headers(stream)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    trailers: dict[str, str] = {}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body, trailers = _chunks(stream)
    else:
        length = int(headers.get("content-length", 0))
        body = stream.read(length)
        if len(body) < length:
            return None
    return Request(method, path, headers, body, trailers, arrived, connection)


def _headers(stream: Any) -> dict[str, str]:
    found = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        found[name.strip().lower()] = value.strip()
    return found


def _chunks(stream: Any) -> tuple[bytes, dict[str, str]]:
    parts = []
    while size := int(stream.readline().split(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline()
    return b"".join(parts), _headers(stream)
