"""Every destination of spans as the contract suites see it: how it is reached, and which spans it holds by id.

with moto() as url:
    target = KINESIS.at(url)       # makes the stream
    ... run something with target.environment(proxy.url) ...
    target.found([trace ids])      # span id -> how often it is there
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from spanwell.cli.dynamodb_table import make as make_table
from spanwell.export.udp_queue import queued
from support import segment_schema, tables
from support.collector import Collector, collector
from support.daemon import HEADER, Daemon
from support.kinesis import span_ids as ids_in_records
from support.servers import moto

NAME = "every-span"
Found = Callable[[Iterable[int]], "Counter[int]"]


class Target(NamedTuple):
    """One receiver that runs. `url` is its own; whoever puts a proxy before it hands that to `environment`."""

    exporter: str
    url: str
    variables: dict[str, str]
    endpoint: str
    found: Found
    """Trace ids -> span id -> how often the receiver has it. What it cannot read fails the test."""

    def environment(self, url: str = "") -> dict[str, str]:
        """What a user sets to send to `url`, or to the receiver itself."""
        return {"OTEL_TRACES_EXPORTER": self.exporter, **self.variables, self.endpoint: url or self.url}


class Servers:
    """The receivers of a module of tests: each is started once, by the first test that needs it."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._moto = ""
        self._otlp: Collector | None = None
        self._number = 0

    def target(self, destination: str) -> Target:
        """A fresh stream, table or the like of `destination`, one of `DESTINATIONS`."""
        self._number += 1
        if destination.startswith("otlp"):
            return self._collector(destination)
        if not self._moto:
            self._moto = self._stack.enter_context(moto())
        made = {"xray_api": _xray, "kinesis": _kinesis, "dynamodb": _dynamodb}[destination]
        return made(self._moto, f"{NAME}-{self._number}")

    def _collector(self, destination: str) -> Target:
        if self._otlp is None:
            self._otlp = self._stack.enter_context(collector())
        received = self._otlp

        def found(_: Iterable[int]) -> Counter[int]:
            return Counter(int.from_bytes(span.span_id, "big") for span in received.span_messages())

        received.accepted.clear()
        received.posts.clear()
        variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json" if destination == "otlp_json" else "http/protobuf"}
        return Target("otlp", received.url, variables, "OTEL_EXPORTER_OTLP_ENDPOINT", found)

    def close(self) -> None:
        """End them all."""
        self._stack.close()


DESTINATIONS = ("otlp_protobuf", "otlp_json", "xray_api", "kinesis", "dynamodb")


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """`Servers` until the block ends."""
    made = Servers()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def variables(chosen: dict[str, str]) -> Iterator[None]:
    """Environment variables for the block, for exporters that are made as their entry points make them."""
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


AWS = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}


def client(service: str, url: str) -> Any:
    """boto3's own client of a simulated service."""
    import boto3

    return boto3.client(
        service, endpoint_url=url, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def _xray(url: str, _name: str) -> Target:
    reader = client("xray", url)

    def found(traces: Iterable[int]) -> Counter[int]:
        counted: Counter[int] = Counter()
        names = [xray_id(each) for each in traces]
        for start in range(0, len(names), 5):  # five traces a call, as X-Ray allows
            for trace in reader.batch_get_traces(TraceIds=names[start : start + 5])["Traces"]:
                counted.update(_id_of(each["Document"].encode()) for each in trace["Segments"])
        return counted

    return Target("xray_api", url, AWS, "AWS_ENDPOINT_URL_XRAY", found)


def xray_id(trace_id: int) -> str:
    """A trace id as X-Ray writes it."""
    return f"1-{trace_id >> 96:08x}-{trace_id & (1 << 96) - 1:024x}"


def _id_of(document: bytes) -> int:
    return int(segment_schema.check(document)["id"], 16)


def _kinesis(url: str, name: str) -> Target:
    reader = client("kinesis", url)
    reader.create_stream(StreamName=name, ShardCount=2)
    reader.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})

    def found(_: Iterable[int]) -> Counter[int]:
        return ids_in_records(_records(reader, name))

    return Target("kinesis", url, {**AWS, "SPANWELL_KINESIS_STREAM": name}, "AWS_ENDPOINT_URL_KINESIS", found)


def _records(reader: Any, stream: str) -> Iterator[bytes]:
    for shard in reader.list_shards(StreamName=stream)["Shards"]:
        chosen = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        at = reader.get_shard_iterator(**chosen)["ShardIterator"]
        while True:
            page = reader.get_records(ShardIterator=at, Limit=10_000)
            if not page["Records"]:
                break
            yield from (record["Data"] for record in page["Records"])
            at = page["NextShardIterator"]


def _dynamodb(url: str, name: str) -> Target:
    reader = client("dynamodb", url)
    list(make_table(reader, name))

    def found(_: Iterable[int]) -> Counter[int]:
        stored = tables.span_ids(tables.scan(reader, name))
        return Counter({int(span_id, 16): number for span_id, number in stored.items()})

    return Target("dynamodb", url, {**AWS, "SPANWELL_DYNAMODB_TABLE": name}, "AWS_ENDPOINT_URL_DYNAMODB", found)


# --- UDP ------------------------------------------------------------------------------------------------------------


class LossySink(Daemon):
    """A UDP receiver behind a network that eats a `share` of the datagrams, chosen by `seed`."""

    def __init__(self, exporter: str, seed: int, share: float) -> None:
        self._exporter = exporter
        self._kept: list[bytes] = []
        self._eaten: list[bytes] = []
        self._chance = random.Random(seed)
        self._share = share
        self._reading = threading.Event()
        self._reading.set()
        super().__init__()

    def _run(self) -> None:
        wire, closed = self._socket, self._closed
        while not closed.is_set():
            if self._reading.wait(0.05):
                with contextlib.suppress(TimeoutError):
                    data = wire.recv(70_000)
                    (self._eaten if self._chance.random() < self._share else self._kept).append(data)

    def open(self) -> None:
        """Listen again, on the same port."""
        super().__init__(self.port)

    def pause(self) -> None:
        """Read nothing until `go_on`."""
        self._reading.clear()
        time.sleep(0.1)  # what it is reading now

    def go_on(self) -> None:
        """Read again."""
        self._reading.set()

    def settle(self) -> None:
        """Wait until everything that was sent to it has been read."""
        seen = -1
        while queued(self.port) or seen != (seen := len(self._kept) + len(self._eaten)):
            time.sleep(0.15)

    def found(self) -> Counter[int]:
        """The span ids in what arrived."""
        return self._ids(self._kept)

    def eaten(self) -> Counter[int]:
        """The span ids in what the network ate."""
        return self._ids(self._eaten)

    def _ids(self, datagrams: list[bytes]) -> Counter[int]:
        counted: Counter[int] = Counter()
        for each in datagrams:
            assert each.startswith(HEADER)
            body = each[len(HEADER) :]
            if self._exporter == "xray":
                counted[_id_of(body)] += 1
            else:
                assert body.startswith(b"T1S")
                counted += ids_in_records([b64decode(body[3:], validate=True)])
        return counted


@contextlib.contextmanager
def lossy_sink(exporter: str, seed: int, share: float = 0.1) -> Iterator[LossySink]:
    """Until the block ends."""
    made = LossySink(exporter, seed, share)
    try:
        yield made
    finally:
        made.close()
