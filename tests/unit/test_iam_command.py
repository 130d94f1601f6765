"""`spanwell iam`: the policies, and that they hold exactly the actions that our code calls."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import UnknownRegionError
from botocore.session import Session

import spanwell
from spanwell.cli import iam
from spanwell.cli.iam_policies import DESTINATIONS, Scope, grants, policy
from spanwell.export import otlp_aws

SOURCE = Path(spanwell.__file__).parent
SERVICES = ("xray", "cloudwatch", "logs", "kinesis", "dynamodb")
# Calls of the demonstration, and of the library's test doubles, need no policy.
NOT_OURS = ("cli/demo.py", "testing/", "_shop/", "propagation/", "enrich/")


def run(*arguments: str) -> tuple[int, Any]:
    """Exit status and the policy."""
    parser = argparse.ArgumentParser()
    iam.register(parser.add_subparsers())
    args = parser.parse_args(["iam", *arguments])
    out = io.StringIO()
    code = args.run(args, {}, out)
    return code, json.loads(out.getvalue() or "null")


def statement(sid: str, *arguments: str) -> dict[str, Any]:
    code, found = run(*arguments)
    assert code == 0
    [one] = [each for each in found["Statement"] if each["Sid"] == sid]
    return one


# --- resources --------------------------------------------------------------------------------------------------


def test_a_policy_is_as_narrow_as_the_options_say() -> None:
    where = ("--region", "eu-west-1", "--account", "123456789012")
    records = statement("Records", "kinesis", *where, "--stream", "shop")
    assert records == {
        "Sid": "Records",
        "Effect": "Allow",
        "Action": ["kinesis:PutRecords"],
        "Resource": "arn:aws:kinesis:eu-west-1:123456789012:stream/shop",
    }
    assert statement("Records", "kinesis")["Resource"] == "arn:aws:kinesis:*:*:stream/*"
    assert statement("Metrics", "cloudwatch", "--namespace", "Shop") == {
        "Sid": "Metrics",
        "Effect": "Allow",
        "Action": ["cloudwatch:PutMetricData"],
        "Resource": "*",
        "Condition": {"StringEquals": {"cloudwatch:namespace": ["DistributedTracing/Insights", "Shop"]}},
    }
    condition = statement("Metrics", "cloudwatch")["Condition"]
    assert condition == {"StringEquals": {"cloudwatch:namespace": "DistributedTracing/Insights"}}
    logs = statement("MetricsInLogs", "emf", *where, "--log-group", "/shop/metrics")
    group = "arn:aws:logs:eu-west-1:123456789012:log-group:/shop/metrics"
    assert logs["Resource"] == [group, f"{group}:*"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
    ],
)
def test_the_partition_is_the_region_s(region: str, partition: str) -> None:
    with contextlib.suppress(UnknownRegionError):  # an older botocore does not know the youngest partitions
        assert Session().get_partition_for_region(region) == partition
    assert Scope(region=region).partition == partition
    assert statement("Records", "kinesis", "--region", region)["Resource"].startswith(f"arn:{partition}:kinesis:")


def test_reading_and_creating_come_on_request() -> None:
    sids = {
        arguments: [each["Sid"] for each in run("dynamodb", *arguments)[1]["Statement"]]
        for arguments in ((), ("--read",), ("--create",), ("--read", "--create"))
    }
    assert sids == {
        (): ["WriteTraces"],
        ("--read",): ["WriteTraces", "ReadTraces", "FinishTraces"],
        ("--create",): ["WriteTraces", "MakeTheTable"],
        ("--read", "--create"): ["WriteTraces", "ReadTraces", "FinishTraces", "MakeTheTable"],
    }
    read = statement("ReadTraces", "dynamodb", "--read", "--table", "spans")
    assert read["Resource"] == ["arn:aws:dynamodb:*:*:table/spans", "arn:aws:dynamodb:*:*:table/spans/index/*"]


def test_several_destinations_make_one_policy() -> None:
    code, found = run("otlp-aws", "sampling", "kinesis", "dynamodb", "otlp-aws")
    assert code == 0
    assert [each["Sid"] for each in found["Statement"]] == [
        "SpansOverOtlp",
        "SamplingRules",
        "Records",
        "WriteTraces",
    ]


def test_what_the_policy_does_not_show_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    run("sampling", "kinesis", "--region", "eu-west-1")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        'spanwell: Resource "*" is all that IAM has for xray:GetSamplingRules, xray:GetSamplingTargets'
    )
    assert said[1] == "spanwell: --account, --stream would make it narrower"
    assert "kms:GenerateDataKey" in said[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("kafka",), "no destination 'kafka': there are otlp-aws,"),
        (("kinesis", "--region", "Ireland"), "--region 'Ireland' is not a region such as eu-west-1"),
        (("kinesis", "--region", 'eu-west-1"'), "is not a region"),
        (("kinesis", "--account", "12345"), "--account '12345' is not an account number of 12 digits"),
        (("kinesis", "--account", "١٢٣٤٥٦٧٨٩٠١٢"), "is not an account number"),
        (("kinesis", "--stream", "a/b"), "--stream 'a/b' is not the name of a Kinesis stream"),
        (("kinesis", "--stream", "*"), "is not the name of a Kinesis stream"),
        (("dynamodb", "--table", "{region}"), "is not the name of a DynamoDB table"),
        (("emf", "--log-group", ""), "is not the name of a log group"),
        (("kinesis", "--table", "spans"), "--table is not for kinesis"),
        (("kinesis", "sampling", "--create"), "--create is not for kinesis, sampling"),
    ],
)
def test_a_wrong_option_is_refused(arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == (2, None)
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


# --- actions ----------------------------------------------------------------------------------------------------


@lru_cache
def operations() -> dict[str, set[str]]:
    """Method of a botocore client -> the actions in IAM that it may be."""
    found: dict[str, set[str]] = {}
    for service in SERVICES:
        for name in Session().get_service_model(service).operation_names:
            found.setdefault(xform_name(name), set()).add(f"{service}:{name}")
    return found


def called() -> set[str]:
    """The actions behind every `client.method`, every name that `getattr(client, …)` and the like may get, and the
    calls of the sampling service, which is asked over plain HTTP."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).as_posix().startswith(NOT_OURS):
            continue
        text = path.read_text()
        by_name = re.search(r"getattr\(\w*(\.\w+)*client|get_paginator|get_waiter", text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and "client" in ast.unparse(node.value).lower():
                found |= operations().get(node.attr, set())
            elif isinstance(node, ast.Constant) and by_name and isinstance(node.value, str):
                found |= operations().get(node.value, set())
        if "class SamplingClient" in text:
            names = {"GetSamplingRules": "GetSamplingRules", "SamplingTargets": "GetSamplingTargets"}
            asked = re.findall(r"_post\(\"(\w+)\"", text)
            found |= {f"xray:{names[name]}" for name in asked}
    return found


def granted() -> set[str]:
    """All actions of the destinations that are reached through botocore or the sampling service."""
    names = [name for name in DESTINATIONS if not name.startswith("otlp-") and name != "xray"]
    return {action for grant in grants(names, ("read", "create")) for action in grant.actions}


def test_every_call_of_ours_is_allowed() -> None:
    # A few operations have the same name in several services; the others of that name are not ours.
    ambiguous = {action for actions in operations().values() if len(actions) > 1 for action in actions}
    assert called() - granted() - ambiguous == set()


def test_nothing_is_allowed_that_no_code_of_ours_calls() -> None:
    assert granted() - called() == set()


def test_the_otlp_endpoints_refusals_name_the_same_actions() -> None:
    for name, service in (("otlp-aws", "xray"), ("otlp-aws-logs", "logs"), ("otlp-aws-metrics", "monitoring")):
        named = set(re.findall(r"\w+:\w+", otlp_aws._ALLOW[service]))
        assert named == {action for grant in grants([name]) for action in grant.actions}


# --- the grammar of IAM, as cfn-lint knows it -------------------------------------------------------------------


def everything() -> list[dict[str, Any]]:
    narrow = Scope("eu-west-1", "123456789012", "spans", "shop", "/shop/metrics", "Shop")
    return [policy(DESTINATIONS, scope, ("read", "create")) for scope in (Scope(), narrow)]


def data(name: str) -> Any:
    import cfnlint

    return json.loads((Path(cfnlint.__file__).parent / "data" / name).read_text())


@pytest.mark.parametrize("found", everything(), ids=["wide", "narrow"])
def test_a_policy_is_one_by_the_grammar(found: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    schema = data("schemas/other/iam/policy.json")
    statement = Draft202012Validator({"$ref": "#/definitions/Statement", "definitions": schema["definitions"]})
    assert set(found) == {"Version", "Statement"}
    assert found["Version"] in schema["properties"]["Version"]["enum"]
    for each in found["Statement"]:
        assert [error.message for error in statement.iter_errors(each)] == []
    sids = [each["Sid"] for each in found["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)
    assert len(json.dumps(found, separators=(",", ":"))) < 6144  # of a managed policy


@pytest.mark.parametrize("found", everything(), ids=["wide", "narrow"])
def test_its_actions_exist_and_take_such_resources(found: dict[str, Any]) -> None:
    known = data("AdditionalSpecs/Policies.json")
    for each in found["Statement"]:
        resources = [each["Resource"]] if isinstance(each["Resource"], str) else each["Resource"]
        for action in each["Action"]:
            service, _, name = action.partition(":")
            kinds = known[service]["Actions"][name.lower()].get("Resources", [])
            if resources == ["*"]:
                # cfn-lint lists data sets here, which PutMetricData of metrics has not.
                assert not kinds or action == "cloudwatch:PutMetricData", action
                continue
            forms = [form for kind in kinds for form in known[service]["Resources"][kind]["ARNFormats"]]
            shapes = [re.sub(r"\\?\$\\?\{\w+\\?\}", "[^:]*", form) for form in forms]
            for resource in resources:
                assert any(re.fullmatch(shape, resource) for shape in shapes), (action, resource)


@pytest.mark.slow
def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    import subprocess
    import sys

    template = {
        "Resources": {
            f"Policy{number}": {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": found}}
            for number, found in enumerate(everything())
        }
    }
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template))
    done = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", path], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "")
