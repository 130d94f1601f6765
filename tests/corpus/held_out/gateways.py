"""An API gateway with httpx and urllib, a ledger in sqlite3, calls between services as gRPC's spans look."""

from __future__ import annotations

import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from opentelemetry.trace import SpanKind

from corpus.backend import Answer, Backend
from corpus.harness import World, case
from corpus.stub import Aws, entry


def upstream(world: World, ms: float) -> tuple[Backend, httpx.Client]:
    backend = world.enter(Backend(world, lambda *_: Answer(ms=ms)).running())
    world.instrument(HTTPXClientInstrumentor())
    return backend, world.enter(httpx.Client(base_url=backend.url))


def call(world: World, service: str, method: str, ms: float, **attributes: str) -> None:
    """A span as gRPC's instrumentor makes it."""
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, **attributes}
    with world.tracer().start_as_current_span(f"/{service}/{method}", kind=SpanKind.CLIENT, attributes=attributes):
        world.clock.advance(ms=ms)


@case("sequential_calls", positive=True, half="held_out")
def facets_of_a_search(world: World) -> Iterator[None]:
    _, client = upstream(world, 95)
    for facets in (
        ("brands", "colours", "sizes"),
        ("brands", "shops", "sizes", "makers"),
        ("colours", "brands", "ads"),
    ):
        with entry(world, "GET /facets"):
            for facet in facets:
                client.get(f"/facets/{facet}")
        yield


@case("sequential_calls", positive=True, half="held_out")
def a_tenant_and_its_things(world: World) -> Iterator[None]:
    backend = world.enter(Backend(world, lambda *_: Answer(ms=210)).running())
    world.instrument(URLLibInstrumentor())
    for tenant in ("t1001", "t1002"):
        with entry(world, "dashboard", **{"http.target": f"/dashboard?tenant={tenant}"}):
            for part in ("usage", "plan", "invoices"):
                urllib.request.urlopen(f"{backend.url}/tenants/{tenant}/{part}", timeout=20).read()
        yield


@case("sequential_calls", positive=True, half="held_out")
def several_services_asked_in_turn(world: World) -> Iterator[None]:
    for count in (2, 3, 4):
        with world.tracer().start_as_current_span("SettlePage", kind=SpanKind.SERVER):
            for name in ("ads.Ads", "currency.Currency", "cart.Cart", "shipping.Shipping")[:count]:
                call(world, name, "GetCurrent", 140)
                world.clock.advance(ms=1)
        yield


@case("sequential_calls", positive=True, half="held_out")
def secrets_one_by_one(world: World) -> Iterator[None]:
    aws = Aws(world)
    aws.cost, parameters = 115, aws.client("ssm")
    for count in (2, 4):
        with world.tracer().start_as_current_span("configure"):
            for number in range(count):
                parameters.get_parameter(Name=f"/app/{number}")
        yield


@case("sequential_calls", positive=False, half="held_out")
def a_chain_by_ids(world: World) -> Iterator[None]:
    _, client = upstream(world, 160)
    for paths in (
        ("/session/current", "/carts/7f3a2bd0-2a4b-4fd8-9a33-0a1b2c3d4e5f"),
        ("/flights/next", "/gates/B12"),
        ("/jobs/9/status", "/jobs/9/status"),
        ("/events?page=1", "/events?page=2"),
    ):
        with entry(world, "view"):
            for path in paths:
                client.get(path)
        yield


@case("sequential_calls", positive=False, half="held_out")
def computing_between(world: World) -> Iterator[None]:
    _, client = upstream(world, 140)
    tracer = world.tracer()
    with entry(world, "plan"):
        client.get("/roads")
        with tracer.start_as_current_span("route"):
            world.clock.advance(ms=40)
        client.get("/traffic")
    yield
    with entry(world, "plan"):
        client.get("/roads")
        world.clock.advance(ms=350)
        client.get("/traffic")
    yield


@case("sequential_calls", positive=False, half="held_out")
def what_the_first_lists(world: World) -> Iterator[None]:
    with entry(world, "recommend"):
        call(world, "catalog.Catalog", "ListProducts", 200)
        call(world, "catalog.Catalog", "GetProduct", 150)
    yield
    with entry(world, "order"):
        call(world, "cart.Cart", "GetCart", 130)
        call(world, "payment.Payment", "Charge", 300)
        call(world, "mail.Mail", "Send", 180)
    yield
    aws = Aws(world)
    aws.cost, sts, table = 160, aws.client("sts"), aws.client("dynamodb")
    aws.answer = (200, b"<R><GetCallerIdentityResult/></R>")
    with entry(world, "who"):
        sts.get_caller_identity()
        aws.answer = (200, b"{}")
        table.get_item(TableName="users", Key={"id": {"S": "1"}})
    yield


@case("sequential_calls", positive=False, half="held_out")
def in_the_background_of_something_longer(world: World) -> Iterator[None]:
    backend, client = upstream(world, 1)
    world.instrument(ThreadingInstrumentor())
    for _ in range(2):
        with entry(world, "GET /page"):
            start = threading.Event()
            backend.script = lambda _, path, __, start=start: _held(world, path, start)
            with ThreadPoolExecutor(1) as pool:
                slow = pool.submit(client.get, "/slow")
                start.wait(20)
                client.get("/a")
                client.get("/b")
                slow_may_end.set()
                slow.result()
            slow_may_end.clear()
        yield


slow_may_end = threading.Event()


def _held(world: World, path: str, start: threading.Event) -> Answer:
    if path == "/slow":
        start.set()
        slow_may_end.wait(20)
        return Answer(ms=500)
    return Answer(ms=150)


@case("bottleneck", positive=True, half="held_out")
def a_ledger_behind_everything(world: World) -> Iterator[None]:
    world.instrument(SQLite3Instrumentor())
    connection = sqlite3.connect(":memory:")
    connection.create_function("spend", 1, lambda ms: world.clock.advance(ms=ms))
    for ms, own in ((260, 100), (600, 550), (5_000, 10)):
        with entry(world, "close the books"), world.tracer().start_as_current_span("sum up"):
            cursor = connection.cursor()
            cursor.execute("SELECT spend(?)", (ms,)).fetchall()
            world.clock.advance(ms=own)
        yield


@case("bottleneck", positive=True, half="held_out")
def one_upstream_asked_often(world: World) -> Iterator[None]:
    _, client = upstream(world, 45)
    for count, own in ((7, 100), (12, 500), (30, 1_000)):
        with world.tracer().start_as_current_span("crawl", kind=SpanKind.CONSUMER):
            for number in range(count):
                client.get(f"/pages/{number}")
            world.clock.advance(ms=own)
        yield


@case("bottleneck", positive=True, half="held_out")
def the_one_the_others_wait_for(world: World) -> Iterator[None]:
    for slow, others in ((500, 60), (1_200, 300), (240, 30), (3_000, 900)):
        with entry(world, "order"):
            call(world, "stock.Stock", "Reserve", slow, **{"server.address": "stock"})
            call(world, "mail.Mail", "Send", others, **{"server.address": "mail"})
            call(world, "audit.Audit", "Write", others, **{"server.address": "audit"})
        yield


@case("bottleneck", positive=False, half="held_out")
def beside_slower_work_of_its_own(world: World) -> Iterator[None]:
    backend, client = upstream(world, 1)
    world.instrument(ThreadingInstrumentor())
    tracer = world.tracer()
    for own in (100, 900):
        with entry(world, "render"), ThreadPoolExecutor(1) as pool:
            asked, answered = threading.Event(), threading.Event()

            def script(*_: Any, asked: threading.Event = asked) -> Answer:
                asked.set()
                return Answer(ms=400)

            backend.script = script
            with tracer.start_as_current_span("paint"):
                waiting = pool.submit(client.get, "/texture")
                waiting.add_done_callback(lambda _, answered=answered: answered.set())
                asked.wait(20)
                answered.wait(20)
                world.clock.advance(ms=500 + own)
        yield


@case("bottleneck", positive=False, half="held_out")
def equal_parts(world: World) -> Iterator[None]:
    for parts in (3, 4, 5, 6):
        with entry(world, "trip"):
            for name in ("hotel", "flight", "car", "weather", "visa", "events")[:parts]:
                call(world, f"{name}.Offers", "Find", 300, **{"server.address": name})
        yield


@case("bottleneck", positive=False, half="held_out")
def quick_requests(world: World) -> Iterator[None]:
    _, client = upstream(world, 6)
    for count in (1, 5, 20):
        with entry(world, "ping"):
            for _ in range(count):
                client.get("/ping")
        yield


@case("bottleneck", positive=False, half="held_out")
def messages_are_not_waited_for(world: World) -> Iterator[None]:
    tracer = world.tracer()
    attributes = {"messaging.system": "kafka", "messaging.destination.name": "jobs"}
    with entry(world, "POST /jobs"):
        with tracer.start_as_current_span("send jobs", kind=SpanKind.PRODUCER, attributes=attributes):
            later = tracer.start_span("process jobs", kind=SpanKind.CONSUMER)
        world.clock.advance(ms=250)
    world.clock.advance(ms=900)
    later.end()
    yield
