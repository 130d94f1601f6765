"""One HTTP exchange over the standard library, with a hard limit on the time of the whole and the size of the body.

No proxy, no redirect, no connection kept. For background threads: resolving a host name is the one step that nothing
can bound. Whoever calls wraps it in `_otel.exporting.suppressed()`, if anything could trace it.
"""

from __future__ import annotations

import io
import socket
import time
from functools import lru_cache
from typing import NamedTuple

from spanwell._forks import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from http.client import HTTPConnection


class Answer(NamedTuple):
    """What a server answered: the status, the headers by their lower-case names, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send(
    method: str,
    url: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float,
    max_bytes: int,
    cafile: str = "",
    resolve: bool = True,
) -> Answer:
    """The answer to one request, whatever its status, within `seconds` for everything but the resolving of a name.

    https trusts what `ssl` trusts by default (SSL_CERT_FILE, SSL_CERT_DIR, the system's), or `cafile` alone. Without
    `resolve` the host must be an IP address or `localhost`. Raises OSError (refused, too late, cut short) or
    ValueError (a bad URL or header, no HTTP, a body of more than `max_bytes`).
    """
    deadline = time.monotonic() + seconds
    with whole:  # a fork in the middle of these imports would leave the child without them
        from http.client import HTTPConnection, HTTPException, IncompleteRead, RemoteDisconnected
        from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an HTTP address: {url[:80]!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    wire = _connect(parts.hostname, port, deadline, resolve)
    try:
        if parts.scheme == "https":
            wire = _secure(wire, parts.hostname, cafile, deadline)
        connection = HTTPConnection(parts.hostname, port)
        connection.sock = _Timed(wire, deadline)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": authority(parts.scheme, parts.hostname, port), **(headers or {}), "Connection": "close"}
        connection.request(method, path, body or None, sent)
        return _answer(connection, max_bytes)
    except (RemoteDisconnected, IncompleteRead):
        raise ConnectionError("the connection was closed before the answer was complete") from None
    except HTTPException as error:
        raise ValueError(f"not an HTTP answer: {type(error).__name__}") from error
    finally:
        wire.close()


def authority(scheme: str, host: str, port: int) -> str:
    """The Host header as a signature covers it: without the port that the scheme implies."""
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


def _answer(connection: HTTPConnection, max_bytes: int) -> Answer:
    response = connection.getresponse()
    body = response.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise ValueError(f"more than {max_bytes} bytes")
    if response.length:  # of Content-Length; read(n) itself does not mind that there was less
        raise ConnectionError("the connection was closed before the answer was complete")
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def _connect(host: str, port: int, deadline: float, resolve: bool) -> socket.socket:
    if not resolve and host == "localhost":
        host = "127.0.0.1"
    flags = 0 if resolve else socket.AI_NUMERICHOST
    targets = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    problem = OSError("no address")
    for tried, (family, kind, protocol, _, target) in enumerate(targets):
        plain = socket.socket(family, kind, protocol)
        try:
            # An address that swallows packets takes its share of the time, not all of it.
            plain.settimeout(_left(deadline) / (len(targets) - tried))
            plain.connect(target)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two writes
            return plain
        except OSError as error:
            plain.close()
            problem = error
        except BaseException:
            plain.close()
            raise
    raise problem


def _secure(plain: socket.socket, host: str, cafile: str, deadline: float) -> socket.socket:
    with whole:
        context = _trust(cafile)
    plain.settimeout(_left(deadline))
    return context.wrap_socket(plain, server_hostname=host)


@lru_cache(maxsize=4)
def _trust(cafile: str) -> ssl.SSLContext:
    """Reading the system's certificates takes 16 ms: once for all polls."""
    import ssl

    return ssl.create_default_context(cafile=cafile or None)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    return left


class _Timed(io.RawIOBase):
    """The socket as http.client uses it. A socket's own timeout starts anew with every recv, so a server that
    drips bytes would never meet it: here every operation gets only what is left of the whole."""

    def __init__(self, inner: socket.socket, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:  # TLS has no limit on the whole of its own sendall
            self._inner.settimeout(_left(self._deadline))
            left = left[self._inner.send(left) :]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._inner.settimeout(_left(self._deadline))
        return self._inner.recv_into(buffer)  # type: ignore[arg-type]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        # http.client closes its socket while the response still reads from it; `send` closes at the end.
        pass
