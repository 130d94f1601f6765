"""Metric points as CloudWatch takes them: values and how often each occurred. Pure."""

from __future__ import annotations

from math import isfinite

from opentelemetry.sdk.metrics.export import AggregationTemporality

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeAlias

    Values: TypeAlias = "dict[float, float]"
    """value -> how often"""

_DELTA = AggregationTemporality.DELTA
_MAX_VALUES = 600
_LARGEST = 2.0**360  # CloudWatch's


def values_of(data: Any, point: Any) -> Values:
    """The values of one point; a histogram's are the middles of its buckets, within its minimum and maximum.

    A sum since the start of a process cannot be told twice, so of monotonic sums and histograms only deltas count.
    NaN and infinities are left out.
    """
    since_start = getattr(data, "aggregation_temporality", _DELTA) is not _DELTA
    found: Values = {}
    if hasattr(point, "value"):
        if not (since_start and getattr(data, "is_monotonic", False)) and (point.value or not _is_sum(data)):
            found[float(point.value)] = 1
    elif not since_start:
        buckets = _exponential(point) if hasattr(point, "scale") else _explicit(point)
        low, high = (_finite(point.min, -_LARGEST), _finite(point.max, _LARGEST))
        for value, count in buckets:
            if count:
                middle = float(f"{min(max(value, low), high):.6g}")
                found[middle] = found.get(middle, 0) + count
    return {value: count for value, count in found.items() if isfinite(value) and abs(value) <= _LARGEST}


def _is_sum(data: Any) -> bool:
    return hasattr(data, "is_monotonic")


def _finite(value: Any, otherwise: float) -> float:
    return value if isinstance(value, int | float) and isfinite(value) else otherwise


def _exponential(point: Any) -> Iterator[tuple[float, float]]:
    yield 0.0, point.zero_count
    width = 2.0**-point.scale
    for sign, buckets in ((1, point.positive), (-1, point.negative)):
        for position, count in enumerate(buckets.bucket_counts):
            exponent = min((buckets.offset + position + 0.5) * width, 1023.9)
            yield sign * 2.0**exponent, count


def _explicit(point: Any) -> Iterator[tuple[float, float]]:
    bounds = list(point.explicit_bounds)
    if not bounds:
        yield point.sum / max(point.count, 1), point.count
        return
    edges = [_finite(point.min, bounds[0]), *bounds, _finite(point.max, bounds[-1])]
    for position, count in enumerate(point.bucket_counts):
        yield (edges[position] + edges[position + 1]) / 2, count


def merged(kept: Values, more: Values) -> Values:
    """Both together; of more than 600 different values neighbours become one, which keeps the count and the sum."""
    total = dict(kept)
    for value, count in more.items():
        total[value] = total.get(value, 0) + count
    while len(total) > _MAX_VALUES:
        pairs = sorted(total.items())
        total = {}
        for (low, few), (high, many) in zip(pairs[::2], [*pairs[1::2], (0.0, 0.0)], strict=False):
            value = (low * few + high * many) / (few + many)
            total[value] = total.get(value, 0) + few + many
    return total
