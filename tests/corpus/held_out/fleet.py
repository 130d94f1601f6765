"""A fleet of services that hand work on in messages, and workers that talk to AWS, whose wire is cut short."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import queue
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from opentelemetry import context, propagate
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.trace import SpanKind, StatusCode

from corpus.harness import World, case


class _Raw(io.BytesIO):
    def stream(self, *args: Any, **kwargs: Any) -> Any:
        yield self.read()


class Aws:
    """Clients of which botocore does everything but connect: `answers` are (status, code) of the next requests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answers: list[tuple[int, str]] = []
        world.instrument(BotocoreInstrumentor(), service="worker")
        self.session = boto3.session.Session("a", "b", region_name="eu-west-1")

    def client(self, service: str, mode: str = "legacy", attempts: int = 1) -> Any:
        made = self.session.client(service, config=Config(retries={"mode": mode, "total_max_attempts": attempts}))
        made.meta.events.register("before-send.*.*", self._send)
        return made

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        self.world.clock.advance(ms=8)
        status, code = self.answers.pop(0) if self.answers else (200, "")
        body = json.dumps({"__type": code, "message": "sorry"}) if code else "{}"
        return AWSResponse(request.url, status, {}, _Raw(body.encode()))


def quietly(call: Any, **arguments: Any) -> bool:
    """Whether it worked."""
    try:
        call(**arguments)
    except ClientError:
        return False
    return True


@case("throttled_dependency", positive=True, half="held_out")
def queue_and_keys_under_pressure(world: World) -> Iterator[None]:
    aws = Aws(world)
    sqs, kinesis = aws.client("sqs"), aws.client("kinesis")
    for code in ("RequestThrottled", "ThrottlingException"):
        aws.answers = [(400, code)]
        with world.tracer("worker").start_as_current_span("flush"):
            assert not quietly(sqs.send_message, QueueUrl="http://q/1/jobs", MessageBody="x")
        yield
    for code in ("ProvisionedThroughputExceededException", "LimitExceededException"):
        aws.answers = [(400, code)] * 2
        with world.tracer("worker").start_as_current_span("flush"):
            for number in range(2):
                quietly(kinesis.put_record, StreamName=f"s{number}", Data=b"x", PartitionKey="1")
        yield


@case("retried_call", positive=True, half="held_out")
def retried_inside(world: World) -> Iterator[None]:
    aws = Aws(world)
    for mode, attempts, failures in (("legacy", 5, 1), ("legacy", 5, 3), ("standard", 3, 2), ("standard", 2, 5)):
        aws.answers = [(500, "InternalFailure")] * failures
        sqs = aws.client("sqs", mode, attempts)
        with world.tracer("worker").start_as_current_span("flush"):
            quietly(sqs.send_message, QueueUrl="http://q/1/jobs", MessageBody="x")
        aws.answers = []
        yield


@case("retried_call", positive=False, half="held_out")
def different_messages(world: World) -> Iterator[None]:
    aws = Aws(world)
    sqs = aws.client("sqs")
    for queues in (2, 3):
        aws.answers = [(500, "InternalFailure")]
        with world.tracer("worker").start_as_current_span("flush"):
            for number in range(queues):
                quietly(sqs.send_message, QueueUrl=f"http://q/1/jobs{number}", MessageBody="x")
        yield


@case("n_plus_one", positive=True, half="held_out")
def messages_one_by_one(world: World) -> Iterator[None]:
    sqs = Aws(world).client("sqs")
    for count in (10, 13):
        with world.tracer("worker").start_as_current_span("flush"):
            for number in range(count):
                sqs.send_message(QueueUrl="http://q/1/jobs", MessageBody=str(number))
        yield


@case("n_plus_one", positive=False, half="held_out")
def messages_in_batches(world: World) -> Iterator[None]:
    sqs = Aws(world).client("sqs")
    with world.tracer("worker").start_as_current_span("flush"):
        for _ in range(14):
            sqs.send_message_batch(QueueUrl="http://q/1/jobs", Entries=[{"Id": "1", "MessageBody": "x"}])
    yield
    with world.tracer("worker").start_as_current_span("drain"):
        for _ in range(20):
            sqs.receive_message(QueueUrl="http://q/1/jobs")
    yield


# --- services -----------------------------------------------------------------------------------------------------


def relay(world: World, services: list[str], *, failing: int = -1) -> None:
    """Each service takes a message from its queue and sends one to the next."""
    boxes: dict[str, queue.Queue[dict[str, str]]] = {service: queue.Queue() for service in services}
    boxes[services[0]].put({})
    for number, service in enumerate(services):
        found = propagate.extract(boxes[service].get())
        token = context.attach(found)
        with world.tracer(service).start_as_current_span(f"process {service}", kind=SpanKind.CONSUMER) as span:
            if number == failing:
                span.set_status(StatusCode.ERROR)
            if number + 1 < len(services):
                target = services[number + 1]
                with world.tracer(service).start_as_current_span(f"send {target}", kind=SpanKind.PRODUCER) as sent:
                    sent.set_attribute("messaging.system", "memory")
                    sent.set_attribute("messaging.destination.name", target)
                    carrier: dict[str, str] = {}
                    propagate.inject(carrier)
                    boxes[target].put(carrier)
        context.detach(token)


NAMES = [f"station-{letter}" for letter in "abcdefghijklmnop"]


@case("high_service_count", positive=True, half="held_out", whole=True)
def relays_over_many_stations(world: World) -> Iterator[None]:
    for count in (6, 7, 8, 10, 16):
        relay(world, NAMES[:count])
        yield


@case("high_service_count", positive=False, half="held_out", whole=True)
def relays_over_few_stations(world: World) -> Iterator[None]:
    for stations in (NAMES[:2], NAMES[:4], NAMES[:5], [NAMES[0], *["loop"] * 9], [*NAMES[:5], NAMES[4]]):
        relay(world, stations)
        yield


@case("high_service_count", positive=True, half="held_out")
def a_worker_that_needs_all_of_aws(world: World) -> Iterator[None]:
    aws = Aws(world)
    calls = [
        (aws.client("sqs").send_message, {"QueueUrl": "http://q/1/jobs", "MessageBody": "x"}),
        (aws.client("dynamodb").list_tables, {}),
        (aws.client("kinesis").list_streams, {}),
        (aws.client("kms").list_keys, {}),
        (aws.client("secretsmanager").list_secrets, {}),
        (aws.client("ssm").describe_parameters, {}),
        (aws.client("stepfunctions").list_state_machines, {}),
    ]
    for first, last in ((0, 5), (0, 6), (0, 7), (1, 7), (2, 7)):
        with world.tracer("worker").start_as_current_span("audit", kind=SpanKind.SERVER):
            for call, arguments in calls[first:last]:
                call(**arguments)
        yield


@case("high_service_count", positive=False, half="held_out")
def a_worker_that_needs_little(world: World) -> Iterator[None]:
    aws = Aws(world)
    sqs, dynamodb, kms = aws.client("sqs"), aws.client("dynamodb"), aws.client("kms")
    for rounds in (1, 2, 3, 5, 9):
        with world.tracer("worker").start_as_current_span("audit", kind=SpanKind.SERVER):
            for number in range(rounds):
                sqs.send_message(QueueUrl=f"http://q/1/jobs{number}", MessageBody="x")
                dynamodb.get_item(TableName=f"t{number}", Key={"id": {"S": "1"}})
                kms.list_keys()
        yield


# --- oversized_trace ----------------------------------------------------------------------------------------------


def descend(depth: int, looking_for: str = "") -> None:
    if depth:
        ascend(depth - 1, looking_for="what is part of what it is itself a part of, in one way or another")
    raise RecursionError("went round in a circle")


def ascend(depth: int, looking_for: str = "") -> None:
    if depth:
        descend(depth - 1, looking_for="what it is itself a part of, and what is part of that in another way")
    raise RecursionError("went round in a circle")


@case("oversized_trace", positive=True, half="held_out")
@case("trace_errors", positive=True, half="held_out")
def a_stack_trace_that_fills_the_span(world: World) -> Iterator[None]:
    for depth in (650, 700):
        with contextlib.suppress(RecursionError), world.tracer("worker").start_as_current_span("resolve"):
            descend(depth)
        yield


@case("oversized_trace", positive=False, half="held_out")
@case("trace_errors", positive=True, half="held_out")
def a_stack_trace_as_they_are(world: World) -> Iterator[None]:
    for depth in (0, 10, 60):
        with contextlib.suppress(RecursionError), world.tracer("worker").start_as_current_span("resolve"):
            descend(depth)
        yield


@case("oversized_trace", positive=True, half="held_out")
def a_task_for_each_van(world: World) -> Iterator[None]:
    tracer = world.tracer("worker")

    async def van(number: int) -> None:
        with tracer.start_as_current_span(f"van {number}"):
            await asyncio.sleep(0)

    async def all_vans(count: int) -> None:
        with tracer.start_as_current_span("dispatch"):
            await asyncio.gather(*map(van, range(count)))

    for count in (500, 640, 1_111):
        asyncio.run(all_vans(count))
        yield
