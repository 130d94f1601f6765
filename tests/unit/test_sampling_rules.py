"""Sampling rules: what the wire says, and which one matches."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from spanwell.sampling.rules import Boost, Rule, RuleSet, explain, order, parse, text_of

GOOD: dict[str, Any] = {
    "RuleName": "shop",
    "RuleARN": "arn:aws:xray:eu-west-1:1:sampling-rule/shop",
    "ResourceARN": "*",
    "Priority": 5,
    "FixedRate": 0.25,
    "ReservoirSize": 3,
    "ServiceName": "shop*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "GET",
    "URLPath": "/api/*",
    "Version": 1,
    "Attributes": {"tier": "gold"},
}


def said_by_parse(record: object) -> tuple[list[Rule], list[str]]:
    said: list[str] = []
    return parse([record], said.append), said


def matched(
    rules: list[Rule], attributes: Mapping[str, Any] | None, resource: Mapping[str, Any] | None = None
) -> str:
    """The name of the rule that matches; "" for none. `explain` must say the same."""
    found = RuleSet(rules, resource or {})
    index = found.match(attributes)
    told = explain(rules, resource or {}, attributes)
    assert [rule for rule, _ in told] == list(found.rules[: index + 1 if index >= 0 else None])
    assert [why == "" for _, why in told] == [False] * (len(told) - (index >= 0)) + [True] * (index >= 0)
    return found.rules[index].name if index >= 0 else ""


def one(span: Mapping[str, Any] | None, resource: Mapping[str, Any] | None = None, **patterns: Any) -> bool:
    return bool(matched([Rule("it", **patterns)], span, resource))


# --- parse and order


def test_a_record_and_a_bare_rule_say_the_same() -> None:
    expected = Rule(
        "shop", 5, 0.25, 3, service_name="shop*", http_method="GET", url_path="/api/*", attributes={"tier": "gold"}
    )
    assert said_by_parse({"SamplingRule": GOOD, "CreatedAt": 0.0, "ModifiedAt": 1.5}) == ([expected], [])
    assert said_by_parse(GOOD) == ([expected], [])


def test_boosts() -> None:
    boost = {
        "SamplingRateBoost": {"MaxRate": 0.5, "CooldownWindowMinutes": 10},
        "DisableDefaultAnomalyDetection": True,
    }
    [rule], said = said_by_parse({**GOOD, **boost})
    assert (rule.boost, rule.default_anomaly_detection, said) == (Boost(0.5, 10), False, [])
    [rule], said = said_by_parse({**GOOD, "SamplingRateBoost": {"MaxRate": 5, "CooldownWindowMinutes": 10}})
    assert rule.boost is None
    assert "'shop'" in said[0]
    assert "MaxRate 5 " in said[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("RuleName", ""),
        ("RuleName", 5),
        ("RuleName", "x" * 33),
        ("Version", 2),
        ("Version", "1"),
        ("Priority", 0),
        ("Priority", 10001),
        ("Priority", 1.5),
        ("FixedRate", 1.5),
        ("FixedRate", -0.1),
        ("FixedRate", float("nan")),
        ("FixedRate", "0.5"),
        ("FixedRate", True),
        ("ReservoirSize", -1),
        ("ReservoirSize", float("inf")),
        ("ServiceName", "x" * 65),
        ("ServiceType", 1),
        ("Host", ["a"]),
        ("HTTPMethod", "x" * 11),
        ("URLPath", "/" + "x" * 128),
        ("ResourceARN", "x" * 501),
        ("Attributes", ["a"]),
        ("Attributes", {str(number): "x" for number in range(6)}),
        ("Attributes", {"key": 5}),
        ("Attributes", {"": "x"}),
        ("Attributes", {"key": "x" * 33}),
    ],
)
def test_a_bad_rule_is_named_and_the_good_one_stays(field: str, value: object) -> None:
    said: list[str] = []
    rules = parse([{**GOOD, "RuleName": "bad", field: value}, GOOD], said.append)
    assert [rule.name for rule in rules] == ["shop"]
    assert len(said) == 1
    assert field in said[0]
    assert "\n" not in said[0]
    assert len(said[0]) < 300


@pytest.mark.parametrize("record", [None, 5, "rule", [], {}, {"SamplingRule": None}, {"SamplingRule": [1]}])
def test_what_is_no_rule_is_left_out(record: object) -> None:
    rules, said = said_by_parse(record)
    assert (rules, len(said)) == ([], 1)


def test_null_is_missing_and_a_name_counts_once() -> None:
    said: list[str] = []
    [rule] = parse([{"RuleName": "a", "Host": None, "FixedRate": None}, {"RuleName": "a", "Host": "b"}], said.append)
    assert rule == Rule("a")
    assert len(said) == 1
    assert "twice" in said[0]


def test_order_is_priority_then_code_points() -> None:
    rules = [Rule("b", 2), Rule("a", 2), Rule("Z", 2), Rule("é", 2), Rule("z", 1), Rule("Default")]
    assert [rule.name for rule in order(rules)] == ["z", "Z", "a", "b", "é", "Default"]
    assert RuleSet(rules, {}).rules == tuple(order(rules))


# --- which value a field sees


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ({}, "/"),
        ({"url.path": "/new", "http.target": "/old"}, "/new"),
        ({"http.target": "/old?q=1/2"}, "/old"),
        ({"url.path": "/a?x"}, "/a"),
        ({"url.path": None, "http.target": "/b"}, "/b"),
        ({"url.path": "", "url.full": "https://shop/c?d=/e#f"}, "/c"),
        ({"http.url": "https://shop/c#/f"}, "/c"),
        ({"http.url": "https://shop?next=/x"}, "/"),
        ({"http.url": "https://shop"}, "/"),
        ({"url.full": "no-scheme/path", "http.url": "http://shop/g"}, "/g"),
        ({"url.path": 5}, "5"),
    ],
)
def test_url_path(attributes: dict[str, Any], path: str) -> None:
    assert one(attributes, url_path=path)
    assert not one(attributes, url_path=path + "x")


@pytest.mark.parametrize(
    ("attributes", "method"),
    [
        ({"http.request.method": "GET", "http.method": "PUT"}, "get"),
        ({"http.method": "PUT"}, "P?T"),
        ({"http.request.method": "_OTHER", "http.request.method_original": "BREW"}, "BREW"),
        ({"http.request.method": "_OTHER"}, "_OTHER"),
        ({"http.request.method": Enum("Verb", {"GET": "GET"}, type=str)("GET")}, "GET"),
    ],
)
def test_http_method(attributes: dict[str, Any], method: str) -> None:
    assert one(attributes, http_method=method)
    assert not one(attributes, http_method=method + "x")


@pytest.mark.parametrize("key", ["server.address", "net.host.name", "http.host"])
def test_host(key: str) -> None:
    assert one({key: "Shop.example.com"}, host="shop.*")
    assert not one({key: "Shop.example.com"}, host="shop")
    assert one({"http.host": "b", key: "a"}, host="a")


@pytest.mark.parametrize("field", ["host", "http_method", "service_name", "service_type", "resource_arn"])
def test_a_missing_value_matches_only_stars(field: str) -> None:
    for attributes in ({}, None):
        assert one(attributes, **{field: "*"})
        assert one(attributes, **{field: "**"})
        assert not one(attributes, **{field: "?*"})
        assert not one(attributes, **{field: ""})


def test_the_resource_decides_name_type_and_arn() -> None:
    ecs = {"service.name": "Shop", "cloud.platform": "aws_ecs", "aws.ecs.container.arn": "arn:aws:ecs:1"}
    assert one({}, ecs, service_name="shop", service_type="AWS::ECS::*", resource_arn="arn:aws:ecs:*")
    for other in (
        {"service_name": "x"},
        {"service_type": "AWS::EC2::Instance"},
        {"resource_arn": "arn:aws:lambda:*"},
    ):
        assert not one({"faas.id": "arn:aws:lambda:1"}, ecs, **other)
    assert not one({}, {"cloud.platform": "gcp"}, service_type="AWS*")


@pytest.mark.parametrize("key", ["cloud.resource_id", "faas.id"])
def test_a_lambda_s_arn_comes_from_the_resource_or_else_from_the_span(key: str) -> None:
    function = {"cloud.platform": "aws_lambda"}
    assert one({}, {**function, key: "arn:1"}, resource_arn="arn:1")
    assert one({key: "arn:2"}, function, resource_arn="arn:2", service_type="AWS::Lambda::Function")
    assert not one({key: "arn:2"}, {**function, key: "arn:1"}, resource_arn="arn:2")
    assert not one({key: "arn:2"}, {}, resource_arn="arn:2")


# --- attributes of any type


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Text", "text"),
        (True, "true"),
        (False, "FALSE"),
        (200, "2??"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (b"bytes", "bytes"),
        (["a", "b"], '["a","b"]'),
        (("a", 1, True, None), '["a",1,true,null]'),
        ([], "[]"),
        ({"k": "v"}, '{"k":"v"}'),
        ("", ""),
        pytest.param(10**5000, "<int>", id="huge"),
        pytest.param(Hostile(), "<Hostile>", id="hostile"),
    ],
)
def test_defect_3_an_attribute_of_any_type_is_compared_as_text(value: object, text: str) -> None:
    assert one({"key": value}, attributes={"key": text})
    assert one({"key": value}, attributes={"key": "*"})
    assert not one({"key": value}, attributes={"key": text + "x?"})
    assert one({"url.path": value}, url_path="*")


def test_every_attribute_of_a_rule_must_be_there() -> None:
    both = {"a": "*", "b": "1"}
    assert one({"a": "", "b": 1, "c": 2}, attributes=both)
    assert not one({"b": 1}, attributes=both)
    assert not one({"a": None, "b": 1}, attributes=both)
    assert not one({"a": 1, "b": 11}, attributes=both)


def test_attributes_that_cannot_be_read_count_as_missing() -> None:
    class Broken(dict[str, Any]):
        def get(self, *_: object) -> Any:
            raise RuntimeError("no")

    rules = RuleSet([Rule("a", 1, url_path="/x"), Rule("b", 2, url_path="/"), Rule("c", 3)], {})
    assert rules.match(Broken(a=1)) == 1
    assert rules.match(5) == 1  # type: ignore[arg-type]
    assert RuleSet([], {}).match({}) == -1
    assert text_of(None) is None


# --- many rules


def test_the_first_in_order_wins_whatever_the_pattern_is_like() -> None:
    rules = [
        Rule("exact", 1, url_path="/api/a", http_method="GET"),
        Rule("gap", 2, url_path="/api/?", http_method="GET"),
        Rule("prefix", 3, url_path="/api/*"),
        Rule("same prefix", 4, url_path="/API/*", host="b*"),
        Rule("middle", 5, url_path="*/p*"),
        Rule("tier", 6, attributes={"tier": "gold"}),
        Rule("Default"),
    ]
    get = {"http.request.method": "GET"}
    assert matched(rules, {"url.path": "/api/a", **get}) == "exact"
    assert matched(rules, {"url.path": "/api/b", **get}) == "gap"
    assert matched(rules, {"url.path": "/api/b"}) == "prefix"
    assert matched(rules[3:], {"url.path": "/api/b", "http.host": "B"}) == "same prefix"
    assert matched(rules, {"url.path": "/x/path", **get}) == "middle"
    assert matched(rules, {"url.path": "/x", "tier": "Gold"}) == "tier"
    assert matched(rules, {"url.path": "/x"}) == "Default"
    assert matched(rules[:-1], {"url.path": "/x"}) == ""


def test_many_different_texts_are_decided_like_the_first() -> None:
    rules = RuleSet([Rule("odd", 1, url_path="*1"), Rule("long", 2, url_path="/" + "x" * 300), Rule("Default")], {})
    for _ in range(2):
        assert [rules.match({"url.path": f"/{number}"}) for number in range(2000)] == [
            0 if number % 10 == 1 else 2 for number in range(2000)
        ]
        assert rules.match({"url.path": "/" + "x" * 300}) == 1


def test_explain_names_the_field() -> None:
    rules = [
        Rule("a", 1, url_path="/api/*"),
        Rule("b", 2, host="x"),
        Rule("c", 3, attributes={"tier": "gold"}),
        Rule("d", 4, attributes={"size": "1"}),
        Rule("Default"),
        Rule("never", 10001),
    ]
    told = explain(rules, {}, {"url.path": "/health", "size": 2})
    assert [(rule.name, why) for rule, why in told] == [
        ("a", "URLPath '/api/*' does not match '/health'"),
        ("b", "Host 'x' needs a value, and there is none"),
        ("c", "Attributes: 'tier' is not on the span when it starts"),
        ("d", "Attributes: size '1' does not match '2'"),
        ("Default", ""),
    ]
