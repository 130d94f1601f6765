"""Resources, metrics and logs, and providers that somebody else built."""

from __future__ import annotations

import threading
from logging import LogRecord, getLogger

from spanwell._otel.exporting import Said, quiet_exporters, stop_retries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from opentelemetry.sdk.resources import Resource


def base_resource(extra: Mapping[str, Any]) -> Resource:
    """SDK, instance id and OTEL_RESOURCE_ATTRIBUTES, over `extra`; as Resource.create does by default, without its
    thread pool, which costs more than all of it."""
    from opentelemetry.sdk import resources

    result = resources._DEFAULT_RESOURCE
    instance = getattr(resources, "ServiceInstanceIdResourceDetector", None)
    if instance is not None:
        result = result.merge(instance().detect())
    return result.merge(resources.Resource(extra)).merge(resources.OTELResourceDetector().detect())


def refresh_in_line() -> None:
    """Let the SDK's providers renew their resource after a fork in the child's own thread.

    They do so in a thread pool. Its module renews its lock after a fork in a hook of its own, and hooks run in the
    order of their registration: where it was imported after the provider was made, every child hangs on that lock.
    """
    import sys

    for name in (
        "opentelemetry.sdk.trace",
        "opentelemetry.sdk.metrics._internal",
        "opentelemetry.sdk._logs._internal",
    ):
        module = sys.modules.get(name)
        if hasattr(module, "_get_process_dependent_resource"):
            module._get_process_dependent_resource = _process_dependent_resource  # type: ignore[union-attr]


def _process_dependent_resource() -> Resource:
    from opentelemetry.sdk import resources

    result = resources.Resource.get_empty()
    with quiet_resources():  # a name that cannot be found was reported at the start
        detectors = resources._build_resource_detectors()
    for detector in detectors:
        if detector.is_process_dependent():
            result = result.merge(detector.detect())
    return result


def quiet_resources() -> AbstractContextManager[Said]:
    """As `quiet_exporters`, for the resource detectors: the SDK logs a traceback for a name it cannot find."""
    return quiet_exporters(("opentelemetry.sdk.resources",))


def user_resource() -> Resource:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    return OTELResourceDetector().detect()


def preferences(exporter: Any) -> dict[str, Any]:
    """The temporality and aggregation a MetricExporter prefers, which it keeps to itself and its reader."""
    return {
        "preferred_temporality": getattr(exporter, "_preferred_temporality", None),
        "preferred_aggregation": getattr(exporter, "_preferred_aggregation", None),
    }


def prefers_delta(reader: Any) -> tuple[bool, bool]:
    """Whether a MetricReader wants histograms, and whether it wants counters, since its last collection only.

    `_instrument_class_temporality`: its exporter's or its own preference, which no public name tells.
    """
    from opentelemetry.sdk.metrics import Counter, Histogram
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    chosen = getattr(reader, "_instrument_class_temporality", {})
    delta = [kind for kind, how in chosen.items() if how is AggregationTemporality.DELTA]
    return any(issubclass(kind, Histogram) for kind in delta), any(issubclass(kind, Counter) for kind in delta)


def pushes(reader: Any) -> bool:
    """Whether `reader` is one of the SDK's, whose exporters know every kind of metric."""
    return type(reader).__module__.startswith("opentelemetry.sdk.")


def metric_readers(provider: Any) -> list[Any]:
    """The readers of a MeterProvider that somebody else built (`_sdk_config`: it keeps them to itself)."""
    return list(getattr(getattr(provider, "_sdk_config", None), "metric_readers", ()))


def add_to_collections(reader: Any, add: Callable[[Any], Any]) -> None:
    """Let `add` complete every collection of a MetricReader before it is exported.

    `_receive_metrics` is what a reader implements and `MetricReader.collect`, which is final, calls: not at all when
    there are no instruments.
    """
    receive = reader._receive_metrics

    def receive_more(metrics_data: Any, *args: Any, **kwargs: Any) -> Any:
        return receive(add(metrics_data), *args, **kwargs)

    reader._receive_metrics = receive_more


def collect_last(reader: Any) -> None:
    """Let a PeriodicExportingMetricReader collect and export for the last time, now, in its own thread.

    Its `shutdown` alone would start that only when its turn in the exit comes.
    """
    event = getattr(reader, "_shutdown_event", None)
    if isinstance(event, threading.Event):
        event.set()


def shut_down_metrics(provider: Any, seconds: float) -> None:
    """Shut a MeterProvider down, unless the application did so: a second time it logs a warning."""
    if not getattr(provider, "_shutdown", False):
        provider.shutdown(timeout_millis=seconds * 1000)


def shut_down_batch(processor: Any, timeout: float) -> None:
    """Shut a BatchLogRecordProcessor down within `timeout` seconds: its public method takes no timeout."""
    batch = getattr(processor, "_batch_processor", None)
    if batch is None:
        processor.shutdown()
    else:
        batch.shutdown(timeout_millis=int(timeout * 1000))


def add_logging_handler(provider: Any) -> None:
    """The SDK's deprecated logging handler, for those who still ask for it."""
    from logging import NOTSET

    from opentelemetry.sdk._logs import LoggingHandler

    getLogger().addHandler(LoggingHandler(level=NOTSET, logger_provider=provider))


def keep_console_logging(*, exported: bool) -> None:
    """Give an application without handlers of its own its warnings on stderr back.

    The logging instrumentor puts a handler on the root logger, and with any handler there `logging.lastResort` and
    the `basicConfig` of `logging.warning` are off. Where no log record is `exported`, the handler goes.
    """
    import logging

    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    handler = getattr(LoggingInstrumentor, "_logging_handler", None)
    if handler is None:
        return
    if not exported:
        logging.getLogger().removeHandler(handler)
        return
    emit = handler.emit

    def with_last_resort(record: LogRecord) -> None:
        emit(record)
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not _has_other_handler(record.name, handler):
            last.handle(record)

    flush = handler.flush

    def flush_while_there_are_threads() -> None:
        try:
            flush()
        except RuntimeError:  # it starts a thread, and `logging.shutdown` comes when none may be started any more
            pass

    handler.emit, handler.flush = with_last_resort, flush_while_there_are_threads


def _has_other_handler(name: str, handler: object) -> bool:
    logger: Any = getLogger(name)
    while logger is not None:
        if any(each is not handler for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def without_exit_handler(provider: Any) -> None:
    """Take the provider's own exit handler away: spanwell shuts it down within one budget, it would wait 30 s."""
    import atexit

    handler = getattr(provider, "_atexit_handler", None)
    if handler is not None:
        atexit.unregister(handler)
        provider._atexit_handler = None


def add_first(provider: Any, processor: Any) -> None:
    """Add a span processor before the exporters' processors, so that they see what it wrote."""
    provider.add_span_processor(processor)
    multi = getattr(provider, "_active_span_processor", None)
    processors = getattr(multi, "_span_processors", ())
    if multi is not None and processors and processors[-1] is processor:
        multi._span_processors = (processor, *processors[:-1])


def keeps_order(provider: Any) -> bool:
    """Whether `add_first` can do so: a provider may run its processors in parallel."""
    from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor

    multi = getattr(provider, "_active_span_processor", None)
    return isinstance(multi, SynchronousMultiSpanProcessor) and isinstance(
        getattr(multi, "_span_processors", None), tuple
    )


def span_processors(provider: Any) -> list[Any]:
    """The span processors of `provider`, and those within processors that only hand on to others."""
    found: list[Any] = []
    waiting = [getattr(provider, "_active_span_processor", None)]
    while waiting and len(found) < 100:
        each = waiting.pop(0)
        inner = getattr(each, "_span_processors", None)
        if isinstance(inner, tuple):
            waiting += inner
        elif each is not None:
            found.append(each)
    return found


def span_exporters(provider: Any) -> list[Any]:
    """The exporters behind the SDK's span processors of `provider`, in order. A batch processor hides its own."""
    found = []
    for processor in span_processors(provider):
        batch = getattr(processor, "_batch_processor", None)
        exporter = getattr(processor, "span_exporter", None) or getattr(batch, "_exporter", None)
        if exporter is not None:
            found.append(exporter)
    return found


def shutdowns(provider: Any) -> Iterator[tuple[Callable[[], None], Callable[[float], None]]]:
    """(begin, finish) for every part of `provider` that exports: end the retries, then shut down in time."""
    for holder, name in (
        ("_active_span_processor", "_span_processors"),
        ("_multi_log_record_processor", "_log_record_processors"),
    ):
        for processor in getattr(getattr(provider, holder, None), name, ()):
            exporter = getattr(getattr(processor, "_batch_processor", None), "_exporter", None)
            yield _stopper(exporter), _batch_finisher(processor)
    for reader in metric_readers(provider):
        yield _reader_beginner(reader), _reader_finisher(reader)


def _stopper(exporter: Any) -> Callable[[], None]:
    return lambda: stop_retries(exporter)


def _batch_finisher(processor: Any) -> Callable[[float], None]:
    return lambda seconds: shut_down_batch(processor, seconds)


def _reader_beginner(reader: Any) -> Callable[[], None]:
    def begin() -> None:
        stop_retries(getattr(reader, "_exporter", None))
        collect_last(reader)

    return begin


def _reader_finisher(reader: Any) -> Callable[[float], None]:
    return lambda seconds: reader.shutdown(timeout_millis=seconds * 1000)
