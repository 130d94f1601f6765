"""How much waits in a UDP socket of this machine: Linux drops what no longer fits, and tells neither side."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TABLES = ("/proc/net/udp", "/proc/net/udp6")
_MAX_TABLE = 200_000  # more than a thousand sockets: reading them would cost more than it tells


def queued(port: int, tables: Sequence[str] = _TABLES) -> int | None:
    """Bytes of memory that datagrams take which wait in the sockets bound to `port`; None if that cannot be known.

    Source: proc(5), /proc/net/udp. It shows the sockets of this network namespace, so those of a sidecar too.
    """
    most = None
    mark = b":%04X" % port
    for table in tables:
        try:
            with open(table, "rb") as file:
                lines = file.read(_MAX_TABLE)
        except OSError:
            continue
        if len(lines) >= _MAX_TABLE:
            return None
        start = lines.find(mark + b" ")
        while start >= 0:
            waiting = _waiting(lines, start, mark)
            if waiting is not None:
                most = max(most or 0, waiting)
            start = lines.find(mark + b" ", start + 1)
    return most


def _waiting(lines: bytes, start: int, mark: bytes) -> int | None:
    """The receive queue in the line at `start`, if `mark` is its local address and it has no fixed peer."""
    head, end = lines.rfind(b"\n", 0, start) + 1, lines.find(b"\n", start)
    fields = lines[head : end if end >= 0 else None].split()
    if len(fields) < 5 or not fields[1].endswith(mark) or not fields[2].endswith(b":0000"):
        return None
    try:
        return int(fields[4].rpartition(b":")[2], 16)
    except ValueError:
        return None
