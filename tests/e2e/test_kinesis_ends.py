"""A process that ends while its spans are under way to Kinesis: they arrive or are in the loss count."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support import node
from support.faults import delay, fault_proxy, partial
from support.kinesis import span_ids
from support.started import LAUNCHERS, clean, end

pytestmark = pytest.mark.slow

# It says how many spans have ended, then goes on until it is stopped.
WORK = """
import sys, time
from opentelemetry import trace
tracer = trace.get_tracer("app")
number = 0
try:
    while True:
        with tracer.start_as_current_span("work"):
            number += 1
        if number == 2000:
            print("under way", flush=True)
        if number > 2000:
            time.sleep(0.001)
finally:
    print(number, flush=True)
"""
HANDLED = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + WORK


@pytest.fixture(scope="module")
def kinesis() -> Iterator[tuple[str, Any]]:
    import boto3

    with node.kinesalite("no span is lost uncounted when a process ends") as url:
        yield url, boto3.client("kinesis", endpoint_url=url)


def arrived(client: Any, stream: str) -> Any:
    (shard,) = client.list_shards(StreamName=stream)["Shards"]
    chosen = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    at = client.get_shard_iterator(**chosen)["ShardIterator"]
    payloads: list[bytes] = []
    while True:
        page = client.get_records(ShardIterator=at, Limit=10_000)
        if not page["Records"]:
            return span_ids(payloads)
        payloads += [record["Data"] for record in page["Records"]]
        at = page["NextShardIterator"]


@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_the_sum_holds(kinesis: tuple[str, Any], how: str) -> None:
    url, client = kinesis
    client.create_stream(StreamName=how, ShardCount=1)
    client.get_waiter("stream_exists").wait(StreamName=how, WaiterConfig={"Delay": 1})
    environment = clean(
        OTEL_SERVICE_NAME="app",
        OTEL_TRACES_EXPORTER="kinesis",
        OTEL_BSP_SCHEDULE_DELAY="50",
        SPANWELL_KINESIS_STREAM=how,
        AWS_REGION="eu-west-1",
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
    )
    # The third request and those behind it take so long that the end comes while they are under way.
    with fault_proxy(url, lambda request: partial(share=0.3) if request.number < 2 else delay(0.3)) as proxy:
        process = subprocess.Popen(
            [*LAUNCHERS["run"], sys.executable, "-c", HANDLED],
            env={**environment, "AWS_ENDPOINT_URL_KINESIS": proxy.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "under way\n"
            for _ in range(600):
                if proxy.passed:
                    break
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM if how == "terminated" else signal.SIGKILL)
            out, err = process.communicate(timeout=60)
        finally:
            end(process)
    found = arrived(client, how)
    assert set(found.values()) == {1}, "something arrived, and nothing twice"
    if how == "killed":
        return
    ended = int(out)
    lost = sum(int(number) for number in re.findall(r"(\d+) spans", err))
    # A request whose answer came too late for the process is counted as lost, though it arrived.
    assert len(found) <= ended <= len(found) + lost
    assert err.count("\n") <= 2, err
