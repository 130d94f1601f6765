"""`spanwell sampling explain`, with real files and a loopback service."""

from __future__ import annotations

import argparse
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanwell.cli import sampling_explain
from spanwell.testing import FakeSamplingService

RULES: list[dict[str, Any]] = [
    {"RuleName": "last", "Priority": 9000, "FixedRate": 0.01, "ReservoirSize": 0},
    {"RuleName": "orders", "Priority": 20, "URLPath": "/orders/*", "HTTPMethod": "POST", "FixedRate": 0.5},
    {"RuleName": "checkout", "Priority": 10, "ServiceName": "checkout", "ServiceType": "AWS::ECS::Container"},
    {
        "RuleName": "tenants",
        "Priority": 30,
        "Attributes": {"tenant": "big*"},
        "FixedRate": 1.0,
        "SamplingRateBoost": {"MaxRate": 0.25, "CooldownWindowMinutes": 5},
    },
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"SamplingRuleRecords": [{"SamplingRule": {"Version": 1, **rule}} for rule in RULES]}))
    return str(file)


@pytest.fixture
def service() -> Iterator[FakeSamplingService]:
    with FakeSamplingService(RULES, page_size=2) as service:
        yield service


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    sampling_explain.register(parser.add_subparsers())
    args = parser.parse_args(["explain", *arguments])
    out = io.StringIO()
    return args.run(args, environ or {}, out), out.getvalue()


def test_which_rule_and_why_not_the_earlier_ones(path: str) -> None:
    code, out = run("--rules", path, "--method", "GET", "--path", "/orders/7", "--attribute", "tenant=small")
    assert code == 0
    assert out.splitlines() == [
        f"4 rules from {path}",
        "PRIORITY  RULE      WHY",
        "      10  checkout  ServiceName 'checkout' needs a value, and there is none",
        "      20  orders    HTTPMethod 'POST' does not match 'GET'",
        "      30  tenants   Attributes: tenant 'big*' does not match 'small'",
        "    9000  last      matches",
        "last decides: 1 % of the traces",
    ]


@pytest.mark.parametrize(
    ("request_", "name", "policy"),
    [
        (
            ["--service", "checkout", "--service-type", "aws::ecs::container"],
            "checkout",
            "a reservoir of 1 a second, then 5 % of the rest",
        ),
        (
            ["--method", "post", "--path", "/orders/7?x=1"],
            "orders",
            "a reservoir of 1 a second, then 50 % of the rest",
        ),
        (
            ["--attribute", "tenant=bigger=x"],
            "tenants",
            "a reservoir of 1 a second, then 100 % of the rest; X-Ray may boost it up to 25 %",
        ),
    ],
)
def test_the_policy_of_the_rule(path: str, request_: list[str], name: str, policy: str) -> None:
    code, out = run("--rules", path, *request_)
    assert code == 0
    assert out.splitlines()[-1] == f"{name} decides: {policy}"


@pytest.mark.parametrize("kind", ["AWS::Lambda::Function", "AWS::ECS::Container", ""])
def test_the_arn(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(
        json.dumps({"SamplingRuleRecords": [{"RuleName": "mine", "ResourceARN": "arn:*:it", "Host": "h?"}]})
    )
    arguments = ["--rules", str(file), "--host", "H1", *(["--service-type", kind] if kind else [])]
    assert run(*arguments, "--arn", "arn:aws:it")[0] == 0
    assert run(*arguments, "--arn", "arn:aws:other")[0] == 1


def test_json(path: str) -> None:
    code, out = run("--rules", path, "--service", "checkout", "--method", "POST", "--path", "/orders/1", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["source"] == path
    assert [(rule["name"], rule["why_not"]) for rule in shown["rules"]] == [
        ("checkout", "ServiceType 'AWS::ECS::Container' needs a value, and there is none"),
        ("orders", ""),
    ]
    assert shown["match"] == {"name": "orders", "priority": 20, "reservoir_size": 1, "fixed_rate": 0.5}


def test_no_rule_matches(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"SamplingRuleRecords": [{"RuleName": "one", "HTTPMethod": "PUT"}]}))
    code, out = run("--rules", str(file), "--method", "GET")
    assert code == 1
    assert out.splitlines()[-1] == "no rule matches: the sampler's fallback decides"
    code, out = run("--rules", str(file), "--json")
    assert code == 1
    assert json.loads(out)["match"] is None


def test_the_x_ray_sdk_s_file(tmp_path: Path) -> None:
    file = tmp_path / "local.json"
    rule = {"host": "*", "http_method": "GET", "url_path": "/a*", "fixed_target": 3, "rate": 0.1}
    file.write_text(json.dumps({"version": 2, "rules": [rule], "default": {"fixed_target": 1, "rate": 0.05}}))
    assert (
        "a reservoir of 3 a second, then 10 % of the rest"
        in run("--rules", str(file), "--method", "GET", "--path", "/ab")[1]
    )
    code, out = run("--rules", str(file), "--method", "PUT")
    assert code == 0
    assert "a reservoir of 1 a second, then 5 % of the rest" in out


def test_the_rules_of_a_service(service: FakeSamplingService) -> None:
    code, out = run("--endpoint", service.endpoint, "--method", "POST", "--path", "/orders/1")
    assert code == 0
    assert out.splitlines()[0] == f"4 rules from {service.endpoint}"
    assert "orders decides" in out
    assert service.asked("GetSamplingRules") == 2  # both pages, once
    assert service.asked("SamplingTargets") == 0
    assert service.violations == []


@pytest.mark.parametrize(
    ("sampler", "argument"),
    [
        ("xray", "endpoint={},polling_interval=60"),
        ("tail", "head=(xray;endpoint={}),slow_ms=500"),
        ("tail", "head=(tail;head=(xray;endpoint={}))"),
    ],
)
def test_the_configured_endpoint(service: FakeSamplingService, sampler: str, argument: str) -> None:
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument.format(service.endpoint)}
    code, out = run(environ=environ)
    assert code == 0
    assert service.endpoint in out


@pytest.mark.parametrize(
    ("sampler", "argument"),
    [("xray_local", "{}"), ("xray_local", "rules_file={}"), ("tail", "slow_ms=5,head=(xray_local;rules_file={})")],
)
def test_the_configured_file(path: str, sampler: str, argument: str) -> None:
    code, out = run(environ={"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument.format(path)})
    assert code == 0
    assert out.startswith(f"4 rules from {path}\n")


@pytest.mark.parametrize(
    ("sampler", "argument"), [("parentbased_traceidratio", "0.5"), ("xray", ""), ("tail", "head=xray"), ("", "")]
)
def test_without_any_endpoint_the_local_proxy_is_asked(sampler: str, argument: str) -> None:
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert sampling_explain._configured(environ) == ("", "")
    assert sampling_explain._LOCAL == "http://127.0.0.1:2000"


def test_a_bad_rule_is_noted_and_the_others_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"SamplingRuleRecords": [{"RuleName": "bad", "FixedRate": 7}, {"RuleName": "good"}]}))
    code, out = run("--rules", str(file))
    assert code == 0
    assert "good decides" in out
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spanwell: note: ")
    assert "bad" in line
    assert "FixedRate" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"\xff\xfe", "can't decode"),
        (b"hello", "this is no JSON"),
        (b"[]", "holds no usable rule"),
        (b" " * (5 << 20), "is larger than"),
    ],
)
def test_bad_files(content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rules.json"
    if content is not None:
        file.write_bytes(content)
    code, out = run("--rules", str(file))
    assert (code, out) == (2, "")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"spanwell: {file}: ")
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attribute", "tenant"], "--attribute 'tenant' is not KEY=VALUE"),
        (["--attribute", "=x"], "--attribute '=x' is not KEY=VALUE"),
        (["--service-type", "ecs"], "--service-type 'ecs' is none of AWS::EC2::Instance"),
        (["--endpoint", "ftp://x"], "endpoint 'ftp://x' is not aws, or an address such as"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == (2, "")
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("fault", ["fail", "garbage", "truncate"])
def test_a_service_that_is_ill(service: FakeSamplingService, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    getattr(service, fault)()
    assert run("--endpoint", service.endpoint) == (2, "")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{service.endpoint}/GetSamplingRules: " in line


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert run("--endpoint", endpoint) == (2, "")
    assert "Connection refused" in capsys.readouterr().err
