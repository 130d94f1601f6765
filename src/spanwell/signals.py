"""Metrics and logs: the SDK's providers with guarded exporters, set up only when an exporter is named."""

from __future__ import annotations

from opentelemetry import _logs, metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    PeriodicExportingMetricReader,
)

from spanwell import _otel, exporters
from spanwell._guard import guard
from spanwell.export.breaker import Breaker
from spanwell.export.guarded import GuardedExporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

    from spanwell.exit import Exit
    from spanwell.settings import Settings


def set_up(settings: Settings, resource: Resource, exit: Exit) -> None:
    """Set the global MeterProvider and LoggerProvider for the exporters that `settings` names."""
    _metrics(exporters.signal_exporters(settings.metrics_exporter, settings.protocol, "metrics"), resource, exit)
    logs = exporters.signal_exporters(settings.logs_exporter, settings.protocol, "logs")
    _log_records(logs, resource, exit, handler=settings.logging_handler)


def _metrics(found: dict[str, Any], resource: Resource, exit: Exit) -> None:
    readers: list[MetricReader] = []
    guarded: list[GuardedMetricExporter] = []
    for name, make in found.items():
        with guard(f"metrics exporter {name}"):
            made = make()
            if not isinstance(made, MetricReader):
                guarded.append(GuardedMetricExporter(name, made))
                made = PeriodicExportingMetricReader(guarded[-1])
            readers.append(made)
    if not readers:
        return
    provider = MeterProvider(resource=resource, metric_readers=readers, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)

    def begin() -> None:
        for exporter in guarded:
            exporter.last_attempt()

    exit.add(begin, lambda seconds: provider.shutdown(timeout_millis=seconds * 1000))


def _log_records(found: dict[str, Any], resource: Resource, exit: Exit, *, handler: bool) -> None:
    if not found:
        return
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for name, make in found.items():
        exporter = GuardedLogExporter(name, make)
        processor = BatchLogRecordProcessor(exporter)
        provider.add_log_record_processor(processor)
        exit.add(
            exporter.last_attempt,
            lambda seconds, processor=processor: _otel.shut_down_batch(processor, seconds),  # type: ignore[misc]
        )
    _logs.set_logger_provider(provider)
    if handler:
        _otel.add_logging_handler(provider)


class GuardedMetricExporter(MetricExporter):
    """A metric exporter that never raises, rests while its destination is down and counts what is lost."""

    def __init__(self, name: str, exporter: MetricExporter) -> None:
        super().__init__(**_otel.preferences(exporter))
        self._exporter = exporter
        self._guarded = GuardedExporter(name, lambda: exporter, "metrics")
        self._breaker = Breaker()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Export `metrics_data` once; nothing is kept, the next collection brings the sums again."""
        number = sum(len(scope.metrics) for each in metrics_data.resource_metrics for scope in each.scope_metrics)
        arrived = _attempt(self._guarded, self._breaker, metrics_data, number)
        return MetricExportResult.SUCCESS if arrived else MetricExportResult.FAILURE

    def last_attempt(self) -> None:
        """The process ends: no retries from now on."""
        self._guarded.last_attempt()
        _otel.stop_retries(self._exporter)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down. Never raises."""
        self._guarded.shutdown()


class GuardedLogExporter(LogRecordExporter):
    """As GuardedMetricExporter, for log records; the exporter is made at the first export."""

    def __init__(self, name: str, make: Any) -> None:
        self._guarded = GuardedExporter(name, make, "log records")
        self._breaker = Breaker()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export `batch` once."""
        arrived = _attempt(self._guarded, self._breaker, batch, len(batch))
        return LogRecordExportResult.SUCCESS if arrived else LogRecordExportResult.FAILURE

    def last_attempt(self) -> None:
        """The process ends: no retries from now on."""
        self._guarded.last_attempt()

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self) -> None:
        """Shut the exporter down. Never raises."""
        self._guarded.shutdown()


def _attempt(guarded: GuardedExporter, breaker: Breaker, batch: Any, number: int) -> bool:
    import time

    if not breaker.allows(time.monotonic()):
        guarded.lost(number, "destination down", "it failed before and rests")
        return False
    arrived = guarded.deliver(batch, number)
    if arrived:
        breaker.succeeded()
    else:
        breaker.failed(time.monotonic())
    return arrived
