"""What of a collection goes to CloudWatch, as values with dimensions: one home for `cloudwatch` and `emf`."""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from spanwell.analysis.names import INSIGHTS, SEVERITY, TYPE
from spanwell.export.cloudwatch_names import NAMESPACE, SERVICE, ascii_text, dimension
from spanwell.export.cloudwatch_values import values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, TypeAlias

    from opentelemetry.sdk.metrics.export import Metric, MetricsData

    from spanwell.export.cloudwatch_names import Chosen
    from spanwell.export.cloudwatch_values import Values

    Dimensions: TypeAlias = "tuple[tuple[str, str], ...]"

_DELTA = AggregationTemporality.DELTA
_UNITS = {"s": "Seconds", "ms": "Milliseconds", "us": "Microseconds", "By": "Bytes", "%": "Percent", "1": "Count"}
_OWN_UNITS = frozenset((*_UNITS.values(), "Kilobytes", "Megabytes", "Gigabytes", "Bits", "Count/Second", "None"))
_MAX_NAME = 255


class Point(NamedTuple):
    """Values of one metric at one time.

    sets: dimensions, once for each set. fields: attributes that are no dimension. exemplars: the SDK's, of spans that
    were among the values.
    """

    namespace: str
    name: str
    unit: str
    values: Values
    time_ns: int
    sets: tuple[Dimensions, ...]
    fields: Mapping[str, Any]
    exemplars: Iterable[Any] = ()


def preferences() -> dict[str, Any]:
    """What a MetricExporter for CloudWatch prefers: differences, and histograms that keep percentiles."""
    return {
        "preferred_temporality": {Counter: _DELTA, Histogram: _DELTA, ObservableCounter: _DELTA},
        "preferred_aggregation": {Histogram: ExponentialBucketHistogramAggregation()},
    }


def points(data: MetricsData, chosen: Chosen) -> Iterator[Point]:
    """What is `chosen` of `data`, without what has no value that CloudWatch takes."""
    for resource in data.resource_metrics:
        attributes = resource.resource.attributes
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == INSIGHTS:
                    yield from _insights(metric, chosen, attributes)
                else:
                    yield from _chosen(metric, chosen, attributes)


def _insights(metric: Metric, chosen: Chosen, resource: Mapping[str, Any]) -> Iterator[Point]:
    if getattr(metric.data, "aggregation_temporality", None) is not _DELTA:
        return
    service = ascii_text(resource.get("service.name"))
    for point in metric.data.data_points:
        attributes = point.attributes or {}
        kind = str(attributes.get(TYPE, ""))
        if not isinstance(value := getattr(point, "value", 0), int) or value <= 0:
            continue
        if chosen.insights is None or kind in chosen.insights:
            named = ("Severity", ascii_text(attributes.get(SEVERITY))), (SERVICE, service)
            name = ascii_text(kind)[:_MAX_NAME]
            yield Point(NAMESPACE, name, "Count", {1.0: value}, point.time_unix_nano, (named,), {})


def _chosen(metric: Metric, chosen: Chosen, resource: Mapping[str, Any]) -> Iterator[Point]:
    sets = chosen.sets_of(metric.name)
    if sets is None:
        return
    service = (SERVICE, ascii_text(resource.get("service.name")))
    used = {key for keys in sets for key in keys}
    data: Any = metric.data
    for point in data.data_points:
        values = values_of(data, point)
        if values:
            attributes = {**(point.attributes or {})}
            # What describes the process, such as deployment.environment.name, may be a dimension too.
            named = {key: (dimension(key), ascii_text(attributes.get(key, resource.get(key)))) for key in used}
            yield Point(
                chosen.namespace,
                metric.name[:_MAX_NAME],
                unit_of(metric.unit or ""),
                values,
                point.time_unix_nano,
                tuple((*(named[key] for key in keys), service) for keys in sets),
                {key: value for key, value in attributes.items() if key not in used},
                getattr(point, "exemplars", None) or (),
            )


def unit_of(unit: str) -> str:
    """CloudWatch's name of an OpenTelemetry unit, or "" where it has none."""
    if unit in _OWN_UNITS:
        return unit
    return _UNITS.get(unit, "Count" if unit.startswith("{") else "")
