"""Clients whose other end stands in this process: botocore without a connection, and a server that speaks Redis."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
from botocore.awsrequest import AWSResponse
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.trace import Span, SpanKind

from corpus.harness import World
from support.aws_wire import _Raw


def entry(world: World, name: str, **attributes: Any) -> contextlib.AbstractContextManager[Span]:
    """The span of a request that is served, as a web framework's instrumentor makes it."""
    return world.tracer().start_as_current_span(name, kind=SpanKind.SERVER, attributes=attributes)


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Aws:
    """AWS as botocore sees it. cost: milliseconds of an answer. answer: (status, body) of all."""

    def __init__(self, world: World) -> None:
        self.cost = 5.0
        self.answer: tuple[int, bytes] = (200, b"")
        self._world = world
        self._session = botocore.session.Session()
        world.instrument(BotocoreInstrumentor())

    def client(self, service: str, **options: Any) -> Any:
        """A client whose requests go nowhere."""
        client = self._session.create_client(
            service,
            region_name="eu-central-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="none",
            **options,
        )
        client.meta.events.register("before-send.*.*", self._send)
        return client

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        self._world.clock.advance(ms=self.cost)
        status, body = self.answer
        return AWSResponse(request.url, status, {"x-amzn-requestid": "1"}, _Raw(body))


class Redis:
    """Answers every command with `+OK` or, where it asks for several things, an empty list, after `cost` ms."""

    def __init__(self, world: World) -> None:
        self.cost: Callable[[str], float] = lambda command: 1.0
        self._world = world
        self.port = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Redis]:
        redis = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while True:
                    head = self.rfile.readline()
                    if not head:
                        return
                    words = []
                    for _ in range(int(head[1:])):
                        size = int(self.rfile.readline()[1:])
                        words.append(self.rfile.read(size + 2)[:-2].decode())
                    self.wfile.write(redis._answer(words))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        with Server(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            yield self
            server.shutdown()
            thread.join()

    def _answer(self, words: list[str]) -> bytes:
        command = words[0].upper()
        self._world.clock.advance(ms=self.cost(command))
        if command in ("KEYS", "LRANGE", "SMEMBERS", "BLPOP", "BRPOP", "XREAD", "SORT", "ZRANGE"):
            return b"*-1\r\n" if command[:1] in "BX" else b"*0\r\n"
        return b"$-1\r\n" if command in ("GET", "HGET") else b"+OK\r\n"
