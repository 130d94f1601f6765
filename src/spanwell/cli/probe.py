"""`spanwell doctor`'s probes: would a span arrive? Each probe is bounded and sends no span."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from spanwell._otel.exporting import without_credentials
from spanwell.exchange import NOT_HTTP
from spanwell.export.otlp_aws import TRANSACTION_SEARCH_OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanwell.settings import Settings

    Findings = Iterator[tuple[str, str]]

TIMEOUT = 3.0


def probe_endpoint(settings: Settings, environ: Mapping[str, str], *, online: bool = True) -> Findings:
    """Check the OTLP endpoint: protocol against port, then an empty export request."""
    from spanwell.exporters import endpoint
    from spanwell.otlp_settings import endpoint_problem, otlp_url, protocol_problem, transport

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
    malformed = _malformed_headers(environ)
    if malformed:
        yield "problem", malformed
    if online:
        yield from (_connect(url) if protocol == "grpc" else _post(url, settings))


def _malformed_headers(environ: Mapping[str, str]) -> str:
    """What is wrong with the variable of the headers (never its value), or ""."""
    from opentelemetry.util.re import parse_env_headers

    from spanwell._otel.exporting import quiet_exporters

    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    with quiet_exporters() as said:
        parse_env_headers(given, liberal=True)
    return said.last


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


def _connect(url: str) -> Findings:
    import socket

    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), TIMEOUT).close()
        yield "ok", "something listens at the endpoint"
    except (OSError, ValueError) as error:
        yield "problem", _unreachable(url, error)


def _post(url: str, settings: Settings) -> Findings:
    """An export request without spans, as the exporter sends it: every OTLP receiver answers it with 200."""
    from spanwell._otel.exporting import quiet_exporters
    from spanwell.plugins import OtlpSpanExporter
    from spanwell.signing import SigningError

    try:
        with quiet_exporters():
            status, said = OtlpSpanExporter(settings).probe(TIMEOUT)
        yield _judge(status, said, without_credentials(url))
    except OSError as error:
        yield "problem", _unreachable(url, error)
    except SigningError as error:
        yield "problem", f"signing for {without_credentials(url)} {error}"
    except ValueError as error:
        if str(error) == NOT_HTTP:
            yield "problem", f"{without_credentials(url)} answers, but not in HTTP: is it a gRPC port?"
        else:
            yield "problem", f"{without_credentials(url)}: {error}"


def _judge(status: int, said: str, url: str) -> tuple[str, str]:
    """`said`: the answer in a line, as the exporter would report it."""
    if 200 <= status < 300:
        return "ok", "the endpoint answers an empty export request"
    if status == 400 and TRANSACTION_SEARCH_OFF not in said:
        return "ok", "the endpoint answers (400 for a request without spans)"
    _, _, more = said.partition(": ")
    return "problem", f"{url} answers {status}: {more or hint(status)}"


def hint(status: int) -> str:
    """What an OTLP receiver that answers `status` lacks."""
    return {
        401: "credentials are missing: OTEL_EXPORTER_OTLP_HEADERS",
        403: "access is denied: check the credentials or the role",
        404: "no receiver at this path: OTEL_EXPORTER_OTLP_ENDPOINT is the base URL, without /v1/traces",
        405: "no OTLP receiver at this path",
    }.get(status, "the receiver is not well" if status >= 500 else "no OTLP receiver speaks so")


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
