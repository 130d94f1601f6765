"""Metrics and logs: the SDK's providers with guarded exporters, set up only when an exporter is named."""

from __future__ import annotations

import copy

from opentelemetry import _logs, metrics
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from spanwell import _otel, exporters
from spanwell._guard import guard
from spanwell.export.batch import Batch
from spanwell.export.breaker import Breaker
from spanwell.export.guarded import GuardedExporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData

    from spanwell.exit import Exit
    from spanwell.settings import Settings


def set_up(settings: Settings, resource: Resource, exit: Exit) -> None:
    """Set the global MeterProvider and LoggerProvider for the exporters that `settings` names."""
    _metrics(
        exporters.signal_exporters(settings.metrics_exporter, exporters.protocol(settings, "metrics"), "metrics"),
        resource,
        exit,
    )
    _log_records(
        exporters.signal_exporters(settings.logs_exporter, exporters.protocol(settings, "logs"), "logs"),
        resource,
        exit,
        settings,
    )


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
        for reader in readers:
            _otel.collect_last(reader)

    # A timeout of nothing makes the provider raise before it has asked its readers.
    exit.add(begin, lambda seconds: _otel.shut_down_metrics(provider, max(seconds, 0.01)))


def _log_records(found: dict[str, Any], resource: Resource, exit: Exit, settings: Settings) -> None:
    if not found:
        return
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for name, make in found.items():
        batch = LogBatch(
            GuardedExporter(name, make, "log records"),
            max_queue=settings.blrp_max_queue_size,
            max_batch=settings.blrp_max_export_batch_size,
            delay=settings.blrp_schedule_delay / 1000,
            flush_timeout=settings.blrp_export_timeout / 1000,
            setting="OTEL_BLRP_MAX_QUEUE_SIZE",
        )
        provider.add_log_record_processor(batch)
        exit.add(batch.begin_shutdown, batch.finish)
    _logs.set_logger_provider(provider)
    if settings.logging_handler:
        _otel.add_logging_handler(provider)


class LogBatch(Batch, LogRecordProcessor):
    """A `Batch` of log records."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue the record, without the context that it was emitted in, which may hold on to much."""
        scope = log_record.instrumentation_scope
        if self._closed and scope is not None and scope.name == "spanwell":
            return  # our own report of what was lost is no loss of the application's
        kept = copy.copy(log_record.log_record)
        kept.context = Context()
        self.put(
            ReadableLogRecord(
                log_record=kept,
                resource=log_record.resource if log_record.resource is not None else Resource.get_empty(),
                instrumentation_scope=scope,
                limits=log_record.limits,
            )
        )


class GuardedMetricExporter(MetricExporter):
    """A metric exporter that never raises, rests while its destination is down and counts what is lost."""

    def __init__(self, name: str, exporter: MetricExporter) -> None:
        super().__init__(**_otel.preferences(exporter))
        self._guarded = GuardedExporter(name, lambda: exporter, "metrics", _otel.endpoint_of(exporter))
        self._exporter = exporter
        self._breaker = Breaker()
        self._last = False

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Export `metrics_data` once; nothing is kept, the next collection brings the sums again."""
        number = sum(len(scope.metrics) for each in metrics_data.resource_metrics for scope in each.scope_metrics)
        return MetricExportResult.SUCCESS if self._attempt(metrics_data, number) else MetricExportResult.FAILURE

    def _attempt(self, metrics_data: MetricsData, number: int) -> bool:
        import time

        if not self._last and not self._breaker.allows(time.monotonic()):
            self._guarded.lost(number, "destination down", "it failed before and rests")
            return False
        arrived = self._guarded.deliver(metrics_data, number)
        if arrived:
            self._breaker.succeeded()
        else:
            self._breaker.failed(time.monotonic())
        return arrived

    def last_attempt(self) -> None:
        """The process ends: no retries from now on."""
        self._last = True
        self._guarded.last_attempt()
        _otel.stop_retries(self._exporter)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down. Never raises."""
        self._guarded.shutdown()
