"""Redis and aiohttp: clients whose spans look unlike those of SQL and requests."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import redis
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.trace import SpanKind

from corpus.backend import Answer, Backend
from corpus.harness import World, case


class Shelf(socketserver.StreamRequestHandler):
    """Enough of Redis: GET has a value, every other command is fine; all take the world's time."""

    world: World
    took = 0.0

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            self.world.clock.advance(ms=type(self).took)
            answers = {b"GET": b"$1\r\nx\r\n", b"BLPOP": b"*-1\r\n", b"MGET": b"*1\r\n$1\r\nx\r\n"}
            self.wfile.write(answers.get(words[0].upper(), b"+OK\r\n"))


def shelf(world: World) -> Any:
    """A client of it, connected."""
    Shelf.world, Shelf.took = world, 0.0
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Shelf)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    world.at_end(server.server_close)
    world.at_end(server.shutdown)
    client = redis.Redis(port=server.server_address[1], protocol=2, single_connection_client=True)
    world.at_end(client.close)
    client.get("warm")
    world.instrument(RedisInstrumentor(), service="feed")
    return client


@case("n_plus_one", positive=True, half="held_out")
def followers_one_by_one(world: World) -> Iterator[None]:
    client = shelf(world)
    for count, took in ((5, 12.0), (20, 3.0)):
        Shelf.took = took
        with world.tracer("feed").start_as_current_span("GET /feed", kind=SpanKind.SERVER):
            for number in range(count):
                client.get(f"follower:{number}")
        yield


@case("n_plus_one", positive=False, half="held_out")
def followers_together(world: World) -> Iterator[None]:
    client = shelf(world)
    Shelf.took = 15
    with world.tracer("feed").start_as_current_span("GET /feed", kind=SpanKind.SERVER):
        client.mget([f"follower:{number}" for number in range(40)])
        client.get("me")
    yield
    with world.tracer("feed").start_as_current_span("GET /feed", kind=SpanKind.SERVER):
        pipeline = client.pipeline(transaction=False)
        for number in range(40):
            pipeline.set(f"follower:{number}", 1)
        pipeline.execute()
    yield
    Shelf.took = 0.3
    with world.tracer("feed").start_as_current_span("GET /feed", kind=SpanKind.SERVER):
        for number in range(40):
            client.get(f"follower:{number}")
    yield


@case("slow_trace", positive=False, half="held_out")
def a_worker_that_waits_for_work(world: World) -> Iterator[None]:
    client = shelf(world)
    Shelf.took = 30_000
    for _ in range(2):
        assert client.blpop("jobs", timeout=30) is None
        yield


# --- aiohttp ------------------------------------------------------------------------------------------------------

Fetch = Callable[[str], Awaitable[int]]


def crawl(world: World, backend: Backend, work: Callable[[Fetch], Awaitable[object]]) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:

            async def fetch(path: str) -> int:
                async with session.get(backend.url + path) as answer:
                    await answer.read()
                    return answer.status

            await work(fetch)

    with world.tracer("crawler").start_as_current_span("crawl"):
        asyncio.run(run())


@case("n_plus_one", positive=True, half="held_out")
def awaited_one_by_one(world: World) -> Iterator[None]:
    world.instrument(AioHttpClientInstrumentor(), service="crawler")
    backend = world.enter(Backend(world).running())

    def each(count: int) -> Callable[[Fetch], Awaitable[object]]:
        async def work(fetch: Fetch) -> None:
            for number in range(count):
                await fetch(f"/pages/{number}/title")

        return work

    for count in (10, 16):
        crawl(world, backend, each(count))
        yield


@case("trace_errors", positive=False, half="held_out")
@case("suppressed_error", positive=False, half="held_out")
@case("retried_call", positive=False, half="held_out")
def a_site_that_moved(world: World) -> Iterator[None]:
    world.instrument(AioHttpClientInstrumentor(), service="crawler")
    backend = world.enter(Backend(world).running())

    async def work(fetch: Fetch) -> None:
        assert await fetch("/old") == 200

    for hops in (1, 2):
        backend.queue(*[Answer(307, headers={"Location": "/new"})] * hops)
        crawl(world, backend, work)
        yield


@case("retried_call", positive=True, half="held_out")
@case("suppressed_error", positive=False, half="held_out")
def a_site_that_was_busy(world: World) -> Iterator[None]:
    world.instrument(AioHttpClientInstrumentor(), service="crawler")
    backend = world.enter(Backend(world).running())

    async def work(fetch: Fetch) -> None:
        while await fetch("/page") >= 500:
            world.clock.advance(ms=300)

    for failures in (1, 4):
        backend.queue(*[Answer(503)] * failures)
        crawl(world, backend, work)
        yield
