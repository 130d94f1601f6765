"""Log records: the SDK's LoggerProvider with our batches, set up only when an exporter is named."""

from __future__ import annotations

import copy

from opentelemetry import _logs
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord
from opentelemetry.sdk.resources import Resource

from spanwell import exporters, otlp_settings
from spanwell._guard import warn_once
from spanwell._otel import api, sdk
from spanwell.enrich import log_records
from spanwell.export.batch import Batch
from spanwell.export.guarded import GuardedExporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord

    from spanwell.exit import Exit
    from spanwell.settings import Settings


def set_up(settings: Settings, resource: Resource, exit: Exit) -> None:
    """Set the global LoggerProvider for the exporters that `settings` names, or join the application's."""
    found = exporters.signal_exporters(settings.logs_exporter, otlp_settings.protocol(settings, "logs"), "logs")
    if not found:
        return
    theirs = api.current_provider("logs")
    provider = theirs or LoggerProvider(resource=resource, shutdown_on_exit=False)
    if not hasattr(provider, "add_log_record_processor"):
        warn_once("join:logs", "spanwell: the application's %s takes no log processors", type(provider).__name__)
        return
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
    if theirs is None:
        _logs.set_logger_provider(provider)
    if settings.logging_handler:
        sdk.add_logging_handler(provider)


class LogBatch(Batch, LogRecordProcessor):
    """A `Batch` of log records."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue the record, without the context that it was emitted in, which may hold on to much."""
        scope = log_record.instrumentation_scope
        if self._closed and scope is not None and scope.name == "spanwell":
            return  # our own report of what was lost is no loss of the application's
        kept = copy.copy(log_record.log_record)
        kept.context = Context()
        if log_records.is_installed() and kept.attributes:
            kept.attributes = log_records.strip(kept.attributes, kept.trace_id, kept.span_id)
        self.put(
            ReadableLogRecord(
                log_record=kept,
                resource=log_record.resource if log_record.resource is not None else Resource.get_empty(),
                instrumentation_scope=scope,
                limits=log_record.limits,
            )
        )
