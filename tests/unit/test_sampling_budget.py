"""The `budget` sampler: what it holds, whom it shares with, and that its weights are known beforehand."""

from __future__ import annotations

import os
import threading

import pytest
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import TraceState

from spanwell.sampling.budget import OTHER, BudgetSampler, from_argument, level, operation, short
from spanwell.sampling.build import Making, make
from spanwell.sampling.outcome import REASON
from spanwell.sampling.probability import MAX, adjusted_count, encode, threshold
from support.traffic import NOBODY, Clock, Load, bursts, nights, parent, play, skewed, steady, step


def made(clock: Clock, argument: str, said: list[str] | None = None) -> BudgetSampler:
    sampler = make("budget", argument, Making((said if said is not None else []).append, clock=clock))
    assert isinstance(sampler, BudgetSampler)
    return sampler


def ask(sampler: BudgetSampler, name: str = "work", trace_id: int = 1, **attributes: object):
    return sampler.should_sample(NOBODY, trace_id, name, None, attributes)


# --- the budget is held -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "rate", "spans", "operations"),
    [(10, 30, 5, 1), (10, 30, 5, 20), (40, 40, 3, 10), (5, 60, 1, 5)],
)
def test_a_load_above_the_budget_is_kept_to_it(given: float, rate: float, spans: int, operations: int) -> None:
    clock = Clock()
    kept = play(BudgetSampler(given, clock=clock), clock, Load(steady(rate), 900, skewed(operations), spans), 1)
    assert kept.a_second(60, 900) == pytest.approx(given, rel=0.05)
    assert abs(kept.deviation()) < 4


def test_over_an_hour_it_is_held_within_two_per_cent() -> None:
    clock = Clock()
    kept = play(BudgetSampler(10, clock=clock), clock, Load(steady(20), 3600, skewed(5), 4), 2)
    assert kept.a_second(0, 3600) == pytest.approx(10, rel=0.02)


def test_a_load_below_the_budget_is_kept_whole_and_weighs_one() -> None:
    clock = Clock()
    kept = play(BudgetSampler(100, clock=clock), clock, Load(steady(10), 600, skewed(10), 5), 3)
    assert sum(kept.traces.values()) == kept.requests
    assert kept.estimate == kept.requests


@pytest.mark.parametrize("before", [2, 20])
def test_a_jump_is_over_in_two_seconds(before: float) -> None:
    clock = Clock()
    load = Load(step(before, before * 10, 200), 300, (1.0,), 5)
    kept = play(BudgetSampler(20, clock=clock), clock, load, 4)
    assert sum(kept.spans[200:300]) < 20 * 100 * 1.05 + 2 * 20
    assert sum(kept.spans[200:202]) < 8 * 20  # of 200 or 2000 spans that came
    assert kept.a_second(203, 213) < 1.5 * 20


def test_the_first_second_of_a_busy_process_is_no_flood() -> None:
    clock = Clock()
    kept = play(BudgetSampler(10, floor=0, clock=clock), clock, Load(steady(1000), 10, (1.0,), 8), 5)
    assert sum(kept.spans[:10]) < 300  # of 80,000


def test_what_others_decided_to_keep_comes_first() -> None:
    clock = Clock()
    sampler = BudgetSampler(40, clock=clock)
    kept = play(sampler, clock, Load(steady(40), 600, (1.0,), 5, remote=0.1), 6)
    assert kept.a_second(60, 600) == pytest.approx(40, rel=0.05)
    own = sum(kept.traces.values()) * 5 / 600
    assert own == pytest.approx(40 - 4 * 5, rel=0.15)


def test_more_from_others_than_the_budget_leaves_little_but_not_nothing() -> None:
    clock = Clock()
    kept = play(BudgetSampler(10, floor=0, clock=clock), clock, Load(steady(50), 300, (1.0,), 2, remote=0.5), 7)
    assert 0 < sum(kept.traces.values()) < 0.2 * kept.requests
    assert abs(kept.deviation()) < 4


def test_a_jump_of_what_others_decided_is_followed_at_once() -> None:
    clock = Clock()
    sampler = BudgetSampler(20, floor=0, clock=clock)
    play(sampler, clock, Load(steady(40), 60), 7)
    before = sampler.probabilities()["GET /operation0"]
    play(sampler, clock, Load(steady(55), 3, remote=15 / 55), 7)
    assert sampler.probabilities()["GET /operation0"] < 0.5 * before  # 5 of 20 a second are left


def test_instances_share_the_budget() -> None:
    clock = Clock()
    kept = play(BudgetSampler(40, instances=4, clock=clock), clock, Load(steady(40), 400, (1.0,), 2), 8)
    assert kept.a_second(60, 400) == pytest.approx(10, rel=0.08)


# --- a month ----------------------------------------------------------------------------------------------------


def test_the_day_uses_what_the_night_left() -> None:
    day = 86400
    clock = Clock()
    a_day = 3000
    sampler = BudgetSampler(spans_per_month=a_day * 30.44, floor=0, clock=clock)
    kept = play(sampler, clock, Load(nights(0.2, 0.005, day / 2), day, (1.0,), 1), 9)
    night, noon = sum(kept.spans[: day // 2]), sum(kept.spans[day // 2 :])
    assert night + noon == pytest.approx(a_day, rel=0.05)
    assert noon > 1.5 * a_day / 2
    assert abs(kept.deviation()) < 4


def test_the_next_day_begins_anew_and_the_peak_is_bounded() -> None:
    clock = Clock()
    sampler = BudgetSampler(spans_per_month=864 * 30.44, floor=0, clock=clock)  # 0.01 a second
    ask(sampler)
    clock.now += 86400 - 60
    ask(sampler)
    assert sampler._rate == pytest.approx(0.1)  # not 863 spans in a minute
    clock.now += 61
    ask(sampler)
    assert sampler._rate == pytest.approx(0.01, rel=0.01)


def test_a_day_that_is_used_up_does_not_touch_the_next() -> None:
    clock = Clock()
    sampler = BudgetSampler(spans_per_month=4 * 864 * 30.44, instances=4, floor=0, clock=clock)  # 0.01 a second
    ask(sampler)
    assert sampler._rate == pytest.approx(0.01, rel=0.01)
    for _ in range(2000):
        sampler.should_sample(parent(remote=True), 1, "x")
    clock.now += 3600
    ask(sampler)
    assert sampler._rate == pytest.approx(0.0005)
    clock.now += 86400
    ask(sampler)
    assert sampler._rate == pytest.approx(0.01, rel=0.1)


def test_with_both_the_smaller_one_counts() -> None:
    clock = Clock()
    sampler = BudgetSampler(0.5, spans_per_month=86400 * 30.44, clock=clock)
    ask(sampler)
    assert sampler._rate == 0.5


# --- the floor --------------------------------------------------------------------------------------------------


def test_each_operation_gets_one_trace_an_interval_whatever_the_budget() -> None:
    clock = Clock()
    kept = play(BudgetSampler(0.5, floor=10, clock=clock), clock, Load(steady(50), 120, skewed(5), 1), 10)
    assert kept.reasons["floor"] > 0
    for times in kept.times.values():
        gaps = [after - before for before, after in zip([0.0, *times], [*times, 120.0], strict=True)]
        assert max(gaps) < 10 + 3  # the interval, and then until the next request


@pytest.mark.parametrize("given", [0, 0.0])
def test_a_budget_of_nothing_keeps_the_floor_alone(given: float) -> None:
    clock = Clock()
    sampler = BudgetSampler(given, floor=10, clock=clock)
    kept = play(sampler, clock, Load(steady(20), 100, (1.0,), 1), 11)
    assert set(kept.reasons) == {"floor"}
    assert kept.reasons["floor"] in (9, 10)


def test_nothing_at_all() -> None:
    clock = Clock()
    kept = play(BudgetSampler(0, floor=0, clock=clock), clock, Load(steady(100), 100, (1.0,), 1), 12)
    assert not kept.reasons


def test_floor_has_a_reason_and_no_weight_and_chance_has_both() -> None:
    clock = Clock()
    sampler = BudgetSampler(10, clock=clock)
    first, second = ask(sampler, trace_id=MAX - 1), ask(sampler, trace_id=MAX - 1)
    assert (first.attributes[REASON], adjusted_count(first.trace_state)) == ("floor", None)
    assert (second.attributes[REASON], adjusted_count(second.trace_state)) == ("budget", 1.0)


def test_a_weight_from_elsewhere_does_not_survive() -> None:
    clock = Clock()
    sampler = BudgetSampler(0, clock=clock)
    state = TraceState([("ot", "th:8;rv:0123456789abcd"), ("x", "y")])
    floor = sampler.decide(1, "work", None, None, state)
    dropped = sampler.decide(1, "work", None, None, state)
    for result, decision in ((floor, Decision.RECORD_AND_SAMPLE), (dropped, Decision.DROP)):
        assert result.decision is decision
        assert dict(result.trace_state.items()) == {"ot": "rv:0123456789abcd", "x": "y"}


# --- operations -------------------------------------------------------------------------------------------------


def test_quiet_operations_are_kept_whole_and_busy_ones_share_the_rest() -> None:
    clock = Clock()
    weights = [1, 1, 1, 100, 200]  # of 30.3 a second: 0.1 each, and 10 and 20
    kept = play(BudgetSampler(6, floor=0, clock=clock), clock, Load(steady(30.3), 900, weights, 1), 13)
    for index in range(3):
        assert kept.traces[f"operation{index}"] == kept.seen[f"operation{index}"]
    busy, busier = kept.traces["operation3"], kept.traces["operation4"]
    assert busy == pytest.approx(busier, rel=0.1)
    assert busy / kept.seen["operation3"] == pytest.approx(0.29, rel=0.15)


def test_at_most_a_hundred_operations_and_idle_ones_make_place() -> None:
    clock = Clock()
    sampler = BudgetSampler(1000, floor=0, clock=clock)
    for index in range(250):
        ask(sampler, f"name{index}")
    clock.now += 2
    ask(sampler, "name0")
    assert len(sampler.probabilities()) == 101
    assert OTHER in sampler.probabilities()
    assert "name99" in sampler.probabilities()
    assert "name100" not in sampler.probabilities()
    for _ in range(70):
        clock.now += 1
        ask(sampler, "name0")
    ask(sampler, "name100")
    assert {"name0", "name100", OTHER} == set(sampler.probabilities())


def test_names_without_end_do_not_use_the_floor_up() -> None:
    clock = Clock()
    sampler = BudgetSampler(1, floor=60, clock=clock)
    kept = 0
    for index in range(6000):
        clock.now += 0.02
        kept += ask(sampler, f"name{index}").attributes.get(REASON) == "floor"
    assert kept <= 3 * 101  # in two minutes


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"http.route": "/orders/{id}", "http.request.method": "GET", "url.path": "/orders/1"}, "GET /orders/{id}"),
        ({"http.request.method": "GET", "url.path": "/orders/1"}, "GET /orders"),
        ({"http.method": "POST", "http.target": "/orders?x=/1"}, "POST /orders"),
        ({"url.path": "/"}, "/"),
        ({"url.path": "orders/1"}, "/orders"),
        ({"http.request.method": "GET"}, "the name"),
        ({"url.path": 17, "http.method": b"GET"}, "b'GET' /17"),
        ({"http.route": ["a"]}, "['a']"),
        ({}, "the name"),
        (None, "the name"),
    ],
)
def test_the_operation(attributes: dict[str, object] | None, expected: str) -> None:
    assert operation("the name", attributes) == expected


def test_long_keys_are_cut() -> None:
    assert len(operation("n" * 10_000, None)) == 200
    assert len(operation("n", {"url.path": "/" + "p" * 10_000, "http.method": "GET"})) == 200


# --- threads, forks, clocks -------------------------------------------------------------------------------------


def test_many_threads_on_a_frozen_clock_count_right() -> None:
    sampler = BudgetSampler(1e9, floor=60, clock=Clock())
    results: list[str] = []

    def work(number: int) -> None:
        for index in range(100):
            result = ask(sampler, f"name{number % 10}", trace_id=number * 1000 + index)
            results.append(str(result.attributes[REASON]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results.count("floor"), results.count("budget")) == (10, 1990)
    assert sum(sampler.decisions.snapshot().values()) == 2000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_starts_afresh_even_if_the_lock_was_held() -> None:
    sampler = BudgetSampler(10, clock=Clock())
    ask(sampler)
    with sampler._lock:
        child = os.fork()
        if not child:
            status = 1
            try:
                fresh = not sampler.decisions.snapshot() and not sampler.probabilities()
                status = 0 if fresh and ask(sampler).attributes[REASON] == "floor" else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sampler.decisions.snapshot() == {("", "floor"): 1}


def test_a_clock_that_steps_does_no_harm() -> None:
    clock = Clock()
    sampler = BudgetSampler(5, clock=clock)
    for jump in (0, -500, 1e6, -1e6, 0.001, -0.001):
        clock.now += jump
        kept = play(sampler, clock, Load(steady(100), 60, (1.0,), 2), 14)
        assert kept.a_second(30, 60) < 15
        assert sum(kept.traces.values()) > 0
        play(sampler, clock, Load(steady(1), 60), 14)
        assert sampler.probabilities()["GET /operation0"] == 1.0


def test_a_clock_that_steps_back_does_not_stop_the_ticks() -> None:
    clock = Clock()
    sampler = BudgetSampler(5, clock=clock)
    ask(sampler)
    clock.now -= 500
    ask(sampler)
    assert sampler._next == clock.now + 1


def test_the_parents_decision_stands_and_is_counted() -> None:
    sampler = BudgetSampler(10, clock=Clock())
    local = sampler.should_sample(parent(remote=False), 1, "x", None, {"a": 1})
    assert (local.decision, dict(local.attributes)) == (Decision.RECORD_AND_SAMPLE, {"a": 1})
    remote = sampler.should_sample(parent(remote=True), 1, "x", None, {"a": 1})
    assert dict(remote.attributes) == {"a": 1, REASON: "parent"}
    for away in (True, False):
        result = sampler.should_sample(parent(remote=away, sampled=False), 1, "x", None, {"a": 1})
        assert result.decision is Decision.DROP
    assert (sampler._take(0, sampler._spans), sampler._take(1, sampler._remote)) == (2, 1)
    assert (sampler._take(0, sampler._spans), sampler._take(1, sampler._remote)) == (0, 0)


def test_a_burst_uses_no_more_than_the_budget_allows() -> None:
    clock = Clock()
    kept = play(BudgetSampler(20, clock=clock), clock, Load(bursts(5, 200, 10), 300, (1.0,), 4), 15)
    assert kept.a_second(30, 300) < 20 * 1.05
    assert abs(kept.deviation()) < 4


# --- parts and arguments ----------------------------------------------------------------------------------------


def test_the_fair_share() -> None:
    assert level(10, [1, 2, 3]) == float("inf")
    assert level(6, [1, 2, 3]) == float("inf")
    assert level(5, [1, 2, 3]) == 2
    assert level(9, [100, 1, 100]) == 4
    assert level(0, [1]) == 0
    assert level(3, []) == float("inf")


@pytest.mark.parametrize("probability", [1.0, 0.9, 0.5, 0.1, 0.01, 1e-3, 1e-4, 1e-6, 1e-9, 1e-15, 0.0])
def test_short_thresholds_are_close_and_never_nothing(probability: float) -> None:
    cut = short(threshold(probability))
    assert 0 <= cut < MAX
    assert len(encode(cut).lstrip("f")) <= 3
    if probability > 1e-12:
        assert 1 - cut / MAX == pytest.approx(probability, rel=1 / 128, abs=1e-14)


def test_arguments() -> None:
    said: list[str] = []
    sampler = made(Clock(), "spans_per_second=2.5,floor=0,instances=3,spans_per_month=9e6", said)
    assert not said
    assert sampler.get_description() == "budget{spans_per_second=2.5,spans_per_month=9e+06,floor=0,instances=3}"


@pytest.mark.parametrize(
    ("argument", "said", "description"),
    [
        ("", ["missing; using 10 a second"], "spans_per_second=10,floor=60"),
        ("spans_per_second=-1", ["spans_per_second='-1' is not a number from 0", "missing"], "spans_per_second=10"),
        ("spans_per_second=nan", ["'nan' is not a number", "missing"], "spans_per_second=10"),
        ("span_per_second=3", ["did you mean spans_per_second=", "missing"], "spans_per_second=10"),
        ("spans_per_month=5,instances=0", ["instances='0' is not a whole number from 1"], "spans_per_month=5"),
        ("spans_per_second=3,floor=x", ["floor='x'"], "spans_per_second=3,floor=60"),
    ],
)
def test_bad_arguments_are_said_and_the_rest_applies(argument: str, said: list[str], description: str) -> None:
    reports: list[str] = []
    sampler = from_argument(argument, Making(reports.append, clock=Clock()))
    assert len(reports) == len(said)
    assert all(part in line for part, line in zip(said, reports, strict=True))
    assert f"budget{{{description}" in sampler.get_description()


@pytest.mark.parametrize("numbers", [{}, {"spans_per_second": -1}, {"spans_per_month": -1}, {"floor": -1}])
def test_numbers_that_make_no_sense(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="budget"):
        BudgetSampler(**numbers)
    with pytest.raises(ValueError, match="instances"):
        BudgetSampler(1, instances=0)
