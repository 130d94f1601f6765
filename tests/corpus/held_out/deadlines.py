"""Wrappers and conventions of others: functions seen from a store, deadlines of gRPC and databases, httpx, urllib."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from opentelemetry.trace import SpanKind, Status, StatusCode

from corpus.harness import World, case
from corpus.stub import silence


@case("cold_start", positive=True, half="held_out")
def seen_by_other_wrappers(world: World) -> Iterator[None]:
    for attributes in (
        {"faas.coldstart": True},
        {"faas.coldstart": "true", "faas.trigger": "timer"},
        {"faas.coldstart": True, "faas.name": "thumbnail", "faas.version": "12"},
        {"spanwell.lambda.init_ms": 812.5},
        {"spanwell.lambda.init_ms": 40, "spanwell.lambda.initialization_type": "snap-start"},
        {"faas.coldstart": True, "http.route": "/items/{id}", "http.request.method": "GET"},
    ):
        kind = SpanKind.CONSUMER if "faas.trigger" in attributes else SpanKind.SERVER
        with (
            world.tracer("fn").start_as_current_span("handler", kind=kind, attributes=attributes),
            world.tracer("fn").start_as_current_span("load"),
        ):
            world.clock.advance(ms=30)
        yield


@case("cold_start", positive=True, half="held_out", whole=True)
def behind_a_warm_caller(world: World) -> Iterator[None]:
    for cold in ((False, True), (True, False), (True, True), (False, True)):
        with (
            world.tracer("edge").start_as_current_span("edge", attributes={"faas.coldstart": cold[0]}),
            world.tracer("edge").start_as_current_span("Lambda.Invoke", kind=SpanKind.CLIENT),
            world.tracer("core").start_as_current_span("core", attributes={"faas.coldstart": cold[1]}),
        ):
            world.clock.advance(ms=10)
        yield


@case("cold_start", positive=False, half="held_out")
def warm_or_not_said(world: World) -> Iterator[None]:
    for attributes in (
        {},
        {"faas.coldstart": False},
        {"faas.coldstart": "false"},
        {"faas.coldstart": False, "spanwell.lambda.init_ms": 500.0},
        {"spanwell.lambda.init_ms": 0},
        {"faas.trigger": "http", "faas.invocation_id": "1"},
        {"spanwell.lambda.initialization_type": "on-demand"},
    ):
        with world.tracer("fn").start_as_current_span("handler", kind=SpanKind.SERVER, attributes=attributes):
            world.clock.advance(ms=2_000)
        yield


@case("cold_start", positive=False, half="held_out", whole=True)
def all_of_them_warm(world: World) -> Iterator[None]:
    for ms in (10, 900, 5_000):
        with (
            world.tracer("edge").start_as_current_span("edge", attributes={"faas.coldstart": False}),
            world.tracer("core").start_as_current_span("core cold start", attributes={"faas.coldstart": False}),
        ):
            world.clock.advance(ms=ms)
        yield


def failing(world: World, name: str, ms: float, message: str, **attributes: Any) -> None:
    """A call that fails after `ms`."""
    said = {name.replace("__", "."): value for name, value in attributes.items()}
    with (
        world.tracer().start_as_current_span("work", kind=SpanKind.CONSUMER),
        world.tracer().start_as_current_span(name, kind=SpanKind.CLIENT, attributes=said) as span,
    ):
        world.clock.advance(ms=ms)
        span.set_status(Status(StatusCode.ERROR, message))


@case("timeout_near", positive=True, half="held_out")
def deadlines_of_other_clients(world: World) -> Iterator[None]:
    failing(world, "/cart/Get", 5_000, "Deadline Exceeded", rpc__system="grpc", rpc__grpc__status_code=4)
    yield
    failing(world, "/cart/Get", 800, "", rpc__system__name="grpc", rpc__response__status_code="DEADLINE_EXCEEDED")
    yield
    failing(
        world,
        "SELECT",
        30_000,
        "QueryCanceled: canceling statement due to statement timeout",
        db__system="postgresql",
        error__type="psycopg.errors.QueryCanceled",
    )
    yield
    failing(
        world, "GET", 10_050, "Timeout of 10000ms exceeded", http__request__method="GET", error__type="AxiosTimeout"
    )
    yield


@case("timeout_near", positive=True, half="held_out")
def hung_up(world: World) -> Iterator[None]:
    url = world.enter(silence())
    world.instrument(HTTPXClientInstrumentor())
    world.instrument(URLLibInstrumentor())
    with httpx.Client() as client:
        asks: list[Callable[[], Any]] = [
            lambda: client.get(url, timeout=0.05),
            lambda: urllib.request.urlopen(url, timeout=0.05),
            lambda: client.post(url, timeout=0.05),
        ]
        for ask in asks:
            with (
                world.tracer().start_as_current_span("sync", kind=SpanKind.SERVER),
                pytest.raises((httpx.ReadTimeout, TimeoutError)),
            ):
                ask()
            yield


@case("timeout_near", positive=True, half="held_out")
def a_server_with_a_limit(world: World) -> Iterator[None]:
    for limit, ms in ((30_000, 28_500), (29_000, 28_990), (500, 470)):
        with world.tracer().start_as_current_span(
            "GET /export", kind=SpanKind.SERVER, attributes={"spanwell.timeout_ms": limit}
        ):
            world.clock.advance(ms=ms)
        yield


@case("timeout_near", positive=False, half="held_out")
def failed_for_another_reason(world: World) -> Iterator[None]:
    failing(world, "/cart/Get", 5_000, "unavailable", rpc__system="grpc", rpc__grpc__status_code=14)
    yield
    failing(world, "SELECT", 40_000, "deadlock detected", db__system="postgresql", error__type="DeadlockDetected")
    yield
    failing(world, "GET", 60_000, "Gateway Timeout", http__request__method="GET", error__type="504")
    yield
    failing(
        world, "GET", 900, "Read timed out. (read timeout=30)", http__request__method="GET", error__type="ReadTimeout"
    )
    yield
    failing(world, "PUT", 3, "invalid value for field `time`", http__request__method="PUT", error__type="ValueError")
    yield


@case("timeout_near", positive=False, half="held_out")
def limits_far_away(world: World) -> Iterator[None]:
    for limit, ms in ((30_000, 20_000), (500, 20), (60_000, 53_000)):
        with world.tracer().start_as_current_span(
            "GET /export", kind=SpanKind.SERVER, attributes={"spanwell.timeout_ms": limit}
        ):
            world.clock.advance(ms=ms)
        yield


@case("timeout_near", positive=False, half="held_out")
def its_own_failure(world: World) -> Iterator[None]:
    for message in ("timeout must be a number", "TimeoutSettingMissing"):
        with world.tracer().start_as_current_span("work", kind=SpanKind.SERVER) as span:
            world.clock.advance(ms=2_000)
            span.set_status(Status(StatusCode.ERROR, message))
        yield
