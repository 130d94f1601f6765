"""Every OTEL_EXPORTER_OTLP_* variable, as our exporter is told of it."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from typing import Any

import pytest

from spanwell import exporters, otlp_settings
from spanwell._otel import registry
from spanwell.cli import config
from spanwell.export.otlp_http import Trust
from spanwell.settings import Settings

BASE = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"


def options(**environ: str) -> dict[str, Any]:
    return otlp_settings.options(Settings.from_env(environ), environ)


def test_the_defaults() -> None:
    assert options() == {
        "url": "http://localhost:4318/v1/traces",
        "problem": "",
        "headers": {},
        "timeout": 10.0,
        "compression": "none",
        "encoding": "protobuf",
        "trust": Trust(),
        "insecure": False,
        "environ": {},
    }


@pytest.mark.parametrize(
    ("name", "key", "text", "value", "other", "otherwise"),
    [
        ("HEADERS", "headers", "A=b%20c,d=e=f", {"a": "b c", "d": "e=f"}, "g=h", {"g": "h"}),
        ("TIMEOUT", "timeout", "3.5", 3.5, "0", 0.0),
        ("COMPRESSION", "compression", "gzip", "gzip", "deflate", "deflate"),
        ("COMPRESSION", "compression", "gzip", "gzip", "none", "none"),
        ("PROTOCOL", "encoding", "http/json", "json", "http/protobuf", "protobuf"),
        ("CERTIFICATE", "trust", "/a", Trust("/a"), "/b", Trust("/b")),
        ("CLIENT_CERTIFICATE", "trust", "/a", Trust("", "/a"), "/b", Trust("", "/b")),
        ("CLIENT_KEY", "trust", "/a", Trust("", "", "/a"), "/b", Trust("", "", "/b")),
        ("INSECURE", "insecure", "true", True, "false", False),
    ],
)
def test_the_variable_of_traces_wins(name: str, key: str, text: str, value: Any, other: str, otherwise: Any) -> None:
    assert options(**{BASE + name: text})[key] == value
    assert options(**{TRACES + name: other})[key] == otherwise
    assert options(**{BASE + name: text, TRACES + name: other})[key] == otherwise


def test_endpoints() -> None:
    for base in ("https://c.test:1", "https://c.test:1/"):
        assert options(**{BASE + "ENDPOINT": base})["url"] == "https://c.test:1/v1/traces"
    assert options(**{BASE + "ENDPOINT": "http://c/prefix"})["url"] == "http://c/prefix/v1/traces"
    assert options(**{TRACES + "ENDPOINT": "https://c/as-it-is"})["url"] == "https://c/as-it-is"
    assert "'localhost:4318' is no URL" in options(**{BASE + "ENDPOINT": "localhost:4318"})["problem"]


def test_to_aws_it_is_packed_unless_told_otherwise() -> None:
    url = {TRACES + "ENDPOINT": "https://xray.eu-west-1.amazonaws.com/v1/traces"}
    assert options(**url)["compression"] == "gzip"
    assert options(**url, **{BASE + "COMPRESSION": "none"})["compression"] == "none"


def test_whom_others_trust_is_trusted() -> None:
    aws = {TRACES + "ENDPOINT": "https://xray.eu-west-1.amazonaws.com/v1/traces"}
    assert options(REQUESTS_CA_BUNDLE="/r", CURL_CA_BUNDLE="/c")["trust"] == Trust("/r")
    assert options(CURL_CA_BUNDLE="/c", AWS_CA_BUNDLE="/a")["trust"] == Trust("/c")
    assert options(**aws, REQUESTS_CA_BUNDLE="/r", AWS_CA_BUNDLE="/a")["trust"] == Trust("/a")
    assert options(**{BASE + "CERTIFICATE": "/o"}, REQUESTS_CA_BUNDLE="/r")["trust"] == Trust("/o")


def test_headers_are_never_shown() -> None:
    environ = {BASE + "HEADERS": "authorization=Bearer%20s3cret", TRACES + "HEADERS": "api-key=s3cret"}
    for as_json in (False, True):
        out = io.StringIO()
        config.run(Namespace(json=as_json, all=True), environ, out)
        assert "s3cret" not in out.getvalue()
        assert "(set, not shown)" in out.getvalue()
    assert json.loads(out.getvalue())["settings"][BASE + "HEADERS"]["source"] == "environment"


@pytest.mark.parametrize(
    ("environ", "signal", "transport", "problem"),
    [
        ({BASE + "PROTOCOL": "http/json"}, "traces", "http/json", False),
        ({BASE + "PROTOCOL": "http/json"}, "metrics", "http/protobuf", True),
        ({BASE + "PROTOCOL": "http/json", "SPANWELL_OTLP": "upstream"}, "traces", "http/protobuf", True),
        ({TRACES + "PROTOCOL": "grpc"}, "traces", "grpc", False),
        ({TRACES + "PROTOCOL": "grpc"}, "logs", "http/protobuf", False),
    ],
)
def test_the_transport(environ: dict[str, str], signal: str, transport: str, problem: bool) -> None:
    settings = Settings.from_env(environ)
    assert otlp_settings.transport(settings, signal) == transport
    assert bool(otlp_settings.protocol_problem(settings, signal)) is problem


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://xray.eu-west-1.amazonaws.com/v1/traces", True),
        ("https://xray.eu-west-1.api.aws/v1/traces", True),
        ("https://logs.eu-west-1.amazonaws.com/v1/logs", False),
        ("http://localhost:4318/v1/traces", False),
        ("http://[", False),
    ],
)
def test_what_goes_to_xray(url: str, found: bool) -> None:
    for name in ("otlp", "spanwell_otlp"):
        settings = Settings.from_env({TRACES + "ENDPOINT": url, "OTEL_TRACES_EXPORTER": name})
        assert exporters.to_xray(settings) is found
    assert not exporters.to_xray(Settings.from_env({TRACES + "ENDPOINT": url, "OTEL_TRACES_EXPORTER": "sqlite"}))


def test_without_upstreams_package_metrics_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing(group: str, name: str) -> Any:
        raise LookupError("no installed package registers it")

    from spanwell import _guard

    monkeypatch.setattr(registry, "find_entry_point", nothing)
    _guard._warned.clear()
    assert exporters.signal_exporters(("otlp",), "http/protobuf", "metrics") == {}
    [record] = caplog.records
    assert record.getMessage() == (
        "spanwell: OTEL_METRICS_EXPORTER=otlp needs OpenTelemetry's own OTLP exporter:"
        " pip install 'spanwell[otlp]'; it is left out"
    )
