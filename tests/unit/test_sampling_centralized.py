"""The state behind `xray`: decisions, statistics and targets, with clocks that the tests move."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry.trace import TraceState

from spanwell.sampling.centralized import EXPIRY, Centralized, RuleState
from spanwell.sampling.probability import MAX, adjusted_count
from spanwell.sampling.rules import Boost, Rule

WALL = 1_750_000_000.0
TOP, BOTTOM = MAX - 1, 0  # kept by any rate, and by none below 1
DEFAULT = Rule("Default", 10000, fixed_rate=0.05, reservoir_size=1)


def known(*rules: Rule, now: float = 0.0) -> Centralized:
    resource = {"service.name": "shop"}
    central = Centralized(lambda: resource)
    central.apply_rules(rules or (DEFAULT,), now)
    return central


def only(central: Centralized) -> RuleState:
    (state,) = central.table.states
    return state


def target(name: str = "Default", **changed: Any) -> dict[str, Any]:
    return {"RuleName": name, "FixedRate": 0.05, **changed}


def answer(central: Centralized, *targets: Any, now: float = 0.0, wall: float = WALL, **more: Any) -> Any:
    """Report what there is, and get `targets` back: (refresh, interval, what was said)."""
    said: list[str] = []
    (report,) = central.take_reports(wall) or [None]
    sent = report or type("Nothing", (), {"taken": []})
    heard = central.apply_targets(sent, {"SamplingTargetDocuments": list(targets), **more}, said.append, now, wall)
    return heard.refresh, heard.interval, said


def counts(central: Centralized) -> dict[str, tuple[int, int, int]]:
    return {
        each["RuleName"]: (each["RequestCount"], each["SampledCount"], each["BorrowCount"])
        for report in central.take_reports(WALL)
        for each in report.statistics
    }


# --- decisions ------------------------------------------------------------------------------------------------------


def test_the_reservoir_comes_first_and_has_no_weight_then_chance_which_has_one() -> None:
    rule = only(known())
    borrowed = rule.pick(BOTTOM, 0.0)
    by_rate = rule.pick(TOP, 0.0)
    dropped = rule.pick(BOTTOM, 0.0)
    assert [pick.reason for pick in (borrowed, by_rate, dropped)] == ["borrowed", "rate", ""]
    assert [adjusted_count(pick.state) for pick in (borrowed, dropped)] == [None, None]
    assert adjusted_count(by_rate.state) == pytest.approx(20)


def test_every_root_carries_which_rule_decided() -> None:
    rule = only(known())
    assert {rule.pick(chance, 0.0).state.get("xrsr") for chance in (BOTTOM, TOP, BOTTOM)} == {"21b111cbfe6e8fca"}


def test_a_tracestate_that_came_is_combined_with_ours() -> None:
    came = TraceState([("vendor", "x"), ("ot", "th:8;rv:00000000000001"), ("xrsr", "other")])
    rule = only(known())
    borrowed, by_rate = rule.pick(TOP, 0.0).combined(came), rule.pick(TOP, 0.0).combined(came)
    assert dict(borrowed) == {"vendor": "x", "ot": "rv:00000000000001", "xrsr": "21b111cbfe6e8fca"}
    assert (by_rate["vendor"], by_rate["xrsr"]) == ("x", "21b111cbfe6e8fca")
    assert adjusted_count(by_rate) == pytest.approx(20)
    assert "rv:00000000000001" in by_rate["ot"]
    assert dict(rule.pick(BOTTOM, 0.0).combined(TraceState([("ot", "th:8")]))) == {"xrsr": "21b111cbfe6e8fca"}


def test_sampled_and_weights_add_up_to_all_requests() -> None:
    """Unbiased: fixed seed; the bound is five standard deviations."""
    chance, rule = random.Random(7), only(known(Rule("r", fixed_rate=0.1, reservoir_size=3)))
    total, estimate = 20_000, 0.0
    for number in range(total):
        pick = rule.pick(chance.getrandbits(56), number / 100)
        estimate += (adjusted_count(pick.state) or 1) if pick.reason else 0
    assert abs(estimate - total) < 5 * math.sqrt(total * 0.9 / 0.1)


def test_the_threads_of_a_frozen_clock_get_exactly_the_reservoir() -> None:
    central = known(Rule("r", fixed_rate=0, reservoir_size=1000))
    answer(central, target("r", FixedRate=0, ReservoirQuota=250, ReservoirQuotaTTL=WALL + 60))
    rule, start, seen = only(central), threading.Event(), Counter[str]()
    lock = threading.Lock()

    def ask() -> None:
        start.wait()
        mine = Counter(rule.pick(TOP, 5.0).reason for _ in range(100))
        with lock:
            seen.update(mine)

    threads = [threading.Thread(target=ask) for _ in range(1000)]
    for each in threads:
        each.start()
    start.set()
    for each in threads:
        each.join()
    assert seen == {"reservoir": 250, "": 99_750}
    assert counts(central) == {"r": (100_000, 250, 0)}


# --- quota ----------------------------------------------------------------------------------------------------------


def test_a_quota_replaces_borrowing_until_its_own_end() -> None:
    central = known(Rule("r", fixed_rate=0, reservoir_size=50))
    answer(central, target("r", FixedRate=0, ReservoirQuota=3, ReservoirQuotaTTL=WALL + 10), now=100.0)
    rule = only(central)
    assert Counter(rule.pick(TOP, 101.0).reason for _ in range(5)) == {"reservoir": 3, "": 2}
    assert Counter(rule.pick(TOP, 109.9).reason for _ in range(5)) == {"reservoir": 3, "": 2}
    assert Counter(rule.pick(TOP, 110.0).reason for _ in range(5)) == {"borrowed": 1, "": 4}


def test_the_same_quota_granted_again_is_not_a_second_burst() -> None:
    central = known(Rule("r", fixed_rate=0, reservoir_size=50))
    picked = Counter[str]()
    for turn in range(5):
        granted = target("r", FixedRate=0, ReservoirQuota=10, ReservoirQuotaTTL=WALL + 60)
        answer(central, granted, now=1.0 + turn / 1000)
        picked.update(only(central).pick(TOP, 1.0 + turn / 1000).reason for _ in range(20))
    assert picked["reservoir"] == 10


@pytest.mark.parametrize("wrong", [-86_400.0, -3.0, 0.0, 3.0, 86_400.0])
def test_the_wall_clock_matters_only_when_a_time_is_received(wrong: float) -> None:
    """A machine whose clock is wrong has it wrong by the same in both; steps afterwards change nothing."""
    central = known(Rule("r", fixed_rate=0, reservoir_size=50))
    until = WALL + wrong + 10
    answer(central, target("r", FixedRate=0, ReservoirQuota=1, ReservoirQuotaTTL=until), wall=WALL + wrong)
    central.take_reports(WALL - wrong)
    rule = only(central)
    assert [rule.pick(TOP, now).reason for now in (1.0, 9.0, 10.0)] == ["reservoir", "reservoir", "borrowed"]


def test_no_quota_outlives_the_rules_however_wrong_the_wall_clock() -> None:
    central = known(Rule("r", fixed_rate=0, reservoir_size=50))
    answer(central, target("r", FixedRate=0, ReservoirQuota=1, ReservoirQuotaTTL=WALL + 10), wall=0.0)
    assert only(central).pick(TOP, EXPIRY).reason == "borrowed"


def test_a_clock_that_steps_back_brings_and_takes_nothing() -> None:
    rule = only(known(Rule("r", fixed_rate=0, reservoir_size=1)))
    reasons = [rule.pick(TOP, now).reason for now in (1000.0, 10.0, 10.5, 11.0, 5.0, 6.0)]
    assert reasons == ["borrowed", "", "", "borrowed", "", "borrowed"]


# --- rules ----------------------------------------------------------------------------------------------------------


def test_an_unchanged_rule_keeps_everything_it_holds() -> None:
    boosted = Rule("r", 1, fixed_rate=0.1, reservoir_size=50, boost=Boost(0.5, 10))
    central = known(boosted, DEFAULT)
    granted = {"ReservoirQuota": 2, "ReservoirQuotaTTL": WALL + 60}
    boost = {"SamplingBoost": {"BoostRate": 0.5, "BoostRateTTL": WALL + 60}}
    answer(central, target("r", FixedRate=0.2, **granted, **boost))
    before = central.table.states[0]
    assert before.pick(TOP, 1.0).reason == "reservoir"
    central.apply_rules([Rule("new", 0, url_path="/new"), boosted._replace()], 2.0)
    after = central.table.states[1]
    assert after is before
    assert [after.pick(TOP, 1.0).reason for _ in range(2)] == ["reservoir", "boost"]
    assert counts(central) == {"r": (3, 3, 0)}


def test_a_changed_rule_keeps_its_statistics_even_those_of_late_threads() -> None:
    central = known(DEFAULT)
    old = only(central)
    old.pick(TOP, 0.0)
    central.apply_rules([DEFAULT._replace(fixed_rate=1.0)], 1.0)
    old.pick(BOTTOM, 0.0)  # a thread that had the old rules in hand
    assert only(central).pick(BOTTOM, 0.0).reason == "rate"
    assert counts(central) == {"Default": (3, 2, 1)}


def test_a_removed_rule_is_reported_once_more_and_what_comes_late_too() -> None:
    central = known(Rule("gone", 1), DEFAULT)
    gone = central.table.states[0]
    gone.pick(TOP, 0.0)
    central.apply_rules([DEFAULT], 1.0)
    gone.pick(BOTTOM, 0.0)
    assert counts(central) == {"gone": (2, 1, 1)}
    gone.pick(BOTTOM, 0.0)
    assert counts(central) == {"gone": (1, 0, 0)}
    assert counts(central) == {}
    assert central._removed == []


def test_a_removed_rule_that_comes_back_has_lost_nothing() -> None:
    central = known(Rule("r", 1), DEFAULT)
    central.table.states[0].pick(TOP, 0.0)
    central.apply_rules([DEFAULT], 1.0)
    central.apply_rules([Rule("r", 2), DEFAULT], 2.0)
    assert counts(central) == {"r": (1, 1, 1)}


def test_a_resource_that_becomes_known_later_binds_the_rules_anew() -> None:
    central = known(Rule("ecs", 1, service_type="AWS::ECS::Container"), DEFAULT)
    states = central.table.states
    assert central.table.rules.match({}) == 1
    known_now = {"cloud.platform": "aws_ecs"}
    central.resource = lambda: known_now
    table = central.bound()
    assert (table.rules.match({}), table.states) == (0, states)
    assert table is central.table


# --- statistics -----------------------------------------------------------------------------------------------------


def test_statistics_of_60_rules_leave_in_three_requests() -> None:
    central = known(*(Rule(f"r{number:02}", number + 1, boost=Boost(1.0, 1)) for number in range(60)))
    for state in central.table.states:
        state.pick(TOP, 0.0)
        state.count(anomalous=True, sampled=False)
    reports = central.take_reports(WALL)
    assert [(len(each.statistics), len(each.boosts)) for each in reports] == [(25, 25), (25, 25), (10, 10)]
    assert len({each["RuleName"] for report in reports for each in report.statistics}) == 60


def test_the_wire_names() -> None:
    central = known(DEFAULT._replace(boost=Boost(1.0, 1)))
    only(central).pick(TOP, 0.0)
    for anomalous, sampled in [(False, True), (True, False), (True, True)]:
        only(central).count(anomalous=anomalous, sampled=sampled)
    (report,) = central.take_reports(WALL)
    assert report.statistics == [
        {
            "RuleName": "Default",
            "ClientID": central.client_id,
            "Timestamp": WALL,
            "RequestCount": 1,
            "SampledCount": 1,
            "BorrowCount": 1,
        }
    ]
    assert report.boosts == [
        {
            "RuleName": "Default",
            "ServiceName": "shop",
            "Timestamp": WALL,
            "AnomalyCount": 2,
            "TotalCount": 3,
            "SampledAnomalyCount": 1,
        }
    ]


def test_only_rules_with_a_boost_report_it_and_are_found_by_hash() -> None:
    central = known(Rule("plain", 1), DEFAULT._replace(boost=Boost(1.0, 1), default_anomaly_detection=False))
    found = central.for_hash("21b111cbfe6e8fca")
    assert central.any_boost
    assert found is central.table.states[1]
    assert not found.default_detection
    assert central.for_hash(central.table.states[0].hashed) is None
    assert not known(DEFAULT).any_boost


def test_a_boost_that_is_taken_away_is_no_longer_reported() -> None:
    central = known(DEFAULT._replace(boost=Boost(1.0, 1)))
    only(central).count(anomalous=True, sampled=True)
    central.apply_rules([DEFAULT], 1.0)
    only(central).pick(TOP, 1.0)
    (report,) = central.take_reports(WALL)
    assert (len(report.statistics), report.boosts, central.any_boost) == (1, [], False)


def test_a_report_that_did_not_arrive_joins_the_next() -> None:
    central = known(DEFAULT._replace(boost=Boost(1.0, 1)))
    only(central).pick(TOP, 0.0)
    only(central).count(anomalous=True, sampled=True)
    (lost,) = central.take_reports(WALL)
    only(central).pick(BOTTOM, 0.0)
    central.give_back(lost)
    (report,) = central.take_reports(WALL)
    assert [report.statistics[0][name] for name in ("RequestCount", "SampledCount", "BorrowCount")] == [2, 1, 1]
    assert [report.boosts[0][name] for name in ("TotalCount", "AnomalyCount", "SampledAnomalyCount")] == [1, 1, 1]
    assert central.take_reports(WALL) == []


def test_unprocessed_statistics_are_sent_again_or_ask_for_the_rules() -> None:
    central = known(Rule("a", 1), Rule("b", 2), DEFAULT._replace(boost=Boost(1.0, 1)))
    for state in central.table.states:
        state.pick(TOP, 0.0)
    central.table.states[2].count(anomalous=True, sampled=True)
    failed = [{"RuleName": "a", "ErrorCode": "500"}, {"RuleName": "b", "ErrorCode": "400"}, 7, {"ErrorCode": None}]
    boosts = [{"RuleName": "Default", "ErrorCode": "503", "Message": "x"}]
    refresh, _, _ = answer(central, UnprocessedStatistics=failed, UnprocessedBoostStatistics=boosts)
    assert refresh
    (report,) = central.take_reports(WALL)
    assert [(each["RuleName"], each["RequestCount"]) for each in report.statistics] == [("a", 1), ("Default", 0)]
    assert [each["TotalCount"] for each in report.boosts] == [1]


# --- targets --------------------------------------------------------------------------------------------------------

BAD = {
    "FixedRate": [1.5, -0.1, "0.5", None, True, float("nan"), [], 10**400],
    "ReservoirQuotaTTL": [None, "soon", float("inf"), float("nan"), {}, -1, 10**400],
    "ReservoirQuota": ["1", -1, float("inf"), [1], 10**400],
    "Interval": ["10", [], float("nan")],
    "RuleName": [None, 3, []],
    "SamplingBoost": [[], "x", 1],
    "BoostRate": [None, 1.5, "1", float("nan")],
    "BoostRateTTL": [None, "x", float("inf")],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_bad_target_is_said_and_ignored_alone(field: str, value: object) -> None:
    central = known(Rule("bad", 1, fixed_rate=0.0, reservoir_size=0), DEFAULT)
    bad = target("bad", FixedRate=1.0, ReservoirQuota=5, ReservoirQuotaTTL=WALL + 9, Interval=5)
    boost = {"BoostRate": 1.0, "BoostRateTTL": WALL + 9}
    if field.startswith("BoostRate"):
        bad["SamplingBoost"] = {**boost, field: value}
    else:
        bad[field] = value
    _, interval, said = answer(central, bad, target(FixedRate=1.0, Interval=20))
    assert len(said) == 1
    assert field in said[0]
    assert "\n" not in said[0]
    assert interval == 20
    assert [state.pick(BOTTOM, 0.0).reason for state in central.table.states] == ["", "borrowed"]
    assert central.table.states[1].pick(BOTTOM, 0.0).reason == "rate"


@pytest.mark.parametrize("bad", [None, 3, "x", [], [1]])
def test_what_is_no_target_is_said_and_ignored(bad: object) -> None:
    central = known()
    assert len(answer(central, bad, target(FixedRate=1.0))[2]) == 1
    assert [only(central).pick(BOTTOM, 0.0).reason for _ in range(2)] == ["borrowed", "rate"]


@pytest.mark.parametrize("field", ["UnprocessedStatistics", "LastRuleModification"])
@pytest.mark.parametrize("value", [7, "x", {"a": 1}, True])
def test_a_bad_answer_changes_nothing(field: str, value: object) -> None:
    central, said = known(), list[str]()
    heard = central.apply_targets(_Nothing, {"SamplingTargetDocuments": [], field: value}, said.append, 0.0, WALL)
    assert heard == (False, None)
    assert only(central).pick(TOP, 0.0).reason == "borrowed"


@pytest.mark.parametrize("response", [{}, {"SamplingTargetDocuments": None}, {"SamplingTargetDocuments": {"a": 1}}])
def test_what_is_no_answer_is_a_failure(response: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="SamplingTargetDocuments"):
        known().apply_targets(_Nothing, response, pytest.fail, 0.0, WALL)


class _Nothing:
    taken: list[Any] = []


def test_absent_and_null_options_are_no_mistake() -> None:
    central = known()
    nothing = {"ReservoirQuota": None, "ReservoirQuotaTTL": None, "Interval": None, "SamplingBoost": None}
    assert answer(central, target(), target(**nothing), target("unknown"))[1:] == (None, [])


def test_the_smallest_interval_counts() -> None:
    assert answer(known(), target(Interval=30), target("x", Interval=7), target())[1] == 7


def boosted(rate: float, until: float) -> dict[str, Any]:
    return target(SamplingBoost={"BoostRate": rate, "BoostRateTTL": WALL + until})


def reason(central: Centralized, now: float) -> str:
    state = only(central)
    state.pick(BOTTOM, now)  # what is borrowed
    return state.pick(round(0.5 * MAX), now).reason


def test_a_boost_lasts_until_its_end_whatever_the_next_target_says() -> None:
    central = known(DEFAULT._replace(boost=Boost(0.6, 10)))
    assert reason(central, 0.0) == ""
    answer(central, boosted(0.6, 60.0), now=1.0)
    assert reason(central, 2.0) == "boost"
    assert adjusted_count(only(central).pick(TOP, 2.0).state) == pytest.approx(1 / 0.6)
    answer(central, target(), now=10.0, wall=WALL + 9)
    assert reason(central, 60.9) == "boost"
    assert reason(central, 61.0) == ""


def test_a_boost_below_the_rate_is_none() -> None:
    central = known(DEFAULT)
    answer(central, {**boosted(0.1, 60.0), "FixedRate": 0.8})
    assert reason(central, 1.0) == "rate"


def test_the_target_changes_the_rate_and_the_weight() -> None:
    central = known(DEFAULT)
    answer(central, target(FixedRate=0.6))
    assert reason(central, 1.0) == "rate"
    assert adjusted_count(only(central).pick(TOP, 1.0).state) == pytest.approx(1 / 0.6)


def test_rules_are_refreshed_once_for_each_modification() -> None:
    central = known(now=100.0)

    def refresh(modified: float | None, now: float, wall: float = 0.0) -> bool:
        return bool(answer(central, LastRuleModification=modified, now=now, wall=wall or WALL + now)[0])

    assert not refresh(None, 101.0)
    assert not refresh(WALL + 50, 110.0)  # before the refresh
    assert refresh(WALL + 115, 120.0)
    assert not refresh(WALL + 115, 130.0)
    # The wall clock steps by a day either way: the service's times are compared among themselves.
    assert not refresh(WALL + 115, 140.0, WALL + 86_400)
    assert refresh(WALL + 145, 150.0, WALL + 86_400)
    assert not refresh(WALL + 145, 160.0, WALL - 86_400)
    assert refresh(WALL + 165, 170.0, WALL - 86_400)


def test_a_modification_between_the_refresh_and_the_first_answer_is_seen() -> None:
    central = known(now=100.0)
    assert answer(central, LastRuleModification=WALL + 105, now=110.0, wall=WALL + 110)[0]


# --- fork -----------------------------------------------------------------------------------------------------------


def test_a_child_is_another_client_with_the_same_rules_and_nothing_to_report() -> None:
    central = known(Rule("gone", 1), Rule("r", 2, fixed_rate=0.0, reservoir_size=50))
    central.table.states[0].pick(TOP, 0.0)
    central.apply_rules([Rule("r", 2, fixed_rate=0.0, reservoir_size=50)], 0.0)
    answer(central, target("r", FixedRate=0.7, ReservoirQuota=9, ReservoirQuotaTTL=WALL + 60))
    only(central).pick(TOP, 0.0)
    parent = central.client_id
    only(central).statistics.lock.acquire()  # as another thread did at the moment of the fork
    central._lock.acquire()
    central.after_fork()
    assert central.client_id != parent
    assert len(central.client_id) == 24
    assert int(central.client_id, 16)
    assert central.take_reports(WALL) == []
    assert [only(central).pick(TOP, 0.0).reason for _ in range(2)] == ["borrowed", "rate"]
    assert central._lock.acquire(timeout=0)
