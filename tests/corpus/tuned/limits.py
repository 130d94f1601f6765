"""Lambda functions, started cold or not, with time left or not; and calls with requests that hit their timeout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.trace import SpanKind, StatusCode

from corpus.backend import Answer, Backend
from corpus.harness import World, case
from corpus.stub import entry, silence


class Function:
    """A function as a tracing wrapper sees it: each invocation has `limit` ms and may find a process that is new."""

    def __init__(self, world: World, name: str, limit: float = 3_000) -> None:
        self.world, self.name, self.limit = world, name, limit
        self.warm = False

    def invoke(self, ms: float, *, init_ms: float | None = None, failed: bool = False, **attributes: Any) -> None:
        cold, self.warm = not self.warm, True
        said = {"faas.invocation_id": "8476a536", "faas.coldstart": cold, **attributes}
        if init_ms is not None:
            said["spanwell.lambda.init_ms"] = init_ms
        with self.world.tracer(self.name).start_as_current_span(
            self.name, kind=SpanKind.SERVER, attributes=said
        ) as span:
            self.world.clock.advance(ms=ms)
            span.set_attribute("spanwell.lambda.remaining_ms", self.limit - ms)
            if failed:
                span.set_status(StatusCode.ERROR, "no")


@case("cold_start", positive=True, half="tuned")
def first_invocations(world: World) -> Iterator[None]:
    for number, init in enumerate((None, 90.0, 400.0, 1_200.0, 9_800.0, None)):
        Function(world, f"resize-{number}").invoke(20, init_ms=init)
        yield


@case("cold_start", positive=True, half="tuned")
def first_and_failed_or_slow(world: World) -> Iterator[None]:
    Function(world, "pay").invoke(20, init_ms=300, failed=True)
    yield
    Function(world, "pay").invoke(2_900, init_ms=300)
    yield
    Function(world, "pay").invoke(1, **{"faas.trigger": "pubsub"})
    yield
    Function(world, "pay").invoke(1, **{"spanwell.lambda.initialization_type": "on-demand"})
    yield


@case("cold_start", positive=False, half="tuned")
def later_invocations(world: World) -> Iterator[None]:
    function = Function(world, "resize")
    function.invoke(20)
    world.take()
    for ms in (5, 40, 900, 2_500, 2_999, 1, 10):
        function.invoke(ms, failed=ms > 2_000)
        yield


@case("cold_start", positive=False, half="tuned")
def started_ahead(world: World) -> Iterator[None]:
    kind = {"spanwell.lambda.initialization_type": "provisioned-concurrency"}
    Function(world, "pay").invoke(20, init_ms=700, **kind)
    yield
    Function(world, "pay").invoke(900, **kind)
    yield


@case("cold_start", positive=False, half="tuned")
def slow_but_no_function(world: World) -> Iterator[None]:
    with entry(world, "GET /first"):
        world.clock.advance(ms=4_000)
    yield


@case("timeout_near", positive=True, half="tuned")
def hardly_in_time(world: World) -> Iterator[None]:
    for limit, ms in (
        (3_000, 2_750),
        (3_000, 2_999),
        (15_000, 14_000),
        (900_000, 860_000),
        (1_000, 950),
        (3_000, 3_100),
    ):
        Function(world, "report", limit).invoke(ms)
        yield


@case("timeout_near", positive=True, half="tuned")
def an_answer_that_does_not_come(world: World) -> Iterator[None]:
    url = world.enter(silence())
    world.instrument(RequestsInstrumentor())

    def body(ms: float) -> Iterator[bytes]:
        world.clock.advance(ms=ms)
        yield b"{}"

    for ms, attempts in ((50, 1), (60, 1), (55, 2), (300, 1)):
        with entry(world, "POST /rates"):
            for _ in range(attempts):
                with pytest.raises(requests.ReadTimeout):
                    requests.post(url, data=body(ms), timeout=(5, 0.05))
        yield


@case("timeout_near", positive=False, half="tuned")
def time_enough(world: World) -> Iterator[None]:
    for limit, ms in ((3_000, 10), (3_000, 2_000), (3_000, 2_650), (900_000, 600_000)):
        Function(world, "report", limit).invoke(ms, failed=ms == 2_000)
        yield


@case("timeout_near", positive=False, half="tuned")
def other_failures(world: World) -> Iterator[None]:
    backend = world.enter(Backend(world).running())
    world.instrument(RequestsInstrumentor())
    for status in (408, 500, 503, 504):
        backend.script = lambda *_, status=status: Answer(status, b"upstream request timeout", ms=4_000)
        with entry(world, "GET /rates"):
            requests.get(backend.url, timeout=20)
        yield
    with entry(world, "GET /rates"), pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:1/", timeout=20)
    yield


@case("timeout_near", positive=False, half="tuned")
def slow_but_answered(world: World) -> Iterator[None]:
    backend = world.enter(Backend(world, lambda *_: Answer(ms=19_000)).running())
    world.instrument(RequestsInstrumentor())
    for _ in range(2):
        with entry(world, "GET /timeouts"):
            requests.get(f"{backend.url}/timeout?limit=20", timeout=20)
        yield
