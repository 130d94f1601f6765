"""`xray` against a sampling service on loopback; the poller is driven by hand, on a clock that the tests move."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context, use_span

from spanwell import _guard
from spanwell.sampling.adaptive_config import Config
from spanwell.sampling.outcome import REASON, RULE
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.polling import RULES, TARGETS
from spanwell.sampling.remote import XRaySampler
from spanwell.testing import FakeSamplingService
from support.sampling_rig import DEFAULT, KEPT, LOST, ORDERS, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig([ORDERS, DEFAULT]) as made:
        yield made
        assert made.service.violations == []


# --- from the first root on -----------------------------------------------------------------------------------------


def test_until_the_first_rules_and_where_none_matches_the_fallback_decides() -> None:
    with Rig([ORDERS], ALWAYS_ON) as rig:
        assert rig.reason() == "fallback"
        rig.run(5)
        assert (rig.reason(), rig.reason(trace_id=LOST), rig.reason("/other")) == ("rate", None, "fallback")
        assert rig.sampler.decisions.snapshot() == {
            ("", "fallback"): 2,
            ("orders", "rate"): 1,
            ("orders", "dropped"): 1,
        }


def test_the_fallback_sees_a_root_whatever_span_is_current() -> None:
    running = NonRecordingSpan(SpanContext(5, 6, False, TraceFlags(0)))
    with Rig([ORDERS], ParentBased(ALWAYS_ON)) as rig, use_span(running):
        assert rig.reason() == "fallback"


def test_what_a_kept_root_carries(rig: Rig) -> None:
    rig.run(5)
    result = rig.ask()
    assert result.decision is Decision.RECORD_AND_SAMPLE
    assert dict(result.attributes or {}) == {"url.path": "/orders/1", RULE: "orders", REASON: "rate"}
    assert (result.trace_state or {}).get("ot") == "th:8"
    dropped = rig.ask(trace_id=LOST)
    assert (dropped.decision, dict(dropped.attributes or {})) == (Decision.DROP, {})
    assert dict(dropped.trace_state or {}) == {"xrsr": rig.sampler.central.table.states[0].hashed}
    assert rig.ask(trace_state=TraceState([("a", "b")])).trace_state.get("a") == "b"  # type: ignore[union-attr]


def test_the_applications_attributes_are_not_touched(rig: Rig) -> None:
    rig.run(5)
    mine = {"url.path": "/orders/1", "n": 1}
    rig.sampler.should_sample(Context(), KEPT, "GET", None, mine)
    assert mine == {"url.path": "/orders/1", "n": 1}


@pytest.mark.parametrize(
    "attributes", [{"url.path": 7}, {"url.path": b"\xff"}, {"url.path": ("a", 1)}, {"x": object()}]
)
def test_no_attribute_can_raise(rig: Rig, attributes: Any) -> None:
    rig.run(5)
    assert rig.sampler.should_sample(Context(), KEPT, "GET", None, attributes).decision is not None


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("remote", [False, True])
def test_children_follow_their_parent_and_touch_no_statistics(rig: Rig, flags: int, remote: bool) -> None:
    rig.run(5)
    state = TraceState([("vendor", "abc")])
    parent = set_span_in_context(NonRecordingSpan(SpanContext(KEPT, 9, remote, TraceFlags(flags), state)), Context())
    result = rig.sampler.should_sample(parent, KEPT, "child", None, {"url.path": "/orders/1"})
    assert result.decision is (Decision.RECORD_AND_SAMPLE if flags else Decision.DROP)
    assert result.trace_state == state
    rig.run(60)
    assert rig.service.asked(TARGETS_PATH) == 0
    assert rig.sampler.decisions.snapshot() == {}


TARGETS_PATH, RULES_PATH = "SamplingTargets", "GetSamplingRules"


# --- what may go wrong ----------------------------------------------------------------------------------------------

FAULTS = ["fail", "garbage", "truncate", "empty", "no rules", "useless rules", "refused"]


def break_service(service: FakeSamplingService, fault: str) -> None:
    service.edit = None
    service.recover()
    if fault == "empty":
        service.garbage(b"{}")
    elif fault == "no rules":
        service.garbage(b'{"SamplingRuleRecords": [], "SamplingTargetDocuments": null}')
    elif fault == "useless rules":
        service.garbage(b'{"SamplingRuleRecords": [{"SamplingRule": {"RuleName": 7}}], "SamplingTargetDocuments": 3}')
    elif fault == "refused":
        service.fail(403)
    else:
        getattr(service, fault)()


def test_an_hour_of_failing_polls_changes_nothing_before_the_rules_expire() -> None:
    with Rig([ORDERS, DEFAULT], ALWAYS_ON) as rig:
        rig.run(5)
        rig.ask("/x"), rig.run(10)  # a target for Default, and its quota of 1
        behaviour = Counter[object]()
        turn = 0
        while (rig.sampler.rules_age(rig.clock()) or 0) < 3590:
            break_service(rig.service, FAULTS[turn % len(FAULTS)])
            turn += 1
            rig.run(9.5)
            for path, chance in (("/orders/1", KEPT), ("/orders/1", LOST), ("/x", KEPT), ("/x", LOST)):
                behaviour[path, chance == KEPT, rig.reason(path, chance)] += 1
        early = {key for key in behaviour if key[2] == "reservoir"}  # until the quota's own end, then borrowed
        assert {key: number for key, number in behaviour.items() if key not in early} == {
            ("/orders/1", True, "rate"): turn,
            ("/orders/1", False, None): turn,
            ("/x", True, "borrowed"): turn - sum(behaviour[key] for key in early),
            ("/x", False, None): turn,
        }
        assert rig.sampler.poll_failures > 20
        rig.advance(30)
        assert rig.reason() == rig.reason("/x") == rig.reason(trace_id=LOST) == "fallback"
        break_service(rig.service, "recover")
        rig.run(310)
        assert (rig.reason(), rig.reason(trace_id=LOST)) == ("rate", None)
        assert rig.service.total("orders").requests == 2 * turn  # nothing was lost in that hour


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kind_of_failure_is_said_once(rig: Rig, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    break_service(rig.service, fault)
    with caplog.at_level(logging.WARNING, "spanwell"):
        rig.run(200)
    said = [record.getMessage() for record in caplog.records if "what was known stays in use" in record.getMessage()]
    assert len(said) == 1
    assert "\n" not in said[0]
    assert rig.sampler.poller.failures[RULES] > 3
    assert rig.sampler.figures()["polls.failed"][0] == ({"poll": "rules"}, rig.sampler.poller.failures[RULES])


def test_one_bad_rule_or_target_does_not_harm_the_good_ones(rig: Rig) -> None:
    def edit(path: str, answer: dict[str, Any]) -> object:
        if path == RULES_PATH:
            records = answer["SamplingRuleRecords"]
            bad = [{"SamplingRule": {**ORDERS, "RuleName": "bad", "FixedRate": 7}}, {"SamplingRule": None}, "x", None]
            return {**answer, "SamplingRuleRecords": [*bad, *records]}
        targets = answer["SamplingTargetDocuments"]
        return {**answer, "SamplingTargetDocuments": [None, *({**each, "FixedRate": 1.0} for each in targets)]}

    rig.service.edit = edit
    rig.run(5)
    assert [state.name for state in rig.sampler.central.table.states] == ["orders", "Default"]
    assert rig.reason(trace_id=LOST) is None
    rig.run(12)
    assert rig.reason(trace_id=LOST) == "rate"
    assert rig.sampler.poll_failures == 0


def test_statistics_survive_failed_reports_whatever_the_failure(rig: Rig) -> None:
    rig.run(5)
    for fault in FAULTS:
        if fault in ("fail", "garbage", "truncate", "refused"):
            break_service(rig.service, fault)
            rig.ask()
            rig.run(40)
    rig.service.recover()
    rig.run(300)
    assert rig.service.total("orders") == (4, 4, 0)
    assert len(rig.service.totals()) == 1


def test_statistics_that_the_service_could_not_process_come_again(rig: Rig) -> None:
    rig.run(5)
    rig.service.refuse("orders")
    rig.ask()
    rig.run(25)
    assert rig.service.total().requests == 0
    rig.service.refuse("orders", "")
    rig.run(25)
    assert rig.service.total("orders").requests == 1


def test_without_statistics_targets_are_not_asked_for(rig: Rig) -> None:
    rig.run(900)
    assert rig.service.asked(TARGETS_PATH) == 0
    assert rig.service.asked(RULES_PATH) in (3, 4)


def test_60_rules_come_in_pages_and_leave_in_chunks() -> None:
    rules = [{**ORDERS, "RuleName": f"r{number:02}", "URLPath": f"/{number:02}/*"} for number in range(60)]
    with Rig(rules) as rig:
        rig.service.page_size = 7
        rig.run(5)
        assert rig.service.asked(RULES_PATH) == 9
        for number in range(60):
            rig.ask(f"/{number:02}/x")
        rig.run(11)
        assert rig.service.asked(TARGETS_PATH) == 3
        assert {name: total.requests for (name, _), total in rig.service.totals().items()} == {
            f"r{number:02}": 1 for number in range(60)
        }
        assert rig.service.violations == []


def test_a_failing_chunk_gives_back_itself_and_the_later_ones() -> None:
    rules = [{**ORDERS, "RuleName": f"r{number:02}", "URLPath": f"/{number:02}/*"} for number in range(60)]
    with Rig(rules) as rig:
        rig.run(5)
        for number in range(60):
            rig.ask(f"/{number:02}/x")
        seen: list[str] = []

        def edit(path: str, answer: dict[str, Any]) -> object:
            seen.append(path)
            if seen.count(TARGETS_PATH) == 1:
                rig.service.fail(500, times=1)
            return answer

        rig.service.edit = edit
        rig.run(60)
        assert rig.service.total().requests == 60
        assert rig.sampler.poller.failures[TARGETS] == 1


# --- rules that change ----------------------------------------------------------------------------------------------


def test_rules_change_within_the_next_report_and_no_request_is_lost(rig: Rig) -> None:
    rig.run(5)
    asked = 0
    for turn in range(6):
        for _ in range(10):
            rig.ask(), rig.ask("/x")
            asked += 2
        rig.service.set_rules([{**ORDERS, "FixedRate": turn / 10}, DEFAULT])
        rig.run(25)
        assert rig.sampler.central.table.states[0].rule.fixed_rate == turn / 10
    assert rig.service.total().requests == asked
    assert rig.service.asked(RULES_PATH) < 15


def test_the_wall_clock_may_step_by_a_day_at_any_time(rig: Rig) -> None:
    rig.run(5)
    reasons = []
    for step in (86_400.0, -2 * 86_400.0, 86_400.0):
        rig.wall.advance(step)
        rig.run(30)
        reasons.append([rig.reason("/x") for _ in range(2)])
    assert all(first in ("borrowed", "reservoir") and second is None for first, second in reasons)
    assert rig.service.asked(RULES_PATH) < 8
    assert (rig.sampler.rules_age(rig.clock()) or 0) <= 305


def test_the_resource_may_become_known_after_the_rules() -> None:
    rules = [{**ORDERS, "ServiceType": "AWS::ECS::Container", "URLPath": "*", "FixedRate": 1}]
    with Rig(rules) as rig:
        known: dict[str, str] = {}
        resources = [known]
        rig.sampler.connect(Surroundings(lambda: resources[-1]))
        rig.run(5)
        assert rig.reason() is None
        resources.append({"cloud.platform": "aws_ecs"})
        assert rig.reason() == "rate"


# --- adaptive sampling ----------------------------------------------------------------------------------------------


def test_unsampled_roots_of_a_rule_with_a_boost_are_recorded() -> None:
    rules = [{**ORDERS, "SamplingRateBoost": {"MaxRate": 0.5, "CooldownWindowMinutes": 10}}, DEFAULT]
    with Rig(rules) as rig:
        rig.run(5)
        result = rig.ask(trace_id=LOST)
        assert result.decision is Decision.RECORD_ONLY
        assert dict(result.attributes or {}) == {"url.path": "/orders/1", RULE: "orders"}
        rig.ask("/x")
        assert rig.ask("/x", LOST).decision is Decision.DROP


def test_a_boost_is_followed_and_its_statistics_reported() -> None:
    rules = [{**ORDERS, "FixedRate": 0.0, "SamplingRateBoost": {"MaxRate": 1.0, "CooldownWindowMinutes": 10}}]
    with Rig(rules) as rig:
        rig.run(5)
        rig.service.set_boost("orders", 0.5, 60)
        assert rig.reason() is None
        counter = rig.sampler.central.for_hash(rig.sampler.central.table.states[0].hashed)
        assert counter is not None
        counter.count(anomalous=True, sampled=False)
        rig.run(12)
        assert [(each["TotalCount"], each["AnomalyCount"]) for each in rig.service.boosts] == [(1, 1)]
        rig.service.set_boost("orders", None)
        assert rig.reason() == "boost"
        rig.run(12)
        assert rig.reason() == "boost"
        rig.run(60)
        assert rig.reason() is None
        assert rig.service.violations == []


def test_capture_records_every_unsampled_span() -> None:
    with Rig([ORDERS], adaptive=Config()) as rig:
        rig.sampler.connect(Surroundings(dict, promote=lambda _span: None))
        assert rig.ask().decision is Decision.RECORD_ONLY  # the fallback said no
        rig.run(5)
        result = rig.ask(trace_id=LOST)
        assert result.decision is Decision.RECORD_ONLY
        assert (result.attributes or {})["aws.xray.adaptive_sampling_configured"] is True
        for remote in (False, True):
            parent = set_span_in_context(NonRecordingSpan(SpanContext(KEPT, 9, remote, TraceFlags(0))), Context())
            assert rig.sampler.should_sample(parent, KEPT, "child").decision is Decision.RECORD_ONLY


def test_a_service_that_only_continues_traces_polls_if_their_rule_may_have_a_boost() -> None:
    with Rig([ORDERS]) as rig:
        rig.sampler.poller.idle = True
        for remote, state in ((False, {"xrsr": "abc"}), (True, {"a": "b"}), (True, {})):
            follow(rig.sampler, remote, state)
            assert rig.sampler.poller.idle
        follow(rig.sampler, True, {"xrsr": "abc"})
        assert not rig.sampler.poller.idle
        rig.sampler.poller.finish(1)


def follow(sampler: XRaySampler, remote: bool, state: dict[str, str]) -> SamplingResult:
    parent = NonRecordingSpan(SpanContext(KEPT, 9, remote, TraceFlags(1), TraceState(list(state.items()))))
    return sampler.should_sample(set_span_in_context(parent, Context()), KEPT, "child")


# --- the surroundings -----------------------------------------------------------------------------------------------


def test_what_it_says_of_itself(rig: Rig) -> None:
    assert rig.sampler.get_description() == f"xray{{{rig.service.endpoint}}}"
    assert rig.sampler.figures()["rules.age"] == []
    rig.run(5)
    rig.advance(7)
    ((attributes, age),) = rig.sampler.figures()["rules.age"]
    assert (attributes, 7 < age < 12) == ({}, True)
    assert rig.sampler.nested() == (ALWAYS_OFF,)


@pytest.mark.parametrize("fault", ["fail", "hang"])
def test_last_statistics_that_do_not_arrive_are_counted_and_not_logged(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Rig([ORDERS]) as rig:
        rig.run(5)
        rig.ask(), rig.ask(trace_id=LOST)
        getattr(rig.service, fault)()
        rig.sampler.poller.idle = True
        rig.sampler.poller.start()
        with caplog.at_level(logging.WARNING, "spanwell"):
            rig.sampler.begin_shutdown()
            rig.sampler.finish(5)
        assert _guard.losses.snapshot() == {("sampling statistics", "exit"): 2}
        assert caplog.records == []
        assert rig.ask().decision is Decision.RECORD_AND_SAMPLE  # decisions go on


def test_last_statistics_leave_at_once_and_nothing_is_lost(rig: Rig) -> None:
    rig.run(5)
    rig.ask()
    rig.sampler.poller.idle = True
    rig.sampler.poller.start()
    rig.sampler.finish(5)
    rig.sampler.finish(5)
    assert rig.service.total("orders").requests == 1
    assert _guard.losses.snapshot() == {}


def test_a_poll_is_never_traced() -> None:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

    seen = []

    class Looks:
        def rules(self, report: object, *, seconds: float | None = None) -> list[object]:
            seen.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY))
            sampler.poller.begin_shutdown()
            return []

        def targets(self, *_: object, **__: object) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            pass

    sampler = XRaySampler(ALWAYS_OFF, client=Looks, interval=10.0, random=lambda: 0.0)
    sampler.should_sample(Context(), KEPT, "root")
    thread = sampler.poller._thread
    assert thread is not None
    thread.join(10)
    assert seen == [True]
    assert thread.daemon
