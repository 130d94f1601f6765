"""From the user's command to X-Ray: processes that send to a daemon on loopback, or to an X-Ray of their own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support import segment_schema
from support.daemon import daemon
from support.servers import free_port, http_stub
from support.started import LAUNCHERS, clean, python

pytestmark = pytest.mark.slow

APP = """
from opentelemetry import trace
from opentelemetry.trace import SpanKind
tracer = trace.get_tracer("app")
for number in range(20):
    with tracer.start_as_current_span("GET /orders", kind=SpanKind.SERVER) as span:
        span.set_attribute("order.id", number)
        try:
            with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT):
                raise ValueError("no such order")
        except ValueError:
            pass
"""
STOCK = "from opentelemetry.sdk._configuration import _OTelSDKConfigurator as C\nC().configure()\n" + APP


def environment(exporter: str, **more: str) -> dict[str, str]:
    return clean(
        OTEL_SERVICE_NAME="shop",
        OTEL_TRACES_EXPORTER=exporter,
        SPANWELL_SHUTDOWN_TIMEOUT="20",
        SPANWELL_ANNOTATIONS="order.*",
        AWS_EC2_METADATA_DISABLED="true",
        **more,
    )


def complete(documents: list[dict[str, Any]]) -> None:
    servers = {each["id"]: each for each in documents if "type" not in each}
    queries = [each for each in documents if each.get("type") == "subsegment"]
    assert len(servers) == len(queries) == 20
    assert sorted(each["annotations"]["order.id"] for each in servers.values()) == list(range(20))
    assert {each["name"] for each in servers.values()} == {"shop"}
    for query in queries:
        assert query["trace_id"] == servers[query["parent_id"]]["trace_id"]
        assert query["namespace"] == "remote"
        assert query["fault"] is True
        (exception,) = query["cause"]["exceptions"]
        assert (exception["type"], exception["message"]) == ("ValueError", "no such order")
        assert exception["stack"][0]["path"] == "<string>"


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_segment_documents_reach_the_daemon(launcher: str) -> None:
    with daemon() as received:
        env = environment("xray", AWS_XRAY_DAEMON_ADDRESS=f"udp:{received.address} tcp:127.0.0.1:1")
        assert python(APP, env, launcher=launcher) == (0, "", "")
        complete([segment_schema.check(body) for body in received.bodies(40)])


def test_under_the_sdks_own_configurator() -> None:
    with daemon() as received:
        env = environment("xray", AWS_XRAY_DAEMON_ADDRESS=received.address, OTEL_METRICS_EXPORTER="none")
        env.update(OTEL_LOGS_EXPORTER="none", OTEL_BSP_EXPORT_TIMEOUT="5000")
        done = subprocess.run([sys.executable, "-c", STOCK], env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        documents = [segment_schema.check(body) for body in received.bodies(40)]
    assert {each["name"] for each in documents if "type" not in each} == {"shop"}


def test_otlp_reaches_the_agent() -> None:
    with daemon() as received:
        env = environment("xray_otlp_udp", AWS_XRAY_DAEMON_ADDRESS=received.address)
        assert python(APP, env) == (0, "", "")
        (body,) = received.bodies(1)
    assert body[:3] == b"T1S"
    request = ExportTraceServiceRequest.FromString(base64.b64decode(body[3:]))
    assert sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans) == 40


def test_segment_documents_reach_xray() -> None:
    taken: list[bytes] = []

    class XRay(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "TraceSegmentDocuments" in body:
                taken.extend(each.encode() for each in body["TraceSegmentDocuments"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_stub(XRay) as url:
        env = environment("xray_api", AWS_ENDPOINT_URL_XRAY=url, AWS_REGION="eu-west-1")
        env.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
        assert python(APP, env) == (0, "", "")
    complete([segment_schema.check(each) for each in taken])


@pytest.mark.parametrize(
    ("exporter", "variables", "part"),
    [
        ("xray", {"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:{port}"}, "nobody listens at udp 127.0.0.1:{port}"),
        ("xray_otlp_udp", {"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:{port}"}, "nobody listens at udp 127.0.0.1:{port}"),
        ("xray_api", {"AWS_REGION": "eu-west-1"}, "finds no AWS credentials"),
        ("xray_api", {}, "needs a region"),
    ],
)
def test_what_does_not_arrive_is_said_in_one_line(exporter: str, variables: dict[str, str], part: str) -> None:
    port = str(free_port())
    env = environment(exporter, **{name: value.format(port=port) for name, value in variables.items()})
    env.update(HOME="/nonexistent", AWS_CONFIG_FILE="/nonexistent", AWS_SHARED_CREDENTIALS_FILE="/nonexistent")
    code, out, err = python(APP, env)
    assert (code, out) == (0, "")
    (line,) = err.splitlines()
    assert "40 spans did not reach exporter " + exporter in line
    assert part.format(port=port) in line
