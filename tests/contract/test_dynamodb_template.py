"""What `spanwell dynamodb create` prints and makes: checked by cfn-lint, and made on a simulated AWS."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spanwell.cli.dynamodb_table import definition, template
from spanwell.export import aws_client
from support.servers import moto
from support.started import clean
from support.tables import endpoint

ROOT = Path(__file__).parents[2]
STORED = ROOT / "configs/dynamodb.json"

pytestmark = pytest.mark.slow


def spanwell(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"}
    return subprocess.run(
        [sys.executable, "-m", "spanwell", "dynamodb", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean(**{**keys, **environ}),
    )


def test_the_file_in_configs_is_what_the_command_prints() -> None:
    done = spanwell("create", "--print-template")
    assert (done.returncode, done.stderr) == (0, "")
    assert STORED.read_text() == done.stdout


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(template("my.table-1", 7)))
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")


def test_cfn_lint_would_find_something(tmp_path: Path) -> None:
    broken = template("my.table-1", 7)
    broken["Resources"]["Traces"]["Properties"]["BillingMode"] = "FREE"
    path = tmp_path / "table.json"
    path.write_text(json.dumps(broken))
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, path], capture_output=True, text=True, timeout=120)
    assert "FREE" in done.stdout


def test_the_stack_makes_the_table_that_the_command_makes() -> None:
    with moto() as url, endpoint(url):
        aws_client.make_client("dynamodb")
        import boto3

        stacks = boto3.client("cloudformation", endpoint_url=url)
        stacks.create_stack(StackName="traces", TemplateBody=json.dumps(template("by-stack", 7)))
        done = spanwell("create", "--table", "by-hand", "--retention-days", "7", AWS_ENDPOINT_URL_DYNAMODB=url)
        assert (done.returncode, done.stderr) == (0, "")
        again = spanwell("create", "--table", "by-stack", AWS_ENDPOINT_URL_DYNAMODB=url)
        assert again.stdout.startswith("found table by-stack in eu-west-1: arn:aws:dynamodb")
        client = aws_client.make_client("dynamodb")
        tables = [client.describe_table(TableName=name)["Table"] for name in ("by-hand", "by-stack")]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("made table by-hand in eu-west-1: arn:aws:dynamodb:")
    assert lines[-1].endswith(
        "SPANWELL_DYNAMODB_TABLE=by-hand SPANWELL_RETENTION_DAYS=7 spanwell run -- your command"
    )
    for field in ("KeySchema", "AttributeDefinitions"):
        assert tables[0][field] == tables[1][field] == definition("x")[field]
    assert tables[0]["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("name", ["a", "a b", "x" * 256])
def test_a_name_that_no_table_has(name: str) -> None:
    done = spanwell("create", "--table", name)
    assert done.returncode == 2
    assert "give a name of 3 to 255 letters, digits, _ . and -" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_an_endpoint() -> None:
    done = spanwell("create", "--table", "abc", AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("spanwell: cannot make the table abc: Could not connect")
    assert done.stderr.count("\n") == 1
