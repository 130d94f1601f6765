"""What the OTEL_EXPORTER_OTLP_* settings mean: which transport, where to, and everything our own exporter is told."""

from __future__ import annotations

from spanwell._guard import warn_once
from spanwell._otel.exporting import without_credentials
from spanwell.settings import Settings
from spanwell.where import follows_invocations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from spanwell.settings import Setting


def protocol(settings: Settings, signal: str = "traces") -> str:
    """The OTLP transport of `signal`. Where http/json becomes http/protobuf, that is said once."""
    problem = protocol_problem(settings, signal)
    if problem:
        warn_once("http/json", "spanwell: %s", problem)
    return transport(settings, signal)


def transport(settings: Settings, signal: str = "traces") -> str:
    """``grpc``, ``http/protobuf`` or, for traces by our own exporter, ``http/json``; without a word."""
    named: str = settings.value(_protocol_row(settings, signal))
    return "http/protobuf" if protocol_problem(settings, signal) else named


def protocol_problem(settings: Settings, signal: str = "traces") -> str:
    """What is wrong with the chosen transport of `signal`, or ""."""
    row = _protocol_row(settings, signal)
    if settings.value(row) != "http/json" or (signal == "traces" and ours(settings)):
        return ""
    return f"{row.variable}=http/json is not supported for {signal}; using http/protobuf on its port"


def ours(settings: Settings) -> bool:
    """Whether `otlp` over HTTP means our own exporter of traces."""
    return settings.otlp == "spanwell"


def _protocol_row(settings: Settings, signal: str) -> Setting[str]:
    own = {"traces": Settings.traces_protocol, "metrics": Settings.metrics_protocol, "logs": Settings.logs_protocol}
    return own[signal] if settings.value(own[signal]) else Settings.protocol


def otlp_url(settings: Settings, *, grpc: bool | None = None) -> str:
    """The URL that spans are sent to, as the settings tell it; by gRPC if they tell so, unless `grpc` does."""
    if settings.traces_endpoint:
        return settings.traces_endpoint
    if transport(settings) == "grpc" if grpc is None else grpc:
        return settings.endpoint or "http://localhost:4317"
    return (settings.endpoint or "http://localhost:4318").removesuffix("/") + "/v1/traces"


def endpoint_problem(settings: Settings, *, grpc: bool | None = None) -> str:
    """What is wrong with the endpoint's text, or ""."""
    from urllib.parse import urlsplit

    row = Settings.traces_endpoint if settings.traces_endpoint else Settings.endpoint
    url: str = settings.value(row)
    by_grpc = transport(settings) == "grpc" if grpc is None else grpc
    example = "http://localhost:4317" if by_grpc else "http://localhost:4318"
    try:
        parts = urlsplit(url or example)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    # gRPC's own form is host:port, without a scheme.
    if by_grpc and "://" not in url and " " not in url:
        fine = True
    elif fine:
        fine = parts.scheme in ("http", "https")
    return "" if fine else f"{row.variable}={without_credentials(url)!r} is no URL such as {example}"


def timeout(settings: Settings) -> float:
    """Seconds that one export of traces may take."""
    chosen = settings.timeout if settings.traces_timeout is None else settings.traces_timeout
    usual = 10.0 if chosen is None else chosen
    return min(usual, settings.lambda_flush_timeout) if follows_invocations() else usual


def compression(settings: Settings) -> str:
    """The compression of traces."""
    return settings.traces_compression or settings.compression


def insecure(settings: Settings) -> bool:
    """Whether credentials may go over a network in plain text."""
    return settings.insecure if settings.traces_insecure is None else settings.traces_insecure


def options(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `export.otlp.OtlpSpanExporter`. Malformed headers are left out; the API's parser says so."""
    from opentelemetry.util.re import parse_env_headers

    from spanwell.export.otlp_aws import aws_endpoint
    from spanwell.export.otlp_http import Trust

    url, problem = otlp_url(settings, grpc=False), endpoint_problem(settings, grpc=False)
    unset = not (settings.chosen(Settings.compression) or settings.chosen(Settings.traces_compression))
    to_aws = not problem and aws_endpoint(url) is not None
    return {
        "url": url,
        "problem": problem,
        "headers": parse_env_headers(settings.traces_headers or settings.headers, liberal=True),
        "timeout": timeout(settings),
        "compression": "gzip" if to_aws and unset else compression(settings),
        "encoding": "json" if transport(settings) == "http/json" else "protobuf",
        "trust": Trust(
            settings.traces_certificate or settings.certificate or _bundle(environ, to_aws),
            settings.traces_client_certificate or settings.client_certificate,
            settings.traces_client_key or settings.client_key,
        ),
        "insecure": insecure(settings),
        "environ": environ,
    }


def _bundle(environ: Mapping[str, str], to_aws: bool) -> str:
    """What botocore, and upstream's exporter through requests, would trust."""
    names = ("AWS_CA_BUNDLE",) if to_aws else ()
    return next((environ[name] for name in (*names, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if environ.get(name)), "")
