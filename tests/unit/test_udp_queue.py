"""What waits in the UDP sockets of this machine, out of the tables of Linux."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from spanwell.export.udp_queue import queued

HEAD = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref drops\n"


def line(local: str, remote: str, waiting: int) -> str:
    return f"  419: {local} {remote} 07 00000000:{waiting:08X} 00:00000000 00000000     0        0 1 2 0 0\n"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], None),
        ([line("0100007F:07D0", "00000000:0000", 0)], 0),
        ([line("0100007F:07D0", "00000000:0000", 4608)], 4608),
        ([line("00000000:07D0", "00000000:0000", 1), line("0100007F:07D0", "00000000:0000", 2)], 2),
        ([line("0100007F:C350", "0100007F:07D0", 9)], None),  # a socket that sends to it
        ([line("0100007F:07D0", "0100007F:C350", 9)], None),  # one that happens to send from this port
        ([line("0100007F:07D1", "00000000:0000", 9)], None),
        ([line("0" * 24 + "01000000:07D0", "0" * 32 + ":0000", 7)], 7),
        (["  1: 0100007F:07D0 00000000:0000 07 odd\n"], None),
        (["  1: 0100007F:07D0 "], None),
        (["x" * 200_000], None),
    ],
)
def test_tables(lines: list[str], found: int | None, tmp_path: Path) -> None:
    table = tmp_path / "udp"
    table.write_text(HEAD + "".join(lines))
    assert queued(2000, [str(tmp_path / "missing"), str(table)]) == found


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has these tables")
def test_a_real_socket() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        assert queued(port) == 0
        sender.sendto(b"x" * 1000, ("127.0.0.1", port))
        waiting = queued(port)
        assert waiting is not None
        assert waiting >= 1000
        receiver.recv(2000)
        assert queued(port) == 0
