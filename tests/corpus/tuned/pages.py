"""Pages of a shop that are put together from what other services answer, asked with requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import StaticPool

from corpus.backend import Answer, Backend
from corpus.harness import World, case
from corpus.stub import Aws, entry

Ask = Callable[..., requests.Response]


def services(world: World, ms: float = 80) -> tuple[Backend, Ask]:
    """Services that answer after `ms`, or in as many as a path ends with: `/prices/120ms`."""
    backend = world.enter(Backend(world).running())
    world.instrument(RequestsInstrumentor())

    def script(method: str, path: str, headers: Any) -> Answer:
        last = path.partition("?")[0].rpartition("/")[2]
        return Answer(ms=float(last[:-2]) if last.endswith("ms") and last[:-2].isdigit() else ms)

    backend.script = script
    return backend, lambda path, method="GET": requests.request(method, backend.url + path, timeout=20)


def catalogue(world: World, ms: float) -> Callable[[str], None]:
    """A database; each statement takes `ms`."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    def prepare(connection: Any, _: Any) -> None:
        connection.execute("CREATE TABLE items (id INTEGER)")
        connection.execute("CREATE TABLE banners (id INTEGER)")
        connection.set_trace_callback(lambda _: world.clock.advance(ms=ms))

    event.listen(engine, "connect", prepare)
    world.instrument(SQLAlchemyInstrumentor(), engine=engine)

    def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement)).all()

    run("SELECT 1")
    world.take()
    return run


@case("sequential_calls", positive=True, half="tuned")
def start_page(world: World) -> Iterator[None]:
    _, ask = services(world, 120)
    for paths in (
        ("/offers", "/news"),
        ("/offers", "/news", "/weather"),
        ("/v2/offers", "/v1/news?lang=en", "/stock/levels", "/rates"),
    ):
        with entry(world, "GET /"):
            for path in paths:
                ask(path)
        yield


@case("sequential_calls", positive=True, half="tuned")
def what_the_request_asked_for(world: World) -> Iterator[None]:
    _, ask = services(world, 150)
    for customer in ("4711", "815", "c-99"):
        with entry(world, "GET /customers/{id}", **{"url.path": f"/customers/{customer}"}):
            ask(f"/profiles/{customer}")
            ask(f"/orders?customer={customer}")
            world.clock.advance(ms=3)
            ask(f"/loyalty/{customer}/points")
        yield


@case("sequential_calls", positive=True, half="tuned")
def one_item_after_the_other(world: World) -> Iterator[None]:
    _, ask = services(world, 60)
    for count in (3, 5, 8):
        with entry(world, "GET /basket"):
            for number in range(count):
                ask(f"/items/{100 + number}")
        yield


@case("sequential_calls", positive=True, half="tuned")
def tables_without_a_choice(world: World) -> Iterator[None]:
    run, aws = catalogue(world, 110), Aws(world)
    aws.cost, table = 130, aws.client("dynamodb")
    with entry(world, "GET /home"):
        run("SELECT id FROM items")
        run("SELECT id FROM banners")
    yield
    with entry(world, "GET /me"):
        table.get_item(TableName="profiles", Key={"id": {"S": "1"}})
        table.get_item(TableName="settings", Key={"id": {"S": "1"}})
    yield


@case("sequential_calls", positive=False, half="tuned")
def each_needs_the_one_before(world: World) -> Iterator[None]:
    _, ask = services(world, 150)
    for paths in (
        ("/me", "/accounts/93817"),
        ("/orders/newest", "/orders/55123/lines"),
        ("/oauth/keys", "/prices"),
        ("/search?q=shoes", "/details?sku=A-77123"),
    ):
        with entry(world, "GET /page"):
            for path in paths:
                ask(path)
        yield


@case("sequential_calls", positive=False, half="tuned")
def already_side_by_side(world: World) -> Iterator[None]:
    backend, ask = services(world)
    world.instrument(ThreadingInstrumentor())
    for count in (2, 4):
        meet = threading.Barrier(count)
        backend.script = lambda *_, meet=meet: Answer(ms=150, meet=meet)
        with entry(world, "GET /page"), ThreadPoolExecutor(count) as pool:
            for asked in [pool.submit(ask, f"/part/{name}") for name in "abcd"[:count]]:
                asked.result()
        yield


@case("sequential_calls", positive=False, half="tuned")
def writes_have_an_order(world: World) -> Iterator[None]:
    _, ask = services(world, 200)
    for steps in (
        (("POST", "/reserve"), ("POST", "/pay"), ("POST", "/ship")),
        (("GET", "/stock"), ("PUT", "/stock")),
        (("GET", "/basket"), ("DELETE", "/basket"), ("GET", "/total")),
    ):
        with entry(world, "POST /checkout"):
            for method, path in steps:
                ask(path, method)
        yield


@case("sequential_calls", positive=False, half="tuned")
def not_worth_it(world: World) -> Iterator[None]:
    _, ask = services(world)
    for paths, more in ((("/a/30ms", "/b/40ms"), 0), (("/a/90ms", "/b/500ms"), 0), (("/a/150ms", "/b/150ms"), 4_000)):
        with entry(world, "GET /page"):
            for path in paths:
                ask(path)
            world.clock.advance(ms=more)
        yield


@case("bottleneck", positive=True, half="tuned")
def one_slow_service(world: World) -> Iterator[None]:
    _, ask = services(world)
    for ms, own in ((300, 20), (900, 400), (4_000, 3_000), (250, 200)):
        with entry(world, "GET /quote"):
            world.clock.advance(ms=own / 2)
            ask(f"/rates/{ms}ms")
            world.clock.advance(ms=own / 2)
        yield


@case("bottleneck", positive=True, half="tuned")
def one_database(world: World) -> Iterator[None]:
    run = catalogue(world, 90)
    _, ask = services(world, 60)
    for count in (4, 6, 12):
        with entry(world, "GET /report"):
            for _ in range(count):
                run("SELECT id FROM items WHERE id = 1")
            ask("/rates")
        yield


@case("bottleneck", positive=True, half="tuned")
def the_longer_of_two(world: World) -> Iterator[None]:
    aws = Aws(world)
    table, topic = aws.client("dynamodb"), aws.client("sqs")
    for long, short in ((400, 100), (700, 20), (2_000, 900)):
        with entry(world, "POST /orders"):
            aws.cost = long
            table.put_item(TableName="orders", Item={"id": {"S": "1"}})
            aws.cost = short
            topic.send_message(QueueUrl="https://sqs.eu-central-1.amazonaws.com/1/q", MessageBody="m")
        yield


@case("bottleneck", positive=False, half="tuned")
def its_own_work(world: World) -> Iterator[None]:
    _, ask = services(world)
    for ms, own in ((300, 400), (100, 2_000), (900, 1_000)):
        with entry(world, "GET /quote"), world.tracer().start_as_current_span("render"):
            ask(f"/rates/{ms}ms")
            world.clock.advance(ms=own)
        yield


@case("bottleneck", positive=False, half="tuned")
def fast_anyway(world: World) -> Iterator[None]:
    _, ask = services(world)
    for ms in (5, 60, 190):
        with entry(world, "GET /quote"):
            ask(f"/rates/{ms}ms")
        yield


@case("bottleneck", positive=False, half="tuned")
def shared_out(world: World) -> Iterator[None]:
    _, ask = services(world)
    run, aws = catalogue(world, 200), Aws(world)
    aws.cost, table = 200, aws.client("dynamodb")
    for own in (0, 100):
        with entry(world, "GET /page"):
            run("SELECT id FROM items WHERE id = 1")
            ask("/rates/200ms")
            table.get_item(TableName="orders", Key={"id": {"S": "1"}})
            world.clock.advance(ms=own)
        yield


@case("bottleneck", positive=False, half="tuned")
def a_call_is_all_there_is(world: World) -> Iterator[None]:
    _, ask = services(world)
    ask("/rates/800ms")
    yield
    aws = Aws(world)
    aws.cost, queue = 5_000, aws.client("sqs")
    with world.tracer().start_as_current_span("worker"):
        queue.receive_message(QueueUrl="https://sqs.eu-central-1.amazonaws.com/1/q", WaitTimeSeconds=20)
    yield
