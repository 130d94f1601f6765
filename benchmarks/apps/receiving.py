"""An OTLP/HTTP receiver that takes its time: `receiving.py MS` answers each request after up to MS milliseconds.

Prints its port; `GET /spans` tells how many spans came in. A process of its own, so that its CPU is nobody's.
`Receiver` starts it.
"""

import gzip
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """The receiver process as a context manager; `url` is where spans go."""

    def __init__(self, milliseconds):
        self._command = [sys.executable, __file__, str(milliseconds)]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def spans(self):
        """How many spans came in."""
        with urllib.request.urlopen(f"{self.url}/spans", timeout=60) as answer:
            return int(answer.read())

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(10)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def inside(data, wanted):
    """The messages in field `wanted` of a protobuf message of messages."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 != 2:
            raise ValueError(f"field {tag >> 3} is no message")
        size, at = varint(data, at)
        if tag >> 3 == wanted:
            yield data[at : at + size]
        at += size


def count(body):
    """The spans of an ExportTraceServiceRequest; its scopes may have a schema_url (3), which is passed over."""
    return sum(1 for each in inside(body, 1) for scope in inside(each, 2) for _ in inside(scope, 2))


def main(milliseconds):
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bodies.append((self.headers.get("Content-Encoding", ""), body))
            time.sleep(random.uniform(0, milliseconds / 1000))
            self.answer(b"")

        def do_GET(self):
            unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}
            self.answer(json.dumps(sum(count(unpack.get(how, bytes)(body)) for how, body in bodies)).encode())

        def answer(self, body):
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(float(sys.argv[1]))
