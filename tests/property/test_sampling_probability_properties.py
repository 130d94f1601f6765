"""Thresholds, their encoding, and tracestates of any kind."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from spanwell.sampling.budget import level, short
from spanwell.sampling.probability import (
    MAX,
    adjusted_count,
    decode,
    encode,
    randomness,
    threshold,
    with_threshold,
)

thresholds = st.integers(0, MAX - 1)
probabilities = st.floats(0, 1)
trace_ids = st.integers(1, 2**128 - 1)
values = st.text("0123456789abcdefABCDEF;:thrvxo.-", max_size=60)
states = st.one_of(
    st.none(),
    values.map(lambda value: TraceState([("ot", value)])),
    values.map(lambda value: TraceState([("other", "1"), ("ot", value), ("last", "2")])),
    st.just(TraceState([("other", "1")])),
)


@given(thresholds)
@example(0)
@example(MAX - 1)
@example(MAX - 16)
def test_a_threshold_is_read_back(value: int) -> None:
    text = encode(value)
    assert 1 <= len(text) <= 14
    assert decode(text) == value
    assert text == "0" or not text.endswith("0")


@given(st.text(max_size=20))
@example("")
@example("f" * 15)
@example("+f")
@example("0x1")
@example("٣")
@example("F")
def test_only_hexadecimal_digits_are_a_threshold(text: str) -> None:
    found = decode(text)
    if found is None:
        assert not 1 <= len(text) <= 14 or text.strip("0123456789abcdef")
    else:
        assert 0 <= found < MAX
        assert encode(found) == (text.rstrip("0") or "0")


@given(probabilities, probabilities)
def test_thresholds_fall_as_probabilities_rise(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= threshold(high) <= threshold(low) <= MAX
    assert abs((1 - threshold(low) / MAX) - low) < 1e-15
    assert (threshold(0.0), threshold(1.0)) == (MAX, 0)


@given(trace_ids, probabilities, probabilities)
def test_what_a_low_probability_keeps_a_higher_one_keeps_too(trace_id: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if randomness(trace_id) >= threshold(low):
        assert randomness(trace_id) >= threshold(high)


@given(trace_ids, states)
def test_randomness_is_56_bits_of_any_trace(trace_id: int, state: TraceState | None) -> None:
    assert 0 <= randomness(trace_id, state) < MAX


@given(trace_ids, st.integers(0, MAX - 1))
def test_an_explicit_randomness_is_used(trace_id: int, value: int) -> None:
    state = with_threshold(TraceState([("ot", f"th:8;rv:{value:014x}")]), 5)
    assert state is not None
    assert randomness(trace_id, state) == value


@given(states, st.one_of(st.none(), thresholds))
def test_a_threshold_is_set_and_the_rest_stays(state: TraceState | None, value: int | None) -> None:
    new = with_threshold(state, value)
    if value is None:
        assert adjusted_count(new) is None or adjusted_count(new) == adjusted_count(state)
    else:
        assert adjusted_count(new) == MAX / (MAX - value)
    before, after = dict(state.items()) if state else {}, dict(new.items()) if new else {}
    assert {key: text for key, text in after.items() if key != "ot"} == {
        key: text for key, text in before.items() if key != "ot"
    }
    kept = [each for each in before.get("ot", "").split(";") if each and not each.startswith("th:")]
    assert [each for each in after.get("ot", "").split(";") if each and not each.startswith("th:")] == kept


@given(states)
def test_a_weight_is_at_least_one_or_unknown(state: TraceState | None) -> None:
    weight = adjusted_count(state)
    assert weight is None or 1 <= weight <= MAX


@given(st.floats(1e-12, 1))
def test_short_thresholds_stay_close(probability: float) -> None:
    cut = short(threshold(probability))
    assert 0 <= cut < MAX
    assert len(encode(cut).lstrip("f")) <= 3
    assert abs((1 - cut / MAX) - probability) <= probability / 128 + 1e-14


@given(st.floats(0, 1e6), st.lists(st.floats(0, 1e6), max_size=101))
def test_the_fair_share_uses_the_whole_and_no_more(total: float, rates: list[float]) -> None:
    share = level(total, rates)
    used = sum(min(rate, share) for rate in rates)
    assert used <= total * (1 + 1e-9) + 1e-9
    if share != float("inf"):
        assert used >= total * (1 - 1e-9) - 1e-9
        assert any(rate > share for rate in rates)
