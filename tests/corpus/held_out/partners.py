"""Calls of partners with httpx and urllib3, in coroutines and in loops, and errors on the way up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import urllib3
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.trace import SpanKind

from corpus.backend import Answer, Backend
from corpus.harness import World, case


def partner(world: World) -> Backend:
    found: Backend = world.enter(Backend(world).running())
    return found


def with_httpx(world: World) -> httpx.Client:
    world.instrument(HTTPXClientInstrumentor(), service="portal")
    client: httpx.Client = world.enter(httpx.Client(timeout=20))
    return client


@contextlib.contextmanager
def request(world: World, name: str = "GET /portal", status: int = 200) -> Iterator[trace.Span]:
    """An entry span as a framework makes it: an exception that gets here is a 500."""
    span = world.tracer("portal").start_span(name, kind=SpanKind.SERVER)
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except Exception as error:
        status = 500
        span.record_exception(error)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)
    span.end()


def backing_off(world: World, call: Callable[[], httpx.Response], times: int) -> httpx.Response:
    last: Exception | None = None
    for attempt in range(times):
        try:
            return call().raise_for_status()
        except httpx.HTTPError as error:
            last = error
            world.clock.sleep(0.05 * 2**attempt)
    assert last is not None
    raise last


@case("retried_call", positive=True, half="held_out")
@case("trace_errors", positive=True, half="held_out")
def backed_off_and_through(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    for failures in (1, 2, 4):
        other.queue(*[Answer(503)] * failures)
        with request(world):
            backing_off(world, lambda: client.put(f"{other.url}/stock/77"), 6)
        yield
    for failures in (2, 3):
        other.queue(*[Answer(500)] * failures)
        with request(world):
            backing_off(world, lambda: client.get(f"{other.url}/stock"), failures)
        yield


@case("retried_call", positive=True, half="held_out")
def connections_refused(world: World) -> Iterator[None]:
    client = with_httpx(world)
    for times in (2, 4):
        with request(world):
            backing_off(world, lambda: client.get("http://127.0.0.1:1/x"), times)
        yield


@case("retried_call", positive=False, half="held_out")
def each_asked_once(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    other.script = lambda method, path, _: Answer(500 if path.endswith("3") else 200)
    for count in (2, 4, 5, 9):
        with request(world):
            for number in range(count):
                client.get(f"{other.url}/stock/{number}")
        yield
    with request(world):
        client.get(f"{other.url}/stock/3")
        client.post(f"{other.url}/stock/3")
    yield
    other.queue(Answer(403))
    with request(world):
        client.get(f"{other.url}/stock")
        client.get(f"{other.url}/stock")
    yield


@case("retried_call", positive=False, half="held_out")
@case("n_plus_one", positive=False, half="held_out")
@case("throttled_dependency", positive=False, half="held_out")
def all_at_once(world: World) -> Iterator[None]:
    world.instrument(HTTPXClientInstrumentor(), service="portal")
    other = partner(world)

    async def ask(count: int) -> None:
        begun, all_begun = itertools.count(1), asyncio.Event()

        async def hold(event: str, _: dict[str, Any]) -> None:
            if event.endswith("send_request_headers.started"):
                if next(begun) == count:
                    all_begun.set()
                await all_begun.wait()

        async with httpx.AsyncClient(timeout=20) as client:
            rates = (client.get(f"{other.url}/rates", extensions={"trace": hold}) for _ in range(count))
            await asyncio.gather(*rates)

    for count, status in ((10, 200), (12, 503), (15, 500)):
        other.script = lambda *_, status=status: Answer(status, ms=20)  # type: ignore[misc]
        with request(world):
            asyncio.run(ask(count))
        yield


@case("throttled_dependency", positive=True, half="held_out")
@case("suppressed_error", positive=True, half="held_out")
def told_to_slow_down(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    for calls in (1, 2, 4):
        other.script = lambda *_: Answer(429)
        with request(world):
            for number in range(calls):
                client.get(f"{other.url}/rates/{number}")
        yield


@case("throttled_dependency", positive=True, half="held_out")
def told_to_slow_down_by_pool(world: World) -> Iterator[None]:
    world.instrument(URLLib3Instrumentor(), service="portal")
    other, pool = partner(world), urllib3.PoolManager(retries=False)
    for _ in range(3):
        other.queue(Answer(429, headers={"Retry-After": "3"}))
        with request(world, status=503):
            pool.request("GET", f"{other.url}/rates")
        yield


@case("throttled_dependency", positive=False, half="held_out")
def refused_for_other_reasons(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    for status in (200, 400, 401, 403, 404, 420, 500, 502, 503):
        other.script = lambda *_, status=status: Answer(status)  # type: ignore[misc]
        with request(world, "GET /429", status=429 if status == 503 else 200):
            client.get(f"{other.url}/429?status=429")
        yield


@case("n_plus_one", positive=True, half="held_out")
def a_call_for_each_part(world: World) -> Iterator[None]:
    world.instrument(URLLib3Instrumentor(), service="portal")
    other, pool = partner(world), urllib3.PoolManager()
    for count, path in ((10, "/parts/{}"), (12, "/parts/1f0{:05}-aaaa-4bbb-8ccc-0123456789ab"), (25, "/parts?id={}")):
        with request(world):
            for number in range(count):
                pool.request("GET", other.url + path.format(number))
        yield


@case("n_plus_one", positive=False, half="held_out")
def pages_of_a_list(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    with request(world):
        for number in range(12):
            client.get(f"{other.url}/parts", params={"offset": number * 50, "limit": 50})
    yield
    with request(world):
        for number in range(8):
            client.get(f"{other.url}/parts/{number}")
    yield


# --- errors -------------------------------------------------------------------------------------------------------


async def _fails(tracer: trace.Tracer, depth: int) -> None:
    with tracer.start_as_current_span(f"step {depth}"):
        await asyncio.sleep(0)
        if not depth:
            raise LookupError("no such thing")
        await _fails(tracer, depth - 1)


async def _shielded(work: Awaitable[None]) -> None:
    try:
        await work
    except LookupError:
        return


@case("trace_errors", positive=True, half="held_out")
@case("suppressed_error", positive=False, half="held_out")
def raised_all_the_way(world: World) -> Iterator[None]:
    tracer = world.tracer("portal")
    for depth in (0, 1, 3, 10, 40):
        with request(world):
            asyncio.run(_fails(tracer, depth))
        yield


@case("trace_errors", positive=True, half="held_out")
@case("suppressed_error", positive=True, half="held_out")
def raised_and_caught_somewhere(world: World) -> Iterator[None]:
    tracer = world.tracer("portal")
    for depth in (0, 2, 7):
        with request(world):
            asyncio.run(_shielded(_fails(tracer, depth)))
        yield

    async def gathered() -> None:
        with tracer.start_as_current_span("all"):
            await asyncio.gather(_fails(tracer, 0), _fails(tracer, 1), return_exceptions=True)

    for _ in range(2):
        with request(world):
            asyncio.run(gathered())
        yield


@case("suppressed_error", positive=True, half="held_out")
def cache_is_down(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    for answered in (500, 503):
        other.script = lambda method, path, _, answered=answered: Answer(answered if "cache" in path else 200)  # type: ignore[misc]
        with request(world):
            if client.get(f"{other.url}/cache/1").is_error:
                client.get(f"{other.url}/source/1")
        yield
    with request(world):
        for _ in range(2):
            with contextlib.suppress(httpx.ConnectError):
                client.post("http://127.0.0.1:1/audit")
    yield


@case("suppressed_error", positive=False, half="held_out")
@case("trace_errors", positive=False, half="held_out")
def nothing_lost(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    tracer = world.tracer("portal")
    for status in (200, 404, 403, 401, 418):
        with request(world, status=status):
            client.get(f"{other.url}/ok")
        yield
    for number in range(3):
        with request(world), tracer.start_as_current_span("error 500 report") as span:
            span.add_event("exception", {"exception.type": "Warned", "exception.message": f"{number}"})
        yield
    with request(world):
        client.get(f"{other.url}/ok", params={"status": "error"})
    yield
    other.script = lambda *_: Answer(302, headers={"Location": "/elsewhere"})
    with request(world):
        client.get(f"{other.url}/ok")
    yield


@case("suppressed_error", positive=False, half="held_out")
def there_is_none(world: World) -> Iterator[None]:
    client, other = with_httpx(world), partner(world)
    for status in (404, 410, 412):
        other.queue(Answer(status))
        with request(world):
            client.head(f"{other.url}/thing")
        yield
    for failures in (1, 3):
        other.queue(*[Answer(502)] * failures)
        with request(world):
            backing_off(world, lambda: client.get(f"{other.url}/thing"), 5)
        yield
