"""One kept-alive HTTP connection to an OTLP endpoint: proxies, TLS, and a hard limit on the time of every request.

It knows nothing of spans. Nothing is imported for it before the first request, `ssl` only for https.
"""

from __future__ import annotations

import time
from io import BufferedReader
from typing import NamedTuple

from spanwell import exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read: it tells of rejected spans, or of what is wrong."""

IDLE = 240.0
"""Seconds after which a connection is not used again: balancers and NAT forget it at 350, some silently."""


class Reply(NamedTuple):
    """What a server answered: the status and its phrase, the headers by lower-case name, the body, maybe cut."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    body: bytes


class Trust(NamedTuple):
    """Files in PEM: `cafile` trusts its certificates alone; `certfile` and `keyfile` say who we are."""

    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""


NO_FILES = Trust()


class _Line(NamedTuple):
    """One connection: the socket, with its TLS, and how it is used."""

    wire: socket.socket
    timed: exchange.Timed


class ProxyError(OSError):
    """The proxy did not let us through, or is none that we can use."""


_PLAIN = "/?%:@!$&'()*+,;=~[]"
"""What a path and its query may hold beside letters, digits and ``_.-``; what is percent-encoded stays so."""


class Channel:
    """Posts to `url` over one connection, for one thread at a time.

    proxy: an http:// URL with user and password if there are any, or "" (see `proxy_for`). https goes through it by
    CONNECT. Nothing is connected before the first `post`, and a child after a fork calls `abandon`.
    """

    def __init__(self, url: str, *, trust: Trust = NO_FILES, proxy: str = "") -> None:
        from urllib.parse import quote, urlsplit

        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._authority = exchange.authority(parts.scheme, self._host, self._port)
        self._path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PLAIN)
        self.trust = trust
        self._proxy = proxy
        self._fixed = {"Host": self._authority}
        if proxy and not self._secure:
            self._path = f"http://{self._authority}{self._path}"
            self._fixed |= _proxy_credentials(proxy)
        self._line: _Line | None = None
        self._used = 0.0

    def post(self, body: bytes, headers: Mapping[str, str], deadline: float) -> Reply:
        """The answer to one request, whatever its status, by `deadline` of time.monotonic().

        A connection that the server closed since the last request is replaced by a new one, once. Raises OSError
        (refused, too late, cut short, not trusted, ProxyError) or ValueError (a header that HTTP cannot carry, no
        HTTP). Once there is a status, an answer that breaks off is none the less one.
        """
        line, reused = self._connected(deadline)
        try:
            try:
                return self._exchange(line, body, headers, deadline)
            except OSError as error:
                if not reused or isinstance(error, TimeoutError):
                    raise
            self.close()
            line, _ = self._connected(deadline)
            return self._exchange(line, body, headers, deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one; the next `post` makes another."""
        line, self._line = self._line, None
        if line is not None:
            try:
                line.wire.close()
            except OSError:
                pass

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connection without a word to the server."""
        line, self._line = self._line, None
        if line is not None:
            _inherited.append(line)  # to finalise it could end the parent's TLS session

    # --- one request ----------------------------------------------------------------------------------------------

    def _exchange(self, line: _Line, body: bytes, headers: Mapping[str, str], deadline: float) -> Reply:
        line.timed.deadline = deadline
        request = exchange.head_bytes("POST", self._path, {**self._fixed, **headers}, len(body)) + body
        try:
            line.timed.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who finds a request too large may say so before it has come, and hang up
        # One for each answer: what a server says beyond it is not the next one's beginning.
        reader: BufferedReader = BufferedReader(line.timed)
        head = exchange.read_head(reader)
        try:
            found, whole = exchange.read_body(reader, head, MAX_ANSWER)
        except (OSError, ValueError):
            # The status stands. To send again what was taken would double it.
            found, whole = b"", False
        self._used = time.monotonic()
        if not whole or not head.kept:
            self.close()
        return Reply(head.status, head.phrase, head.headers, found)

    # --- the connection -------------------------------------------------------------------------------------------

    def _connected(self, deadline: float) -> tuple[_Line, bool]:
        """A connection, and whether it is one from before."""
        line = self._line
        if line is not None:
            if time.monotonic() - self._used < IDLE and _silent(line.wire):
                return line, True
            self.close()
        wire = self._dial(deadline)
        self._line = line = _Line(wire, exchange.Timed(wire, deadline))
        return line, False

    def _dial(self, deadline: float) -> socket.socket:
        if not self._proxy:
            wire = exchange.connect(self._host, self._port, deadline)
        else:
            wire = self._through_proxy(deadline)
        if not self._secure:
            return wire
        try:
            return exchange.secure(wire, self._host, deadline, *self.trust)
        except BaseException:
            wire.close()
            raise

    def _through_proxy(self, deadline: float) -> socket.socket:
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(self._proxy)
            host, port = parts.hostname or "", parts.port or 80
        except ValueError:
            host = ""
        if not host or parts.scheme != "http":
            raise ProxyError(f"the proxy {_shown(self._proxy)!r} is no URL such as http://proxy:3128")
        try:
            wire = exchange.connect(host, port, deadline)
        except OSError as error:
            said = error.strerror or str(error) or type(error).__name__
            raise ProxyError(f"the proxy {_shown(self._proxy)} cannot be reached: {said}") from error
        if not self._secure:
            return wire
        try:
            self._tunnel(exchange.Timed(wire, deadline))
        except BaseException:
            wire.close()
            raise
        return wire

    def _tunnel(self, timed: exchange.Timed) -> None:
        name = f"[{self._host}]" if ":" in self._host else self._host
        target = f"{name}:{self._port}"
        headers = {"Host": target, **_proxy_credentials(self._proxy)}
        timed.sendall(exchange.head_bytes("CONNECT", target, headers, 0))
        try:
            # Nothing follows the head: in TLS it is the client that speaks first.
            head = exchange.read_head(BufferedReader(timed))
        except (ValueError, ConnectionError) as error:
            raise ProxyError(f"the proxy {_shown(self._proxy)} does not answer in HTTP") from error
        if head.status != 200:
            said = f"{head.status} {head.phrase}".strip()
            raise ProxyError(f"the proxy {_shown(self._proxy)} answers {said}")


def _silent(wire: socket.socket) -> bool:
    """Whether a connection that waits for nothing has nothing to read: neither an end nor what nobody asked for."""
    try:
        wire.settimeout(0)
        wire.recv(1)
    except BlockingIOError:
        return True
    except OSError as error:
        return type(error).__name__ == "SSLWantReadError"  # without importing ssl
    return False


def proxy_for(url: str, environ: Mapping[str, str]) -> str:
    """The proxy that `environ` names for `url`, or "": HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in either case.

    Never for this machine itself, which a proxy could not reach.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if exchange.is_loopback(host) or _bypassed(host, parts.port, _named("no_proxy", environ)):
        return ""
    # HTTP_PROXY is what a CGI server makes of the header `Proxy` that any client can send.
    upper = parts.scheme == "https" or "REQUEST_METHOD" not in environ
    found = _named(f"{parts.scheme}_proxy", environ, upper=upper) or _named("all_proxy", environ)
    return found if "://" in found or not found else f"http://{found}"


def _named(name: str, environ: Mapping[str, str], *, upper: bool = True) -> str:
    return (environ.get(name) or (environ.get(name.upper()) if upper else "") or "").strip()


def _bypassed(host: str, port: int | None, listed: str) -> bool:
    for each in listed.lower().replace(",", " ").split():
        name, colon, wanted = each.rpartition(":")
        with_port = colon and wanted.isdigit() and (name.startswith("[") or ":" not in name)
        if with_port and str(port) != wanted:
            continue
        name = (name if with_port else each).strip("[]").removeprefix("*").removeprefix(".")
        if not name or host == name or host.endswith(f".{name}") or _in_network(host, name):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    if "/" not in network:
        return False
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _proxy_credentials(proxy: str) -> dict[str, str]:
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(both.encode()).decode()}"}


def _shown(proxy: str) -> str:
    from spanwell._otel.exporting import without_credentials

    return without_credentials(proxy).rstrip("/")


_inherited: list[_Line] = []
