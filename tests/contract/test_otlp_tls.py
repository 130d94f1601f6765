"""The OTLP exporter over TLS and through proxies, against real servers with certificates of a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanwell import _guard, exchange
from spanwell.export.encoding import Sent
from spanwell.export.otlp import OtlpSpanExporter
from spanwell.export.otlp_http import Trust
from support.collector import Collector, Handler, hang, ok
from support.spans import make_span
from support.tls import Authority, https_server, proxy

HOST = "collector.test"


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    exchange.trust.cache_clear()
    _guard.losses.reset()
    yield Authority(tmp_path)
    exchange.trust.cache_clear()


def handler(behaviour: Any = ok) -> tuple[Collector, type[Handler]]:
    made = Collector()
    made.behave(behaviour)
    return made, type("Bound", (Handler,), {"collector": made})


def exporter(url: str, **options: Any) -> OtlpSpanExporter:
    made = OtlpSpanExporter(f"{url}/v1/traces", **{"jitter": lambda: 0.001, "timeout": 10.0, **options})
    made.last_attempt()  # one attempt each
    return made


def send(made: OtlpSpanExporter, number: int = 2) -> Sent:
    return made.send([made.encode(make_span())[0] for _ in range(number)])


def test_over_tls_one_connection_is_kept(authority: Authority) -> None:
    otlp, bound = handler()
    with https_server(bound, authority.issue("127.0.0.1")) as url:
        made = exporter(url, trust=Trust(str(authority.ca)), headers={"authorization": "Bearer x"})
        assert [send(made) for _ in range(3)] == [Sent()] * 3
        made.shutdown()
    assert (otlp.connections, len(otlp.spans())) == (1, 6)


def test_a_tls_connection_that_the_server_closed_meanwhile_is_replaced(authority: Authority) -> None:
    def last(each: Handler) -> None:
        ok(each)
        each.close_connection = True

    otlp, bound = handler(last)
    with https_server(bound, authority.issue("127.0.0.1")) as url:
        made = exporter(url, trust=Trust(str(authority.ca)))
        assert [send(made) for _ in range(3)] == [Sent()] * 3
    assert (otlp.connections, len(otlp.spans())) == (3, 6)


def test_a_server_that_nobody_vouches_for(authority: Authority, tmp_path: Path) -> None:
    otlp, bound = handler()
    with https_server(bound, authority.issue("127.0.0.1")) as url:
        for trust in (Trust(), Trust(str(Authority(tmp_path, "other").ca))):
            sent = send(exporter(url, trust=trust))
            assert (sent.lost, sent.reached) == (2, False)
            assert sent.reason.startswith("its certificate is not trusted (")
            assert sent.reason.endswith("set OTEL_EXPORTER_OTLP_CERTIFICATE to the file of its CA")
    assert not otlp.posts


def test_a_server_with_another_name(authority: Authority) -> None:
    _, bound = handler()
    with https_server(bound, authority.issue("elsewhere.test")) as url:
        sent = send(exporter(url, trust=Trust(str(authority.ca))))
    assert "127.0.0.1" in sent.reason


def test_a_file_that_holds_no_certificate(authority: Authority, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    for trust in (Trust(str(nonsense)), Trust(str(authority.ca), str(nonsense), str(nonsense))):
        _, bound = handler()
        with https_server(bound, authority.issue("127.0.0.1")) as url:
            sent = send(exporter(url, trust=trust))
        assert sent.lost == 2
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE or _CLIENT_KEY are of no use" in sent.reason


def test_a_port_without_tls(authority: Authority) -> None:
    from support.collector import collector

    with collector() as otlp:
        sent = send(exporter(otlp.url.replace("http:", "https:"), trust=Trust(str(authority.ca))))
    assert sent == Sent(2, "it does not speak TLS: use http:// or another port", False)


def test_a_client_certificate(authority: Authority) -> None:
    otlp, bound = handler()
    certificate, key = authority.issue("client")
    with https_server(bound, authority.issue("127.0.0.1"), clients=authority.ca) as url:
        assert send(exporter(url, trust=Trust(str(authority.ca), str(certificate), str(key)))) == Sent()
        assert send(exporter(url, trust=Trust(str(authority.ca)))).lost == 2
    assert len(otlp.spans()) == 2


def test_a_hanging_tls_server_costs_the_timeout(authority: Authority) -> None:
    otlp, bound = handler(hang)
    with https_server(bound, authority.issue("127.0.0.1")) as url:
        assert send(exporter(url, trust=Trust(str(authority.ca)), timeout=0.5)) == Sent(2, "no answer in time", False)
        otlp.released.set()


def test_a_forked_child_leaves_the_parents_tls_session_alone(authority: Authority) -> None:
    otlp, bound = handler()
    with https_server(bound, authority.issue("127.0.0.1")) as url:
        made = exporter(url, trust=Trust(str(authority.ca)))
        assert send(made, 1) == Sent()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if send(made, 1) == Sent() else 2
                made.shutdown()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert send(made, 1) == Sent()
    assert (otlp.connections, len(otlp.spans())) == (2, 3)


# --- proxies ----------------------------------------------------------------------------------------------------


def test_https_goes_through_a_tunnel_with_the_proxys_credentials(authority: Authority) -> None:
    otlp, bound = handler()
    with https_server(bound, authority.issue(HOST)) as url, proxy(url) as between:
        environ = {"HTTPS_PROXY": between.url.replace("://", "://me:p%40ss@")}
        made = exporter(f"https://{HOST}", trust=Trust(str(authority.ca)), environ=environ)
        assert [send(made) for _ in range(2)] == [Sent()] * 2
        made.shutdown()
    assert between.asked == [f"CONNECT {HOST}:443 HTTP/1.1"]
    assert between.credentials == ["Basic bWU6cEBzcw=="]
    assert len(otlp.spans()) == 4
    assert "proxy-authorization" not in otlp.posts[0].headers


def test_http_is_passed_on_by_the_proxy() -> None:
    from support.collector import collector

    with collector() as otlp, proxy(otlp.url) as between:
        otlp.behave(lambda each: each.answer(200))
        made = exporter(f"http://{HOST}:4318", environ={"HTTP_PROXY": between.url.replace("://", "://me:x@")})
        assert send(made) == Sent()
    assert between.asked == [f"POST http://{HOST}:4318/v1/traces HTTP/1.1"]
    assert between.credentials == ["Basic bWU6eA=="]
    assert otlp.posts[0].headers["host"] == f"{HOST}:4318"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answers 407 Proxy Authentication Required"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "answers 403 Forbidden"),
        (b"SSH-2.0\r\n\r\n", "does not answer in HTTP"),
        (b"", "does not answer in HTTP"),
    ],
)
def test_a_proxy_that_refuses(answer: bytes, said: str) -> None:
    with proxy("http://127.0.0.1:1", answer) as between:
        environ = {"HTTPS_PROXY": between.url.replace("://", "://me:secret@")}
        sent = send(exporter(f"https://{HOST}", environ=environ))
    assert sent == Sent(2, f"the proxy {between.url} {said}", False)


def test_a_proxy_that_is_not_there_or_is_none() -> None:
    for url, said in (
        ("http://127.0.0.1:1", "the proxy http://127.0.0.1:1 cannot be reached: Connection refused"),
        ("socks5://127.0.0.1:1", "the proxy 'socks5://127.0.0.1:1' is no URL such as http://proxy:3128"),
        ("http://p:x", "the proxy 'http://p:x' is no URL such as http://proxy:3128"),
        ("http://[", "the proxy 'http://[' is no URL such as http://proxy:3128"),
        ("http://", "the proxy 'http:' is no URL such as http://proxy:3128"),
    ):
        assert send(exporter(f"https://{HOST}", environ={"HTTPS_PROXY": url})) == Sent(2, said, False)
