"""`spanwell doctor`'s probes: would a span arrive? Each probe is bounded and sends no span."""

from __future__ import annotations

import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from spanwell._otel.exporting import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanwell.settings import Settings

    Findings = Iterator[tuple[str, str]]

TIMEOUT = 3.0


def probe_endpoint(settings: Settings, environ: Mapping[str, str], *, online: bool = True) -> Findings:
    """Check the OTLP endpoint: protocol against port, then an empty export request."""
    from spanwell.exporters import endpoint, endpoint_problem, otlp_url, protocol_problem, transport

    problem = endpoint_problem(settings)
    if problem:
        yield "problem", f"exporter otlp: {problem}"
        return
    protocol, url = transport(settings), otlp_url(settings)
    yield "ok", f"exporter otlp: {protocol} to {endpoint('otlp', settings)}"
    if protocol_problem(settings):
        yield "note", protocol_problem(settings)
    if "://" not in url:  # gRPC's own form, host:port
        url = f"http://{url}"
    yield from _port_against_protocol(urlsplit(url).port, protocol)
    if protocol == "grpc":
        yield from _grpc_installed()
    headers, malformed = _headers(environ)
    if malformed:
        yield "problem", malformed
    if online:
        yield from (_connect(url) if protocol == "grpc" else _post(url, headers))


def _headers(environ: Mapping[str, str]) -> tuple[Mapping[str, str], str]:
    """The headers that the exporter sends, and what is wrong with their variable (never its value)."""
    from opentelemetry.util.re import parse_env_headers

    from spanwell._otel.exporting import quiet_exporters

    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    with quiet_exporters() as said:
        return parse_env_headers(given, liberal=True), said.last


def _port_against_protocol(port: int | None, protocol: str) -> Findings:
    if port == 4317 and protocol != "grpc":
        yield (
            "problem",
            "port 4317 is for gRPC, but OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf: use port 4318 (or set the"
            " protocol to grpc, which needs pip install 'spanwell[grpc]')",
        )
    if port == 4318 and protocol == "grpc":
        yield (
            "problem",
            "port 4318 is for HTTP, but OTEL_EXPORTER_OTLP_PROTOCOL is grpc: use port 4317 (or set the protocol to"
            " http/protobuf)",
        )


def _grpc_installed() -> Findings:
    try:
        import opentelemetry.exporter.otlp.proto.grpc  # noqa: F401
    except ImportError:
        yield "problem", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the gRPC exporter: pip install 'spanwell[grpc]'"


def _connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=TIMEOUT)


def _connect(url: str) -> Findings:
    connection = _connection(url)
    try:
        connection.connect()
        yield "ok", "something listens at the endpoint"
    except (OSError, ValueError) as error:
        yield "problem", _unreachable(url, error)
    finally:
        connection.close()


def _post(url: str, headers: Mapping[str, str]) -> Findings:
    """An export request without spans: every OTLP receiver answers it with 200."""
    connection = _connection(url)
    try:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, b"", {**headers, "Content-Type": "application/x-protobuf"})
        response = connection.getresponse()
        response.read(4096)
        yield _judge(response.status, without_credentials(url))
    except HTTPException:
        yield "problem", f"{without_credentials(url)} answers, but not in HTTP: is it a gRPC port?"
    except (OSError, ValueError) as error:  # ValueError: a header or path that HTTP cannot carry
        yield "problem", _unreachable(url, error)
    finally:
        connection.close()


def _judge(status: int, url: str) -> tuple[str, str]:
    if 200 <= status < 300:
        return "ok", "the endpoint answers an empty export request"
    hint = {
        401: "credentials are missing: OTEL_EXPORTER_OTLP_HEADERS",
        403: "access is denied: check the credentials or the role",
        404: "no receiver at this path: OTEL_EXPORTER_OTLP_ENDPOINT is the base URL, without /v1/traces",
        405: "no OTLP receiver at this path",
    }.get(status, "the receiver is not well" if status >= 500 else "no OTLP receiver speaks so")
    if status == 400:
        return "ok", "the endpoint answers (400 for a request without spans)"
    return "problem", f"{url} answers {status}: {hint}"


def _unreachable(url: str, error: Exception) -> str:
    shown = without_credentials(url)
    if isinstance(error, TimeoutError):
        return f"{shown} does not answer within {TIMEOUT:g} s; spans will be dropped and counted"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"nothing is reachable at {shown} ({reason}): start a collector, or set OTEL_TRACES_EXPORTER=sqlite"


def sqlite_path(settings: Settings, environ: Mapping[str, str]) -> str:
    """The file that the sqlite exporter writes."""
    from spanwell.schema import default_path

    return settings.sqlite_path or default_path(environ)


def probe_sqlite(settings: Settings, environ: Mapping[str, str]) -> Findings:
    """Can the file be written, and how full is it?"""
    path = sqlite_path(settings, environ)
    cap = settings.sqlite_max_mb
    if os.path.exists(path):
        if os.path.isdir(path):
            yield "problem", f"exporter sqlite: {path} is a folder; set SPANWELL_SQLITE_PATH to a file"
        elif os.access(path, os.W_OK):
            yield "ok", f"exporter sqlite: {path}, {os.path.getsize(path) / 1e6:.1f} of {cap} MB"
        else:
            yield "problem", f"exporter sqlite: {path} cannot be written; set SPANWELL_SQLITE_PATH"
        return
    folder = os.path.dirname(path) or "."
    while not os.path.exists(folder):
        folder = os.path.dirname(folder) or "."
    if os.path.isdir(folder) and os.access(folder, os.W_OK):
        yield "ok", f"exporter sqlite: {path} (not written yet)"
    else:
        yield "problem", f"exporter sqlite: {folder} cannot be written; set SPANWELL_SQLITE_PATH"


def recorded_losses(settings: Settings, environ: Mapping[str, str]) -> Findings:
    """What processes said of their losses in the sqlite file."""
    path = sqlite_path(settings, environ)
    if not os.path.isfile(path):
        yield "ok", "none recorded"
        return
    from spanwell.explore.model import StoreError
    from spanwell.explore.stores.sqlite import SqliteStore

    try:
        with SqliteStore(path) as store:
            losses = store.losses()
    except StoreError as error:
        yield "problem", str(error)
        return
    for (signal, reason), number in losses.items():
        yield "note", f"{number} {signal}: {reason}"
    if not losses:
        yield "ok", "none recorded"
