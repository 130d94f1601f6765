"""A back office: the standard library's sqlite3, Redis, other AWS services over HTTP, and the stable conventions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import redis
from botocore.config import Config
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.trace import SpanKind

from corpus.backend import Answer, Backend
from corpus.harness import World, case
from corpus.stub import Aws, Redis, entry


def ledger(world: World) -> sqlite3.Connection:
    """A database in which `spend(ms)` takes that long."""
    world.instrument(SQLite3Instrumentor())
    connection = sqlite3.connect(":memory:")
    connection.create_function("spend", 1, lambda ms: world.clock.advance(ms=ms))
    connection.execute("CREATE TABLE entries (account TEXT, amount INTEGER)")
    connection.executemany("INSERT INTO entries VALUES (?, ?)", [("a", 1), ("b", 2), ("a", 3)])
    world.take()
    return connection


def cache(world: World) -> tuple[Redis, Any]:
    world.instrument(RedisInstrumentor())
    server = world.enter(Redis(world).running())
    client = redis.Redis(port=server.port, protocol=2)
    client.ping()
    world.take()
    return server, client


@case("slow_db", positive=True, half="held_out")
def balances(world: World) -> Iterator[None]:
    connection = ledger(world)
    for ms in (510, 777, 1_900):
        with entry(world, "balances"):
            cursor = connection.cursor()
            cursor.execute("SELECT account, sum(amount), spend(?) FROM entries WHERE account = 'b'", (ms,))
            cursor.fetchall()
        yield


@case("slow_db", positive=True, half="held_out")
def a_command_over_all_keys(world: World) -> Iterator[None]:
    server, client = cache(world)
    server.cost = {"KEYS": 1_300.0, "SMEMBERS": 640.0, "GET": 2.0}.__getitem__
    for command in ("KEYS", "SMEMBERS", "KEYS"):
        with entry(world, "GET /sessions"):
            client.get("warm")
            client.execute_command(command, "*")
        yield


@case("slow_db", positive=True, half="held_out")
def in_the_stable_conventions(world: World) -> Iterator[None]:
    for system, summary, ms in (
        ("postgresql", "SELECT invoices", 560),
        ("mysql", "UPDATE stock", 1_000),
        ("mongodb", "aggregate visits", 5_400),
        ("opensearch", "search", 820),
    ):
        attributes = {"db.system.name": system, "db.query.summary": summary, "server.address": f"{system}.internal"}
        with entry(world, "POST /close"), _client(world, summary, attributes):
            world.clock.advance(ms=ms)
        yield


@case("slow_db", positive=False, half="held_out")
def waiting_for_work(world: World) -> Iterator[None]:
    server, client = cache(world)
    server.cost = lambda command: 4_000.0
    for command in (("BLPOP", "jobs", 5), ("BRPOP", "jobs", 5), ("XREAD", "BLOCK", 4000, "STREAMS", "s", "$")):
        with world.tracer().start_as_current_span("next job"):
            client.execute_command(*command)
        yield


@case("slow_db", positive=False, half="held_out")
def quick_ledger(world: World) -> Iterator[None]:
    connection = ledger(world)
    for ms in (0, 40, 260, 470):
        with entry(world, "balances"):
            for account in "ab":
                cursor = connection.cursor()
                cursor.execute("SELECT amount, spend(?) FROM entries WHERE account = ? LIMIT 1", (ms, account))
                cursor.fetchall()
                world.clock.advance(ms=900)
        yield


@case("slow_db", positive=False, half="held_out")
def slow_but_no_database(world: World) -> Iterator[None]:
    for attributes in (
        {"http.request.method": "GET", "url.full": "http://db.internal/query", "server.address": "db.internal"},
        {"rpc.system": "grpc", "rpc.service": "shop.Database", "rpc.method": "Select"},
        {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "Query", "db.system": "dynamodb"},
    ):
        with entry(world, "GET /q"), _client(world, "SELECT", attributes):
            world.clock.advance(ms=2_000)
        yield


@case("slow_aws_call", positive=True, half="held_out")
def functions_and_streams_over_http(world: World) -> Iterator[None]:
    backend = world.enter(Backend(world).running())
    aws = Aws(world)
    aws._send = lambda *_, **__: None  # type: ignore[assignment, method-assign]
    options = {"endpoint_url": backend.url, "config": Config(retries={"max_attempts": 0})}
    functions, steps = aws.client("lambda", **options), aws.client("stepfunctions", **options)
    for ms in (1_050, 2_400, 14_000):
        backend.script = lambda *_, ms=ms: Answer(ms=ms)
        with entry(world, "POST /resize"):
            functions.invoke(FunctionName="resize", Payload=b"{}")
        yield
        with entry(world, "POST /order"):
            steps.describe_execution(executionArn="arn:aws:states:eu-central-1:1:execution:order:x")
        yield


@case("slow_aws_call", positive=True, half="held_out")
def a_call_in_the_stable_conventions(world: World) -> Iterator[None]:
    for method, ms in (
        ("DynamoDB/TransactWriteItems", 1_300),
        ("S3/PutObject", 6_000),
        ("Bedrock Runtime/Converse", 26_000),
        ("SNS/Publish", 1_001),
    ):
        attributes = {"rpc.system.name": "aws-api", "rpc.method": method}
        with entry(world, "job"), _client(world, method, attributes):
            world.clock.advance(ms=ms)
        yield


@case("slow_aws_call", positive=False, half="held_out")
def quick_over_http(world: World) -> Iterator[None]:
    backend = world.enter(Backend(world).running())
    aws = Aws(world)
    aws._send = lambda *_, **__: None  # type: ignore[assignment, method-assign]
    topics = aws.client("sns", endpoint_url=backend.url)
    body = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
    for ms in (20, 500, 980):
        backend.script = lambda *_, ms=ms: Answer(body=body, headers={"Content-Type": "text/xml"}, ms=ms)
        with entry(world, "POST /notify"):
            for _ in range(3):
                topics.publish(TopicArn="arn:aws:sns:eu-central-1:1:t", Message="m")
        yield


@case("slow_aws_call", positive=False, half="held_out")
def workers_that_wait(world: World) -> Iterator[None]:
    for attributes in (
        {"rpc.system": "aws-api", "rpc.service": "SFN", "rpc.method": "GetActivityTask"},
        {"rpc.system.name": "aws-api", "rpc.method": "SQS/ReceiveMessage"},
        {"rpc.system": "aws-api", "rpc.service": "Kinesis", "rpc.method": "SubscribeToShard"},
        {"rpc.system": "aws-api", "rpc.service": "SWF", "rpc.method": "PollForDecisionTask"},
    ):
        with world.tracer().start_as_current_span("worker"), _client(world, "poll", attributes):
            world.clock.advance(ms=60_000)
        yield


@case("slow_aws_call", positive=False, half="held_out")
def slow_but_not_aws(world: World) -> Iterator[None]:
    for attributes in (
        {"rpc.system": "grpc", "rpc.service": "S3", "rpc.method": "GetObject"},
        {"http.method": "GET", "http.url": "https://example.amazonaws.com.example.com/"},
        {"db.system": "redis", "db.statement": "GET ?"},
    ):
        with entry(world, "GET /x"), _client(world, "x", attributes):
            world.clock.advance(ms=5_000)
        yield


def _client(world: World, name: str, attributes: dict[str, str]) -> Any:
    return world.tracer().start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes)
