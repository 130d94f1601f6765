"""A loopback HTTP proxy that misbehaves by a plan, before any HTTP or AWS endpoint: moto, dynalite, a collector, …

    with fault_proxy(moto_url, [throttle(), PASS, partial(0, 2), RESET_AFTER]) as proxy:
        client = boto3.client("kinesis", endpoint_url=proxy.url)

A plan is a list (one fault a request, then everything passes) or a function of the `Request`, such as
`seeded(7, {"throttle": 0.2, "partial": 0.3})`. What the proxy reports as failed was not passed on, with two
exceptions that HTTP itself has: after RESET_AFTER and TRUNCATE the request *was* passed on and the sender cannot
know. Whoever counts then compares by span id, because a retry makes a legal duplicate.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple
from urllib.parse import urlsplit

from support import fault_shapes
from support.servers import http_stub


class Fault(NamedTuple):
    """One thing to do with a request; see the functions below."""

    kind: str
    code: str = ""
    status: int = 0
    headers: Mapping[str, str] = {}
    seconds: float = 0.0
    indexes: tuple[int, ...] = ()
    share: float = 0.0
    seed: int = 0


class Request(NamedTuple):
    """A request as a plan sees it. `operation` is PutRecords, BatchWriteItem, PutTraceSegments, traces, … or ""."""

    number: int
    operation: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Plan = Callable[[Request], Fault]

PASS = Fault("pass")
RESET_BEFORE = Fault("reset_before")
"""The connection is reset, and the request was not passed on."""
RESET_AFTER = Fault("reset_after")
"""The request was passed on, and instead of its answer the connection is reset."""
TRUNCATE = Fault("truncate")
"""The request was passed on, and half of its answer comes back."""


def throttle(code: str = "", **headers: str) -> Fault:
    """Refused as the service throttles: its own code (ProvisionedThroughputExceededException, …), or `code`."""
    return Fault("throttle", code=code, headers={name.replace("_", "-"): text for name, text in headers.items()})


def error(code: str, status: int = 400) -> Fault:
    """Refused with an AWS error `code` (AccessDeniedException, ResourceNotFoundException, …), as the service does."""
    return Fault("error", code=code, status=status)


def status(number: int, **headers: str) -> Fault:
    """Refused with a bare HTTP status, such as 503 with Retry_After="1"."""
    return Fault("status", status=number, headers={name.replace("_", "-"): text for name, text in headers.items()})


def delay(seconds: float) -> Fault:
    """Passed on after a while; ends early when the proxy closes."""
    return Fault("delay", seconds=seconds)


def partial(*indexes: int, code: str = "", share: float = 0.0, seed: int = 0) -> Fault:
    """The entries at `indexes`, or a random `share` of them, are reported as failed and not passed on."""
    return Fault("partial", code=code, indexes=indexes, share=share, seed=seed)


def seeded(seed: int, rates: Mapping[str, float], **choose: Fault) -> Plan:
    """A random plan: kind of fault -> how often, 0 to 1; what is left passes. `choose` says which fault a kind is."""
    chance = random.Random(seed)
    lock = threading.Lock()
    made = {
        "throttle": throttle(),
        "status": status(503),
        "delay": delay(0.02),
        "reset_before": RESET_BEFORE,
        "reset_after": RESET_AFTER,
        "truncate": TRUNCATE,
        **choose,
    }

    def plan(_: Request) -> Fault:
        with lock:
            drawn, dice = chance.random(), chance.randrange(2**32)
        for kind, rate in rates.items():
            if drawn < rate:
                return made.get(kind) or partial(share=0.4, seed=dice)
            drawn -= rate
        return PASS

    return plan


class FaultProxy:
    """What the proxy did: `did` counts faults by kind, `passed` and `withheld` the entries (spans, records, items, …)
    that were passed on, or reported as failed; a request that is no batch counts as one. `plan` may be replaced."""

    def __init__(self, upstream: str, plan: Plan | Iterable[Fault]) -> None:
        self.url = ""
        self.upstream = upstream
        self.plan = plan
        self.did: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.passed = self.withheld = 0
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @property
    def plan(self) -> Plan:
        return self._plan

    @plan.setter
    def plan(self, plan: Plan | Iterable[Fault]) -> None:
        if callable(plan):
            self._plan: Plan = plan
            return
        left = iter(tuple(plan))
        self._plan = lambda _: next(left, PASS)

    def decide(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[Request, Fault]:
        with self._lock:
            operation = fault_shapes.operation(path, headers, body)
            request = Request(len(self.requests), operation, method, path, headers, body)
            self.requests.append(request._replace(body=b""))
            fault = self._plan(request)
            self.did[fault.kind] += 1
            self.operations[operation] += 1
        return request, fault

    def count(self, passed: int, withheld: int) -> None:
        with self._lock:
            self.passed += passed
            self.withheld += withheld


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


@contextlib.contextmanager
def fault_proxy(upstream: str, plan: Plan | Iterable[Fault] = ()) -> Iterator[FaultProxy]:
    """A proxy before `upstream` (http://127.0.0.1:port) until the block ends."""
    proxy = FaultProxy(upstream.rstrip("/"), plan)

    class Handler(_Handler):
        owner = proxy

    with http_stub(Handler) as url:
        proxy.url = url
        try:
            yield proxy
        finally:
            proxy.closing.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request, fault = self.owner.decide(self.command, self.path, headers, body)
        if fault.kind == "reset_before":
            return self._reset()
        if fault.kind in ("throttle", "error", "status"):
            self.owner.count(0, fault_shapes.size(request.operation, headers, body))
            return self._answer(_Answer(*fault_shapes.refusal(fault, request)))
        if fault.kind == "delay":
            self.owner.closing.wait(fault.seconds)
        if fault.kind == "partial":
            return self._answer(self._part(fault, request))
        answer = self._forward(request, body)
        if fault.kind == "reset_after":
            return self._reset()
        return self._answer(answer, half=fault.kind == "truncate")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

    def _part(self, fault: Fault, request: Request) -> _Answer:
        """The answer to the whole, after its good entries alone were passed on."""
        batch = fault_shapes.batch(request)
        if batch is None:
            return self._forward(request, request.body)
        chance = random.Random(fault.seed)
        wanted = fault.indexes or [at for at in range(batch.size) if chance.random() < fault.share]
        failed = {at for at in wanted if at < batch.size}
        self.owner.count(0, len(failed))
        kept = batch.without(failed)
        answer = None if kept is None else self._forward(request, kept)
        if answer is not None and answer.status >= 300:
            return answer
        headers, body = batch.answer(failed, fault.code, answer.body if answer else b"")
        kept_headers = answer.headers if answer else {}
        # DynamoDB's checksum is of its own body, and a body of ours is not compressed.
        stale = ("x-amz-crc32", "content-type", "content-encoding")
        known = {name: text for name, text in kept_headers.items() if name.lower() not in stale}
        return _Answer(200, {**known, **headers}, body)

    def _forward(self, request: Request, body: bytes) -> _Answer:
        self.owner.count(fault_shapes.size(request.operation, request.headers, body), 0)
        target = urlsplit(self.owner.upstream)
        connection = HTTPConnection(target.hostname or "", target.port or 80, timeout=60)
        left_out = ("content-length", "connection", "expect", "transfer-encoding")
        headers = {name: value for name, value in request.headers.items() if name not in left_out}
        try:
            connection.request(request.method, target.path + request.path, body, headers)
            response = connection.getresponse()
            return _Answer(response.status, dict(response.getheaders()), response.read())
        except OSError as problem:
            return _Answer(502, {"Content-Type": "text/plain"}, f"fault proxy: {problem}".encode())
        finally:
            connection.close()

    def _answer(self, answer: _Answer, *, half: bool = False) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        body = answer.body
        # An empty answer is cut short too: it promises a byte that never comes.
        self.send_header("Content-Length", str(max(len(body), 1) if half else len(body)))
        if half:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body[: len(body) // 2] if half else body)
            except ConnectionError:  # who asked has gone, as a process does that is killed
                half = True
        self.close_connection = half or self.close_connection

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # shutdown() would send FIN first: closing the descriptor is what sends RST.
        self.wfile = _Closed()  # type: ignore[assignment]
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Closed:
    """Stands for the writer of a connection that is gone: the server's own flush at the end must not fail."""

    closed = True

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
