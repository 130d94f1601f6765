"""`xray_local`: rules from a file."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, SamplingResult
from opentelemetry.trace import TraceState

from spanwell.sampling.build import Making, make
from spanwell.sampling.local import LocalSampler, RulesSampler, read_rules
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.rules import Rule, RuleSet, order
from spanwell.sampling.rules_file import MAX_FILE

HIGH = (1 << 128) - 1
"""A trace id that any rate but 0 keeps; 1 is one that only a rate of 1 keeps."""

NEVER: dict[str, Any] = {"fixed_target": 0, "rate": 0}
ANY: dict[str, Any] = {"host": "*", "http_method": "*", "url_path": "*"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def decide(sampler: Any, trace_id: int = HIGH, state: TraceState | None = None, **attributes: Any) -> SamplingResult:
    return sampler.should_sample(Context(), trace_id, "span", None, attributes, None, state)


def reason(sampler: Any, trace_id: int = HIGH, **attributes: Any) -> str:
    result = decide(sampler, trace_id, **attributes)
    return str(result.attributes["spanwell.sampling.reason"]) if result.decision is not Decision.DROP else ""


def read(document: object) -> tuple[list[Rule] | None, list[str]]:
    said: list[str] = []
    return read_rules(document if isinstance(document, str) else json.dumps(document), said.append), said


# --- formats


def test_rules_as_the_service_returns_them() -> None:
    bare = {"RuleName": "b", "Priority": 2, "Version": 1}
    records = [{"SamplingRule": bare, "CreatedAt": 0.0}, {"SamplingRule": {**bare, "RuleName": "a"}}]
    for document in ({"SamplingRuleRecords": records, "NextToken": None}, records, [bare, {**bare, "RuleName": "a"}]):
        rules, said = read(document)
        assert [rule.name for rule in rules or ()] == ["a", "b"]
        assert said == []


@pytest.mark.parametrize(("version", "host"), [(1, "service_name"), (2, "host")])
def test_rules_of_the_sdks(version: int, host: str) -> None:
    shop = {host: "shop.*", "http_method": "GET", "url_path": "/z", "fixed_target": 2, "rate": 1}
    unnamed = {host: "*", "http_method": "*", "url_path": "/a", **NEVER}
    document = {
        "version": version,
        "rules": [{"description": "z", **shop}, unnamed, unnamed],
        "default": {"fixed_target": 3, "rate": 0.5},
    }
    rules, said = read(document)
    assert said == []
    assert rules == [
        Rule("z", 1, 1.0, 2, host="shop.*", http_method="GET", url_path="/z"),
        Rule("* * /a", 2, 0.0, 0, url_path="/a"),
        Rule("* * /a (2)", 3, 0.0, 0, url_path="/a"),
        Rule("Default", 10000, 0.5, 3),
    ]
    assert order(rules) == rules


def test_the_file_s_order_stays_beyond_the_priorities_of_the_service() -> None:
    rule = {**ANY, **NEVER}
    rules, _ = read({"version": 2, "rules": [{"description": "Default", **rule}] + [rule] * 10_001, "default": NEVER})
    assert rules is not None
    assert order(rules) == rules
    assert [rules[0].name, rules[-1].name, len({rule.name for rule in rules})] == ["Default (2)", "Default", 10_003]


@pytest.mark.parametrize(
    "broken",
    [
        {"host": None},
        {"http_method": 5},
        {"url_path": None},
        {"fixed_target": -1},
        {"fixed_target": 0.5},
        {"fixed_target": None},
        {"rate": -0.1},
        {"rate": 5},
        {"rate": "1"},
    ],
)
def test_a_bad_rule_is_named_and_the_good_ones_stay(broken: dict[str, Any]) -> None:
    good = {"description": "good", **ANY, **NEVER}
    rules, said = read({"version": 2, "rules": [{**good, **broken}, good, 7], "default": NEVER})
    assert [rule.name for rule in rules or ()] == ["good", "Default"]
    assert len(said) == 2
    assert "rule 1" in said[0]
    assert next(iter(broken)) in said[0]
    assert "rule 3" in said[1]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("1" * 10_000, ""),
        (5, "SamplingRuleRecords"),
        ({}, "SamplingRuleRecords"),
        ([], "no usable rule"),
        ({"SamplingRuleRecords": 5}, "SamplingRuleRecords"),
        ({"SamplingRuleRecords": [{"SamplingRule": {"RuleName": "a", "FixedRate": 2}}]}, "FixedRate 2"),
        ({"version": 2, "rules": []}, "default is missing"),
        ({"version": 3, "default": NEVER}, "version 3"),
        ({"version": [2], "default": NEVER}, "version [2]"),
        ({"version": 2, "default": None}, "default"),
        ({"version": 2, "default": {**NEVER, "url_path": "*"}}, "url_path"),
        ({"version": 2, "default": {"fixed_target": -1, "rate": 0}}, "fixed_target -1"),
    ],
)
def test_a_file_of_which_nothing_can_be_used(document: object, named: str) -> None:
    rules, said = read(document)
    assert rules is None
    assert named in said[0]
    assert all("\n" not in line for line in said)


# --- decisions


def test_reservoir_first_then_rate_and_only_the_rate_has_a_weight() -> None:
    clock = Clock()
    sampler = RulesSampler([Rule("shop", fixed_rate=0.5, reservoir_size=1)], clock=clock)
    first, second, third = decide(sampler, a=1), decide(sampler, a=1), decide(sampler, trace_id=1)
    named = {"a": 1, "aws.xray.sampling_rule": "shop"}
    assert first.attributes == {**named, "spanwell.sampling.reason": "reservoir"}
    assert not first.trace_state
    assert second.attributes == {**named, "spanwell.sampling.reason": "rate"}
    assert second.trace_state.get("ot") == "th:8"
    assert third.decision is Decision.DROP
    assert sampler.decisions.snapshot() == {
        ("shop", "reservoir"): 1,
        ("shop", "rate"): 1,
        ("shop", "dropped"): 1,
    }


def test_the_tracestate_of_a_root_is_kept_and_its_threshold_replaced() -> None:
    sampler = RulesSampler([Rule("shop", fixed_rate=0.5)], clock=Clock())
    state = TraceState([("x", "y"), ("ot", "th:c;rv:90000000000000")])
    assert dict(decide(sampler, 1, state).trace_state or {}) == {"x": "y", "ot": "rv:90000000000000"}
    assert dict(decide(sampler, 1, state).trace_state or {}) == {"x": "y", "ot": "th:8;rv:90000000000000"}
    unlucky = TraceState([("x", "y"), ("ot", "th:c;rv:10000000000000")])
    result = decide(sampler, HIGH, unlucky)
    assert result.decision is Decision.DROP
    assert dict(result.trace_state or {}) == {"x": "y", "ot": "rv:10000000000000"}


def test_defect_13_the_first_second_has_its_reservoir() -> None:
    clock = Clock()
    sampler = RulesSampler([Rule("shop", fixed_rate=0, reservoir_size=5)], clock=clock)
    assert [reason(sampler) for _ in range(7)] == ["reservoir"] * 5 + [""] * 2
    clock.now += 1
    assert [reason(sampler) for _ in range(7)] == ["reservoir"] * 5 + [""] * 2


def test_a_thousand_threads_on_a_frozen_clock_get_exactly_the_reservoir() -> None:
    sampler = RulesSampler([Rule("shop", fixed_rate=0, reservoir_size=777)], clock=Clock())
    kept: list[int] = []
    started = threading.Event()

    def run() -> None:
        started.wait()
        kept.append(sum(reason(sampler) == "reservoir" for _ in range(100)))

    threads = [threading.Thread(target=run) for _ in range(1000)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    assert (len(kept), sum(kept)) == (1000, 777)
    assert sampler.decisions.snapshot() == {("shop", "reservoir"): 777, ("shop", "dropped"): 99_223}


def test_without_a_rule_that_matches_a_root_is_dropped_or_left_to_the_fallback() -> None:
    rules = [Rule("shop", url_path="/shop", fixed_rate=1)]
    assert reason(RulesSampler(rules)) == ""
    assert reason(RulesSampler(rules, ALWAYS_ON)) == "fallback"
    assert reason(RulesSampler(rules, ALWAYS_OFF)) == ""
    sampler = RulesSampler(rules, RatioSampler(0.5))
    assert reason(sampler) == "rate"
    assert sampler.decisions.snapshot() == {("", "fallback"): 1}
    assert sampler.consistent
    assert not RulesSampler(rules, ALWAYS_ON).consistent


def test_the_resource_is_learnt_and_learnt_again() -> None:
    clock = Clock()
    resource: dict[str, Any] = {"service.name": "early"}
    sampler = RulesSampler([Rule("late", fixed_rate=0, service_name="late")], clock=clock)
    sampler.connect(Surroundings(lambda: resource))
    assert reason(sampler) == ""
    resource = {"service.name": "late"}
    assert [reason(sampler), reason(sampler)] == ["reservoir", ""]
    resource = dict(resource)
    assert reason(sampler) == ""


def test_a_reservoir_goes_on_when_other_rules_change() -> None:
    clock = Clock()
    same = Rule("same", 5, fixed_rate=0, reservoir_size=1)
    sampler = RulesSampler([same], clock=clock)
    assert reason(sampler) == "reservoir"
    sampler.replace([Rule("new", 1, url_path="/new"), same._replace(priority=9)])
    assert reason(sampler) == ""
    sampler.replace([same._replace(reservoir_size=2)])
    assert [reason(sampler) for _ in range(3)] == ["reservoir", "reservoir", ""]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_while_every_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([{"RuleName": "a", "FixedRate": 0, "ReservoirSize": 2}]))
    sampler = LocalSampler(str(path), clock=Clock())
    assert reason(sampler) == "reservoir"
    plan = sampler._bound.plans[0]
    held = [plan.bucket._lock, sampler.decisions._lock, sampler._lock, sampler._looking]
    for lock in held:
        lock.acquire()
    child = os.fork()
    if not child:
        good = [reason(sampler) for _ in range(3)] == ["reservoir", "reservoir", ""]
        os._exit(0 if good and sum(sampler.decisions.snapshot().values()) == 3 else 1)
    for lock in held:
        lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- the file


class Watched:
    """A sampler on a file of its own; `write` makes a new version of it, `later` lets time pass."""

    def __init__(self, directory: Path, **arguments: Any) -> None:
        self.path = directory / "rules.json"
        self.clock = Clock()
        self.said: list[str] = []
        self.sampler = LocalSampler(str(self.path), clock=self.clock, report=self.said.append, **arguments)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def later(self) -> None:
        self.clock.now += 5


def rules_json(name: str, rate: float) -> str:
    return json.dumps([{"RuleName": name, "FixedRate": rate, "ReservoirSize": 0}])


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_the_fallback_decides_until_there_is_a_good_file(watched: Watched) -> None:
    assert [reason(watched.sampler, 1) for _ in range(2)] == ["fallback", ""]
    result = decide(watched.sampler, HIGH)
    assert "aws.xray.sampling_rule" not in result.attributes
    assert result.trace_state.get("ot", "").startswith("th:f33333")  # 5 %
    for _ in range(3):
        watched.later()
        decide(watched.sampler)
    assert len(watched.said) == 1
    assert "No such file" in watched.said[0]
    assert "the rules in use stay" in watched.said[0]
    watched.write(rules_json("a", 1))
    watched.later()
    assert reason(watched.sampler, 1) == "rate"
    assert watched.sampler.figures() == {"rules.age": [({}, 0.0)]}


def test_a_changed_file_is_read_again_after_the_interval(watched: Watched) -> None:
    watched.write(rules_json("a", 1))
    assert reason(watched.sampler, 1) == "rate"
    watched.write(rules_json("a", 0))  # of the same size, maybe within one tick of the file system's clock
    assert reason(watched.sampler, 1) == "rate"
    watched.later()
    assert reason(watched.sampler, 1) == ""
    assert watched.said == []


def test_a_file_that_is_not_young_is_not_read_without_need(watched: Watched) -> None:
    watched.write(rules_json("a", 1))
    os.utime(watched.path, (1, 1))
    assert reason(watched.sampler, 1) == "rate"
    watched.write(rules_json("a", 0))
    os.utime(watched.path, (1, 1))
    watched.later()
    assert reason(watched.sampler, 1) == "rate"
    os.utime(watched.path, (2, 2))
    watched.later()
    assert reason(watched.sampler, 1) == ""


@pytest.mark.parametrize(
    "bad",
    [b"", b"{", b"\xff\xfe", b"[]", b" " * (MAX_FILE + 1), b'{"version": 2, "rules": []}'],
    ids=["empty", "half", "no UTF-8", "no rules", "large", "no default"],
)
def test_a_bad_file_keeps_the_old_rules_and_says_so_once(watched: Watched, bad: bytes) -> None:
    watched.write(rules_json("a", 1))
    assert reason(watched.sampler, 1) == "rate"
    watched.path.write_bytes(bad)
    for _ in range(3):
        watched.later()
        assert reason(watched.sampler, 1) == "rate"
    assert len(watched.said) == 1
    watched.write(rules_json("a", 0))
    watched.later()
    assert reason(watched.sampler, 1) == ""
    watched.path.write_bytes(bad)
    watched.later()
    assert reason(watched.sampler, 1) == ""
    assert len(watched.said) == 2


def test_good_rules_of_a_file_apply_beside_bad_ones(watched: Watched) -> None:
    bad = [{"RuleName": f"bad {number}", "FixedRate": 2} for number in range(30)]
    watched.write(json.dumps([*bad, {"RuleName": "good", "FixedRate": 1}]))
    assert reason(watched.sampler, 1, a=1) == "reservoir"
    assert len(watched.said) == 11
    assert "20 more" in watched.said[-1]


def test_a_file_that_goes_keeps_the_old_rules(watched: Watched) -> None:
    watched.write(rules_json("a", 1))
    assert reason(watched.sampler, 1) == "rate"
    watched.path.unlink()
    watched.later()
    assert reason(watched.sampler, 1) == "rate"
    watched.path.mkdir()
    watched.later()
    assert reason(watched.sampler, 1) == "rate"
    assert len(watched.said) == 2
    assert "No such file" in watched.said[0]
    assert "no regular file" in watched.said[1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_waited_for(watched: Watched) -> None:
    os.mkfifo(watched.path)
    assert reason(watched.sampler, 1) == "fallback"
    assert "no regular file" in watched.said[0]


def test_a_path_that_cannot_be_one_is_said() -> None:
    said: list[str] = []
    assert reason(LocalSampler("a\0b", report=said.append), 1) == "fallback"
    assert len(said) == 1


def test_connect_reads_the_file_and_its_byte_order_mark(watched: Watched) -> None:
    watched.path.write_bytes(b"\xef\xbb\xbf" + rules_json("a", 1).encode())
    watched.sampler.connect(Surroundings(lambda: {"service.name": "shop"}))
    assert [rule.name for rule in watched.sampler.rules] == ["a"]


# --- the argument


def made(argument: str) -> tuple[LocalSampler, list[str]]:
    said: list[str] = []
    sampler = make("xray_local", argument, Making(said.append, clock=Clock()))
    assert isinstance(sampler, LocalSampler)
    return sampler, said


def test_arguments(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    for argument in (f"rules_file={path},polling_interval=60,fallback=(ratio;1)", str(path)):
        sampler, said = made(argument)
        assert (sampler.path, said) == (str(path), [])
        assert reason(sampler, 1) == ("rate" if "ratio" in argument else "fallback")
        path.write_text(rules_json("a", 0))
        sampler._clock.now += 30  # type: ignore[attr-defined]
        assert reason(sampler, 1) == ("rate" if "ratio" in argument else "")
        path.unlink()
    assert sampler.get_description() == f"xray_local{{{path}}}"


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("", "rules_file="),
        ("rules_file=x,polling_interval=0", "polling_interval='0'"),
        ("rules_file=x,fallback=nobody", "nobody"),
    ],
)
def test_bad_arguments_are_said_and_the_rest_applies(argument: str, named: str) -> None:
    sampler, said = made(argument)
    assert len(said) == 1
    assert named in said[0]
    assert reason(sampler, 1) == "fallback"


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    _, said = made(f"rules_file={tmp_path / 'missing'}")
    assert (said, threading.active_count()) == ([], before)


def test_the_rules_of_a_sampler_are_in_order() -> None:
    sampler = RulesSampler([Rule("b", 2), Rule("a", 1)])
    assert sampler.rules == RuleSet([Rule("a", 1), Rule("b", 2)], {}).rules
