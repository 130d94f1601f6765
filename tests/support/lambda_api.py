"""The Lambda Runtime API (2018-06-01) on loopback, as the runtime client of one execution environment uses it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import base64
import collections
import json
import select
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from support.lambda_http import Request, Server, answer

LARGEST_RESPONSE = 6_291_556  # bytes; Lambda refuses more with 413
_ACCEPTED = answer("202 Accepted", b'{"status":"OK"}\n', Content_Type="application/json")


@dataclass
class Answer:
    """One invocation, and what came of it. Times are wall clock, in nanoseconds."""

    request_id: str
    body: bytes = b""
    """What the function returned, as posted."""
    error: dict[str, Any] | None = None
    """What was posted as error: errorMessage, errorType, stackTrace."""
    xray_cause: str = ""
    content_type: str = ""
    trailers: dict[str, str] = field(default_factory=dict)
    sent_ns: int = 0
    posted_ns: int = 0
    """When the response, or the error, began to arrive; 0 if it never did."""
    next_ns: int = 0
    """When the runtime asked for the next invocation."""
    timed_out: bool = False
    exit_code: int | None = None
    """Of the process, if it ended instead of answering or right after; below 0 a signal."""

    @property
    def payload(self) -> Any:
        """The returned value; raises AssertionError when there is none."""
        assert self.error is None, self.error
        assert self.posted_ns, f"no response: timed out {self.timed_out}, exit code {self.exit_code}"
        return json.loads(self.body)

    @property
    def milliseconds(self) -> float:
        """From handing the event over to the response."""
        return (self.posted_ns - self.sent_ns) / 1e6

    @property
    def billed_milliseconds(self) -> float:
        """From handing the event over to the request for the next one."""
        return (self.next_ns - self.sent_ns) / 1e6


@dataclass
class Call:
    """An event on its way to the function."""

    answer: Answer
    timeout: float
    headers: dict[str, str]
    body: bytes
    done: threading.Event = field(default_factory=threading.Event)


def make_call(event: bytes, *, timeout: float, trace: str | None, arn: str, **contexts: Any) -> Call:
    """`contexts`: client (JSON), cognito (JSON), tenant, request_id; None leaves the header out."""
    request_id = contexts.get("request_id") or str(uuid.uuid4())
    headers = {
        "Lambda-Runtime-Aws-Request-Id": request_id,
        "Lambda-Runtime-Invoked-Function-Arn": arn,
        "Lambda-Runtime-Trace-Id": trace,
        "Lambda-Runtime-Client-Context": _json(contexts.get("client")),
        "Lambda-Runtime-Cognito-Identity": _json(contexts.get("cognito")),
        "Lambda-Runtime-Aws-Tenant-Id": contexts.get("tenant"),
        "Content-Type": "application/json",
    }
    present = {name: value for name, value in headers.items() if value is not None}
    return Call(Answer(request_id), timeout, present, event)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


class RuntimeApi:
    """The server of one process: events go in with `begin`, their answers come back in `Call.answer`."""

    def __init__(self) -> None:
        self.first_next_ns = 0
        self.init_error: dict[str, Any] | None = None
        self.restore_wanted_ns = 0
        self.restore_error: dict[str, Any] | None = None
        self.waiting = 0
        """Connections that wait for an event."""
        self._queue: collections.deque[Call] = collections.deque()
        self._calls: dict[str, Call] = {}
        self._last: Call | None = None
        self._restored = False
        self._closed = False
        self.changed = threading.Condition()
        self._server = Server(self._respond)
        self.address = self._server.address

    def begin(self, call: Call) -> None:
        """Hand an event to whoever asks next."""
        with self.changed:
            self._calls[call.answer.request_id] = call
            self._queue.append(call)
            self.changed.notify_all()

    def wait_for_workers(self, number: int) -> None:
        """Wait until so many connections wait for an event, ten seconds at most."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.waiting >= number, 10), self.waiting

    def restore(self) -> None:
        """Answer restore/next: the snapshot is being resumed."""
        with self.changed:
            self._restored = True
            self.changed.notify_all()

    def close(self) -> None:
        """The process is gone."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        self._server.close()

    # --- the routes, in the threads of the connections -------------------------------------------------------------

    def _respond(self, request: Request) -> bytes | None:
        parts = request.path.partition("?")[0].strip("/").split("/")
        if parts[:2] != ["2018-06-01", "runtime"]:
            return answer("404 Not Found")
        if parts[2:] == ["invocation", "next"]:
            return self._next(request)
        if parts[2:3] == ["invocation"] and len(parts) == 5:
            return self._answered(parts[3], parts[4], request)
        return self._lifecycle("/".join(parts[2:]), request)

    def _lifecycle(self, route: str, request: Request) -> bytes | None:
        if route == "restore/next":
            with self.changed:
                self.restore_wanted_ns = request.arrived_ns
                self.changed.notify_all()
                self.changed.wait_for(lambda: self._restored or self._closed)
            return None if self._closed else answer()
        if route in ("init/error", "restore/error"):
            with self.changed:
                setattr(self, route.replace("/", "_"), json.loads(request.body or b"{}"))
                self.changed.notify_all()
            return _ACCEPTED
        return answer("404 Not Found")

    def _next(self, request: Request) -> bytes | None:
        with self.changed:
            if not self.first_next_ns:
                self.first_next_ns = request.arrived_ns
            if self._last is not None and not self._last.answer.next_ns:
                self._last.answer.next_ns = request.arrived_ns
            self.waiting += 1
            self.changed.notify_all()
            try:
                self.changed.wait_for(lambda: self._queue or self._closed)
                if self._closed or _gone(request.connection):
                    return None
                call = self._queue.popleft()
            finally:
                self.waiting -= 1
        call.answer.sent_ns = time.time_ns()
        deadline = call.answer.sent_ns // 1_000_000 + int(call.timeout * 1000)
        return answer("200 OK", call.body, **call.headers, Lambda_Runtime_Deadline_Ms=str(deadline))

    def _answered(self, request_id: str, what: str, request: Request) -> bytes:
        with self.changed:
            call = self._calls.pop(request_id, None)
            if call is None or what not in ("response", "error"):
                return answer("400 Bad Request", b'{"errorType":"InvalidRequestID"}')
            found = call.answer
            found.posted_ns = request.arrived_ns
            found.content_type = request.headers.get("content-type", "")
            found.trailers = request.trailers
            too_large = what == "response" and len(request.body) > LARGEST_RESPONSE
            if too_large:
                found.error = {"errorType": "Function.ResponseSizeTooLarge"}
            elif what == "error":
                found.error = json.loads(request.body or b"{}")
                found.xray_cause = request.headers.get("lambda-runtime-function-xray-error-cause", "")
            else:
                found.body = request.body
            self._streamed_error(found)
            self._last = call
        call.done.set()
        return answer("413 Payload Too Large", b"{}") if too_large else _ACCEPTED

    @staticmethod
    def _streamed_error(found: Answer) -> None:
        # A response that was streamed may fail in the middle: the error follows in the trailers.
        kind = found.trailers.get("lambda-runtime-function-error-type")
        if kind:
            body = found.trailers.get("lambda-runtime-function-error-body", "")
            found.error = {"errorType": kind, **json.loads(base64.b64decode(body) or b"{}")}


def _gone(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)
