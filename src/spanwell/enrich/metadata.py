"""GET a small document from a metadata service: no proxy, no DNS, no redirect, a hard limit on time, size."""

from __future__ import annotations

import io
import json
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # (method, url, headers, seconds in all, CA file for https or "") -> body; OSError or ValueError if none.
    Fetch = Callable[[str, str, Mapping[str, str], float, str], bytes]

MAX_BYTES = 256 * 1024


def fetch(
    method: str,
    url: str,
    headers: Mapping[str, str],
    seconds: float,
    cafile: str = "",
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """The body of a 200 answer to a bodiless request, within `seconds` for everything together.

    The host is an IP address or `localhost`: resolving a name could outlast any limit. Raises OSError
    (refused, too late, another status than 200) or ValueError (a bad URL, no HTTP, more than `max_bytes`).
    """
    deadline = time.monotonic() + seconds
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an HTTP address: {url[:80]!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    wire = _connect(parts.hostname, port, deadline)
    try:
        if parts.scheme == "https":
            wire = _secure(wire, parts.hostname, cafile, deadline)
        connection = HTTPConnection(parts.hostname, port)
        connection.sock = _Timed(wire, deadline)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, headers={**headers, "Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"status {response.status}")
        body = response.read(max_bytes + 1)
    except HTTPException as error:
        raise ValueError(f"not an HTTP answer: {type(error).__name__}") from error
    finally:
        wire.close()
    if len(body) > max_bytes:
        raise ValueError(f"more than {max_bytes} bytes")
    return body


class Budget:
    """Requests that share one time limit; a failure is kept as a sentence in `problems`, never raised."""

    def __init__(self, seconds: float, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._deadline = clock() + seconds
        self._fetch = fetch
        self._clock = clock
        self.problems: list[str] = []

    def text(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, cafile: str = ""
    ) -> str:
        """The body as text, or "" when it could not be had in the time that is left."""
        left = self._deadline - self._clock()
        if left <= 0:
            self.problems.append(f"{url}: no time left")
            return ""
        try:
            return self._fetch(method, url, headers or {}, left, cafile).decode("utf-8")
        except (OSError, ValueError) as error:
            self.problems.append(f"{url}: {type(error).__name__}: {error}")
            return ""

    def document(self, url: str, *, headers: Mapping[str, str] | None = None, cafile: str = "") -> dict[str, object]:
        """The body as a JSON object, or {} when there is none."""
        body = self.text(url, headers=headers, cafile=cafile)
        if not body:
            return {}
        found = json_object(body)
        if not found:
            self.problems.append(f"{url}: no JSON object")
        return found


def json_object(text: str) -> dict[str, object]:
    """`text` as a JSON object; {} for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    family, kind, protocol, _, target = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    plain = socket.socket(family, kind, protocol)
    try:
        plain.settimeout(_left(deadline))
        plain.connect(target)
    except BaseException:
        plain.close()
        raise
    return plain


def _secure(plain: socket.socket, host: str, cafile: str, deadline: float) -> socket.socket:
    import ssl

    plain.settimeout(_left(deadline))
    return ssl.create_default_context(cafile=cafile or None).wrap_socket(plain, server_hostname=host)


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
        self._inner.settimeout(_left(self._deadline))
        self._inner.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._inner.settimeout(_left(self._deadline))
        return self._inner.recv_into(buffer)  # type: ignore[arg-type]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        # http.client closes its socket while the response still reads from it; `fetch` closes at the end.
        pass
