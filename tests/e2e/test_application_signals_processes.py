"""Application Signals' metrics of real processes, at a receiver in the place of the CloudWatch agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from support.metrics_receiver import MetricsReceiver, metrics_receiver
from support.runs import finish, start

pytestmark = pytest.mark.slow

# (metric, kind, local operation, remote service, remote operation) -> (how many spans, how many of them are 1)
Table = dict[tuple[str, ...], tuple[int, int]]


@pytest.fixture
def agent() -> Iterator[MetricsReceiver]:
    with metrics_receiver() as made:
        yield made


def settings(agent: MetricsReceiver, **more: str) -> dict[str, str]:
    return {
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_TRACES_EXPORTER": "none",
        "SPANWELL_APPLICATION_SIGNALS": "true",
        "OTEL_AWS_APPLICATION_SIGNALS_EXPORTER_ENDPOINT": agent.endpoint,
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def table(agent: MetricsReceiver) -> Table:
    counts: Counter[tuple[str, ...]] = Counter()
    ones: Counter[tuple[str, ...]] = Counter()
    for each in agent.points():
        assert each.scope == "AwsSpanMetricsProcessor"
        assert each.attributes["aws.local.service"] == "shop"
        assert each.unit == ("Milliseconds" if each.metric == "Latency" else "")
        names = ("aws.span.kind", "aws.local.operation", "aws.remote.service", "aws.remote.operation")
        key = each.metric, *(str(each.attributes.get(name, "")) for name in names)
        counts[key] += each.point.count
        ones[key] += 0 if each.metric == "Latency" else int(each.point.sum)
    return {key: (counts[key], ones[key]) for key in counts}


def all_three(spans: int, errors: int, faults: int, *key: str) -> Table:
    return {
        ("Latency", *key): (spans, 0),
        ("Error", *key): (spans, errors),
        ("Fault", *key): (spans, faults),
    }


WEB = """
import threading, sys
import flask, requests
from werkzeug.serving import make_server
app = flask.Flask("shop")
@app.route("/orders/<number>")
def order(number):
    if number == "7":
        flask.abort(404)
    if number == "8":
        raise RuntimeError("no")
    return number
import logging
logging.getLogger("werkzeug").disabled = app.logger.disabled = True
server = make_server("127.0.0.1", 0, app)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port)
from opentelemetry import trace
with trace.get_tracer("job").start_as_current_span("job"):
    for number in (1, 2, 3, 7, 8):
        requests.get(f"http://localhost:{server.port}/orders/{number}?token=x")
server.shutdown()
"""


@pytest.mark.parametrize("conventions", ["http", "", "http/dup"], ids=["new", "old", "both"])
def test_old_and_new_http_conventions_tell_the_same(agent: MetricsReceiver, conventions: str) -> None:
    more = {"OTEL_SEMCONV_STABILITY_OPT_IN": conventions} if conventions else {"OTEL_SEMCONV_STABILITY_OPT_IN": "-"}
    run = finish(start("run", ["-c", WEB], "", settings(agent, **more)))
    assert (run.code, run.stderr) == (0, "")
    port = run.stdout.strip()
    assert table(agent) == {
        **all_three(1, 0, 0, "LOCAL_ROOT", "InternalOperation", "", ""),
        **all_three(5, 1, 1, "CLIENT", "InternalOperation", f"localhost:{port}", "GET /orders"),
        **all_three(5, 1, 1, "LOCAL_ROOT", "GET /orders/<number>", "", ""),
    }


CALLS = """
from opentelemetry import trace
tracer = trace.get_tracer("app")
for number in range(200):
    with tracer.start_as_current_span("GET /a", kind=trace.SpanKind.SERVER):
        with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT) as span:
            span.set_attribute("peer.service", "pay")
            if number % 10 == 0:
                span.set_status(trace.StatusCode.ERROR)
"""
EXPECTED = {
    **all_three(200, 0, 0, "LOCAL_ROOT", "GET /a", "", ""),
    **all_three(200, 0, 20, "CLIENT", "GET /a", "pay", "UnknownRemoteOperation"),
}


@pytest.mark.parametrize("mode", ["run", "lazy"])
@pytest.mark.parametrize(
    "sampler",
    [
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.3"},
        {"OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_TRACES_SAMPLER": "budget", "OTEL_TRACES_SAMPLER_ARG": "traces=1"},
        {"OTEL_TRACES_SAMPLER": "tail", "OTEL_TRACES_SAMPLER_ARG": "head=(always_off)"},
    ],
    ids=["none", "some", "all", "budget", "tail"],
)
def test_every_span_counts_whatever_is_sampled(agent: MetricsReceiver, mode: str, sampler: dict[str, str]) -> None:
    run = finish(start(mode, ["-c", CALLS], "", settings(agent, **sampler)))
    assert run.code == 0
    assert "Traceback" not in run.stderr
    assert table(agent) == EXPECTED


def test_adots_variable_turns_it_on_and_ours_wins(agent: MetricsReceiver) -> None:
    adot = {"SPANWELL_APPLICATION_SIGNALS": "", "OTEL_AWS_APPLICATION_SIGNALS_ENABLED": "true"}
    run = finish(start("run", ["-c", CALLS], "", settings(agent, **adot)))
    assert (run.code, run.stderr) == (0, "")
    assert table(agent) == EXPECTED
    agent.requests.clear()
    adot["SPANWELL_APPLICATION_SIGNALS"] = "false"
    run = finish(start("run", ["-c", CALLS], "", settings(agent, **adot)))
    assert (run.code, run.stderr) == (0, "")
    assert agent.requests == []


def test_unsampled_spans_are_counted_but_not_exported(agent: MetricsReceiver) -> None:
    more = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "always_off"}
    run = finish(start("run", ["-c", CALLS], "", settings(agent, **more)))
    assert (run.code, run.stderr, run.stdout) == (0, "", "")
    assert table(agent) == EXPECTED


def test_children_after_a_fork_count_their_own(agent: MetricsReceiver) -> None:
    code = f"""
import os
code = {CALLS!r}
exec(code)
from spanwell.exit import end_process
for number in range(2):
    if not os.fork():
        exec(code)
        end_process()
        os._exit(0)
for number in range(2):
    os.wait()
"""
    run = finish(start("run", ["-c", code], "", settings(agent)))
    assert (run.code, run.stderr) == (0, "")
    assert table(agent) == {key: (3 * spans, 3 * ones) for key, (spans, ones) in EXPECTED.items()}


def test_while_the_process_runs_it_exports_each_interval(agent: MetricsReceiver) -> None:
    code = CALLS + "\nimport time; time.sleep(1)" + CALLS
    run = finish(start("run", ["-c", code], "", settings(agent, OTEL_METRIC_EXPORT_INTERVAL="300")))
    assert (run.code, run.stderr) == (0, "")
    assert len(agent.requests) >= 2
    assert table(agent) == {key: (2 * spans, 2 * ones) for key, (spans, ones) in EXPECTED.items()}


def test_on_lambda_nothing_is_counted(agent: MetricsReceiver) -> None:
    run = finish(start("run", ["-c", CALLS], "", settings(agent, AWS_LAMBDA_FUNCTION_NAME="pay")))
    assert run.code == 0
    assert agent.requests == []
