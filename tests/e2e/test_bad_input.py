"""Bad values, settings and endpoints: telemetry may be lost, said once in one line; the application is untouched."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.collector import Collector, collector
from support.started import LAUNCHERS, Done, clean, run

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
DEAD = "http://127.0.0.1:1"

WORK = """
import sys
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("work"):
    pass
print("application output")
sys.exit(3)
"""


@pytest.fixture
def otlp() -> Iterator[Collector]:
    with collector() as made:
        yield made


def env(**more: str) -> dict[str, str]:
    return clean(
        **{
            "OTEL_SERVICE_NAME": "scenario",
            "OTEL_PYTHON_DISTRO": "spanwell",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
            "SPANWELL_SHUTDOWN_TIMEOUT": "5",
            **more,
        }
    )


def python(source: str, environment: dict[str, str], launcher: str = "run") -> Done:
    return run([sys.executable, "-c", source], environment, launcher=launcher)


# --- attribute values -------------------------------------------------------------------------------------------

VALUES = """
from opentelemetry import trace
values = {
    "none": None, "bytes": b"\\xff\\x00", "nested": {"a": [1, {"b": None}]}, "mixed": [1, "a", None, 2.5, True],
    "huge": "x" * 1_000_000, "number": 10 ** 400, "nan": float("nan"),
    "surrogate": "a\\ud800", "control": "\\x00\\x1b[31m", "set": {1, 2}, "": "no key",
}
tracer = trace.get_tracer("app")
for key, value in values.items():
    with tracer.start_as_current_span(key or "empty") as span:
        span.set_attribute(key, value)
        span.add_event("event", {key: value})
with tracer.start_as_current_span("ordinary") as span:
    span.set_attribute("k", "v")
print("application output")
"""


@BOTH
def test_odd_attribute_values_pass_through_to_the_collector_and_to_sqlite(
    otlp: Collector, tmp_path: Path, launcher: str
) -> None:
    db = tmp_path / "traces.db"
    environment = env(
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_TRACES_EXPORTER="otlp,sqlite",
        SPANWELL_SQLITE_PATH=str(db),
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1",
    )
    done = python(VALUES, environment, launcher)
    assert (done.code, done.out) == (0, "application output\n")
    assert "Traceback" not in done.err
    arrived = {span.name: span for span in otlp.span_messages()}
    assert {"none", "bytes", "nested", "mixed", "huge", "control", "ordinary"} <= set(arrived)
    # A span that large is an insight, which stands beside the value.
    [huge] = [each for each in arrived["huge"].attributes if not each.key.startswith("spanwell.insight")]
    assert len(huge.value.string_value) == 1_000_000
    [ordinary] = arrived["ordinary"].attributes
    assert (ordinary.key, ordinary.value.string_value) == ("k", "v")
    with sqlite3.connect(db) as connection:
        stored = dict(connection.execute("SELECT name, attributes FROM span").fetchall())
    assert {"none", "bytes", "nested", "mixed", "huge", "control", "ordinary"} <= set(stored)
    assert json.loads(stored["ordinary"]) == {"k": "v"}


def test_a_value_that_cannot_be_encoded_is_said_in_one_line(otlp: Collector) -> None:
    source = """
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("work") as span:
    span.set_attribute("number", 10 ** 400)
"""
    done = python(source, env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, SPANWELL_OTLP="upstream"))
    assert done.code == 0
    assert otlp.spans() == ["work"]
    [line] = done.err.splitlines()
    assert line.startswith("spanwell: exporter otlp: Failed to encode key number")
    # Our own encoder has a form for every value.
    assert python(source, env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)).err == ""
    [_, ours] = otlp.span_messages()
    assert ours.attributes[0].value.string_value.startswith("1000")


# --- sqlite -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/nowhere/traces.db", "/sys/traces.db", "/dev/null/traces.db"])
def test_a_file_system_that_takes_no_file(place: str) -> None:
    done = python(WORK, env(OTEL_TRACES_EXPORTER="sqlite", SPANWELL_SQLITE_PATH=place))
    assert (done.code, done.out) == (3, "application output\n")
    [line] = done.err.splitlines()
    assert line.startswith(f"spanwell: cannot write spans to {place} (")
    assert line.endswith("they are lost until it works again")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    done = python(WORK, env(OTEL_TRACES_EXPORTER="sqlite", SPANWELL_SQLITE_PATH=str(tmp_path)))
    assert (done.code, done.out) == (3, "application output\n")
    assert len(done.err.splitlines()) == 1
    assert str(tmp_path) in done.err


# --- endpoints and headers --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "url", ["not a url", "localhost:4318", "ftp://x", "http://[::1", "http://x:99999", "http://"]
)
@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_endpoint_that_is_no_url(launcher: str, url: str, variable: str) -> None:
    done = python(WORK, env(**{variable: url}), launcher)
    assert (done.code, done.out) == (3, "application output\n")
    [line] = done.err.splitlines()
    assert "1 spans did not reach exporter otlp" in line
    assert f"{variable}={url!r} is no URL such as http://localhost:4318" in line


def test_a_password_in_the_endpoint_is_not_said() -> None:
    done = python(WORK, env(OTEL_EXPORTER_OTLP_ENDPOINT="http://user:secret@127.0.0.1:1"))
    assert "http://127.0.0.1:1/v1/traces" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize("headers", ["secret", "a=b,secret", "=secret", "a=b,,;;secret"])
def test_malformed_headers_are_said_without_their_content_and_the_rest_is_sent(otlp: Collector, headers: str) -> None:
    done = python(WORK, env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_EXPORTER_OTLP_HEADERS=headers))
    assert (done.code, done.out) == (3, "application output\n")
    [line] = done.err.splitlines()
    assert "OTEL_EXPORTER_OTLP_HEADERS" in line
    assert "secret" not in line
    assert otlp.spans() == ["work"]
    if headers.startswith("a=b"):
        assert otlp.posts[0].headers["a"] == "b"


def test_a_header_that_http_cannot_carry() -> None:
    done = python(WORK, env(OTEL_EXPORTER_OTLP_ENDPOINT=DEAD, OTEL_EXPORTER_OTLP_HEADERS="a=%0Ab"))
    assert (done.code, done.out) == (3, "application output\n")
    assert len(done.err.splitlines()) == 1


def test_an_endpoint_without_otlp(otlp: Collector) -> None:
    done = python(WORK, env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url + "/v1/traces"))
    assert done.code == 3
    [line] = done.err.splitlines()
    assert "it answers 404 Not Found" in line


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none", "brotli"])
def test_compression(otlp: Collector, compression: str) -> None:
    done = python(WORK, env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_EXPORTER_OTLP_COMPRESSION=compression))
    assert otlp.spans() == ["work"]
    assert len(done.err.splitlines()) == (1 if compression == "brotli" else 0)


# --- settings ---------------------------------------------------------------------------------------------------

BAD = {
    "SPANWELL_SHUTDOWN_TIMEOUT": "soon",
    "OTEL_BSP_SCHEDULE_DELAY": "-1",
    "OTEL_BSP_MAX_QUEUE_SIZE": "0",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "many",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "1e999",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x",
}


@BOTH
def test_each_bad_setting_is_one_line_and_its_default_is_used(otlp: Collector, launcher: str) -> None:
    done = python(WORK, env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, **BAD), launcher)
    assert (done.code, done.out) == (3, "application output\n")
    lines = done.err.splitlines()
    assert len(lines) == len(BAD)
    for name, value in BAD.items():
        assert sum(line.startswith(f"spanwell: {name}={value!r} is not ") for line in lines) == 1
    assert otlp.spans() == ["work"]


@BOTH
def test_http_json_is_for_our_own_exporter_alone(otlp: Collector, launcher: str) -> None:
    environment = env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")
    assert python(WORK, environment, launcher) == Done(3, "application output\n", "")
    assert otlp.spans() == ["work"]
    assert otlp.posts[0].headers["content-type"] == "application/json"


@BOTH
def test_http_json_of_upstream_is_said_and_goes_as_protobuf(otlp: Collector, launcher: str) -> None:
    environment = env(
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_EXPORTER_OTLP_PROTOCOL="http/json", SPANWELL_OTLP="upstream"
    )
    done = python(WORK, environment, launcher)
    assert done == Done(
        3,
        "application output\n",
        "spanwell: OTEL_EXPORTER_OTLP_PROTOCOL=http/json is not supported for traces;"
        " using http/protobuf on its port\n",
    )
    assert otlp.spans() == ["work"]
    assert otlp.posts[0].headers["content-type"] == "application/x-protobuf"


@BOTH
def test_an_unknown_exporter_beside_a_good_one(otlp: Collector, launcher: str) -> None:
    environment = env(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_TRACES_EXPORTER="zipkin_of_old,otlp,none")
    done = python(WORK, environment, launcher)
    assert (done.code, done.out) == (3, "application output\n")
    [line] = done.err.splitlines()
    assert line.startswith("spanwell: OTEL_TRACES_EXPORTER: exporter 'zipkin_of_old' is left out: ")
    assert otlp.spans() == ["work"]


# --- gRPC -------------------------------------------------------------------------------------------------------


@pytest.fixture
def grpc_receiver() -> Iterator[tuple[int, list[str]]]:
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    names: list[str] = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            for resource in request.resource_spans:
                names.extend(span.name for scope in resource.scope_spans for span in scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, names
    server.stop(None).wait()


@BOTH
@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_grpc_exports(grpc_receiver: tuple[int, list[str]], launcher: str, form: str, compression: str) -> None:
    port, names = grpc_receiver
    environment = env(
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_ENDPOINT=form.format(port),
        OTEL_EXPORTER_OTLP_INSECURE="true",
        OTEL_EXPORTER_OTLP_COMPRESSION=compression,
    )
    assert python(WORK, environment, launcher) == Done(3, "application output\n", "")
    assert names == ["work"]


@BOTH
def test_grpc_without_the_extra_says_what_to_install(tmp_path: Path, launcher: str) -> None:
    # A finder in front of all others: in this process the gRPC exporter is as good as not installed.
    (tmp_path / "usercustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'opentelemetry.exporter.otlp.proto.grpc' or name.partition('.')[0] == 'grpc':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    source = (tmp_path / "usercustomize.py").read_text() + WORK
    environment = env(OTEL_EXPORTER_OTLP_PROTOCOL="grpc", PYTHONPATH=str(tmp_path))
    done = python(source, environment, launcher)
    assert (done.code, done.out) == (3, "application output\n")
    lines = [line for line in done.err.splitlines() if "spanwell" in line]
    assert len(lines) == 1, done.err
    assert "pip install 'spanwell[grpc]'" in lines[0] or launcher == "instrument"
    assert "1 spans did not reach exporter otlp" in lines[0]


def test_a_bad_environment_of_every_kind_at_once_leaves_the_application_alone(tmp_path: Path) -> None:
    environment = env(
        **BAD,
        OTEL_TRACES_EXPORTER="sqlite,nothing,otlp",
        OTEL_METRICS_EXPORTER="nothing",
        OTEL_LOGS_EXPORTER="nothing",
        OTEL_TRACES_SAMPLER="nothing",
        OTEL_PROPAGATORS="nothing,xray",
        OTEL_PYTHON_ID_GENERATOR="nothing",
        OTEL_RESOURCE_ATTRIBUTES="=,,a",
        OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="nothing",
        OTEL_EXPORTER_OTLP_ENDPOINT="nothing",
        SPANWELL_SQLITE_PATH=os.fspath(tmp_path),
    )
    for launcher in LAUNCHERS:
        if launcher == "instrument":
            del environment["OTEL_PROPAGATORS"]  # upstream's launcher itself ends with a traceback on a bad one
        done = python(WORK, environment, launcher)
        assert (done.code, done.out) == (3, "application output\n")
        assert "Traceback" not in done.err
        lines = done.err.splitlines()
        ours = [line for line in lines if line.startswith("spanwell: ")]
        assert len(set(ours)) == len(ours)
        assert not [line for line in lines if not re.match("spanwell: |(?i:invalid) (key|attribute)", line)]
