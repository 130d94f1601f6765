"""configs/lambda/: every file has the layer, Active tracing, known settings, the X-Ray permissions, log retention.

Each is read by the parser of its own language; cfn-lint and a simulated CloudFormation take what is theirs.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanwell.cli.iam_policies import DESTINATIONS
from spanwell.settings import Settings
from support.servers import moto

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "lambda"
FILES = sorted(path for path in CONFIGS.iterdir() if path.is_file())
RUNTIMES = [f"python3.{minor}" for minor in range(10, 15)]
ARCHITECTURES = ["x86_64", "arm64"]
ACTIONS = {action for grant in DESTINATIONS["xray"].grants for action in grant.actions}
ZIP = "dist/spanwell-layer.zip"


def test_these_are_the_files() -> None:
    assert {path.name for path in FILES} == {
        *("sam.yaml", "cloudformation.yaml", "cdk_snippet.py", "main.tf", "serverless.yml"),
    }


class Tags(yaml.SafeLoader):
    """CloudFormation's short forms (`!Ref x`) as {tag: value}."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    assert isinstance(node, yaml.ScalarNode)
    return {suffix: loader.construct_scalar(node)}


Tags.add_multi_constructor("!", _tagged)


def load(name: str) -> dict[str, Any]:
    found = yaml.load((CONFIGS / name).read_text(), Tags)  # a subclass of SafeLoader
    assert isinstance(found, dict)
    return found


def resource(template: Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """(name, properties) of the only resource of a type."""
    [(name, found)] = [(name, each) for name, each in template["Resources"].items() if each["Type"] == kind]
    return name, found["Properties"]


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_says_how_to_start_and_what_to_change(path: Path) -> None:
    head = [line for line in path.read_text().splitlines()[:6] if line.startswith("#")]
    assert any("make layer" in line for line in head)
    assert any("Change: " in line for line in head)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_variables_that_it_names_are_settings(path: Path) -> None:
    """Those in comments too: people take the sign away and trust them."""
    text = path.read_text()
    named = dict(re.findall(r"\b((?:OTEL|SPANWELL)_[A-Z_]+)\"?\s*[:=]\s*\"?([^\s\",]+)", text))
    assert {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"} <= set(named)
    settings = Settings.from_env(named)
    assert settings.problems == ()
    assert {row.variable for row in Settings.rows() if settings.chosen(row)} == set(named)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_holds_no_account(path: Path) -> None:
    assert re.findall(r"\b\d{12}\b|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_list_has_it(path: Path) -> None:
    assert f"](lambda/{path.name})" in (ROOT / "configs/README.md").read_text()


def assert_policy(statements: Any) -> None:
    """One of `statements` is what `spanwell iam xray` prints, and none allows more of X-Ray."""
    done = subprocess.run(
        [sys.executable, "-m", "spanwell", "iam", "xray"], capture_output=True, text=True, timeout=60
    )
    [printed] = json.loads(done.stdout)["Statement"]
    assert set(printed["Action"]) == ACTIONS
    assert printed in [{**each, "Action": sorted(each["Action"])} for each in statements]
    for each in statements:
        assert each["Action"] == printed["Action"] or not any("xray" in action for action in each["Action"])


# --- CloudFormation and SAM -----------------------------------------------------------------------------------------


def lint(path: Path) -> tuple[int, str]:
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, path], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam.yaml", "cloudformation.yaml"])
def test_cfn_lint_finds_nothing(name: str) -> None:
    assert lint(CONFIGS / name) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam.yaml", "cloudformation.yaml"])
def test_cfn_lint_would_find_something(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text((CONFIGS / name).read_text().replace(": Active", ": Sometimes"))
    status, said = lint(path)
    assert status
    assert "Sometimes" in said


def test_sam() -> None:
    template = load("sam.yaml")
    assert template["Transform"] == "AWS::Serverless-2016-10-31"
    layer, made = resource(template, "AWS::Serverless::LayerVersion")
    assert (made["CompatibleRuntimes"], made["CompatibleArchitectures"]) == (RUNTIMES, ARCHITECTURES)
    assert made["ContentUri"] == ZIP
    _, function = resource(template, "AWS::Serverless::Function")
    assert (function["Layers"], function["Tracing"]) == ([{"Ref": layer}], "Active")
    assert function["Runtime"] in RUNTIMES
    logs, kept = resource(template, "AWS::Logs::LogGroup")
    assert function["LoggingConfig"] == {"LogGroup": {"Ref": logs}}
    assert kept["RetentionInDays"] == 30
    [policy] = function["Policies"]
    assert_policy(policy["Statement"])


def test_cloudformation() -> None:
    template = load("cloudformation.yaml")
    assert "Transform" not in template
    layer, made = resource(template, "AWS::Lambda::LayerVersion")
    assert (made["CompatibleRuntimes"], made["CompatibleArchitectures"]) == (RUNTIMES, ARCHITECTURES)
    _, function = resource(template, "AWS::Lambda::Function")
    assert (function["Layers"], function["TracingConfig"]) == ([{"Ref": layer}], {"Mode": "Active"})
    assert function["Runtime"] in RUNTIMES
    logs, kept = resource(template, "AWS::Logs::LogGroup")
    assert function["LoggingConfig"] == {"LogGroup": {"Ref": logs}}
    assert kept["RetentionInDays"] == 30
    role, given = resource(template, "AWS::IAM::Role")
    assert function["Role"] == {"GetAtt": f"{role}.Arn"}
    [policy] = given["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    assert_policy(statements)
    [allowed] = [each for each in statements if each["Sid"] == "Logs"]
    assert allowed["Resource"] == {"GetAtt": f"{logs}.Arn"}


@pytest.mark.slow
def test_the_stack_is_made() -> None:
    """On a simulated AWS: layer, function, role and log group are made, and the log group keeps for 30 days."""
    import boto3

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr("orders.py", "def handler(event, context): return event\n")
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
    with moto() as url:

        def client(service: str) -> Any:
            return boto3.client(service, endpoint_url=url, **keys)

        bucket = {"LocationConstraint": "eu-west-1"}
        client("s3").create_bucket(Bucket="artifacts", CreateBucketConfiguration=bucket)
        for key in ("spanwell-layer.zip", "orders.zip"):
            client("s3").put_object(Bucket="artifacts", Key=key, Body=archive.getvalue())
        client("cloudformation").create_stack(
            StackName="orders",
            TemplateBody=(CONFIGS / "cloudformation.yaml").read_text(),
            Parameters=[{"ParameterKey": "ArtifactBucket", "ParameterValue": "artifacts"}],
            Capabilities=["CAPABILITY_IAM"],
        )
        [stack] = client("cloudformation").describe_stacks(StackName="orders")["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        [function] = client("lambda").list_functions()["Functions"]
        assert function["Environment"]["Variables"]["OTEL_SERVICE_NAME"] == "orders"
        role = function["Role"].rpartition("/")[2]
        assert client("iam").list_role_policies(RoleName=role)["PolicyNames"] == ["traces-and-logs"]
        # The simulation leaves a function's layers and tracing mode out.
        [layer] = client("lambda").list_layers()["Layers"]
        assert layer["LatestMatchingVersion"]["CompatibleRuntimes"] == RUNTIMES
        [group] = client("logs").describe_log_groups()["logGroups"]
        assert group["retentionInDays"] == 30


# --- CDK ------------------------------------------------------------------------------------------------------------


def test_cdk() -> None:
    """aws-cdk-lib needs Node to be imported: what the snippet passes is read from its syntax tree.

    The tracing mode makes CDK give the role X-Ray's two actions.
    """
    text = (CONFIGS / "cdk_snippet.py").read_text()
    tree = ast.parse(text)
    calls: dict[str, dict[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls[ast.unparse(node.func)] = {
                word.arg: ast.unparse(word.value) for word in node.keywords if word.arg is not None
            }
    included = calls["CfnInclude"]
    assert (CONFIGS / ast.literal_eval(included["template_file"])).exists()
    parameters = re.findall(r"'(\w+)':", included["parameters"])
    assert set(parameters) <= set(load("cloudformation.yaml")["Parameters"])
    required = {name for name, each in load("cloudformation.yaml")["Parameters"].items() if "Default" not in each}
    assert required == set(parameters)
    assert calls["lambda_.LayerVersion"]["code"] == f"lambda_.Code.from_asset('{ZIP}')"
    assert (function := calls["lambda_.Function"])["layers"] == "[layer]"
    assert function["tracing"] == "lambda_.Tracing.ACTIVE"
    assert "retention=logs.RetentionDays.ONE_MONTH" in function["log_group"]
    assert re.findall(r"Runtime\.PYTHON_3_(\d+),", text) == [each.rpartition(".")[2] for each in RUNTIMES] + ["13"]


# --- Terraform ------------------------------------------------------------------------------------------------------


def plain(tree: Any) -> Any:
    """A tree of python-hcl2 without quotation marks and comments, whatever its version leaves of them."""
    if isinstance(tree, dict):
        kept = {key: each for key, each in tree.items() if not key.startswith("__")}
        return {plain(key): plain(each) for key, each in kept.items()}
    if isinstance(tree, list):
        return [plain(each) for each in tree]
    return tree.strip('"') if isinstance(tree, str) else tree


def terraform() -> dict[str, Any]:
    import hcl2

    found = plain(hcl2.loads((CONFIGS / "main.tf").read_text()))
    assert isinstance(found, dict)
    return found


def of(found: Mapping[str, Any], kind: str, group: str = "resource") -> tuple[str, dict[str, Any]]:
    """(name, block) of the only resource or data of a type."""
    [(name, block)] = [pair for each in found[group] if kind in each for pair in each[kind].items()]
    return name, block


def test_terraform() -> None:
    found = terraform()
    name, layer = of(found, "aws_lambda_layer_version")
    assert (layer["compatible_runtimes"], layer["compatible_architectures"]) == (RUNTIMES, ARCHITECTURES)
    assert layer["source_code_hash"] == "${filebase64sha256(var.layer_zip)}"
    variables = {key: each for entry in found["variable"] for key, each in entry.items()}
    assert variables["layer_zip"]["default"] == ZIP
    _, function = of(found, "aws_lambda_function")
    assert function["layers"] == [f"${{aws_lambda_layer_version.{name}.arn}}"]
    assert function["tracing_config"] == [{"mode": "Active"}]
    assert function["runtime"] in RUNTIMES
    logs, group = of(found, "aws_cloudwatch_log_group")
    assert group["retention_in_days"] == 30
    [logging] = function["logging_config"]
    assert logging["log_group"] == f"${{aws_cloudwatch_log_group.{logs}.name}}"
    policy, document = of(found, "aws_iam_policy_document", "data")
    assert_policy(
        [
            {
                "Sid": each["sid"],
                "Effect": "Allow",
                "Action": each["actions"],
                "Resource": each["resources"][0],
            }
            for each in document["statement"]
        ]
    )
    _, attached = of(found, "aws_iam_role_policy")
    assert attached["policy"] == f"${{data.aws_iam_policy_document.{policy}.json}}"


def test_every_reference_of_the_terraform_file_leads_somewhere() -> None:
    found = terraform()
    known = {f"{kind}.{name}" for entry in found["resource"] for kind, each in entry.items() for name in each}
    known |= {f"data.{kind}.{name}" for entry in found["data"] for kind, each in entry.items() for name in each}
    known |= {f"var.{name}" for entry in found["variable"] for name in entry}
    named = re.findall(r"\$\{[^}]*?\b((?:data\.)?(?:aws_\w+|var)\.\w+)", json.dumps(found))
    assert named
    assert set(named) <= known


# --- Serverless -----------------------------------------------------------------------------------------------------


def test_serverless() -> None:
    found = load("serverless.yml")
    assert set(found) == {"service", "provider", "layers", "functions"}
    provider = found["provider"]
    assert set(provider) == {
        *("name", "runtime", "memorySize", "timeout", "logRetentionInDays", "tracing", "environment", "iam"),
    }
    assert (provider["name"], provider["tracing"]) == ("aws", {"lambda": "Active"})
    assert provider["logRetentionInDays"] == 30
    assert provider["runtime"] in RUNTIMES
    assert_policy(provider["iam"]["role"]["statements"])
    [(name, layer)] = found["layers"].items()
    assert layer["package"] == {"artifact": ZIP}
    assert (layer["compatibleRuntimes"], layer["compatibleArchitectures"]) == (RUNTIMES, ARCHITECTURES)
    for function in found["functions"].values():
        # The framework names the resource after the key of the layer.
        assert function["layers"] == [{"Ref": f"{name.title()}LambdaLayer"}]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_have_the_same_variables(path: Path) -> None:
    def variables(text: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^\s+\"?((?:OTEL|SPANWELL)_[A-Z_]+)\"?\s*[:=]\s*\"?([^\s\",]+)", text))

    assert variables(path.read_text()) == variables((CONFIGS / "sam.yaml").read_text())
