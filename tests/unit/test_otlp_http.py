"""Which proxy a URL goes through."""

from __future__ import annotations

import pytest

from spanwell.exchange import is_loopback
from spanwell.export.otlp_http import proxy_for

URL = "https://collector.example.com:4318/v1/traces"


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:2"}, "http://low:1"),
        ({"HTTP_PROXY": "http://p:3128"}, ""),
        ({"ALL_PROXY": "p:3128"}, "http://p:3128"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, ""),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "other.org, example.com"}, ""),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".Example.COM"}, ""),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*.example.com"}, ""),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "ample.com"}, "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com:4318"}, ""),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com:443"}, "http://p"),
        ({"HTTPS_PROXY": "http://p", "no_proxy": ""}, "http://p"),
        ({"HTTPS_PROXY": ""}, ""),
    ],
)
def test_the_proxy_of_a_url(environ: dict[str, str], proxy: str) -> None:
    assert proxy_for(URL, environ) == proxy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "api.localhost"])
def test_this_machine_is_reached_directly(host: str) -> None:
    assert proxy_for(f"http://{host}:4318/", {"HTTP_PROXY": "http://p", "ALL_PROXY": "http://p"}) == ""


@pytest.mark.parametrize(
    ("listed", "proxy"),
    [("10.0.0.0/8", ""), ("10.2.0.0/16", "http://p"), ("10.1.2.3", ""), ("fe80::/10", "http://p")],
)
def test_networks_in_no_proxy(listed: str, proxy: str) -> None:
    assert proxy_for("http://10.1.2.3:4318/", {"http_proxy": "http://p", "no_proxy": listed}) == proxy


def test_an_address_of_version_6_in_no_proxy() -> None:
    for listed in ("fd00::1", "[fd00::1]", "[fd00::1]:4318", "fd00::/8"):
        assert proxy_for("http://[fd00::1]:4318/", {"http_proxy": "http://p", "no_proxy": listed}) == ""
    assert proxy_for("http://[fd00::1]:4318/", {"http_proxy": "http://p", "no_proxy": "[fd00::1]:80"}) == "http://p"


def test_a_header_named_proxy_makes_no_proxy() -> None:
    environ = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil"}
    assert proxy_for("http://collector.test/", environ) == ""
    assert proxy_for("http://collector.test/", {**environ, "http_proxy": "http://good"}) == "http://good"


def test_what_is_loopback() -> None:
    for host in ("localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1"):
        assert is_loopback(host)
    for host in ("", "localhost.example.com", "128.0.0.1", "127.0.0.1.nip.io", "10.0.0.1", "::2", "collector"):
        assert not is_loopback(host)
