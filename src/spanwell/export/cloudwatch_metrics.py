"""Metrics exporter `cloudwatch`: PutMetricData, for chosen metrics alone (see `cloudwatch_names`).

Each observation is sent once: what does not arrive is kept, and merged into the next export.
"""

from __future__ import annotations

from typing import NamedTuple

from spanwell.export import aws_client
from spanwell.export.cloudwatch_keeping import KeepingExporter
from spanwell.export.cloudwatch_names import INSIGHTS_ONLY
from spanwell.export.cloudwatch_values import merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeAlias

    from spanwell.export.cloudwatch_names import Chosen
    from spanwell.export.cloudwatch_points import Point
    from spanwell.export.cloudwatch_values import Values

    Datum: TypeAlias = "dict[str, Any]"

_MAX_DATUMS = 1000
_MAX_VALUES = 150
_MAX_BYTES = 900_000  # of CloudWatch's 1 MB, and before compression
_MAX_WAITING = 4000
# What CloudWatch will not take the next time either.
_REFUSED = frozenset(
    (
        *("InvalidParameterValue", "InvalidParameterCombination", "MissingParameter", "MissingRequiredParameter"),
        *("InvalidParameterValueException", "InvalidParameterCombinationException", "ValidationError"),
        *("MissingRequiredParameterException", "ValidationException", "SerializationException"),
    )
)


class _Key(NamedTuple):
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str


class CloudWatchMetricExporter(KeepingExporter):
    """Sends what is `chosen`. `client` makes botocore's client for CloudWatch, at the first export.

    Nothing is sent, and nothing costs, while there is nothing to tell. A failed export is said once; what waits is
    bounded to 4,000 metrics.
    """

    name = "cloudwatch"
    destination = "CloudWatch"
    denied = "allow cloudwatch:PutMetricData"

    def __init__(self, chosen: Chosen = INSIGHTS_ONLY, *, client: Callable[[], Any] | None = None) -> None:
        self._make = client or make_client
        super().__init__(chosen)

    def begin(self) -> None:
        """Start with nothing waiting and no connection."""
        self._client: Any = None
        self._waiting: dict[_Key, tuple[Values, int]] = {}

    def take(self, found: Iterable[Point]) -> None:
        """Merge `found` into what waits."""
        for point in found:
            for dimensions in point.sets:
                key = _Key(point.namespace, point.name, dimensions, point.unit)
                kept, latest = self._waiting.get(key, ({}, 0))
                self._waiting[key] = merged(kept, point.values), max(latest, point.time_ns)

    @property
    def waiting(self) -> int:
        """How many metrics wait."""
        return len(self._waiting)

    def shorten(self) -> int:
        """Let the oldest go beyond 4,000."""
        excess = list(self._waiting)[: max(0, len(self._waiting) - _MAX_WAITING)]
        for key in excess:
            del self._waiting[key]
        return len(excess)

    def send(self) -> None:
        """Send what waits; what arrived is forgotten request by request."""
        if self._client is None:
            self._client = self._make()
        for namespace, request in requests(self._waiting):
            self._put(namespace, [datum for _, datum in request])
            for key, datum in request:
                self._done(key, datum)

    def _put(self, namespace: str, datums: list[Datum]) -> None:
        try:
            self._client.put_metric_data(Namespace=namespace, MetricData=datums)
        except Exception as error:
            if aws_client.error_code(error) not in _REFUSED:
                raise
            self.refused(len(datums), error)

    def _done(self, key: _Key, datum: Datum) -> None:
        values, _ = self._waiting[key]
        for value in datum["Values"]:
            values.pop(value, None)
        if not values:
            del self._waiting[key]


def make_client() -> Any:
    """botocore's client for CloudWatch. The next export is the second attempt."""
    return aws_client.make_client("cloudwatch")


def requests(waiting: Mapping[_Key, tuple[Values, int]]) -> Iterator[tuple[str, list[tuple[_Key, Datum]]]]:
    """What waits as (namespace, request): at most 1,000 metrics and 900 kB each, at most 150 values a metric."""
    # Lists: what arrived is taken out of `waiting` while this runs.
    for namespace in list(dict.fromkeys(key.namespace for key in waiting)):
        mine = [(key, *found) for key, found in waiting.items() if key.namespace == namespace]
        request: list[tuple[_Key, Datum]] = []
        size = 0
        for key, datum in [each for one in mine for each in _datums(*one)]:
            weight = _weight(datum)
            if request and (len(request) >= _MAX_DATUMS or size + weight > _MAX_BYTES):
                yield namespace, request
                request, size = [], 0
            request.append((key, datum))
            size += weight
        yield namespace, request


def _datums(key: _Key, values: Values, time_ns: int) -> Iterator[tuple[_Key, Datum]]:
    from datetime import datetime, timezone

    pairs = sorted(values.items())
    for start in range(0, len(pairs), _MAX_VALUES):
        part = pairs[start : start + _MAX_VALUES]
        datum: Datum = {
            "MetricName": key.name,
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
