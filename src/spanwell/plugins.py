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
    """`CloudWatchMetricExporter`, which imports the SDK's metrics: only for those who ask for it."""
    if name != "CloudWatchMetricExporter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spanwell.export import cloudwatch_metrics, cloudwatch_names

    class CloudWatchMetricExporter(cloudwatch_metrics.CloudWatchMetricExporter):
        """`cloudwatch` in OTEL_METRICS_EXPORTER: insights as CloudWatch metrics; SPANWELL_CLOUDWATCH_METRICS."""

        def __init__(self) -> None:
            listed = Settings.from_env(os.environ).cloudwatch_metrics
            super().__init__(
                cloudwatch_names.parse(listed, lambda problem: warn_once(problem, "spanwell: %s", problem))
            )

    return globals().setdefault(name, CloudWatchMetricExporter)


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
