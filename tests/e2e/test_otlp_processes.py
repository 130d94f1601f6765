"""OTLP over HTTP as a user sets it up: our exporter, upstream's, the stock configurator, and AWS's endpoints."""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.collector import REQUESTS, Collector, Handler, collector, status
from support.sigv4 import judge
from support.started import Done, clean, run
from support.tls import Authority, https_server, proxy

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("launcher", ["run", "instrument"])
WORK = """
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("work"):
    pass
trace.get_tracer_provider().force_flush()
"""
LOADED = WORK + "import sys; print(sorted({'requests', 'urllib3', 'google.protobuf'} & set(sys.modules)))"


@pytest.fixture
def otlp() -> Iterator[Collector]:
    with collector() as made:
        yield made


def env(url: str, **more: str) -> dict[str, str]:
    return clean(
        **{
            "OTEL_SERVICE_NAME": "scenario",
            "OTEL_PYTHON_DISTRO": "spanwell",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "SPANWELL_STARTUP_SUMMARY": "false",
            "SPANWELL_SHUTDOWN_TIMEOUT": "20",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
            **more,
        }
    )


def python(source: str, environment: dict[str, str], launcher: str = "run") -> Done:
    return run([sys.executable, "-c", source], environment, launcher=launcher)


@BOTH
def test_neither_protobuf_nor_requests_is_imported(otlp: Collector, launcher: str) -> None:
    done = python(LOADED, env(otlp.url), launcher)
    assert done.err == ""
    if launcher == "run":
        assert done.out == "[]\n"
    assert otlp.spans() == ["work"]
    assert otlp.posts[0].headers["user-agent"].startswith("spanwell/")


@BOTH
def test_upstreams_exporter_on_request(otlp: Collector, launcher: str) -> None:
    assert python(WORK, env(otlp.url, SPANWELL_OTLP="upstream"), launcher) == Done(0, "", "")
    assert otlp.spans() == ["work"]
    assert otlp.posts[0].headers["user-agent"].startswith("OTel-OTLP-Exporter-Python/")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_by_its_own_name_it_is_http_whatever_the_protocol(otlp: Collector, protocol: str) -> None:
    more = {"OTEL_TRACES_EXPORTER": "spanwell_otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    assert python(WORK, env(otlp.url, **more)) == Done(0, "", "")
    assert otlp.spans() == ["work"]


STOCK = """
import sys
from opentelemetry.sdk._configuration import _initialize_components
_initialize_components()
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("work"):
    pass
trace.get_tracer_provider().shutdown()
"""


@pytest.mark.parametrize("launch", [[sys.executable, "-c", STOCK]])
def test_under_the_stock_configurator(otlp: Collector, launch: list[str]) -> None:
    import subprocess

    environment = env(otlp.url, OTEL_TRACES_EXPORTER="spanwell_otlp", OTEL_EXPORTER_OTLP_HEADERS="x-a=b%20c,x-d=e")
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert otlp.spans() == ["work"]
    assert (otlp.posts[0].headers["x-a"], otlp.posts[0].headers["x-d"]) == ("b c", "e")


def test_under_the_stock_configurator_a_loss_is_said_once(otlp: Collector) -> None:
    import subprocess

    otlp.behave(status(401))
    environment = env(otlp.url, OTEL_TRACES_EXPORTER="spanwell_otlp")
    done = subprocess.run([sys.executable, "-c", STOCK], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("spanwell: 1 spans did not reach exporter spanwell_otlp: it answers 401 Unauthorized")


@BOTH
def test_credentials_to_a_plain_text_endpoint(launcher: str) -> None:
    url = "http://collector.test:4318"
    done = python(WORK, env(url, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cret"), launcher)
    [line] = done.err.splitlines()
    assert line.startswith("spanwell: 1 spans did not reach exporter otlp (http://collector.test:4318/v1/traces): ")
    assert "'authorization' are not sent in plain text to collector.test: use https://" in line
    assert "s3cret" not in line


# --- AWS --------------------------------------------------------------------------------------------------------

SIGNALS = """
import logging
from opentelemetry import metrics, trace
metrics.get_meter("app").create_counter("orders").add(1)
with trace.get_tracer("app").start_as_current_span("work"):
    logging.getLogger("app").warning("a line")
"""


class Aws:
    """xray, logs and monitoring of a region, behind a proxy: the access key of each request by host, or ""."""

    def __init__(self, folder: Path) -> None:
        self.keys: dict[str, list[str]] = collections.defaultdict(list)
        self.posts: list[Any] = []
        self.authority = Authority(folder)
        self.refusal = b""

    def behave(self, handler: Handler) -> None:
        host = handler.headers["Host"]
        service, region = host.split(".")[:2]
        asked = type("Asked", (), {"headers": handler.post.headers, "body": handler.body})
        self.keys[host].append(judge(asked, "s3cret", handler.path, region, service))
        self.posts.append(handler.post)
        if self.refusal:
            handler.send_response(403)
            handler.send_header("Content-Length", str(len(self.refusal)))
            handler.end_headers()
            handler.wfile.write(self.refusal)
        else:
            handler.answer(200 if handler.path in REQUESTS else 404)


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[tuple[Aws, dict[str, str]]]:
    made = Aws(tmp_path)
    backend = Collector()
    backend.behave(made.behave)
    hosts = [f"{service}.eu-west-1.amazonaws.com" for service in ("xray", "logs", "monitoring")]
    bound = type("Bound", (Handler,), {"collector": backend})
    with https_server(bound, made.authority.issue(*hosts)) as url, proxy(url) as between:
        yield (
            made,
            {
                "HTTPS_PROXY": between.url,
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "s3cret",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"https://{hosts[0]}/v1/traces",
                "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"https://{hosts[1]}/v1/logs",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"https://{hosts[2]}/v1/metrics",
                "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-aws-log-group=shop,x-aws-log-stream=web",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
        )


def test_traces_to_xray_are_signed_and_packed(aws: tuple[Aws, dict[str, str]]) -> None:
    fake, environment = aws
    for bundle in ("OTEL_EXPORTER_OTLP_CERTIFICATE", "AWS_CA_BUNDLE"):
        done = python(WORK, env("", **environment, **{bundle: str(fake.authority.ca)}))
        assert done == Done(0, "", "")
    assert fake.keys == {"xray.eu-west-1.amazonaws.com": ["AKIDEXAMPLE"] * 2}
    assert fake.posts[0].headers["content-encoding"] == "gzip"
    assert fake.posts[0].message.resource_spans


@BOTH
def test_metrics_and_logs_to_aws_are_signed(aws: tuple[Aws, dict[str, str]], launcher: str) -> None:
    fake, environment = aws
    more = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}
    # With one that is set in the environment, requests forgets what it was told.
    more["OTEL_EXPORTER_OTLP_CERTIFICATE"] = more["REQUESTS_CA_BUNDLE"] = str(fake.authority.ca)
    more["PYTHONWARNINGS"] = "ignore"  # requests loses its own filter where several threads import
    done = python(SIGNALS, env("", **environment, **more), launcher)
    assert done == Done(0, "", "a line\n")
    assert {host.split(".")[0] for host in fake.keys} == {"xray", "logs", "monitoring"}
    assert {key for keys in fake.keys.values() for key in keys} == {"AKIDEXAMPLE"}
    [logs] = [post for post in fake.posts if post.path == "/v1/logs"]
    assert (logs.headers["x-aws-log-group"], logs.headers["x-aws-log-stream"]) == ("shop", "web")


def test_a_refusal_of_aws_is_explained(aws: tuple[Aws, dict[str, str]]) -> None:
    fake, environment = aws
    fake.refusal = b'{"message": "User: arn:aws:iam::1:user/u is not authorized to perform: xray:PutSpans"}'
    environment["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(fake.authority.ca)
    done = python(WORK, env("", **environment))
    [line] = done.err.splitlines()
    assert "did not reach exporter otlp (https://xray.eu-west-1.amazonaws.com/v1/traces): it answers 403" in line
    assert "(allow xray:PutSpans in the role's policy)" in line


def test_doctor_asks_aws_as_the_exporter_does(aws: tuple[Aws, dict[str, str]]) -> None:
    import json
    import subprocess

    fake, environment = aws
    environment["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(fake.authority.ca)

    def texts() -> list[tuple[str, str]]:
        command = [sys.executable, "-m", "spanwell", "doctor", "--json"]
        done = subprocess.run(command, env=env("", **environment), capture_output=True, text=True, timeout=60)
        found = json.loads(done.stdout)["findings"]
        return [(each["level"], each["text"]) for each in found if each["topic"] == "exporters"]

    assert ("ok", "the endpoint answers an empty export request") in texts()
    fake.refusal = b'{"message": "Signature expired: 20260101T000000Z is now earlier than 20260102T000000Z"}'
    [(_, said)] = [each for each in texts() if each[0] == "problem"]
    assert "answers 403: " in said
    assert "the clock of this machine is wrong" in said
    assert fake.keys == {"xray.eu-west-1.amazonaws.com": ["AKIDEXAMPLE"] * 2}
