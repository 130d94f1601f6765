"""A MongoDB as small as a driver will talk to: OP_MSG (and the legacy OP_QUERY hello), insert, find, ping.

Debian has no MongoDB. The instrumentor under test sees only the driver's command events, so what must be real
is the wire between the driver and something that answers.
"""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator
from typing import Any

import bson

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HEADER = struct.Struct("<iiii")
_HELLO = {
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while header := self.rfile.read(_HEADER.size):
            size, request, _, code = _HEADER.unpack(header)
            body = self.rfile.read(size - _HEADER.size)
            if code == _OP_QUERY:
                payload = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(_HELLO)
                self._send(_OP_REPLY, request, payload)
            elif code == _OP_MSG:
                reply = self._answer(*_parse(body))
                self._send(_OP_MSG, request, struct.pack("<iB", 0, 0) + bson.encode(reply))
            else:
                return

    def _send(self, code: int, request: int, payload: bytes) -> None:
        self.wfile.write(_HEADER.pack(_HEADER.size + len(payload), 0, request, code) + payload)
        self.wfile.flush()

    def _answer(self, command: dict[str, Any], documents: list[Any]) -> dict[str, Any]:
        name, value = next(iter(command.items()))
        if name in ("hello", "ismaster", "isMaster"):
            return _HELLO
        if name == "insert":
            self.server.stored += documents or command.get("documents", [])  # type: ignore[attr-defined]
            return {"n": max(1, len(documents)), "ok": 1.0}
        if name == "find":
            found = self.server.stored[:1]  # type: ignore[attr-defined]
            space = f"{command['$db']}.{value}"
            return {"cursor": {"firstBatch": found, "id": bson.Int64(0), "ns": space}, "ok": 1.0}
        if name in ("ping", "endSessions"):
            return {"ok": 1.0}
        return {"ok": 0.0, "errmsg": f"no such command: '{name}'", "code": 59, "codeName": "CommandNotFound"}


def _parse(body: bytes) -> tuple[dict[str, Any], list[Any]]:
    """The command of an OP_MSG and the documents of its sequence sections."""
    position, command, documents = 4, {}, []
    while position < len(body):
        kind = body[position]
        (size,) = struct.unpack_from("<i", body, position + 1)
        section = body[position + 1 : position + 1 + size]
        if kind == 0:
            command = bson.decode(section)
        else:
            documents = bson.decode_all(section[section.index(b"\0", 4) + 1 :])
        position += 1 + size
    return command, documents


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.stored: list[Any] = []


@contextlib.contextmanager
def mongo_server() -> Iterator[str]:
    """Yields a mongodb:// URL."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"mongodb://127.0.0.1:{server.server_address[1]}/?serverSelectionTimeoutMS=5000"
        finally:
            server.shutdown()
            thread.join()
