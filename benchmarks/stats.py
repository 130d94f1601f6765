"""Medians, spread and ratios of repeated measurements; pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of `count` values, in the unit of the values."""

    median: float
    low: float
    high: float
    count: int


def summarise(values: Iterable[float]) -> Summary:
    """Median, first and third quartile of `values`. Raises ValueError when there are none.

    Quartiles interpolate linearly between the sorted values; one value is its own quartiles.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to summarise")
    return Summary(median(ordered), _quantile(ordered, 0.25), _quantile(ordered, 0.75), len(ordered))


def _quantile(ordered: list[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def ratio(value: float, base: float) -> float | None:
    """`value` over `base`; None where the base is not above 0."""
    return value / base if base > 0 else None
