"""A small exponential histogram: OpenTelemetry's base-2 buckets, observed cheaply and merged exactly."""

from __future__ import annotations

from math import ceil, inf, log2, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_SCALE = 20
MAX_SIZE = 160
_PER_OCTAVE = float(1 << MAX_SCALE)


class Histogram:
    """How often which values were seen, with a bounded relative error. Any unit; no lock: the caller has one.

    The bucket `index` holds values in (base ** index, base ** (index + 1)], base = 2 ** (2 ** -scale). The scale is
    the finest, from 20 down, at which all indexes fit into `max_size` buckets (at least 4, else ValueError). Every
    index is derived from the one at scale 20, so the result depends neither on the order of values nor on how they
    were merged (`sum`: up to rounding). Numbers up to zero count as zero; NaN and infinities are not counted.

    observe: constant time, amortised. merge, quantile, buckets: at most max_size steps, sorted.
    """

    __slots__ = ("_counts", "_high", "_low", "_shift", "_size", "count", "max", "min", "sum", "zero_count")

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        if max_size < 4:
            raise ValueError(f"max_size must be at least 4, not {max_size}")
        self.count = 0
        self.sum = 0.0
        self.min = inf
        self.max = -inf
        self.zero_count = 0
        self._size = max_size
        self._counts: dict[int, int] = {}
        self._shift = 0
        self._low = 0
        self._high = -1

    @property
    def scale(self) -> int:
        """The buckets' scale, 20 to -10."""
        return MAX_SCALE - self._shift

    def observe(self, value: float) -> None:
        """Count `value` once."""
        if value > 0:
            if value == inf:
                return
            index = (ceil(log2(value) * _PER_OCTAVE) - 1) >> self._shift
            counts = self._counts
            if index in counts:
                counts[index] += 1
            else:
                self._add(index, 1)
        elif value > -inf:
            value = 0
            self.zero_count += 1
        else:
            return
        self.count += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count all of `values`, as `observe` does; in half its time if they are numbers above zero."""
        total = sum(values)
        low = min(values, default=nan)
        if not (low > 0 and total < inf):  # zeros, NaN or infinities among them, or nothing at all
            for value in values:
                self.observe(value)
            return
        counts, shift = self._counts, self._shift
        for value in values:
            index = (ceil(log2(value) * _PER_OCTAVE) - 1) >> shift
            if index in counts:
                counts[index] += 1
            else:
                self._add(index, 1)
                counts, shift = self._counts, self._shift
        self.count += len(values)
        self.sum += total
        self.min = min(self.min, low)
        self.max = max(self.max, *values)

    def merge(self, other: Histogram) -> None:
        """Add all that `other` has counted, as if observed here. `other` stays as it is."""
        if other._shift > self._shift:
            self._coarsen(other._shift - self._shift)
        for index, count in list(other._counts.items()):
            self._add(index >> (self._shift - other._shift), count)
        self.zero_count += other.zero_count
        self.count += other.count
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def quantile(self, q: float) -> float:
        """The value that the share `q` (0 to 1) of all does not exceed, by nearest rank; NaN while empty.

        At most one bucket off: a factor of base. q = 0 and q = 1 are exact.
        """
        if not self.count:
            return nan
        rank = max(1, ceil(q * self.count))
        if rank == 1:
            return self.min
        if rank >= self.count:
            return self.max
        seen = 0
        for value, count in self.values():
            seen += count
            if seen >= rank:
                return value
        return self.max

    def values(self) -> Iterator[tuple[float, int]]:
        """(a value, how often) for each bucket in use, ascending: its geometric middle within `min` and `max`."""
        if self.zero_count:
            yield 0.0, self.zero_count
        width = 2.0**-self.scale
        for index in sorted(self._counts):
            middle = 2.0 ** min(max((index + 0.5) * width, -1074.0), 1023.9999999)
            yield min(max(middle, self.min), self.max), self._counts[index]

    def buckets(self) -> tuple[int, list[int]]:
        """(offset, counts): the positive buckets as OTLP has them; counts[0] belongs to the index `offset`."""
        if not self._counts:
            return 0, []
        return self._low, [self._counts.get(index, 0) for index in range(self._low, self._high + 1)]

    def copy(self) -> Histogram:
        """An independent histogram with the same counts."""
        found = Histogram(self._size)
        found.merge(self)
        return found

    def _add(self, index: int, count: int) -> None:
        low, high = (min(self._low, index), max(self._high, index)) if self._counts else (index, index)
        steps = 0
        while (high >> steps) - (low >> steps) >= self._size:
            steps += 1
        if steps:
            self._coarsen(steps)
        index >>= steps
        self._counts[index] = self._counts.get(index, 0) + count
        self._low, self._high = low >> steps, high >> steps

    def _coarsen(self, steps: int) -> None:
        counts: dict[int, int] = {}
        for index, count in self._counts.items():
            wider = index >> steps
            counts[wider] = counts.get(wider, 0) + count
        self._counts = counts
        self._shift += steps
        self._low >>= steps
        self._high >>= steps
