"""What stands behind the entry points: each works alone, with the SDK's stock configurator too.

Exporters and id generators are classes with a constructor that takes no arguments, because the stock configurator
asks `issubclass`; only samplers are factories.
"""

from __future__ import annotations

import os

from spanwell.enrich import aws
from spanwell.export import sqlite
from spanwell.ids import XRayIdGenerator
from spanwell.propagation import xray
from spanwell.settings import Settings
from spanwell.where import on_lambda

__all__ = ["AwsResourceDetector", "SqliteSpanExporter", "XRayIdGenerator", "XRayPropagator"]


class XRayPropagator(xray.XRayPropagator):
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


class AwsResourceDetector(aws.AwsResourceDetector):
    """`spanwell_aws` in OTEL_EXPERIMENTAL_RESOURCE_DETECTORS."""

    def __init__(self, raise_on_error: bool = False) -> None:
        super().__init__(os.environ, budget=Settings.from_env(os.environ).resource_timeout)
