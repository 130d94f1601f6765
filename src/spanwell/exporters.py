"""Exporters by name: OTEL_TRACES_EXPORTER and its kin -> something that builds the exporter when it is needed."""

from __future__ import annotations

from spanwell._guard import warn_once
from spanwell._otel import exporting, registry
from spanwell.otlp_settings import compression, endpoint_problem, otlp_url, ours, protocol, timeout
from spanwell.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from opentelemetry.sdk.trace.export import SpanExporter

    Build = Callable[[], SpanExporter]

NEEDS_OTLP = "needs OpenTelemetry's own OTLP exporter: pip install 'spanwell[otlp]'"


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
        return _otlp_http(settings) if ours(settings) else lambda: _upstream_http(settings)
    if name == "spanwell_otlp":
        return _otlp_http(settings)
    if name == "console":
        return _console
    if name == "sqlite":
        return _sqlite
    if name in ("xray", "xray_otlp_udp"):
        return _udp(name, settings)
    return None


def endpoint(name: str, settings: Settings) -> str:
    """Where exporter `name` sends to, as far as the settings tell: a URL without credentials, a path or ""."""
    if name == "sqlite":
        return settings.sqlite_path
    if name == "dynamodb":
        return f"table {settings.dynamodb_table}"
    if name in ("xray", "xray_otlp_udp"):
        return f"udp {settings.daemon_address}"
    if name == "kinesis":
        return f"stream {settings.kinesis_stream}"
    if name in ("otlp", "spanwell_otlp"):
        return exporting.without_credentials(otlp_url(settings, grpc=None if name == "otlp" else False))
    return ""


def to_xray(settings: Settings) -> bool:
    """Whether X-Ray's decisions hold for the spans of this process: they are sent to its endpoint, by an exporter of
    that name, or OTEL_PROPAGATORS names `xray-lambda`. What a collector does with them is not known here."""
    if "xray-lambda" in (name.lower() for name in settings.propagators):
        return True
    if any("xray" in name.lower() for name in settings.traces_exporter):
        return True
    if not {"otlp", "spanwell_otlp"} & set(settings.traces_exporter):
        return False
    url = otlp_url(settings)
    if ".amazon" not in url and ".aws" not in url:  # the usual case, for which nothing is imported
        return False
    from spanwell.export.otlp_aws import aws_endpoint

    found = aws_endpoint(url)
    return found is not None and found.service == "xray"


def _console() -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter()


def _sqlite() -> SpanExporter:
    import sqlite3  # noqa: F401 - the exporter needs it later, where a fork does not wait for the import

    from spanwell.plugins import SqliteSpanExporter

    return SqliteSpanExporter()


def _udp(name: str, settings: Settings) -> Build:
    """What the entry points of these names give, without a scan for them: every Lambda function has one."""

    def make() -> SpanExporter:
        from spanwell.export import udp

        address = udp.usable(settings.daemon_address)
        if name == "xray":
            from spanwell.export.xray_udp import XRayUdpExporter

            return XRayUdpExporter(address)
        from spanwell.export.otlp_udp import OtlpUdpExporter

        return OtlpUdpExporter(address)

    return make


def _otlp_http(settings: Settings) -> Build:
    def make() -> SpanExporter:
        from spanwell.plugins import OtlpSpanExporter

        made: SpanExporter = OtlpSpanExporter(settings)
        return made

    return make


def _upstream_http(settings: Settings) -> SpanExporter:
    _check_endpoint(settings)
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise RuntimeError(f"SPANWELL_OTLP=upstream {NEEDS_OTLP}") from error

    # Handed over as values, checked by Settings: upstream raises on a bad one, at the first export.
    made = OTLPSpanExporter(timeout=timeout(settings), compression=Compression(compression(settings)))
    _sign(made)
    return made


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
        timeout=timeout(settings),  # type: ignore[arg-type, unused-ignore]
        compression=Compression.Gzip if compression(settings) == "gzip" else Compression.NoCompression,
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
            found[name] = _signing_maker(entry) if name == "otlp" else _maker(entry)
    return found


def _registered(signal: str, name: str) -> Any:
    group, variable = f"opentelemetry_{signal}_exporter", f"OTEL_{signal.upper()}_EXPORTER"
    try:
        return registry.find_entry_point(group, name)
    except LookupError as error:
        if name == "otlp_proto_http":
            warn_once(f"{group}:{name}", "spanwell: %s=otlp %s; it is left out", variable, NEEDS_OTLP)
            return None
        warn_once(f"{group}:{name}", "spanwell: %s: exporter %r is left out: %s", variable, name, error)
        return None


def _maker(entry: Any) -> Callable[[], Any]:
    def make() -> Any:
        return entry.load()()

    return make


def _signing_maker(entry: Any) -> Callable[[], Any]:
    def make() -> Any:
        # Its import of requests may let an instrumentor ask for meters, while the process ends.
        with exporting.quiet_exporters(("opentelemetry.sdk.metrics._internal",)):
            made = entry.load()()
        _sign(made)
        return made

    return make


def _sign(exporter: Any) -> None:
    """Let upstream's OTLP/HTTP exporter sign what it sends, if that goes to AWS (docs/otlp.md)."""
    from spanwell.export.otlp_aws import aws_endpoint, request_signer

    found = aws_endpoint(exporting.endpoint_of(exporter))
    if found is not None:
        exporting.sign_requests(exporter, request_signer(found))


def upstream_name(name: str, protocol: str) -> str:
    """The entry point that `name` means with `protocol`: upstream registers one for each transport of `otlp`."""
    if name != "otlp":
        return name
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
