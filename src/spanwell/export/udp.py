"""Datagrams to an X-Ray daemon or agent: what can be known of their fate is noticed, tried again and counted.

The operating system tells of a datagram that is too long for it, of a full buffer, of a missing route and, usually,
that nobody listens at the port; Linux also shows how much waits for a daemon on this machine. Nobody tells of a
datagram that a router drops or a daemon elsewhere has no room for, nor whether the daemon can deliver it to AWS.
"""

from __future__ import annotations

import errno
import random
import socket
import threading
import time
from typing import NamedTuple

from spanwell._children import in_child
from spanwell._guard import logger, warn_once
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.export.udp_queue import queued

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

HEADER = b'{"format":"json","version":1}\n'
DEFAULT_ADDRESS = "127.0.0.1:2000"
MAX_DATAGRAM = 65_507
"""Bytes that fit into one datagram over IPv4."""

_SMALLEST = 8_192  # macOS sends 9,216 by default
_BURST = 64
_BURST_BYTES = 32_768
_PAUSE = 0.001
_ROOM = 40_000  # bytes taken of a buffer; with a burst they are less than Linux's default of 212,992
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
_LAST_WAIT = 0.3
_FULL = frozenset((errno.ENOBUFS, errno.EAGAIN, errno.EWOULDBLOCK))


class Datagram(NamedTuple):
    """`spans`: how many end in it. `make` gives the bytes, of at most as many as it is asked for, or None if that
    cannot be."""

    spans: int
    make: Callable[[int], bytes | None]


def parse_address(raw: str) -> tuple[str, int]:
    """(host, port) of the daemon's UDP port: ``host:port``, ``udp:host:port``, or, as the X-Ray SDKs take it,
    ``udp:host:port tcp:host:port`` in any order. Raises ValueError."""
    for part in raw.split():
        kind, _, rest = part.partition(":")
        if kind == "tcp":
            continue
        host, _, port = (rest if kind == "udp" else part).rpartition(":")
        if host and port.isdecimal() and 0 < int(port) < 65_536:
            return host.strip("[]"), int(port)
        break
    raise ValueError(f"{raw[:80]!r} is no address such as {DEFAULT_ADDRESS} or udp:{DEFAULT_ADDRESS} tcp:…")


def usable(address: str) -> str:
    """`address`, the value of AWS_XRAY_DAEMON_ADDRESS, or the default if that is no address, which is said once."""
    try:
        parse_address(address)
    except ValueError as problem:
        warn_once("xray:address", "spanwell: AWS_XRAY_DAEMON_ADDRESS=%s; using %s", problem, DEFAULT_ADDRESS)
        return DEFAULT_ADDRESS
    return address


class UdpExporter(EncodingExporter):
    """What exporters over UDP share. `address`: see `parse_address`; `seconds`: how long a `send` may take in all."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = parse_address(address)
        self._seconds = seconds
        self._clock = clock
        self._largest = MAX_DATAGRAM
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: the socket is the parent's."""
        self._socket: socket.socket | None = None
        self._is_here = False
        self._room = 0  # datagrams until the receiver's buffer is looked at again
        self._ending = threading.Event()
        self._never = threading.Event()

    def last_attempt(self) -> None:
        """The process ends: no more waiting between attempts."""
        self._ending.set()

    def shutdown(self) -> None:
        """Close the socket."""
        self._close()

    # --- sending ------------------------------------------------------------------------------------------------

    def deliver(self, datagrams: Iterable[Datagram]) -> Sent:
        """Send them in their order. While nobody listens or a buffer is full, the one at hand is tried again."""
        waiting = list(datagrams)
        deadline = self._clock() + min(self._seconds, self.time_left)
        lost, reason = 0, ""
        for number, datagram in enumerate(waiting):
            problem, length = None, 0
            if self._room <= 0:
                problem, self._room = self._wait_for_room(number, deadline), _BURST
            if problem is None:
                problem, length = self._try(datagram, deadline)
            if problem is None:
                self._room -= 1 + length * _BURST // _BURST_BYTES
            elif problem.errno == errno.EMSGSIZE:
                lost, reason = lost + datagram.spans, str(problem.strerror)
            else:
                left = sum(each.spans for each in waiting[number:])
                return Sent(lost + left, self._explained(problem), reached=False)
        return Sent(lost, reason)

    def _wait_for_room(self, sent: int, deadline: float) -> OSError | None:
        """Until the receiver's buffer can hold another burst: it drops what is too much, and nobody is told.

        Where its buffer cannot be looked at, `sent` datagrams of this batch are followed by a short pause.
        """
        begun = self._clock()
        while self._is_here:
            full = queued(self.address[1])
            if full is None:
                break
            if full <= _ROOM:
                return None
            limit = min(deadline, begun + _LAST_WAIT) if self._ending.is_set() else deadline
            if self._clock() > limit:
                return OSError(errno.EAGAIN, "whoever listens does not read what it gets: its buffer is full")
            self._never.wait(_PAUSE)
        if sent:
            self._never.wait(_PAUSE)
        return None

    def _try(self, datagram: Datagram, deadline: float) -> tuple[OSError | None, int]:
        """(what is wrong for good or None, bytes sent)"""
        wait = _FIRST_WAIT
        while True:
            try:
                data = datagram.make(self._largest)
            except Exception as error:
                return OSError(errno.EMSGSIZE, f"a span cannot be encoded: {error}"), 0
            if data is None:
                return OSError(errno.EMSGSIZE, f"a span does not fit into a datagram of {self._largest} bytes"), 0
            problem = self._send(data)
            if problem is None:
                return None, len(data)
            if problem.errno == errno.EMSGSIZE and self._largest > _SMALLEST:
                # Some systems take less than IPv4 could carry.
                self._largest = max(_SMALLEST, min(self._largest, len(data)) // 2)
                continue
            if problem.errno == errno.EMSGSIZE:
                return problem, 0
            pause = wait * random.uniform(0.5, 1.0)
            if self._ending.is_set() or self._clock() + pause > deadline:
                return problem, 0
            self._ending.wait(pause)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _send(self, data: bytes) -> OSError | None:
        try:
            wire = self._connected()
            wire.send(data)
            # On this machine the answer that nobody listens is there at once; from another it meets a later datagram.
            code = wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return None
            problem = OSError(
                code, "Connection refused" if code == errno.ECONNREFUSED else errno.errorcode.get(code, "")
            )
        except OSError as error:
            problem = error if error.errno is not None else OSError(errno.EAGAIN, str(error) or "timed out")
        if problem.errno != errno.EMSGSIZE and problem.errno not in _FULL:
            self._close()
        logger.debug("spanwell: %s: %s", self.name, problem)
        return problem

    def _connected(self) -> socket.socket:
        if self._socket is None:
            host, port = self.address
            # As bytes: a text is encoded by a codec that takes a millisecond to import.
            name = host.encode("ascii") if host.isascii() else host
            family, kind, protocol, _, target = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)[0]
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(1.0)
                made.connect(target)  # so that the system tells when nobody listens
            except BaseException:
                made.close()
                raise
            self._socket = made
            self._is_here = made.getpeername()[0] == made.getsockname()[0]
        return self._socket

    def _close(self) -> None:
        wire, self._socket = self._socket, None
        if wire is not None:
            wire.close()

    def _explained(self, problem: OSError) -> str:
        host, port = self.address
        said = problem.strerror or str(problem)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if problem.errno == errno.ECONNREFUSED:
            return (
                f"nobody listens at udp {where}: start the X-Ray daemon, the CloudWatch agent or a collector there, "
                "or set AWS_XRAY_DAEMON_ADDRESS"
            )
        if isinstance(problem, socket.gaierror):
            return f"{host} cannot be resolved ({said}): check AWS_XRAY_DAEMON_ADDRESS"
        return f"udp {where}: {said}"


def by_trace(items: list[Any]) -> list[Any]:
    """`items`, whose first field is their trace: those of a trace together, traces in the order of their first."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(item[0], []).append(item)
    return [item for group in groups.values() for item in group]
