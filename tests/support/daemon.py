"""An X-Ray daemon as far as exporters see it: a UDP socket on loopback that keeps what arrives."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

HEADER = b'{"format":"json","version":1}\n'
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS of Linux, which Python does not name
_TIMESPEC = struct.Struct("qq")


class Daemon:
    """What has arrived so far, in its order: (the kernel's wall clock in ns, datagram)."""

    def __init__(self, port: int = 0) -> None:
        self.arrived: list[tuple[int, bytes]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                datagram, extra, _, _ = self._socket.recvmsg(70_000, 64)
                self.arrived.append((_kernel_time(extra), datagram))

    @property
    def datagrams(self) -> list[bytes]:
        """What has arrived, without the times."""
        return [datagram for _, datagram in list(self.arrived)]

    def bodies(self, number: int) -> list[bytes]:
        """What follows the header of each datagram, once there are `number` of them; fails after 10 s."""
        for _ in range(1000):
            if len(self.datagrams) >= number:
                break
            time.sleep(0.01)
        assert len(self.datagrams) == number, len(self.datagrams)
        assert all(each.startswith(HEADER) for each in self.datagrams)
        return [each[len(HEADER) :] for each in self.datagrams]

    def close(self) -> None:
        self._closed.set()
        self._thread.join(5)
        self._socket.close()


def _kernel_time(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
            return int(seconds * 10**9 + nanoseconds)
    return time.time_ns()


@contextlib.contextmanager
def daemon(port: int = 0) -> Iterator[Daemon]:
    """A daemon on `port`, or any that is free, until the block ends."""
    running = Daemon(port)
    try:
        yield running
    finally:
        running.close()
