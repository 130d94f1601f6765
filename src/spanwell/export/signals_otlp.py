"""The metrics of Application Signals as an OTLP ExportMetricsServiceRequest, written by hand. Pure.

Three exponential histograms of differences, as ADOT's AwsSpanMetricsProcessor sends them: Latency in Milliseconds;
Error and Fault, each span counting 0 or 1. opentelemetry-proto: metrics/v1/metrics.proto.
"""

from __future__ import annotations

from struct import Struct

from spanwell.export.otlp_pairs import any_value, framed, key_value, varint
from spanwell.export.otlp_values import Values
from spanwell.values import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Protocol

    class Aggregate(Protocol):
        """A histogram: `analysis.quantiles.Histogram`."""

        count: int
        sum: float
        min: float
        max: float
        zero_count: int

        @property
        def scale(self) -> int: ...
        def buckets(self) -> tuple[int, list[int]]: ...

    class Totals(Protocol):
        """What one set of attributes saw: `enrich.signal_counts.Totals`."""

        errors: int
        faults: int

        @property
        def latency(self) -> Aggregate: ...


SCOPE = "AwsSpanMetricsProcessor"
_SCALE = 20  # of a histogram of zeros and ones
_ONE = -1  # the bucket that ends with 1
_MAX_BYTES = 1_000_000

_fixed = Struct("<BQ").pack
_double = Struct("<Bd").pack


def requests(
    resource: Mapping[str, Any], found: Iterable[tuple[Sequence[tuple[str, str]], Totals]], start: int, end: int
) -> Iterable[tuple[bytes, int]]:
    """(request, how many sets of attributes it holds) for all of `found`, each about 1 MB at most.

    start, end: Unix nanoseconds, between which all of it was seen.
    """
    head = framed(b"\x0a", b"".join(_attribute(text(key), value) for key, value in resource.items()))
    points: list[tuple[bytes, bytes, bytes]] = []
    size = 0
    for labels, totals in found:
        common = b"".join(_attribute(key, value) for key, value in labels) + _fixed(0x11, start) + _fixed(0x19, end)
        count = totals.latency.count
        made = (
            _point(common, totals.latency),
            _flags_point(common, count, totals.errors),
            _flags_point(common, count, totals.faults),
        )
        points.append(made)
        size += sum(map(len, made))
        if size > _MAX_BYTES:
            yield _request(head, points), len(points)
            points, size = [], 0
    if points:
        yield _request(head, points), len(points)


def _request(head: bytes, points: Sequence[tuple[bytes, bytes, bytes]]) -> bytes:
    latency, errors, faults = (b"".join(each) for each in zip(*points, strict=True))
    scope = framed(b"\x0a", framed(b"\x0a", SCOPE.encode()))
    metrics = (
        _metric("Latency", "Milliseconds", latency) + _metric("Error", "", errors) + _metric("Fault", "", faults)
    )
    return framed(b"\x0a", head + framed(b"\x12", scope + metrics))


def _metric(name: str, unit: str, points: bytes) -> bytes:
    said = framed(b"\x0a", name.encode()) + (framed(b"\x1a", unit.encode()) if unit else b"")
    return framed(b"\x12", said + framed(b"\x52", points + b"\x10\x01"))  # aggregation_temporality: delta


def _point(common: bytes, each: Aggregate) -> bytes:
    offset, counts = each.buckets()
    return _histogram(common, each.count, each.sum, each.scale, each.zero_count, offset, counts, each.min, each.max)


def _flags_point(common: bytes, count: int, number: int) -> bytes:
    low, high = float(number == count), float(number > 0)
    return _histogram(
        common, count, float(number), _SCALE, count - number, _ONE, [number] if number else [], low, high
    )


def _histogram(
    common: bytes,
    count: int,
    total: float,
    scale: int,
    zeros: int,
    offset: int,
    counts: list[int],
    low: float,
    high: float,
) -> bytes:
    made = common + _fixed(0x21, count) + _double(0x29, total)
    if scale:
        made += b"\x30" + varint(_zigzag(scale))
    if zeros:
        made += _fixed(0x39, zeros)
    if counts:
        packed = framed(b"\x12", b"".join(map(varint, counts)))
        made += framed(b"\x42", b"\x08" + varint(_zigzag(offset)) + packed)
    return framed(b"\x0a", made + _double(0x61, low) + _double(0x69, high))


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _attribute(key: str, value: Any) -> bytes:
    return framed(b"\x0a", key_value(key, any_value(value, Values())))
