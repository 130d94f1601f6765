"""One HTTP exchange: what it sends, what it refuses to take, and that its limits hold for the whole."""

from __future__ import annotations

import contextlib
import io
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwell import exchange
from support import metadata_server as servers


def saying(answer, asked=None):
    """A connection handler that reads a whole request, then sends these bytes."""

    def behave(connection, stop):
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        if asked is not None:
            asked.append((head.decode(), body))
        connection.sendall(answer)

    return behave


def send(url, **options):
    return exchange.send("POST", url, b'{"a": 1}', **{"seconds": 5, "max_bytes": 1000, **options})


def test_the_answer_comes_back_whole_and_nothing_is_kept():
    asked = []
    reply = b"HTTP/1.1 418 No\r\nX-Amzn-ErrorType: Tea\r\nContent-Length: 4\r\n\r\nbody"
    with servers.raw(saying(reply, asked)) as url:
        answer = send(f"{url}/x/y?q=1", headers={"Content-Type": "application/json"})
    assert answer == (418, {"x-amzn-errortype": "Tea", "content-length": "4"}, b"body")
    head, body = asked[0]
    lines = head.split("\r\n")
    assert lines[0] == "POST /x/y?q=1 HTTP/1.1"
    assert {"Content-Type: application/json", "Content-Length: 8", "Connection: close"} <= set(lines)
    assert f"Host: {url[7:]}" in lines
    assert body == b'{"a": 1}'


def test_a_large_body_arrives():
    asked = []
    with servers.raw(saying(b"HTTP/1.1 204 No Content\r\n\r\n", asked)) as url:
        answer = exchange.send("POST", url, b"x" * 3_000_000, seconds=20, max_bytes=10)
    assert answer.status == 204
    assert len(asked[0][1]) == 3_000_000


def test_chunks_are_read_to_the_end():
    with servers.raw(
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    ) as url:
        assert send(url).body == b"abcde"


@pytest.mark.parametrize("behave", [servers.hang, servers.drip, servers.drip_body])
def test_the_limit_is_on_the_whole(behave):
    with servers.raw(behave) as url, pytest.raises(TimeoutError):
        send(url, seconds=0.15, max_bytes=1 << 20)


def test_a_server_that_reads_nothing_is_left():
    def deaf(connection, stop):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stop.wait(30)

    with servers.raw(deaf) as url, pytest.raises(TimeoutError):
        exchange.send("POST", url, b"x" * 20_000_000, seconds=0.15, max_bytes=10)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf", ConnectionError, "before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", ConnectionError, "before the answer"),
        (b"", ConnectionError, "before the answer was complete"),
        (b"\x00\x16SSH-2.0-OpenSSH\r\n\r\n", ValueError, "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", ValueError, "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, ValueError, "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, ValueError, "more than 1000 bytes"),
    ],
    ids=["short", "short chunk", "nothing", "noise", "many headers", "too long", "too long without length"],
)
def test_a_useless_answer_is_an_error(answer, error, said):
    with servers.raw(saying(answer)) as url, pytest.raises(error, match=said):
        send(url)


def test_a_body_of_exactly_the_limit_is_taken():
    with servers.raw(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)) as url:
        assert len(send(url).body) == 1000


def test_a_port_without_a_server_is_refused():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        send(f"http://127.0.0.1:{port}")


def test_a_name_is_resolved_and_its_addresses_are_tried_in_turn(monkeypatch):
    original = socket.getaddrinfo
    with (
        servers.raw(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as url,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as closed,
    ):
        dead = closed.getsockname()
        closed.close()

        def two(host, port, **options):
            found = original("127.0.0.1" if host == "xray.test" else host, port, **options)
            return [(*found[0][:4], dead), *found]

        monkeypatch.setattr(socket, "getaddrinfo", two)
        assert send(url.replace("127.0.0.1", "xray.test")).body == b"ok"


@pytest.mark.parametrize("url", ["", "/x", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:x/", "http://[::1/"])
def test_a_bad_address_is_a_value_error(url):
    with pytest.raises(ValueError):
        send(url)


def test_a_header_with_a_line_break_is_a_value_error():
    with servers.raw(servers.hang) as url, pytest.raises(ValueError):
        send(url, headers={"X-A": "b\r\nX-C: d"})


def test_the_host_is_named_as_signatures_cover_it():
    assert exchange.authority("https", "xray.eu-west-1.amazonaws.com", 443) == "xray.eu-west-1.amazonaws.com"
    assert exchange.authority("http", "127.0.0.1", 2000) == "127.0.0.1:2000"
    assert exchange.authority("http", "::1", 80) == "[::1]"


# --- the parts of an answer -------------------------------------------------------------------------------------


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(answer, limit=100):
    """(status, headers, kept, body, whole)"""
    reader = io.BufferedReader(io.BytesIO(answer))
    head = exchange.read_head(reader)
    body, whole = exchange.read_body(reader, head, limit)
    return head.status, dict(head.headers), head.kept, body, whole


@pytest.mark.parametrize(
    ("answer", "status", "kept", "body", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, True, b"ok", True),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, True, b"ok", True),
        (b"HTTP/1.1 200\r\nCONTENT-LENGTH:2 \r\n\r\nok", 200, True, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", 200, False, b"ok", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, False, b"ok", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, True, b"ok", True),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, False, b"until the end", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True, b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\n\r\n",
            404,
            False,
            b"",
            True,
        ),
        (
            CHUNKED + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
            200,
            True,
            b"abc0123456789",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, 200, True, b"x" * 100, False),
        (
            CHUNKED + b"ffffffff\r\n" + b"x" * 500,
            200,
            True,
            b"x" * 100,
            False,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500, 200, False, b"x" * 100, False),
    ],
)
def test_an_answer_is_read(answer, status, kept, body, whole):
    found = read(answer)
    assert (found[0], *found[2:]) == (status, kept, body, whole)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 " + b"2" * 70_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
    ],
)
def test_what_is_no_http_is_a_value_error(answer):
    with pytest.raises(ValueError, match="not an HTTP answer"):
        read(answer)


@given(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    ),
)
def test_no_bytes_are_too_odd(rest, start):
    try:
        _, _, _, body, _ = read(start + rest)
    except (OSError, ValueError):
        return
    assert len(body) <= 100
