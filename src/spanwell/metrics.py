"""Metrics: the SDK's MeterProvider with guarded exporters, set up only when an exporter is named."""

from __future__ import annotations

from opentelemetry import metrics
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from spanwell import exporters, otlp_settings
from spanwell._guard import guard, warn_once
from spanwell._otel import api, sdk
from spanwell.export.breaker import Breaker
from spanwell.export.guarded import GuardedExporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

    from spanwell.exit import Exit
    from spanwell.insights.red import Red
    from spanwell.settings import Settings

_INSTRUMENTS = (Counter, Histogram, ObservableCounter, ObservableGauge, ObservableUpDownCounter, UpDownCounter)


def set_up(settings: Settings, resource: Resource, exit: Exit, red: Red | None = None) -> None:
    """Set the global MeterProvider for the exporters that `settings` names, each of which gets what `red` counts."""
    transport = otlp_settings.protocol(settings, "metrics")
    found = exporters.signal_exporters(settings.metrics_exporter, transport, "metrics")
    present = api.current_provider("metrics")
    if found and present is not None:  # it takes no more readers
        add_counted(sdk.metric_readers(present), red)
        warn_once("join:metrics", "spanwell: metrics go where the application's own MeterProvider sends them")
        return
    readers: list[MetricReader] = []
    guarded: list[GuardedMetricExporter] = []
    for name, make in found.items():
        with guard(f"metrics exporter {name}"):
            made = _otlp_metrics(name, make, settings) if name == "otlp" else make()
            if not isinstance(made, MetricReader):
                if not isinstance(made, GuardedMetricExporter):
                    rests = not getattr(made, "keeps_failures", False)
                    made = GuardedMetricExporter(name, _given(made), rests=rests, **sdk.preferences(made))
                guarded.append(made)
                made = PeriodicExportingMetricReader(made)
            readers.append(made)
    if not readers:
        return
    add_counted(readers, red)
    provider = MeterProvider(resource=resource, metric_readers=readers, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)

    def begin() -> None:
        for exporter in guarded:
            exporter.last_attempt()
        for reader in readers:
            sdk.collect_last(reader)

    # A timeout of nothing makes the provider raise before it has asked its readers.
    exit.add(begin, lambda seconds: sdk.shut_down_metrics(provider, max(seconds, 0.01)))


def add_counted(readers: Iterable[MetricReader], red: Red | None) -> None:
    """Let every collection of `readers` hold what `red` counted meanwhile."""
    if red is None:
        return
    from spanwell import __version__
    from spanwell.insights.points import Collected

    collected = Collected(red, __version__)
    for reader in readers:
        with guard("metrics of insights"):
            delta, delta_counts = sdk.prefers_delta(reader)
            feed = collected.attach(delta=delta, delta_counts=delta_counts, explicit=not sdk.pushes(reader))
            sdk.add_to_collections(reader, feed.add)


def _given(made: Any) -> Callable[[], Any]:
    return lambda: made


def _otlp_metrics(name: str, make: Callable[[], Any], settings: Settings) -> GuardedMetricExporter:
    """The OTLP exporter, made at the first export: it imports requests and protobuf, 60 ms of CPU.

    A reader asks its exporter for its preferences at once, so these are read here as upstream reads them.
    """
    delta = {
        "delta": (Counter, Histogram, ObservableCounter),
        "lowmemory": (Counter, Histogram),
    }.get(settings.temporality, ())
    exponential = settings.histogram_aggregation == "base2_exponential_bucket_histogram"
    return GuardedMetricExporter(
        name,
        make,
        preferred_temporality={
            kind: AggregationTemporality.DELTA if kind in delta else AggregationTemporality.CUMULATIVE
            for kind in _INSTRUMENTS
        },
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()} if exponential else {},
    )


class GuardedMetricExporter(MetricExporter):
    """A metric exporter that never raises, rests while its destination is down and counts what is lost.

    One that does not rest sees every collection: it keeps what it could not deliver for the next.
    """

    def __init__(
        self, name: str, build: Callable[[], MetricExporter], *, rests: bool = True, **preferences: Any
    ) -> None:
        super().__init__(**preferences)
        self._rests = rests
        self._guarded = GuardedExporter(name, build, "metrics")
        self._breaker = Breaker()
        self._last = False

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Export `metrics_data` once; nothing is kept, the next collection brings the sums again."""
        number = sum(len(scope.metrics) for each in metrics_data.resource_metrics for scope in each.scope_metrics)
        return MetricExportResult.SUCCESS if self._attempt(metrics_data, number) else MetricExportResult.FAILURE

    def _attempt(self, metrics_data: MetricsData, number: int) -> bool:
        import time

        if self._rests and not self._last and not self._breaker.allows(time.monotonic()):
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

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down. Never raises."""
        self._guarded.shutdown()
