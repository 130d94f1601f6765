"""The table of defaults in docs/defaults.md, one test a row, each in a real process."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanwell.where import is_deployed
from support.servers import http_stub
from support.started import LAUNCHERS, Done, clean, names, python, traced

pytestmark = pytest.mark.slow

SPAN = "from opentelemetry import trace\ntrace.get_tracer('app').start_span('work').end()\n"
PROVIDER = f"{SPAN}provider = trace.get_tracer_provider()\n"


@contextlib.contextmanager
def _collector() -> Iterator[tuple[str, list[tuple[str, str, int]]]]:
    """Base URL, and (path, content type, number of spans) of every export that arrives there."""
    seen: list[tuple[str, str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            number = sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
            seen.append((self.path, self.headers["Content-Type"], number))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_stub(Handler) as url:
        yield url, seen


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_traces_go_out_by_otlp_over_http_with_protobuf(launcher: str) -> None:
    with _collector() as (url, seen):
        env = clean(OTEL_EXPORTER_OTLP_ENDPOINT=url, SPANWELL_SHUTDOWN_TIMEOUT="20")
        assert python(SPAN, env, launcher=launcher) == (0, "", "")
    assert seen == [("/v1/traces", "application/x-protobuf", 1)]


def test_the_default_endpoint_is_port_4318_here() -> None:
    code = f"{SPAN}import logging; logging.getLogger('spanwell').setLevel('CRITICAL')\n"
    tapped = "import socket\ncreate = socket.socket.connect\n"
    tapped += "def connect(self, address):\n    print(address[1])\n    raise ConnectionRefusedError\n"
    tapped += "socket.socket.connect = connect\n"
    done = python(tapped + code, clean(no_proxy="*"))
    assert done.code == 0
    assert set(done.out.split()) == {"4318"}


@pytest.mark.parametrize("signal", ["metrics", "_logs"])
def test_metrics_and_logs_stay_off(signal: str, tmp_path: Path) -> None:
    get = {"metrics": "get_meter_provider", "_logs": "get_logger_provider"}[signal]
    code = f"{SPAN}import sys\nfrom opentelemetry import {signal}\n"
    code += f"print(type({signal}.{get}()).__name__, 'opentelemetry.sdk.metrics' in sys.modules)"
    done = python(code, traced(tmp_path / "t.db"))
    assert done[:2] == (0, f"_Proxy{'Meter' if signal == 'metrics' else ''}Provider False\n") or "Proxy" in done.out
    assert done.err == ""


def test_propagators(tmp_path: Path) -> None:
    code = "from opentelemetry import propagate\nfor each in propagate.get_global_textmap()._propagators:"
    code += "\n    print(type(each).__module__)"
    done = python(code, traced(tmp_path / "t.db"))
    assert done.out.split() == ["opentelemetry.baggage.propagation", "spanwell.propagation.codec"]


def test_the_sampler(tmp_path: Path) -> None:
    done = python(f"{PROVIDER}print(provider.sampler.get_description())", traced(tmp_path / "t.db"))
    assert "ParentBased{root:AlwaysOnSampler" in done.out


def test_ids_hold_the_time_for_xray(tmp_path: Path) -> None:
    code = "from opentelemetry import trace\nspan = trace.get_tracer('app').start_span('work')\n"
    code += "context = span.get_span_context()\nprint(context.trace_id >> 96, context.trace_flags)"
    before = int(time.time())
    seconds, flags = map(int, python(code, traced(tmp_path / "t.db")).out.split())
    assert before <= seconds <= time.time()
    assert flags == 3  # sampled, and random as W3C defines it


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
@pytest.mark.parametrize(("given", "used"), [(None, "http,database"), ("http/dup", "http/dup")])
def test_stable_semantic_conventions(launcher: str, given: str | None, used: str, tmp_path: Path) -> None:
    env = traced(tmp_path / "t.db", **({} if given is None else {"OTEL_SEMCONV_STABILITY_OPT_IN": given}))
    done = python(f"{SPAN}import os; print(os.environ['OTEL_SEMCONV_STABILITY_OPT_IN'])", env, launcher=launcher)
    assert done == (0, f"{used}\n", "")


# --- sqlite for a developer at a terminal, and for nobody else ----------------------------------------------------

EXPORTER = "import os; print('exporter:', os.environ.get('OTEL_TRACES_EXPORTER'))"


def _at_a_terminal(env: dict[str, str]) -> str:
    """What `spanwell run` shows whose input, output and error are a terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*LAUNCHERS["run"], sys.executable, "-c", EXPORTER], env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
        return os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_sqlite_at_a_terminal() -> None:
    wanted = "None" if is_deployed({}) else "sqlite"  # this machine may itself be a cloud's
    assert f"exporter: {wanted}" in _at_a_terminal(clean())


def test_no_sqlite_without_a_terminal() -> None:
    assert python(EXPORTER, clean()).out == "exporter: None\n"


@pytest.mark.parametrize(
    "variable",
    [
        "KUBERNETES_SERVICE_HOST",
        "ECS_CONTAINER_METADATA_URI_V4",
        "ECS_CONTAINER_METADATA_URI",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_EXECUTION_ENV",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_CONFIG_FILE",
    ],
)
def test_no_sqlite_where_something_is_deployed_or_configured(variable: str) -> None:
    assert "exporter: None" in _at_a_terminal(clean(**{variable: "x"}))


def test_a_chosen_exporter_stays_at_a_terminal() -> None:
    assert "exporter: console" in _at_a_terminal(clean(OTEL_TRACES_EXPORTER="console"))


# --- what the user chose -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_no_exporter(launcher: str, tmp_path: Path) -> None:
    assert python(SPAN, traced(tmp_path / "t.db", OTEL_TRACES_EXPORTER="none"), launcher=launcher) == (0, "", "")
    assert names(tmp_path / "t.db") == []


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_the_console(launcher: str, tmp_path: Path) -> None:
    done = python(SPAN, traced(tmp_path / "t.db", OTEL_TRACES_EXPORTER="console"), launcher=launcher)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["name"] == "work"


LIMITED = """
from opentelemetry import trace
link = trace.Link(trace.SpanContext(1, 1, False))
span = trace.get_tracer("app").start_span("work", links=[link] * 5, attributes={f"k{n}": "long" for n in range(5)})
for number in range(5):
    span.add_event("event", {f"k{n}": n for n in range(5)})
span.end()
print(len(span.attributes), span.attributes["k4"], len(span.events), len(span.links), len(span.events[0].attributes))
"""


def test_span_limits(tmp_path: Path) -> None:
    env = traced(
        tmp_path / "t.db",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="2",
        OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT="3",
        OTEL_SPAN_EVENT_COUNT_LIMIT="3",
        OTEL_SPAN_LINK_COUNT_LIMIT="4",
        OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT="1",
    )
    assert python(LIMITED, env)[:2] == (0, "2 lon 3 4 1\n")
    assert python(LIMITED, traced(tmp_path / "t.db")) == (0, "5 long 5 5 5\n", "")


BAD = {
    "OTEL_BSP_SCHEDULE_DELAY": ("soon", "5000"),
    "OTEL_BSP_MAX_QUEUE_SIZE": ("-1", "2048"),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": ("0", "512"),
    "OTEL_BSP_EXPORT_TIMEOUT": ("1e3", "30000"),
    "OTEL_SPAN_EVENT_COUNT_LIMIT": ("many", "128"),
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": ("-5", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": ("x", "no limit"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("carrier-pigeon", "http/protobuf"),
    "OTEL_EXPORTER_OTLP_COMPRESSION": ("zip", "none"),
    "OTEL_EXPORTER_OTLP_TIMEOUT": ("nan", "10"),
    "OTEL_SDK_DISABLED": ("perhaps", "false"),
    "OTEL_TRACES_SAMPLER": ("sometimes", "parentbased_always_on"),
    "OTEL_TRACES_EXPORTER": ("nowhere", "left out"),
    "OTEL_PROPAGATORS": ("smoke", "left out"),
    "OTEL_PYTHON_ID_GENERATOR": ("dice", "spanwell_xray"),
    "SPANWELL_SHUTDOWN_TIMEOUT": ("-1", "1"),
    "SPANWELL_LAZY_INSTRUMENTATION": ("maybe", "true"),
}


# Under opentelemetry-instrument `opentelemetry.propagate` itself raises on its variable, before any distro is loaded.
CASES = [(way, name) for way in LAUNCHERS for name in BAD if (way, name) != ("instrument", "OTEL_PROPAGATORS")]


@pytest.mark.parametrize(("launcher", "variable"), CASES)
def test_a_bad_value_is_one_line_and_the_application_runs(launcher: str, variable: str, tmp_path: Path) -> None:
    value, instead = BAD[variable]
    done: Done = python(f"{SPAN}print('ran')", traced(tmp_path / "t.db", **{variable: value}), launcher=launcher)
    assert done[:2] == (0, "ran\n")
    assert done.err.count("\n") == 1, done.err
    assert variable in done.err
    assert value in done.err
    assert instead in done.err
    assert names(tmp_path / "t.db") == ([] if variable == "OTEL_TRACES_EXPORTER" else ["work"])
    assert re.match(r"(WARNING:)?spanwell", done.err)


def test_a_configuration_file_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.configuration'] = None\n")
    (tmp_path / "otel.yaml").write_text("file_format: '1.1'\n")
    env = clean(OTEL_CONFIG_FILE=str(tmp_path / "otel.yaml"), PYTHONPATH=str(tmp_path))
    done = python(f"{SPAN}print('ran')", env)
    assert done[:2] == (0, "ran\n")
    assert done.err.count("\n") == 1, done.err
    assert "spanwell[config]" in done.err
