"""HTTP/1.1 over a socket, with a hard limit on the time of the whole and the size of the body.

`send` is one exchange: no proxy, no redirect, no connection kept. The rest are its parts, for whoever keeps a
connection. Not http.client: that imports ssl and email, 9 ms of CPU at every start, and limits no answer as a whole.
For background threads: resolving a host name is the one step that nothing can bound. Whoever calls wraps it in
`_otel.exporting.suppressed()`, if anything could trace it.
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

MAX_LINE = 65_536
MAX_HEADERS = 100
NOT_HTTP = "not an HTTP answer"
CUT = "the connection was closed before the answer was complete"


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
    with whole:  # a fork in the middle of this import would leave the child without it
        from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an HTTP address: {url[:80]!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"Host": authority(parts.scheme, parts.hostname, port), **(headers or {}), "Connection": "close"}
    request = head_bytes(method, target, sent, len(body)) + body
    wire = connect(parts.hostname, port, deadline, resolve)
    try:
        if parts.scheme == "https":
            wire = secure(wire, parts.hostname, deadline, cafile)
        timed = Timed(wire, deadline)
        timed.sendall(request)
        reader: io.BufferedReader = io.BufferedReader(timed)
        head = read_head(reader)
        found, complete = read_body(reader, head, max_bytes)
        if not complete:
            raise ValueError(f"more than {max_bytes} bytes")
        return Answer(head.status, head.headers, found)
    finally:
        wire.close()


class Head(NamedTuple):
    """The head of an answer. headers: by their lower-case names. kept: whether the connection may be used again."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    kept: bool


def head_bytes(method: str, target: str, headers: Mapping[str, str], length: int) -> bytes:
    """The head of a request with a body of `length` bytes. Raises ValueError for what HTTP cannot carry."""
    all_headers = {**headers, "Accept-Encoding": "identity"}
    if length or method not in ("GET", "HEAD", "CONNECT"):
        all_headers["Content-Length"] = str(length)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    if " " in target or any(ord(c) < 32 and c != "\t" for line in lines for c in line):
        raise ValueError("a path or header that HTTP cannot carry")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_head(reader: io.BufferedReader) -> Head:
    """The head of the next answer; interim ones are skipped. Raises OSError, or ValueError if it is no HTTP."""
    for _ in range(MAX_HEADERS):
        start = reader.read(5)  # whoever speaks another protocol may never send a whole line
        if not start:
            raise ConnectionError(CUT)
        if start != b"HTTP/":
            raise ValueError(NOT_HTTP)
        version, _, rest = _line(reader).partition(" ")
        code, _, phrase = rest.strip().partition(" ")
        if not version.startswith("1.") or len(code) != 3 or not code.isdecimal():
            raise ValueError(NOT_HTTP)
        headers = _headers(reader)
        status = int(code)
        if status >= 200:
            return Head(status, phrase.strip(), headers, _kept(status, version, headers))
    raise ValueError(NOT_HTTP)


def _kept(status: int, version: str, headers: Mapping[str, str]) -> bool:
    wish = headers.get("connection", "").lower()
    if "close" in wish or (version == "1.0" and "keep-alive" not in wish):
        return False
    return status in (204, 304) or "content-length" in headers or "transfer-encoding" in headers


def _line(reader: io.BufferedReader) -> str:
    line = reader.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise ValueError(NOT_HTTP)
    if not line.endswith(b"\n"):
        raise ConnectionError(CUT)
    return line.decode("latin-1").rstrip("\r\n")


def _headers(reader: io.BufferedReader) -> dict[str, str]:
    found: dict[str, str] = {}
    for _ in range(MAX_HEADERS + 1):
        line = _line(reader)
        if not line:
            return found
        name, colon, value = line.partition(":")
        if colon and name and not name[0].isspace():  # what continues a line is obsolete, and of no use here
            found[name.strip().lower()] = value.strip()
    raise ValueError(NOT_HTTP)


def read_body(reader: io.BufferedReader, head: Head, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the body, and whether that is all. Raises OSError if it breaks off, ValueError."""
    if head.status in (204, 304):
        return b"", True
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        return _chunks(reader, limit)
    length = head.headers.get("content-length")
    if length is None:
        body = reader.read(limit + 1)
        return body[:limit], len(body) <= limit
    if not length.isdecimal():
        raise ValueError(NOT_HTTP)
    wanted = min(int(length[:20]), limit)
    body = reader.read(wanted)
    if len(body) < wanted:
        raise ConnectionError(CUT)
    return body, int(length[:20]) <= limit


def _chunks(reader: io.BufferedReader, limit: int) -> tuple[bytes, bool]:
    body = b""
    while True:
        digits = _line(reader).partition(";")[0].strip()
        if not 0 < len(digits) <= 16 or digits.strip("0123456789abcdefABCDEF"):
            raise ValueError(NOT_HTTP)
        length = int(digits, 16)
        if not length:
            _headers(reader)
            return body, True
        wanted = min(length, limit - len(body))
        part = reader.read(wanted)
        body += part
        if len(part) < wanted:
            raise ConnectionError(CUT)
        if wanted < length:
            return body, False
        _line(reader)


def authority(scheme: str, host: str, port: int) -> str:
    """The Host header as a signature covers it: without the port that the scheme implies."""
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


def is_loopback(host: str) -> bool:
    """Whether `host`, as a URL names it, is this machine and nothing else: then what is sent meets no network."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if not host[:1].isdigit() and ":" not in host:
        return False
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def connect(host: str, port: int, deadline: float, resolve: bool = True) -> socket.socket:
    """A TCP connection to the first address that takes one, by `deadline` of time.monotonic(). Raises OSError."""
    if not resolve and host == "localhost":
        host = "127.0.0.1"
    flags = 0 if resolve else socket.AI_NUMERICHOST
    targets = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    problem = OSError("no address")
    for tried, (family, kind, protocol, _, target) in enumerate(targets):
        plain = socket.socket(family, kind, protocol)
        try:
            # An address that swallows packets takes its share of the time, not all of it.
            plain.settimeout(left(deadline) / (len(targets) - tried))
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


def secure(
    plain: socket.socket, host: str, deadline: float, cafile: str = "", certfile: str = "", keyfile: str = ""
) -> socket.socket:
    """TLS over `plain`, by `deadline`. Raises OSError, ssl.SSLCertVerificationError among them."""
    with whole:
        context = trust(cafile, certfile, keyfile)
    plain.settimeout(left(deadline))
    return context.wrap_socket(plain, server_hostname=host)


@lru_cache(maxsize=4)
def trust(cafile: str, certfile: str = "", keyfile: str = "") -> ssl.SSLContext:
    """Whom we trust, and who we are. Reading the system's certificates takes 16 ms: once for all connections."""
    import ssl

    context = ssl.create_default_context(cafile=cafile or None)
    if certfile:
        # A key behind a passphrase would be asked for at the terminal.
        context.load_cert_chain(certfile, keyfile or None, password=_no_passphrase)
    return context


def _no_passphrase() -> str:
    raise ValueError("the key needs a passphrase, which cannot be given")


def left(deadline: float) -> float:
    """The seconds until `deadline` of time.monotonic(). Raises TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no time left")
    return seconds


class Timed(io.RawIOBase):
    """A socket to write to, and to read from through a BufferedReader, until `deadline`.

    A socket's own timeout starts anew with every recv, so a server that drips bytes would never meet it: here every
    operation gets only what is left of the whole.
    """

    def __init__(self, inner: socket.socket, deadline: float) -> None:
        self._inner = inner
        self.deadline = deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # TLS has no limit on the whole of its own sendall
            self._inner.settimeout(left(self.deadline))
            rest = rest[self._inner.send(rest) :]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._inner.settimeout(left(self.deadline))
        return self._inner.recv_into(buffer)  # type: ignore[arg-type]

    def close(self) -> None:
        # A reader closes what it reads from when it is dropped; whoever connected closes at the end.
        pass
