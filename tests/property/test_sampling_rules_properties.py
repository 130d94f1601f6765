"""Rules and files of any shape: nothing raises, and what is good in them counts."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spanwell.sampling.local import read_rules
from spanwell.sampling.rules import Rule, RuleSet, explain, order, parse

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40))
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
texts = ["RuleName", "ServiceName", "ServiceType", "Host", "HTTPMethod", "URLPath", "ResourceARN"]
others = ["Priority", "FixedRate", "ReservoirSize", "Version", "Attributes", "SamplingRateBoost"]
wire_fields = st.sampled_from([*texts, *others, "DisableDefaultAnomalyDetection"])
broken_rules = st.one_of(trees, st.dictionaries(wire_fields, trees, max_size=8))
records = st.one_of(broken_rules, st.fixed_dictionaries({"SamplingRule": broken_rules}))
sdk_fields = st.sampled_from(
    ["host", "service_name", "http_method", "url_path", "fixed_target", "rate", "description"]
)
sdk_rules = st.one_of(trees, st.dictionaries(sdk_fields, trees, max_size=7))
sdk_files = st.fixed_dictionaries(
    {"version": st.one_of(st.sampled_from([1, 2]), trees)},
    optional={"rules": st.one_of(trees, st.lists(sdk_rules, max_size=5)), "default": sdk_rules},
)
files = st.one_of(trees, sdk_files, st.fixed_dictionaries({"SamplingRuleRecords": st.lists(records, max_size=5)}))

GOOD = {"RuleName": "a good one", "Priority": 1, "FixedRate": 0.5, "ReservoirSize": 2, "Version": 1}
MINE = Rule("a good one", 1, 0.5, 2)


@relaxed
@given(st.lists(records, max_size=5), st.lists(records, max_size=5))
def test_a_good_rule_survives_among_any_others(before: list[object], after: list[object]) -> None:
    said: list[str] = []
    rules = parse([*before, GOOD, *after], said.append)
    assert MINE in rules
    assert rules == order(rules)
    assert all("\n" not in line and len(line) < 500 for line in said)
    for rule in rules:
        assert 0 <= rule.fixed_rate <= 1
        assert rule.reservoir_size >= 0


@relaxed
@given(files)
def test_any_json_is_read_without_raising(document: object) -> None:
    said: list[str] = []
    rules = read_rules(json.dumps(document), said.append)
    assert rules is None or rules
    assert rules is not None or said
    assert RuleSet(rules or [], {}).match({}) >= -1


@relaxed
@given(st.text())
@example('{"SamplingRuleRecords":')
def test_any_text_is_read_without_raising(text: str) -> None:
    said: list[str] = []
    assert read_rules(text, said.append) is None
    assert said


@relaxed
@given(st.lists(sdk_rules, max_size=4), st.lists(sdk_rules, max_size=4))
def test_a_good_local_rule_survives_among_any_others(before: list[object], after: list[object]) -> None:
    good = {"description": "mine", "host": "h", "http_method": "m", "url_path": "u", "fixed_target": 1, "rate": 1}
    document = {"version": 2, "rules": [*before, good, *after], "default": {"fixed_target": 0, "rate": 0.1}}
    rules = read_rules(json.dumps(document), lambda _line: None)
    assert rules is not None
    [mine] = [rule for rule in rules if rule.name == "mine"]
    assert (mine.host, mine.http_method, mine.url_path) == ("h", "m", "u")
    assert rules[-1].name == "Default"
    assert rules == order(rules)


patterns = st.text(st.sampled_from("ab*?/"), max_size=5)
values = st.one_of(st.text(st.sampled_from("abAB/?"), max_size=5), scalars, st.lists(scalars, max_size=2))
rules_of_any_kind = st.builds(
    Rule,
    st.text(max_size=3),
    st.integers(1, 3),
    url_path=patterns,
    host=st.one_of(st.just("*"), patterns),
    http_method=st.one_of(st.just("*"), patterns),
    service_name=st.one_of(st.just("*"), patterns),
    attributes=st.dictionaries(st.sampled_from("xyz"), patterns, max_size=2),
)
span_attributes = st.dictionaries(
    st.sampled_from(["url.path", "http.target", "url.full", "server.address", "http.request.method", "x", "y", "z"]),
    values,
)


@relaxed
@given(st.lists(rules_of_any_kind, max_size=8), st.lists(span_attributes, min_size=1, max_size=4), st.booleans())
def test_match_and_explain_agree(rules: list[Rule], spans: list[dict[str, Any]], named: bool) -> None:
    resource = {"service.name": "ab"} if named else {}
    found = RuleSet(rules, resource)
    for attributes in [*spans] * 3:  # the answer is remembered at the second time
        before = dict(attributes)
        index = found.match(attributes)
        told = explain(rules, resource, attributes)
        first = next((number for number, (_, why) in enumerate(told) if not why), -1)
        assert index == first
        assert attributes.keys() == before.keys()
