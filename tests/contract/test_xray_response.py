"""The answer to `Sampled=?`, through the real web instrumentors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest
from opentelemetry.instrumentation.propagators import (
    FuncSetter,
    get_global_response_propagator,
    set_global_response_propagator,
)
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF, DEFAULT_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanwell import incoming
from spanwell.ids import XRayIdGenerator
from spanwell.propagation.response import XRayResponsePropagator
from spanwell.propagation.xray import XRayPropagator
from spanwell.sampling.undecided import UndecidedSampler

R = "Root=1-5759e988-bd862e3fe1be46a994272793"
P = "Parent=53995c3f42cd8ad8"
NAME = "x-amzn-trace-id"

ASKED = [f"{R};Sampled=?", f"{R};{P};Sampled=?", f"{R};{P};Sampled=?;Lineage=a:1"]
NOT_ASKED = [R, f"{R};{P}", f"{R};{P};Sampled=1", f"{R};Sampled=0", "Sampled=?", ""]
SAMPLERS = [(DEFAULT_ON, "1"), (DEFAULT_OFF, "0")]


@pytest.fixture(autouse=True)
def _propagators():
    before = get_global_textmap(), get_global_response_propagator()
    set_global_textmap(CompositePropagator([TraceContextTextMapPropagator(), XRayPropagator()]))
    set_global_response_propagator(XRayResponsePropagator())
    incoming.forget_root()
    yield
    incoming.forget_root()
    set_global_textmap(before[0])
    set_global_response_propagator(before[1])


def provider(sampler):
    return TracerProvider(sampler=UndecidedSampler(sampler), id_generator=XRayIdGenerator(), shutdown_on_exit=False)


def flask_answer(traces, headers):
    from flask import Flask, Response
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    app = Flask("t")

    @app.route("/")
    def index():
        return Response(iter(["a", "b"]))

    FlaskInstrumentor().instrument_app(app, tracer_provider=traces)
    try:
        return app.test_client().get("/", headers=headers).headers.getlist(NAME)
    finally:
        FlaskInstrumentor.uninstrument_app(app)


def starlette_answer(traces, headers):
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import StreamingResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    class Through(BaseHTTPMiddleware):  # answers from another task
        async def dispatch(self, request, call_next):
            return await call_next(request)

    def index(request):
        return StreamingResponse(iter(["a", "b"]))

    app = Starlette(routes=[Route("/", index)], middleware=[Middleware(Through)])
    StarletteInstrumentor().instrument_app(app, tracer_provider=traces)
    try:
        with TestClient(app) as client:
            return client.get("/", headers=headers).headers.get_list(NAME)
    finally:
        StarletteInstrumentor.uninstrument_app(app)


def fastapi_answer(traces, headers):
    import httpx
    from fastapi import FastAPI
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app = FastAPI()

    @app.get("/")
    def index():
        return {"a": 1}

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return (await client.get("/", headers=headers)).headers.get_list(NAME)

    FastAPIInstrumentor.instrument_app(app, tracer_provider=traces)
    try:
        return asyncio.run(ask())
    finally:
        FastAPIInstrumentor.uninstrument_app(app)


FRAMEWORKS = pytest.mark.parametrize("answer", [flask_answer, starlette_answer, fastapi_answer])


@FRAMEWORKS
@pytest.mark.parametrize(("sampler", "sampled"), SAMPLERS)
@pytest.mark.parametrize("header", ASKED)
def test_who_asks_is_told_the_decision(answer, sampler, sampled, header):
    assert answer(provider(sampler), {"X-Amzn-Trace-Id": header}) == [f"{R};Sampled={sampled}"]


@FRAMEWORKS
@pytest.mark.parametrize("header", NOT_ASKED)
def test_who_does_not_ask_is_told_nothing(answer, header):
    assert answer(provider(DEFAULT_ON), {"X-Amzn-Trace-Id": header}) == []


@FRAMEWORKS
def test_the_decision_about_another_trace_is_no_answer(answer):
    headers = {
        "X-Amzn-Trace-Id": f"{R};{P};Sampled=?",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    assert answer(provider(DEFAULT_ON), headers) == []


@FRAMEWORKS
def test_one_request_does_not_answer_for_the_next(answer):
    traces = provider(DEFAULT_ON)
    assert answer(traces, {"X-Amzn-Trace-Id": ASKED[0]})
    assert answer(traces, {}) == []


def test_only_the_start_of_an_asgi_response_gets_the_header():
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "server": ("t", 80)}
    scope["headers"] = [(b"x-amzn-trace-id", ASKED[0].encode())]
    asyncio.run(OpenTelemetryMiddleware(app, tracer_provider=provider(DEFAULT_ON))(scope, receive, send))
    assert [message.get("headers") for message in sent] == [
        [[b"x-amzn-trace-id", f"{R};Sampled=1".encode()]],
        None,
        None,
    ]


def test_outside_a_request_nothing_is_written():
    carrier: dict[str, str] = {}
    XRayResponsePropagator().inject(carrier)
    assert carrier == {}


def test_without_an_sdk_the_question_is_not_answered():
    context = XRayPropagator().extract({"X-Amzn-Trace-Id": ASKED[1]})
    carrier: dict[str, str] = {}
    XRayResponsePropagator().inject(carrier, context)
    assert carrier == {}


def test_a_response_that_takes_no_header_is_left_alone():
    def refuse(carrier, key, value):
        raise TypeError("sealed")

    context = XRayPropagator().extract({"X-Amzn-Trace-Id": ASKED[1]})
    from opentelemetry.trace import set_span_in_context

    span = provider(DEFAULT_ON).get_tracer("t").start_span("s", context)
    XRayResponsePropagator().inject({}, set_span_in_context(span, context), FuncSetter(refuse))


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_django_tells_the_decision(asynchronous):
    """In a process of its own: Django's settings are global."""
    program = f"""
        import asyncio
        import django
        from django.conf import settings
        from django.http import HttpResponse
        from django.urls import path

        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
        urlpatterns = [path("", lambda request: HttpResponse("a"))]
        django.setup()
        from django.test import AsyncClient, Client
        from opentelemetry.instrumentation.django import DjangoInstrumentor
        from opentelemetry.instrumentation.propagators import set_global_response_propagator
        from opentelemetry.propagate import set_global_textmap
        from opentelemetry.sdk.trace import TracerProvider
        from spanwell.ids import XRayIdGenerator
        from spanwell.propagation.response import XRayResponsePropagator
        from spanwell.propagation.xray import XRayPropagator

        set_global_textmap(XRayPropagator())
        set_global_response_propagator(XRayResponsePropagator())
        DjangoInstrumentor().instrument(tracer_provider=TracerProvider(id_generator=XRayIdGenerator()))
        headers = {{"X-Amzn-Trace-Id": "{R};Sampled=?"}}
        if {asynchronous}:
            # As extra: before 5.2 the names in `headers` were mangled.
            answer = asyncio.run(AsyncClient().get("/", **headers))
        else:
            answer = Client().get("/", headers=headers)
        print(answer.headers.get("X-Amzn-Trace-Id"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == (f"{R};Sampled=1", 0), done.stderr
