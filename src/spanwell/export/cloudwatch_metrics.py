"""Metrics exporter `cloudwatch`: PutMetricData, for chosen metrics alone (see `cloudwatch_names`).

Each observation is sent once: what does not arrive is kept, and merged into the next export.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from spanwell._children import in_child
from spanwell._forks import whole
from spanwell._guard import logger, losses, warn_once
from spanwell._otel.exporting import quiet_exporters, suppressed
from spanwell.analysis.names import INSIGHTS, SEVERITY, TYPE
from spanwell.export.cloudwatch_names import DEFAULT, NAMESPACE, Chosen, dimension
from spanwell.export.cloudwatch_values import merged, values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeAlias

    from opentelemetry.sdk.metrics.export import Metric, MetricsData

    from spanwell.export.cloudwatch_values import Values

    Datum: TypeAlias = "dict[str, Any]"

_MAX_DATUMS = 1000
_MAX_VALUES = 150
_MAX_BYTES = 900_000  # of CloudWatch's 1 MB, and before compression
_MAX_WAITING = 4000
_DELTA = AggregationTemporality.DELTA
_UNITS = {"s": "Seconds", "ms": "Milliseconds", "us": "Microseconds", "By": "Bytes", "%": "Percent", "1": "Count"}
# What CloudWatch will not take the next time either.
_REFUSED = frozenset(
    (
        *("InvalidParameterValue", "InvalidParameterCombination", "MissingParameter", "MissingRequiredParameter"),
        *("InvalidParameterValueException", "InvalidParameterCombinationException", "ValidationError"),
        *("MissingRequiredParameterException", "ValidationException", "SerializationException"),
    )
)
_INSIGHTS_ONLY = Chosen(frozenset(DEFAULT), {})


class _Key(NamedTuple):
    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str


class CloudWatchMetricExporter(MetricExporter):
    """Sends to `namespace` what is `chosen`. `client` makes botocore's client for CloudWatch, at the first export.

    Nothing is sent, and nothing costs, while there is nothing to tell. A failed export is said once; what waits is
    bounded to 4,000 metrics.
    """

    keeps_failures = True
    counts_losses = True

    def __init__(
        self, chosen: Chosen = _INSIGHTS_ONLY, *, namespace: str = NAMESPACE, client: Callable[[], Any] | None = None
    ) -> None:
        super().__init__(
            preferred_temporality={Counter: _DELTA, Histogram: _DELTA, ObservableCounter: _DELTA},
            preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
        )
        self._chosen = chosen
        self._namespace = namespace
        self._make = client or make_client
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: connections and what waits are the parent's."""
        self._lock = threading.Lock()
        self._client: Any = None
        self._waiting: dict[_Key, tuple[Values, int]] = {}

    # --- what comes in ------------------------------------------------------------------------------------------

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send what is chosen of `metrics_data`, and what waits. Never raises."""
        with self._lock, suppressed():
            for resource in metrics_data.resource_metrics:
                service = _ascii(resource.resource.attributes.get("service.name"))
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        self._take(metric, service)
            sent = not self._waiting or self._send()
            self._bound()
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    def _take(self, metric: Metric, service: str) -> None:
        data: Any = metric.data
        if metric.name == INSIGHTS:
            for point in data.data_points:
                self._insight(point, service, getattr(data, "aggregation_temporality", None) is _DELTA)
            return
        keys = self._chosen.metrics.get(metric.name)
        if keys is None:
            return
        for point in data.data_points:
            values = values_of(data, point)
            if values:
                named = [(dimension(key), _ascii((point.attributes or {}).get(key))) for key in keys]
                unit = _unit(metric.unit or "")
                self._add(_Key(metric.name, (*named, ("ServiceName", service)), unit), values, point.time_unix_nano)

    def _insight(self, point: Any, service: str, delta: bool) -> None:
        kind = str(point.attributes.get(TYPE, ""))
        chosen = self._chosen.insights
        if not delta or point.value <= 0 or (chosen is not None and kind not in chosen):
            return
        severity = _ascii(point.attributes.get(SEVERITY))
        key = _Key(_ascii(kind), (("Severity", severity), ("ServiceName", service)), "Count")
        self._add(key, {1.0: point.value}, point.time_unix_nano)

    def _add(self, key: _Key, values: Values, time_ns: int) -> None:
        kept, latest = self._waiting.get(key, ({}, 0))
        self._waiting[key] = merged(kept, values), max(latest, time_ns)

    def _bound(self) -> None:
        excess = len(self._waiting) - _MAX_WAITING
        if excess <= 0:
            return
        for key in list(self._waiting)[:excess]:
            del self._waiting[key]
        losses.add("metrics", "too many wait (cloudwatch)", excess)

    # --- what goes out ------------------------------------------------------------------------------------------

    def _send(self) -> bool:
        try:
            if self._client is None:
                self._client = self._make()
            for request in requests(self._waiting):
                self._put([datum for _, datum in request])
                for key, datum in request:
                    self._done(key, datum)
        except Exception as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            logger.debug("spanwell: PutMetricData failed", exc_info=error)
            warn_once(
                f"cloudwatch:{type(error).__name__}",
                "spanwell: CloudWatch did not take %d metrics: %s; they go with the next export",
                len(self._waiting),
                said,
            )
            return False
        return True

    def _put(self, datums: list[Datum]) -> None:
        try:
            self._client.put_metric_data(Namespace=self._namespace, MetricData=datums)
        except Exception as error:
            response: Any = getattr(error, "response", None)
            code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
            if code not in _REFUSED:
                raise
            losses.add("metrics", "refused (cloudwatch)", len(datums))
            warn_once(f"cloudwatch:{code}", "spanwell: CloudWatch refused %d metrics: %s", len(datums), error)

    def _done(self, key: _Key, datum: Datum) -> None:
        values, _ = self._waiting[key]
        for value in datum["Values"]:
            values.pop(value, None)
        if not values:
            del self._waiting[key]

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Every export sends what waits."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Count what still waits as lost. Never raises."""
        with self._lock:
            number = len(self._waiting)
            self._waiting = {}
        if number:
            losses.add("metrics", "exit (cloudwatch)", number)
            logger.warning("spanwell: %d metrics did not reach CloudWatch before the process ended", number)
            losses.tell(number)


def make_client() -> Any:
    """botocore's client for CloudWatch, in the region that it finds: one attempt, seconds at most."""
    from spanwell.signing import Signer

    # The import may let botocore's instrumentor ask for meters, while the process ends.
    with quiet_exporters(("opentelemetry.sdk.metrics._internal",)):
        region = Signer("monitoring").region  # may ask a metadata service: no fork is to wait for it
        with whole:
            from botocore.config import Config
            from botocore.session import Session

            # The next export is the second attempt.
            config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
            return Session().create_client("cloudwatch", region_name=region, config=config)


def requests(waiting: Mapping[_Key, tuple[Values, int]]) -> Iterator[list[tuple[_Key, Datum]]]:
    """What waits as requests: at most 1,000 metrics and 900 kB each, at most 150 values a metric."""
    request: list[tuple[_Key, Datum]] = []
    size = 0
    # A list: what arrived is taken out of `waiting` while this runs.
    everything = [each for key, (values, time_ns) in waiting.items() for each in _datums(key, values, time_ns)]
    for key, datum in everything:
        weight = _weight(datum)
        if request and (len(request) >= _MAX_DATUMS or size + weight > _MAX_BYTES):
            yield request
            request, size = [], 0
        request.append((key, datum))
        size += weight
    if request:
        yield request


def _datums(key: _Key, values: Values, time_ns: int) -> Iterator[tuple[_Key, Datum]]:
    from datetime import datetime, timezone

    pairs = sorted(values.items())
    for start in range(0, len(pairs), _MAX_VALUES):
        part = pairs[start : start + _MAX_VALUES]
        datum: Datum = {
            "MetricName": key.name[:255],
            "Dimensions": [{"Name": name, "Value": value} for name, value in key.dimensions],
            "Timestamp": datetime.fromtimestamp(time_ns / 1e9, timezone.utc),
            "Values": [value for value, _ in part],
            "Counts": [float(count) for _, count in part],
        }
        if key.unit:
            datum["Unit"] = key.unit
        yield key, datum


def _weight(datum: Datum) -> int:
    """Bytes at most: in the oldest protocol each value and count has a name of up to 45 characters."""
    texts: Iterable[str] = (text for each in datum["Dimensions"] for text in each.values())
    return 300 + sum(len(text) * 3 + 60 for text in texts) + 140 * len(datum["Values"])


def _unit(unit: str) -> str:
    return _UNITS.get(unit, "Count" if unit.startswith("{") else "")


def _ascii(text: Any) -> str:
    """A dimension's value: 1 to 1024 printable ASCII characters, no colon first."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in str("" if text is None else text)[:1024]).strip()
    return "_" + shown[1:] if shown.startswith(":") else shown or "-"
