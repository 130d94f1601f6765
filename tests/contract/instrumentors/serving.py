"""Runs an ASGI application under uvicorn in a thread and asks it for pages. No part of it is traced itself."""

import contextlib
import threading
import time
from http.client import HTTPConnection

import uvicorn


@contextlib.contextmanager
def served(app):
    """Yields the port."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def get(port, *paths):
    """GET each path on a connection of its own; the caller's trace context is sent along."""
    for path in paths:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request(
            "GET", path, headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        )
        answer = connection.getresponse()
        print(path, answer.status, answer.read())
        connection.close()
