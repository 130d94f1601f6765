"""An instrumentor of the standard library that waits for the first call of a function within a trace."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_span_in_context

from spanwell import where
from spanwell.lazy import Instrumentors
from spanwell.legs import make_instrumentors
from spanwell.settings import Settings


class Library:
    """A module with a class whose method `start` an instrumentor wraps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module: Any = ModuleType("later_library")
        self.module.Thing = type("Thing", (), {"start": lambda thing: "plain"})
        monkeypatch.setitem(sys.modules, "later_library", self.module)
        self.loaded = 0
        entry = SimpleNamespace(name="later", value="x:y", load=self.load)
        self.instrumentors = Instrumentors(later={"later": ("later_library", "Thing.start")})
        self.instrumentors.add(entry)

    def load(self) -> Any:
        self.loaded += 1
        return lambda: SimpleNamespace(
            is_instrumented_by_opentelemetry=False, instrument=self.instrument, instrumentation_dependencies=tuple
        )

    def instrument(self, **_: object) -> None:
        self.module.Thing.start = lambda thing: "wrapped"

    def start(self) -> str:
        return str(self.module.Thing().start())


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(monkeypatch)


def test_it_waits_for_a_call_within_a_trace_which_it_sees(library: Library) -> None:
    assert library.start() == "plain"
    assert (library.loaded, library.instrumentors.states["later"]) == (0, "deferred")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("a")
    token = attach(set_span_in_context(span, Context()))
    try:
        assert library.start() == "wrapped"
    finally:
        detach(token)
    assert (library.loaded, library.instrumentors.states["later"]) == (1, "active")
    assert library.start() == "wrapped"


def test_who_wrapped_it_meanwhile_stays(library: Library) -> None:
    ours = library.module.Thing.start
    library.module.Thing.start = lambda thing: "theirs around " + ours(thing)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("a")
    token = attach(set_span_in_context(span, Context()))
    try:
        assert library.start() == "theirs around plain"
        assert library.loaded == 1
    finally:
        detach(token)


def test_without_a_module_of_that_name_it_is_applied_at_once() -> None:
    made = SimpleNamespace(is_instrumented_by_opentelemetry=True)
    instrumentors = Instrumentors(later={"later": ("no_such_module", "start")})
    instrumentors.add(SimpleNamespace(name="exceptions", value="x:y", load=lambda: lambda: made))
    instrumentors.add(SimpleNamespace(name="later", value="x:y", load=lambda: lambda: made))
    assert instrumentors.states["later"] == "active"


def test_where_our_wrapper_runs_the_handler_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_invocations", [True])
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "resize")
    monkeypatch.setenv("_HANDLER", "json.dumps")
    instrumentors = make_instrumentors(Settings.from_env({}))
    instrumentors.add(SimpleNamespace(name="aws-lambda", value="x:y", load=lambda: 1 / 0))
    assert instrumentors.states["aws-lambda"] == "not needed: spanwell traces the invocations"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("xray_otlp_udp",)),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ("xray_otlp_udp",)),
    ],
)
def test_where_spans_go_in_lambda(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert where.lambda_defaults(environ) == ()
    monkeypatch.setattr(where, "_invocations", [True])
    settings = Settings.from_env(environ, layers=where.lambda_defaults(environ))
    assert settings.traces_exporter == expected
