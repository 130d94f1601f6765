"""A reporting service: an ORM's engine on SQLite, and DynamoDB, S3 and SQS through botocore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import StaticPool

from corpus.harness import World, case
from corpus.stub import Aws, entry

OLD = {"db.system": "postgresql", "db.name": "shop", "db.statement": "SELECT * FROM orders WHERE id = %s"}


def reports(world: World) -> Callable[[str, float], None]:
    """What runs a statement that takes so many milliseconds."""
    engine = create_engine("sqlite://", poolclass=StaticPool)

    def prepare(connection: Any, _: Any) -> None:
        connection.create_function("pause", 1, lambda ms: world.clock.advance(ms=ms))

    event.listen(engine, "connect", prepare)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sales (id INTEGER, total INTEGER)"))
        connection.execute(text("INSERT INTO sales VALUES (1, 100)"))
    world.instrument(SQLAlchemyInstrumentor(), engine=engine)

    def run(statement: str, ms: float) -> None:
        with engine.begin() as connection:
            connection.execute(text(statement), {"ms": ms})

    return run


@case("slow_db", positive=True, half="tuned")
def monthly_report(world: World) -> Iterator[None]:
    run = reports(world)
    for ms in (505, 620, 900, 2_500, 12_000):
        with entry(world, "GET /report/{month}"):
            run("SELECT sum(total), pause(:ms) FROM sales", ms)
        yield


@case("slow_db", positive=True, half="tuned")
def one_slow_among_many(world: World) -> Iterator[None]:
    run = reports(world)
    for ms in (501, 700, 1_500):
        with entry(world, "POST /import"):
            for _ in range(4):
                run("INSERT INTO sales SELECT 1, pause(:ms)", 5)
            run("UPDATE sales SET total = pause(:ms)", ms)
        yield


@case("slow_db", positive=True, half="tuned")
def slow_and_then_failed(world: World) -> Iterator[None]:
    for ms in (800, 30_000):
        with entry(world, "GET /orders/{id}"), world.tracer().start_as_current_span("connect", attributes=OLD):
            world.clock.advance(ms=ms)
        yield


@case("slow_db", positive=False, half="tuned")
def quick_enough(world: World) -> Iterator[None]:
    run = reports(world)
    for ms in (2, 120, 350, 480, 495):
        with entry(world, "GET /report/{month}"):
            run("SELECT sum(total), pause(:ms) FROM sales", ms)
        yield


@case("slow_db", positive=False, half="tuned")
def many_quick_ones_make_a_slow_request(world: World) -> Iterator[None]:
    run = reports(world)
    for count in (3, 10, 30):
        with entry(world, "POST /import"):
            for _ in range(count):
                run("INSERT INTO sales SELECT 1, pause(:ms)", 300)
        yield


@case("slow_db", positive=False, half="tuned")
def slow_work_around_a_quick_statement(world: World) -> Iterator[None]:
    run, tracer = reports(world), world.tracer()
    for ms in (600, 3_000):
        with entry(world, "GET /report/{month}"), tracer.start_as_current_span("transaction"):
            run("SELECT total, pause(:ms) FROM sales", 10)
            world.clock.advance(ms=ms)
        yield


@case("slow_aws_call", positive=True, half="tuned")
def a_slow_table(world: World) -> Iterator[None]:
    aws = Aws(world)
    table = aws.client("dynamodb")
    for ms in (1_010, 1_500, 4_000, 8_000):
        aws.cost = ms
        with entry(world, "GET /orders/{id}"):
            table.get_item(TableName="orders", Key={"id": {"S": "1"}})
        yield


@case("slow_aws_call", positive=True, half="tuned")
def large_objects(world: World) -> Iterator[None]:
    aws = Aws(world)
    bucket, queue = aws.client("s3"), aws.client("sqs")
    for ms in (1_100, 2_200, 9_000):
        with entry(world, "POST /upload"):
            aws.cost = ms
            bucket.put_object(Bucket="uploads", Key="k", Body=b"x")
            aws.cost = 10
            queue.send_message(QueueUrl="https://sqs.eu-central-1.amazonaws.com/1/q", MessageBody="m")
        yield


@case("slow_aws_call", positive=True, half="tuned")
def tried_three_times(world: World) -> Iterator[None]:
    aws = Aws(world)
    table = aws.client("dynamodb")
    left: list[int] = []

    def fail_first(**_: Any) -> None:
        aws.answer = (left.pop() if left else 200, b"")

    table.meta.events.register_first("before-send.*.*", fail_first)
    for ms in (400, 700, 1_500):
        aws.cost, left[:] = ms, [500, 500]
        with entry(world, "PUT /orders/{id}"):
            table.put_item(TableName="orders", Item={"id": {"S": "1"}})
        yield


@case("slow_aws_call", positive=False, half="tuned")
def a_quick_table(world: World) -> Iterator[None]:
    aws = Aws(world)
    table = aws.client("dynamodb")
    for ms in (3, 200, 700, 990):
        aws.cost = ms
        with entry(world, "GET /orders/{id}"):
            table.get_item(TableName="orders", Key={"id": {"S": "1"}})
            table.query(TableName="orders", KeyConditionExpression="id = :id")
        yield


@case("slow_aws_call", positive=False, half="tuned")
def long_polls(world: World) -> Iterator[None]:
    aws = Aws(world)
    queue = aws.client("sqs")
    for ms in (2_000, 10_000, 20_000):
        aws.cost = ms
        queue.receive_message(QueueUrl="https://sqs.eu-central-1.amazonaws.com/1/q", WaitTimeSeconds=20)
        yield


@case("slow_aws_call", positive=False, half="tuned")
def a_model_that_writes(world: World) -> Iterator[None]:
    for ms in (3_000, 11_000, 19_000):
        attributes = {"rpc.system": "aws-api", "rpc.service": "Bedrock Runtime", "rpc.method": "Converse"}
        with entry(world, "POST /answer"), _client(world, "chat", attributes):
            world.clock.advance(ms=ms)
        yield


def _client(world: World, name: str, attributes: dict[str, str]) -> Any:
    from opentelemetry.trace import SpanKind

    return world.tracer().start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes)
