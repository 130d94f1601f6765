"""What stands behind the entry points: each works alone, with the SDK's stock configurator too.

Exporters and id generators are classes with a constructor that takes no arguments, because the stock configurator
asks `issubclass`; only samplers are factories.
"""

from __future__ import annotations

import os

from spanwell._guard import warn_once
from spanwell.enrich import aws
from spanwell.export import sqlite
from spanwell.ids import XRayIdGenerator
from spanwell.propagation.xray import XRayPropagator as PlainXRayPropagator
from spanwell.settings import Settings
from spanwell.where import on_lambda

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.export.cloudwatch_names import Chosen
    from spanwell.export.emf import Sink

__all__ = [
    "AwsResourceDetector",
    "SqliteSpanExporter",
    "XRayIdGenerator",
    "XRayPropagator",
    "budget",
    "tail",
    "xray",
    "xray_local",
]


class XRayPropagator(PlainXRayPropagator):
    """`spanwell_xray` in OTEL_PROPAGATORS: the codec; on Lambda the X-Ray header names the parent."""

    def __init__(self) -> None:
        super().__init__(prefer_xray=on_lambda(os.environ))


class SqliteSpanExporter(sqlite.SqliteSpanExporter):
    """`sqlite` in OTEL_TRACES_EXPORTER: the file of SPANWELL_SQLITE_PATH, capped by SPANWELL_SQLITE_MAX_MB."""

    def __init__(self) -> None:
        settings = Settings.from_env(os.environ)
        super().__init__(
            settings.sqlite_path or sqlite.default_path(os.environ),
            max_bytes=settings.sqlite_max_mb * 1_000_000,
        )


def __getattr__(name: str) -> Any:
    """`CloudWatchMetricExporter` and `EmfMetricExporter`, which import the SDK's metrics: for who asks for them."""
    made = {
        "DynamoDbSpanExporter": _dynamodb,
        "XRaySpanExporter": _xray,
        "XRayApiSpanExporter": _xray_api,
        "XRayOtlpUdpSpanExporter": _xray_otlp_udp,
        "KinesisSpanExporter": _kinesis,
        "CloudWatchMetricExporter": _cloudwatch,
        "EmfMetricExporter": _emf,
        "OtlpSpanExporter": _otlp,
    }
    make = made.get(name)
    if make is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, make())


def _otlp() -> type:
    from spanwell import otlp_settings
    from spanwell.export import otlp

    class OtlpSpanExporter(otlp.OtlpSpanExporter):
        """`otlp` over HTTP, and `spanwell_otlp`, in OTEL_TRACES_EXPORTER: by the OTEL_EXPORTER_OTLP_* variables."""

        def __init__(self, settings: Settings | None = None) -> None:
            super().__init__(**otlp_settings.options(settings or Settings.from_env(os.environ), os.environ))

    return OtlpSpanExporter


def _dynamodb() -> type:
    from spanwell.export import dynamodb

    class DynamoDbSpanExporter(dynamodb.DynamoDbSpanExporter):
        """`dynamodb` in OTEL_TRACES_EXPORTER: the table of SPANWELL_DYNAMODB_TABLE; SPANWELL_RETENTION_DAYS."""

        def __init__(self) -> None:
            settings = Settings.from_env(os.environ)
            super().__init__(settings.dynamodb_table, retention_days=settings.retention_days)

    return DynamoDbSpanExporter


def _kinesis() -> type:
    from spanwell.export import kinesis

    class KinesisSpanExporter(kinesis.KinesisSpanExporter):
        """`kinesis` in OTEL_TRACES_EXPORTER: the stream of SPANWELL_KINESIS_STREAM; SPANWELL_KINESIS_*."""

        def __init__(self) -> None:
            settings = Settings.from_env(os.environ)
            super().__init__(
                settings.kinesis_stream,
                format=settings.kinesis_format,
                compression=settings.kinesis_compression,
                dead_letters=settings.kinesis_dead_letter,
            )

    return KinesisSpanExporter


def _xray() -> type:
    from spanwell.export import xray_udp

    class XRaySpanExporter(xray_udp.XRayUdpExporter):
        """`xray` in OTEL_TRACES_EXPORTER: segment documents to the daemon at AWS_XRAY_DAEMON_ADDRESS."""

        def __init__(self) -> None:
            super().__init__(daemon_address(Settings.from_env(os.environ)))

    return XRaySpanExporter


def _xray_otlp_udp() -> type:
    from spanwell.export import otlp_udp

    class XRayOtlpUdpSpanExporter(otlp_udp.OtlpUdpExporter):
        """`xray_otlp_udp` in OTEL_TRACES_EXPORTER: OTLP over UDP to the agent at AWS_XRAY_DAEMON_ADDRESS."""

        def __init__(self) -> None:
            super().__init__(daemon_address(Settings.from_env(os.environ)))

    return XRayOtlpUdpSpanExporter


def _xray_api() -> type:
    from spanwell.export import xray_api

    class XRayApiSpanExporter(xray_api.XRayApiExporter):
        """`xray_api` in OTEL_TRACES_EXPORTER: segment documents to X-Ray, with what botocore finds."""

        def __init__(self) -> None:
            super().__init__()

    return XRayApiSpanExporter


def daemon_address(settings: Settings) -> str:
    """AWS_XRAY_DAEMON_ADDRESS, or the default if that is no address, which is said once."""
    from spanwell.export.udp import usable

    return usable(settings.daemon_address)


def _cloudwatch() -> type:
    from spanwell.export import cloudwatch_metrics

    class CloudWatchMetricExporter(cloudwatch_metrics.CloudWatchMetricExporter):
        """`cloudwatch` in OTEL_METRICS_EXPORTER: insights as CloudWatch metrics; SPANWELL_CLOUDWATCH_METRICS."""

        def __init__(self) -> None:
            super().__init__(_chosen_metrics(Settings.from_env(os.environ)))

    return CloudWatchMetricExporter


def _emf() -> type:
    from spanwell.export import emf

    class EmfMetricExporter(emf.EmfMetricExporter):
        """`emf` in OTEL_METRICS_EXPORTER: the same in Embedded Metric Format, to stdout or SPANWELL_EMF_LOG_GROUP."""

        def __init__(self) -> None:
            settings = Settings.from_env(os.environ)
            super().__init__(_chosen_metrics(settings), sink=emf_sink(settings))

    return EmfMetricExporter


def _chosen_metrics(settings: Settings) -> Chosen:
    from spanwell.export.cloudwatch_names import parse

    return parse(
        settings.cloudwatch_metrics,
        lambda problem: warn_once(problem, "spanwell: %s", problem),
        dimensions=settings.metrics_dimensions,
        namespace=settings.metrics_namespace,
    )


def emf_sink(settings: Settings) -> Sink:
    """Where the documents of `emf` go."""
    from spanwell.export.emf_logs import Logs
    from spanwell.export.emf_stdout import Stdout

    if not settings.emf_log_group:
        return Stdout()
    return Logs(settings.emf_log_group, settings.emf_log_stream, create_group=settings.emf_create_log_group)


class AwsResourceDetector(aws.AwsResourceDetector):
    """`spanwell_aws` in OTEL_EXPERIMENTAL_RESOURCE_DETECTORS."""

    def __init__(self, raise_on_error: bool = False) -> None:
        super().__init__(os.environ, budget=Settings.from_env(os.environ).resource_timeout)


# --- samplers: the argument is OTEL_TRACES_SAMPLER_ARG, which declarative configuration does not hand over


def xray(argument: str | None = None) -> Sampler:
    """`xray` in OTEL_TRACES_SAMPLER: X-Ray's centralized sampling rules."""
    return _sampler("xray", argument)


def xray_local(argument: str | None = None) -> Sampler:
    """`xray_local` in OTEL_TRACES_SAMPLER: X-Ray sampling rules from a file."""
    return _sampler("xray_local", argument)


def tail(argument: str | None = None) -> Sampler:
    """`tail` in OTEL_TRACES_SAMPLER: what the head sampler keeps, and what turns out to be slow or to fail."""
    return _sampler("tail", argument)


def budget(argument: str | None = None) -> Sampler:
    """`budget` in OTEL_TRACES_SAMPLER: as many spans as a budget allows."""
    return _sampler("budget", argument)


def _sampler(name: str, argument: str | None) -> Sampler:
    from spanwell.attach import to_global_provider
    from spanwell.sampling.build import Making, make
    from spanwell.sampling.parentbased import RootSampler

    settings = Settings.from_env(os.environ)
    making = Making(report, adaptive=settings.adaptive_sampling)
    made = make(name, settings.sampler_arg if argument is None else argument, making)
    if isinstance(made, RootSampler):  # for other configurators; ours connects it before the first span
        made.first_use = to_global_provider
    return made


def report(problem: str) -> None:
    """Say once what of a sampler's configuration cannot be used."""
    where = "" if problem.startswith("AWS_") else "OTEL_TRACES_SAMPLER_ARG: "
    warn_once(f"sampler:{problem}", "spanwell: %s%s", where, problem)
