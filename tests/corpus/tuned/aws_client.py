"""boto3 against a loopback stub: throttled, retried, one item at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

from corpus.backend import Answer, Backend, aws_error
from corpus.harness import World, case

THROTTLED = "ProvisionedThroughputExceededException"
CODES = (
    *(THROTTLED, "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "Throttling"),
    *("RequestThrottled", "SlowDown", "LimitExceededException", "ThrottledException", "BandwidthLimitExceeded"),
)


def start(world: World, service: str = "dynamodb", attempts: int = 1) -> tuple[Any, Backend]:
    """An instrumented client that tries `attempts` times, and what it talks to."""
    backend = world.enter(Backend(world).running())
    session = botocore.session.Session()
    client = session.create_client(
        service,
        region_name="eu-west-1",
        endpoint_url=backend.url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
    )
    if not BotocoreInstrumentor().is_instrumented_by_opentelemetry:
        world.instrument(BotocoreInstrumentor())
    return client, backend


def get(client: Any, number: int = 1, table: str = "orders") -> None:
    client.get_item(TableName=table, Key={"id": {"N": str(number)}})


# --- throttled_dependency -----------------------------------------------------------------------------------------


@case("throttled_dependency", positive=True, half="tuned")
def calls_over_the_limit(world: World) -> Iterator[None]:
    client, backend = start(world)
    for code in CODES:
        backend.queue(aws_error(code))
        with world.tracer().start_as_current_span("POST /orders"), contextlib.suppress(ClientError):
            get(client)
        yield


@case("throttled_dependency", positive=True, half="tuned")
@case("retried_call", positive=True, half="tuned")
def tried_until_given_up(world: World) -> Iterator[None]:
    for attempts in (2, 3, 5):
        client, backend = start(world, attempts=attempts)
        backend.queue(*[aws_error(THROTTLED)] * attempts)
        with world.tracer().start_as_current_span("POST /orders"), contextlib.suppress(ClientError):
            get(client)
        yield


@case("throttled_dependency", positive=False, half="tuned")
@case("retried_call", positive=False, half="tuned")
def errors_of_other_kinds(world: World) -> Iterator[None]:
    client, backend = start(world)
    others = ("ValidationException", "ResourceNotFoundException", "ConditionalCheckFailedException", "AccessDenied")
    for code in (*others, "InternalServerError"):
        backend.queue(aws_error(code, 500 if code.startswith("Internal") else 400))
        with world.tracer().start_as_current_span("POST /orders"), contextlib.suppress(ClientError):
            get(client)
        yield


@case("throttled_dependency", positive=False, half="tuned")
@case("retried_call", positive=False, half="tuned")
@case("trace_errors", positive=False, half="tuned")
@case("suppressed_error", positive=False, half="tuned")
def calls_that_work(world: World) -> Iterator[None]:
    client, _ = start(world)
    for calls in (1, 2, 5, 30, 429):
        with world.tracer().start_as_current_span("POST /ThrottlingException"):
            for number in range(calls):
                get(client, number)
        yield


# --- retried_call -------------------------------------------------------------------------------------------------


@case("retried_call", positive=True, half="tuned")
def retried_by_the_client(world: World) -> Iterator[None]:
    client, backend = start(world, attempts=5)
    for failures in (1, 2, 3, 4):
        backend.queue(*[aws_error("InternalServerError", 500)] * failures)
        with world.tracer().start_as_current_span("POST /orders"):
            get(client)
        yield


@case("retried_call", positive=True, half="tuned")
def retried_by_the_application(world: World) -> Iterator[None]:
    client, backend = start(world)
    for failures, code in ((1, THROTTLED), (2, "RequestLimitExceeded"), (3, "ThrottlingException")):
        backend.queue(*[aws_error(code)] * failures)
        with world.tracer().start_as_current_span("POST /orders"):
            for attempt in range(5):
                try:
                    get(client)
                    break
                except ClientError:
                    world.clock.advance(ms=200 * 2**attempt)
        yield


@case("retried_call", positive=False, half="tuned")
def an_item_that_was_there(world: World) -> Iterator[None]:
    client, backend = start(world)
    for later in (1, 3):
        backend.queue(aws_error("ConditionalCheckFailedException"))
        with world.tracer().start_as_current_span("POST /orders"):
            for number in range(1 + later):
                with contextlib.suppress(ClientError):
                    client.put_item(TableName="orders", Item={"id": {"N": str(number)}})
        yield


# --- n_plus_one ---------------------------------------------------------------------------------------------------


@case("n_plus_one", positive=True, half="tuned")
def items_one_by_one(world: World) -> Iterator[None]:
    client, _ = start(world)
    for calls in (10, 11, 25):
        with world.tracer().start_as_current_span("GET /cart"):
            for number in range(calls):
                get(client, number)
        yield


@case("n_plus_one", positive=False, half="tuned")
def items_in_batches_or_few(world: World) -> Iterator[None]:
    client, backend = start(world)
    with world.tracer().start_as_current_span("GET /cart"):
        for _ in range(9):
            get(client)
    yield
    backend.script = lambda *_: Answer(body=b'{"Responses": {}, "UnprocessedKeys": {}}')
    with world.tracer().start_as_current_span("GET /cart"):
        for start_at in range(0, 240, 20):
            keys = [{"id": {"N": str(number)}} for number in range(start_at, start_at + 20)]
            client.batch_get_item(RequestItems={"orders": {"Keys": keys}})
    yield
    with world.tracer().start_as_current_span("GET /cart"):
        for table in range(12):
            get(client, 1, f"table{table}")
    yield
