"""One invocation around a handler: what the handler does and is given stays as it is."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import types
from typing import Any

import pytest
from opentelemetry import trace

from spanwell import _guard
from spanwell.aws_lambda import bootstrap, start
from spanwell.aws_lambda.invocation import Invocations, Running
from spanwell.propagation.xray import HEADER, XRayPropagator
from spanwell.settings import Settings

UNSAMPLED = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
TRACE_ID = 0x5759E988BD862E3FE1BE46A994272793


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


class Context:
    function_name = "shop"

    def __init__(self, clock: Clock, limit_ms: int) -> None:
        self._clock, self._limit = clock, limit_ms

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._limit - self._clock.ns // 1_000_000)


class Rig:
    def __init__(self, **variables: str) -> None:
        self.environ = {"AWS_LAMBDA_FUNCTION_NAME": "shop", "_X_AMZN_TRACE_ID": UNSAMPLED, **variables}
        self.environ.setdefault("OTEL_TRACES_EXPORTER", "xray")
        self.clock = Clock()
        self.lines: list[str] = []
        self.invocations = Invocations(
            Settings.from_env(self.environ),
            self.environ,
            init_ns=100_000_000,
            clock=self.clock,
            wall=lambda: 1_700_000_000_000_000_000 + self.clock.ns,
            out=self.lines.append,
        )

    def call(self, handler: Any, event: object = None, *, limit_ms: int = 3000) -> Any:
        context = Context(self.clock, limit_ms)
        return bootstrap.wrapped(handler, self.invocations)(event, context)

    def kinds(self) -> list[str]:
        metrics = [json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Metrics"] for line in self.lines]
        return [each["Name"] for found in metrics for each in found]


def test_arguments_results_and_errors_pass_as_they_are() -> None:
    rig, event, result, error = Rig(), object(), object(), KeyError("x")
    seen = []

    def handler(given: object, context: object) -> object:
        seen.append((given, context))
        return result

    def fails(given: object, context: object) -> object:
        raise error

    context = object()
    assert bootstrap.wrapped(handler, rig.invocations)(event, context) is result
    assert seen == [(event, context)]
    with pytest.raises(KeyError) as caught:
        bootstrap.wrapped(fails, rig.invocations)(event, context)
    assert caught.value is error
    assert error.__context__ is None


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError])
def test_whatever_is_raised_goes_on(kind: type[BaseException]) -> None:
    def handler(event: object, context: object) -> None:
        raise kind

    rig = Rig()
    with pytest.raises(kind):
        rig.call(handler)
    assert rig.invocations.counts.found["trace_errors"] == 1


def test_a_generator_is_not_run() -> None:
    ran = []

    def handler(event: object, context: object) -> Any:
        ran.append(event)
        yield 1

    made = Rig().call(handler)
    assert isinstance(made, types.GeneratorType)
    assert ran == []


def test_it_looks_like_the_handler() -> None:
    def handler(event: object, context: object) -> None:
        """Say it."""

    handler.own = 1  # type: ignore[attr-defined]

    class Instance:
        @property
        def __name__(self) -> str:
            raise RuntimeError

        def __call__(self, event: object, context: object) -> int:
            return 1

    wrapped = bootstrap.wrapped(handler, Rig().invocations)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.own, wrapped.__wrapped__) == ("handler", "Say it.", 1, handler)
    assert wrapped.__module__ == handler.__module__
    for each in (Instance(), functools.partial(handler, 1)):
        assert bootstrap.wrapped(each, Rig().invocations).__wrapped__ is each
    assert bootstrap.wrapped(5, Rig().invocations) == 5


def test_the_name_of_its_file_hides_it_from_reported_stack_traces() -> None:
    """The runtime client leaves leading frames of `…/bootstrap.py` out."""
    assert str(bootstrap.__file__).endswith("/bootstrap.py")


def test_an_error_of_ours_does_not_reach_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    rig = Rig(SPANWELL_LAMBDA_METRICS="emf")

    def broken(*_: object, **__: object) -> None:
        raise OSError("no stdout")

    rig.invocations.out = broken
    assert rig.call(lambda event, context: {"statusCode": 500}) == {"statusCode": 500}
    rig.invocations.environ = None  # type: ignore[assignment]
    assert rig.call(lambda event, context: 1) == 1


def test_counts_by_its_own_clock() -> None:
    rig = Rig(SPANWELL_LAMBDA_METRICS="emf", SPANWELL_CLOUDWATCH_METRICS="insights")

    def takes(seconds: float) -> Any:
        def handler(event: object, context: object) -> None:
            rig.clock.ns += int(seconds * 1e9)

        return handler

    rig.call(takes(0.1))
    assert rig.kinds() == ["cold_start"]
    rig.lines.clear()
    rig.call(takes(0.1))
    assert rig.kinds() == []
    rig.call(takes(5.5), limit_ms=100_000)
    assert rig.kinds() == ["slow_trace"]
    rig.lines.clear()
    rig.call(takes(2.9), limit_ms=int(rig.clock.ns / 1e6) + 3000)
    assert rig.kinds() == ["timeout_near"]
    assert rig.invocations.counts.invocations == 4


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        ({"statusCode": 500}, True),
        ({"statusCode": 599}, True),
        ({"statusCode": "503"}, True),
        ({"statusCode": 499}, False),
        ({"statusCode": 600}, False),
        ({"statusCode": True}, False),
        ({"statusCode": "²00"}, False),
        ({"statusCode": None}, False),
        ({}, False),
        ([{"statusCode": 500}], False),
        (None, False),
    ],
)
def test_an_answer_of_5xx_is_a_failure(result: object, failed: bool) -> None:
    rig = Rig()
    rig.call(lambda event, context: result)
    assert rig.invocations.counts.found["trace_errors"] == int(failed)


def test_provisioned_concurrency_has_no_cold_start() -> None:
    rig = Rig(AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency")
    rig.call(lambda event, context: 1)
    assert rig.invocations.counts.found["cold_start"] == 0


@pytest.mark.parametrize("context", [None, object(), types.SimpleNamespace(get_remaining_time_in_millis=lambda: "2")])
def test_any_context_will_do(context: object) -> None:
    rig = Rig()
    assert bootstrap.wrapped(lambda event, given: given, rig.invocations)(1, context) is context


def test_a_forked_child_has_no_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    own = os.getpid()

    def handler(event: object, context: object) -> int:
        monkeypatch.setattr(os, "getpid", lambda: own + 1)
        return 1

    assert rig.call(handler) == 1
    assert rig.invocations.counts.invocations == 0


def test_spans_of_an_unsampled_invocation_belong_to_its_trace() -> None:
    carrier: dict[str, str] = {}

    def handler(event: object, context: object) -> Any:
        XRayPropagator().inject(carrier)
        return trace.get_current_span().get_span_context()

    before = trace.get_current_span()
    rig = Rig(_X_AMZN_TRACE_ID=UNSAMPLED + ";Lineage=a87bd80c:0")
    found = rig.call(handler)
    assert found.trace_id == TRACE_ID
    assert not found.trace_flags.sampled
    assert carrier[HEADER] == UNSAMPLED + ";Lineage=a87bd80c:0"
    assert trace.get_current_span() is before


def test_so_do_those_of_one_without_a_parent() -> None:
    rig = Rig(_X_AMZN_TRACE_ID="Root=1-5759e988-bd862e3fe1be46a994272793")
    found = rig.call(lambda event, context: trace.get_current_span().get_span_context())
    assert found.trace_id == TRACE_ID
    assert found.is_valid
    assert not found.trace_flags.sampled


def test_without_an_exporter_the_functions_own_opentelemetry_is_left_alone() -> None:
    rig = Rig(OTEL_TRACES_EXPORTER="none")
    assert not rig.call(lambda event, context: trace.get_current_span().get_span_context()).is_valid


def test_one_line_says_why_nothing_is_exported(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    with caplog.at_level(logging.INFO, "spanwell"):
        rig.call(lambda event, context: 1)
        rig.call(lambda event, context: 1)
    assert len([record for record in caplog.records if "Active" in record.getMessage()]) == 1
    assert caplog.records[-1].levelno == logging.INFO


def test_the_time_for_a_flush_ends_before_the_functions_time() -> None:
    budget = Rig(SPANWELL_LAMBDA_FLUSH_TIMEOUT="0.9").invocations.budget
    assert budget(None) == 0.9
    assert budget(60_000) == 0.9
    assert budget(250) == pytest.approx(0.2)
    assert budget(10) == 0


# --- how it begins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "off"),
    [
        ({}, True),
        ({"AWS_LAMBDA_RUNTIME_API": "a:1"}, False),
        ({"AWS_LAMBDA_RUNTIME_API": "a:1", "SPANWELL_DISABLED": " True "}, True),
        ({"AWS_LAMBDA_RUNTIME_API": "a:1", "SPANWELL_DISABLED": "false"}, False),
        ({"AWS_LAMBDA_RUNTIME_API": "a:1", "OTEL_SDK_DISABLED": "true"}, True),
        ({"AWS_LAMBDA_FUNCTION_NAME": "shop"}, True),
    ],
)
def test_when_nothing_is_begun(environ: dict[str, str], off: bool) -> None:
    assert start.off(environ) is off
    if off:
        before = list(sys.meta_path)
        start.begin(environ)
        assert sys.meta_path == before


def client(**names: Any) -> Any:
    return types.SimpleNamespace(**names)


def test_the_look_up_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(event: object, context: object) -> str:
        return "mine"

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    runtime = client(_get_handler=lambda name: handler)
    start.take_over(runtime, {"_HANDLER": "app.handler"}, [])
    found = runtime._get_handler("app.handler")
    assert found.__wrapped__ is handler
    assert found(None, None) == "mine"


def uses_another_name(handler: str, client: object) -> None:
    find(handler)  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("environ", "argv", "after"),
    [
        ({"_HANDLER": "app.handler"}, ["bootstrap.py"], ["bootstrap.py"]),
        ({}, ["__main__.py", "pkg/app.handler"], ["__main__.py", start.ENTRY]),
        ({"_HANDLER": "app.handler"}, ["m", "app.handler"], ["m", start.ENTRY]),
    ],
)
@pytest.mark.parametrize("runtime", [client(), client(_get_handler=len, run=uses_another_name)])
def test_where_it_is_not_used_our_handler_is_named(
    runtime: Any, environ: dict[str, str], argv: list[str], after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "handler_name", "")
    name = environ.get("_HANDLER") or argv[1]
    start.take_over(runtime, environ, argv)
    assert environ["_HANDLER"] == start.ENTRY
    assert argv == after
    assert start.handler_name == name


def test_where_no_name_is_found_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    start.take_over(client(), {}, ["bootstrap.py"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing is traced" in said


def test_how_long_the_process_took_is_known() -> None:
    assert start.init_ns() > 0


def test_an_invocation_is_a_small_object() -> None:
    assert not hasattr(Running(Rig().invocations, None, False), "__dict__")
