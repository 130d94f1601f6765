"""`spanwell doctor --send` to AWS: what is missing is said with its remedy, what is there takes the span."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.session import Session

from support.servers import moto
from support.started import clean

pytestmark = pytest.mark.slow

REGION = "eu-west-1"
NAMES = ("xray_api", "kinesis", "dynamodb")


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with moto() as url:
        yield url


def send(url: str, *names: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and what became of the span at each destination."""
    environ = clean(
        OTEL_TRACES_EXPORTER=",".join(names),
        AWS_ENDPOINT_URL=url,
        AWS_REGION=REGION,
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_EC2_METADATA_DISABLED="true",
        SPANWELL_KINESIS_STREAM="spans",
        SPANWELL_DYNAMODB_TABLE="spans",
        SPANWELL_RESOURCE_TIMEOUT="0",
        **variables,
    )
    done = subprocess.run(
        [sys.executable, "-m", "spanwell", "doctor", "--send", "--json"],
        env={**environ, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, {one["exporter"]: one for one in json.loads(done.stdout)["deliveries"]}


def test_what_is_missing_is_named_and_what_is_there_takes_the_span(aws: str) -> None:
    code, found = send(aws, *NAMES)
    assert code == 1
    assert {name: one["outcome"] for name, one in found.items()} == {
        "xray_api": "arrived",
        "kinesis": "failed",
        "dynamodb": "failed",
    }
    for name in ("kinesis", "dynamodb"):
        assert "ResourceNotFound" in found[name]["reason"]
        assert "spans" in found[name]["reason"] + found[name]["where"]

    session = Session()
    session.set_credentials("testing", "testing")
    session.create_client("kinesis", region_name=REGION, endpoint_url=aws).create_stream(
        StreamName="spans", ShardCount=1
    )
    made = subprocess.run(
        [sys.executable, "-m", "spanwell", "dynamodb", "create", "--table", "spans"],
        env={
            **clean(AWS_ENDPOINT_URL=aws, AWS_REGION=REGION, AWS_ACCESS_KEY_ID="testing"),
            "AWS_SECRET_ACCESS_KEY": "testing",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    code, found = send(aws, *NAMES)
    assert (code, {one["outcome"] for one in found.values()}) == (0, {"arrived"})
    dynamodb = session.create_client("dynamodb", region_name=REGION, endpoint_url=aws)
    items = dynamodb.scan(TableName="spans")["Items"]
    assert "spanwell doctor" in [item["name"]["S"] for item in items if "name" in item]


def test_nobody_listens_there() -> None:
    code, found = send("http://127.0.0.1:1", *NAMES)
    assert code == 1
    for one in found.values():
        assert one["outcome"] == "failed"
        assert one["reason"]


def test_without_credentials(aws: str) -> None:
    code, found = send(
        aws,
        "kinesis",
        AWS_PROFILE="nobody",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
    )
    assert (code, found["kinesis"]["outcome"]) == (1, "failed")
    assert "nobody" in found["kinesis"]["reason"]
