"""Exporters by name: OTEL_TRACES_EXPORTER and its kin -> something that builds the exporter when it is needed."""

from __future__ import annotations

from spanwell._guard import warn_once
from spanwell._otel import exporting, registry
from spanwell.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from opentelemetry.sdk.trace.export import SpanExporter

    from spanwell.settings import Setting

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
        if protocol(settings) == "grpc":
            return _grpc(settings)
        return lambda: _otlp_http(settings)
    if name == "console":
        return _console
    if name == "sqlite":
        return _sqlite
    return None


def protocol(settings: Settings, signal: str = "traces") -> str:
    """The OTLP transport of `signal`. http/json becomes http/protobuf, and that is said once."""
    problem = protocol_problem(settings, signal)
    if problem:
        warn_once("http/json", "spanwell: %s", problem)
    return transport(settings, signal)


def transport(settings: Settings, signal: str = "traces") -> str:
    """``grpc`` or ``http/protobuf``, without a word."""
    return "grpc" if settings.value(_protocol_row(settings, signal)) == "grpc" else "http/protobuf"


def protocol_problem(settings: Settings, signal: str = "traces") -> str:
    """What is wrong with the chosen transport of `signal`, or ""."""
    row = _protocol_row(settings, signal)
    if settings.value(row) != "http/json":
        return ""
    return f"{row.variable}=http/json is not supported; using http/protobuf on its port"


def _protocol_row(settings: Settings, signal: str) -> Setting[str]:
    own = {"traces": Settings.traces_protocol, "metrics": Settings.metrics_protocol, "logs": Settings.logs_protocol}
    return own[signal] if settings.value(own[signal]) else Settings.protocol


def endpoint(name: str, settings: Settings) -> str:
    """Where exporter `name` sends to, as far as the settings tell: a URL without credentials, a path or ""."""
    if name == "sqlite":
        return settings.sqlite_path
    return exporting.without_credentials(otlp_url(settings)) if name == "otlp" else ""


def otlp_url(settings: Settings) -> str:
    """The URL that spans are sent to, as the settings tell it."""
    if settings.traces_endpoint:
        return settings.traces_endpoint
    if transport(settings) == "grpc":
        return settings.endpoint or "http://localhost:4317"
    return (settings.endpoint or "http://localhost:4318").removesuffix("/") + "/v1/traces"


def to_xray(settings: Settings) -> bool:
    """Whether X-Ray's decisions hold for the spans of this process: they are sent to its endpoint, by an exporter of
    that name, or OTEL_PROPAGATORS names `xray-lambda`. What a collector does with them is not known here."""
    if "xray-lambda" in (name.lower() for name in settings.propagators):
        return True
    if any("xray" in name.lower() for name in settings.traces_exporter):
        return True
    from urllib.parse import urlsplit

    if "otlp" not in settings.traces_exporter:
        return False
    try:
        host = urlsplit(otlp_url(settings)).hostname or ""
    except ValueError:
        return False
    return host.startswith("xray.") and (".amazonaws.com" in host or host.endswith(".api.aws"))


def endpoint_problem(settings: Settings) -> str:
    """What is wrong with the endpoint's text, or ""."""
    from urllib.parse import urlsplit

    row = Settings.traces_endpoint if settings.traces_endpoint else Settings.endpoint
    url: str = settings.value(row)
    example = "http://localhost:4317" if transport(settings) == "grpc" else "http://localhost:4318"
    try:
        parts = urlsplit(url or example)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    # gRPC's own form is host:port, without a scheme.
    if transport(settings) == "grpc" and "://" not in url and " " not in url:
        fine = True
    elif fine:
        fine = parts.scheme in ("http", "https")
    return "" if fine else f"{row.variable}={exporting.without_credentials(url)!r} is no URL such as {example}"


def _console() -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter()


def _sqlite() -> SpanExporter:
    import sqlite3  # noqa: F401 - the exporter needs it later, where a fork does not wait for the import

    from spanwell.plugins import SqliteSpanExporter

    return SqliteSpanExporter()


def _otlp_http(settings: Settings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    _check_endpoint(settings)
    # Handed over as values, checked by Settings: upstream raises on a bad one, at the first export.
    return OTLPSpanExporter(timeout=_timeout(settings), compression=Compression(_compression(settings)))


def _timeout(settings: Settings) -> float:
    chosen = settings.timeout if settings.traces_timeout is None else settings.traces_timeout
    return 10.0 if chosen is None else chosen


def _compression(settings: Settings) -> str:
    return settings.traces_compression or settings.compression


def _check_endpoint(settings: Settings) -> None:
    problem = endpoint_problem(settings)
    if problem:
        raise RuntimeError(problem)


def _grpc(settings: Settings) -> Build:
    # Now, not at the first export: that may be at exit, where grpc can no longer be imported.
    try:
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter  # noqa: F401
    except ImportError:
        pass
    return lambda: _otlp_grpc(settings)


def _otlp_grpc(settings: Settings) -> SpanExporter:
    _check_endpoint(settings)
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise RuntimeError(
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the gRPC exporter: pip install 'spanwell[grpc]',"
            " or use http/protobuf (port 4318)"
        ) from error
    # As for HTTP: upstream's own reading of these raises on a bad value, which Settings have reported.
    from grpc import Compression

    return OTLPSpanExporter(
        timeout=_timeout(settings),  # type: ignore[arg-type, unused-ignore]
        compression=Compression.Gzip if _compression(settings) == "gzip" else Compression.NoCompression,
    )


def _plugin(name: str) -> Build | None:
    """An exporter from another package, under its entry point; loaded and made at the first export."""
    entry = _registered("traces", upstream_name(name, "http/protobuf"))
    return None if entry is None else _maker(entry)


def signal_exporters(names: tuple[str, ...], protocol: str, signal: str) -> dict[str, Callable[[], Any]]:
    """Exporters or readers of `signal` ("metrics", "logs") by name, as functions that load and make one.

    Unknown names are reported and left out. Nothing is loaded here: the set-up may run in the middle of the import of
    the very library that an exporter needs.
    """
    found: dict[str, Callable[[], Any]] = {}
    for name in dict.fromkeys(names):
        if name == "none":
            continue
        entry = _registered(signal, upstream_name(name, protocol))
        if entry is not None:
            found[name] = _maker(entry)
    return found


def _registered(signal: str, name: str) -> Any:
    group, variable = f"opentelemetry_{signal}_exporter", f"OTEL_{signal.upper()}_EXPORTER"
    try:
        return registry.find_entry_point(group, name)
    except LookupError as error:
        warn_once(f"{group}:{name}", "spanwell: %s: exporter %r is left out: %s", variable, name, error)
        return None


def _maker(entry: Any) -> Callable[[], Any]:
    def make() -> Any:
        return entry.load()()

    return make


def upstream_name(name: str, protocol: str) -> str:
    """The entry point that `name` means with `protocol`: upstream registers one for each transport of `otlp`."""
    if name != "otlp":
        return name
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
