"""Processes with OTEL_TRACES_EXPORTER=kinesis: what they put into a stream, and what they say when they cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanwell.export.dead_letter import read
from support import node
from support.faults import error, fault_proxy, partial
from support.kinesis import span_ids
from support.started import LAUNCHERS, clean, python

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
WORK = """
from opentelemetry import trace
tracer = trace.get_tracer("app")
for number in range(1500):
    with tracer.start_as_current_span(f"parent {number}"):
        with tracer.start_as_current_span(f"child {number}"):
            pass
"""
FORKS = """
import os
from opentelemetry import trace
tracer = trace.get_tracer("app")
with tracer.start_as_current_span("before"):
    pass
trace.get_tracer_provider().force_flush()
child = os.fork()
with tracer.start_as_current_span("after"):
    pass
if child:
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def kinesis() -> Iterator[tuple[str, Any]]:
    import boto3

    with node.kinesalite("processes put their spans into a Kinesis stream") as url:
        client = boto3.client("kinesis", endpoint_url=url)
        client.create_stream(StreamName="spans", ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName="spans", WaiterConfig={"Delay": 1})
        yield url, client


def env(url: str, **more: str) -> dict[str, str]:
    """A user's environment. `more` may take a variable away with an empty value."""
    chosen = {
        "OTEL_SERVICE_NAME": "app",
        "OTEL_TRACES_EXPORTER": "kinesis",
        "SPANWELL_KINESIS_STREAM": "spans",
        "SPANWELL_SHUTDOWN_TIMEOUT": "20",
        "AWS_ENDPOINT_URL_KINESIS": url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }
    return clean(**{name: value for name, value in chosen.items() if value})


class Reader:
    """What came into the stream since the last look."""

    def __init__(self, client: Any) -> None:
        self._client = client
        (shard,) = client.list_shards(StreamName="spans")["Shards"]
        found = client.get_shard_iterator(
            StreamName="spans", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        self._at = found["ShardIterator"]
        self.read()

    def read(self) -> list[Any]:
        records: list[Any] = []
        while True:
            page = self._client.get_records(ShardIterator=self._at, Limit=10_000)
            self._at = page["NextShardIterator"]
            if not page["Records"]:
                return records
            records += page["Records"]


@BOTH
def test_spans_arrive_once_through_a_stream_that_throttles(kinesis: tuple[str, Any], launcher: str) -> None:
    url, client = kinesis
    reader = Reader(client)
    with fault_proxy(url, [partial(0, 5), partial(share=0.5), partial(share=0.9)]) as proxy:
        done = python(WORK, env(proxy.url), launcher=launcher, timeout=60)
    assert done == (0, "", "")
    records = reader.read()
    found = span_ids(record["Data"] for record in records)
    assert len(found) == 3_000
    assert set(found.values()) == {1}
    assert {len(record["PartitionKey"]) for record in records} == {32}


def test_what_is_refused_is_said_once_and_kept(kinesis: tuple[str, Any], tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    with fault_proxy(kinesis[0], lambda _: error("AccessDeniedException")) as proxy:
        done = python(WORK, env(proxy.url, SPANWELL_KINESIS_DEAD_LETTER=str(letters)), timeout=60)
    assert (done.code, done.out) == (0, "")
    numbers = [int(number) for number in re.findall(r"(\d+) spans did not reach exporter kinesis", done.err)]
    assert sum(numbers) == 3_000, done.err
    assert "allow kinesis:PutRecords" in done.err
    assert str(letters) in done.err
    assert len(done.err.splitlines()) <= 2
    assert sum(letter.spans for letter in read(str(letters)) if letter) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SPANWELL_KINESIS_STREAM": ""}, "set SPANWELL_KINESIS_STREAM to the name or ARN"),
        ({"SPANWELL_KINESIS_STREAM": "my stream"}, "'my stream' is no name or ARN"),
        ({"SPANWELL_KINESIS_STREAM": "nowhere"}, "spanwell creates none"),
        ({"AWS_REGION": ""}, "needs a region: set AWS_REGION"),
        ({"AWS_REGION": "Frankfurt!"}, "needs a region such as eu-west-1"),
        ({"AWS_ACCESS_KEY_ID": ""}, "finds no AWS credentials"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_ENDPOINT_URL_KINESIS": "http://127.0.0.1:1"}, "check the region"),
        ({"AWS_ENDPOINT_URL_KINESIS": "http://10.0.0.1:4566"}, "sends no credentials to 10.0.0.1 in plain text"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(kinesis: tuple[str, Any], change: dict[str, str], words: str) -> None:
    nowhere = {
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "HOME": "/nonexistent",
    }
    quick = {"SPANWELL_SHUTDOWN_TIMEOUT": "5"}
    code = "from opentelemetry import trace\ntrace.get_tracer('x').start_span('one').end()\nprint('fine')"
    done = python(code, env(kinesis[0], **nowhere, **quick, **change), timeout=60)
    assert (done.code, done.out) == (0, "fine\n")
    (line,) = done.err.splitlines()
    assert "1 spans did not reach exporter kinesis" in line
    assert words in line


def test_a_forked_child_has_its_own_connection(kinesis: tuple[str, Any]) -> None:
    url, client = kinesis
    reader = Reader(client)
    done = python(FORKS, env(url), timeout=60)
    assert done.code == 0, done.err
    found = span_ids(record["Data"] for record in reader.read())
    assert (len(found), set(found.values())) == (3, {1})
