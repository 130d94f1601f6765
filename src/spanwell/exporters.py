"""Exporters by name: OTEL_TRACES_EXPORTER and its kin -> something that builds the exporter when it is needed."""

from __future__ import annotations

from spanwell import _otel
from spanwell._guard import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from opentelemetry.sdk.trace.export import SpanExporter

    from spanwell.settings import Settings

    Build = Callable[[], SpanExporter]


def trace_exporters(settings: Settings) -> Iterator[tuple[str, Build]]:
    """(name, build) of every chosen trace exporter. A name that nothing provides is reported and left out."""
    for name in dict.fromkeys(settings.traces_exporter):
        if name == "none":
            continue
        build = _known(name, settings) or _plugin(name)
        if build is not None:
            yield name, build


def _known(name: str, settings: Settings) -> Build | None:
    if name == "otlp":
        protocol = settings.traces_protocol or settings.protocol
        return _otlp_grpc if protocol == "grpc" else (lambda: _otlp_http(settings))
    if name == "console":
        return _console
    if name == "sqlite":
        return _sqlite
    return None


def endpoint(name: str, settings: Settings) -> str:
    """Where exporter `name` sends to, as far as the settings tell: a URL, a path or ""."""
    if name == "sqlite":
        return settings.sqlite_path
    if name != "otlp":
        return ""
    if settings.traces_endpoint:
        return settings.traces_endpoint
    if (settings.traces_protocol or settings.protocol) == "grpc":
        return settings.endpoint or "http://localhost:4317"
    return (settings.endpoint or "http://localhost:4318").rstrip("/") + "/v1/traces"


def _console() -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter()


def _sqlite() -> SpanExporter:
    from spanwell.plugins import SqliteSpanExporter

    return SqliteSpanExporter()


def _otlp_http(settings: Settings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # Handed over as values, checked by Settings: upstream raises on a bad one, at the first export.
    timeout = settings.timeout if settings.traces_timeout is None else settings.traces_timeout
    compression = settings.traces_compression or settings.compression
    return OTLPSpanExporter(timeout=10.0 if timeout is None else timeout, compression=Compression(compression))


def _otlp_grpc() -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise RuntimeError(
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the gRPC exporter: pip install 'spanwell[grpc]',"
            " or use http/protobuf (port 4318)"
        ) from error
    return OTLPSpanExporter()


def _plugin(name: str) -> Build | None:
    """An exporter from another package, under its entry point."""
    entry = _named(_upstream_name(name, "http/protobuf"), "opentelemetry_traces_exporter", "OTEL_TRACES_EXPORTER")
    return entry  # type: ignore[no-any-return]


def signal_exporters(names: tuple[str, ...], protocol: str, signal: str) -> dict[str, Any]:
    """Exporter or reader classes of `signal` ("metrics", "logs") by name; unknown ones are reported and left out."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        if name == "none":
            continue
        entry = _named(
            _upstream_name(name, protocol),
            f"opentelemetry_{signal}_exporter",
            f"OTEL_{signal.upper()}_EXPORTER",
        )
        if entry is not None:
            found[name] = entry
    return found


def _upstream_name(name: str, protocol: str) -> str:
    if name != "otlp":
        return name
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"


def _named(name: str, group: str, variable: str) -> Any:
    try:
        return _otel.load_entry_point(group, name)
    except Exception as error:
        warn_once(f"{group}:{name}", "spanwell: %s: exporter %r is left out: %s", variable, name, error)
        return None
