"""A loopback HTTP server that takes the world's time to answer."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from corpus.harness import World


class Answer(NamedTuple):
    """What is answered after `ms`. meet: nobody is answered before as many are waiting as its parties."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    ms: float = 5
    meet: threading.Barrier | None = None


Script = Callable[[str, str, Mapping[str, str]], Answer]


def aws_error(code: str, status: int = 400) -> Answer:
    """An error as DynamoDB or SQS answers it."""
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": "no"}).encode()
    return Answer(status, body, {"x-amzn-ErrorType": code})


class Backend:
    """`script(method, path, headers)` says what is answered; it may be replaced at any time."""

    def __init__(self, world: World, script: Script | None = None) -> None:
        self.script: Script = script or (lambda *_: Answer())
        self.url = ""
        self._clock = world.clock

    def queue(self, *answers: Answer) -> None:
        """Answer with these, then with success."""
        left = list(answers)
        self.script = lambda *_: left.pop(0) if left else Answer()

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        answer = self.script(handler.command, handler.path, dict(handler.headers))
        if answer.meet is not None:
            answer.meet.wait(20)
        self._clock.advance(ms=answer.ms)
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body)

    @contextlib.contextmanager
    def running(self) -> Iterator[Backend]:
        """Serve until the block ends."""
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                backend._respond(self)

            do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that closed its connection."""

        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
