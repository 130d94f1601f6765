"""The exponential histogram: exact counts, whatever the order and the grouping; quantiles within one bucket."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from spanwell.analysis.quantiles import Histogram

positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
numbers = st.lists(positive | st.floats(-5, 1e6) | st.integers(-3, 10**12), max_size=60)
small = st.sampled_from([4, 7, 20, 160])


def of(values: list[float], size: int = 160) -> Histogram:
    found = Histogram(size)
    for value in values:
        found.observe(value)
    return found


def state(found: Histogram) -> tuple[object, ...]:
    return found.scale, found.buckets(), found.zero_count, found.count, found.min, found.max


@given(numbers, numbers, numbers, small)
def test_merging_is_counting_in_any_grouping_and_order(
    a: list[float], b: list[float], c: list[float], size: int
) -> None:
    left = of(a, size)
    left.merge(of(b, size))
    left.merge(of(c, size))
    right_half = of(b, size)
    right_half.merge(of(c, size))
    right = of(a, size)
    right.merge(right_half)
    turned = of(c, size)
    turned.merge(right_half.copy())
    turned = of(c, size)
    turned.merge(of(a, size))
    turned.merge(of(b, size))
    assert state(left) == state(right) == state(turned) == state(of(a + b + c, size))
    assert state(right_half) == state(of(b + c, size))
    assert math.isclose(left.sum, right.sum, rel_tol=1e-9, abs_tol=1e-300)


@given(numbers, small)
def test_every_value_is_in_its_bucket_and_the_scale_is_the_finest_that_fits(values: list[float], size: int) -> None:
    found = of(values, size)
    offset, counts = found.buckets()
    assert found.zero_count + sum(counts) == found.count == len(values)
    assert len(counts) <= size
    above = [value for value in values if value > 0]
    width = 2.0**-found.scale
    slack = 1e-9  # a value at a bound may fall on either side
    for place, count in enumerate(counts):
        low, high = (offset + place) * width, (offset + place + 1) * width
        assert sum(low + slack < math.log2(value) <= high - slack for value in above) <= count
        assert count <= sum(low - slack <= math.log2(value) <= high + slack for value in above)
    if found.scale < 20:
        finer = [math.ceil(math.log2(value) / width * 2) - 1 for value in above]
        assert max(finer) - min(finer) + 1 >= size


@given(st.lists(positive | st.floats(-5, 1e6), min_size=1, max_size=80), st.floats(0, 1), st.floats(0, 1), small)
def test_a_quantile_is_at_most_one_bucket_off(values: list[float], q: float, other: float, size: int) -> None:
    found = of(values, size)
    true = sorted(max(0.0, value) for value in values)[max(1, math.ceil(q * len(values))) - 1]
    near = found.quantile(q)
    if true == 0 or near == 0:
        assert near == true
    else:
        assert abs(math.log2(near) - math.log2(true)) <= 2.0**-found.scale + 1e-9
    assert found.min <= near <= found.max
    assert found.quantile(0) == found.min
    assert found.quantile(1) == found.max
    low, high = sorted((q, other))
    assert found.quantile(low) <= found.quantile(high)


@given(numbers)
def test_values_and_counts_tell_the_same_as_the_buckets(values: list[float]) -> None:
    found = of(values)
    listed = list(found.values())
    assert sum(count for _, count in listed) == found.count
    assert listed == sorted(listed)
    assert all(found.min <= value <= found.max for value, _ in listed)


@given(
    st.lists(numbers | st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.5]), max_size=3), max_size=6), small
)
def test_many_at_once_count_as_one_by_one(groups: list[list[float]], size: int) -> None:
    together, single = Histogram(size), Histogram(size)
    for group in groups:
        together.observe_all(group)
        for value in group:
            single.observe(value)
        assert state(together) == state(single)
    assert math.isclose(together.sum, single.sum, rel_tol=1e-9, abs_tol=1e-9)
