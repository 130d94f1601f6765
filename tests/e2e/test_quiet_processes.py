"""Health checks, polls and credentials in real applications: nothing while they go well, spans when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.servers import moto
from support.started import LAUNCHERS, names, python, stored, traced

pytestmark = pytest.mark.slow

FLASK = """
from flask import Flask, request
from opentelemetry import trace

app = Flask("shop")
tracer = trace.get_tracer("shop")

@app.route("/<path:any>")
def serve(any):
    with tracer.start_as_current_span("query " + any):
        return any, int(request.args.get("status", "200"))

client = app.test_client()
for path, agent in (
    ("/health", "curl/8"),
    ("/healthz", "kube-probe/1.31"),
    ("/anything", "ELB-HealthChecker/2.0"),
    ("/health?status=503", "ELB-HealthChecker/2.0"),
    ("/orders", "Mozilla/5.0"),
    ("/canary", "Mozilla/5.0 CloudWatchSynthetics/arn:aws:synthetics:eu-west-1:123456789012:canary:shop"),
):
    client.get(path, headers={"User-Agent": agent})
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_health_checks_of_a_web_application(tmp_path: Path, launcher: str) -> None:
    db = tmp_path / "traces.db"
    done = python(FLASK, traced(db), launcher=launcher)
    assert done.code == 0, done.err
    server = {str(span.attributes["url.path"]): span for span in stored(db) if "url.path" in span.attributes}
    assert sorted(server) == ["/canary", "/health", "/orders"]
    assert server["/health"].attributes["http.response.status_code"] == 503
    assert server["/canary"].attributes["spanwell.traffic"] == "canary"
    assert server["/canary"].attributes["user_agent.synthetic.type"] == "test"
    assert server["/orders"].attributes["spanwell.traffic"] == "user"
    queries = {span.name: span.parent_id for span in stored(db) if span.name.startswith("query")}
    assert queries == {f"query {path[1:]}": span.span_id for path, span in server.items()}


FASTAPI = """
import asyncio
from fastapi import FastAPI
from opentelemetry import trace

app = FastAPI()

@app.get("/{path:path}")
def serve(path: str):
    with trace.get_tracer("shop").start_as_current_span("query " + path):
        return path

async def call(path):
    async def receive():
        return {"type": "http.request"}
    async def send(message): ...
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app({**scope, "server": ("shop", 80), "scheme": "http", "root_path": ""}, receive, send)

for path in ("/health", "/orders"):
    asyncio.run(call(path))
"""

DJANGO = """
import django
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from opentelemetry import trace

def serve(request):
    with trace.get_tracer("shop").start_as_current_span("query " + request.path[1:]):
        return HttpResponse("x")

urlpatterns = [path("health", serve), path("orders", serve)]
django.setup()
for each in ("/health", "/orders"):
    Client().get(each)
"""


@pytest.mark.parametrize("conventions", ["http", "old"])
@pytest.mark.parametrize("code", [FASTAPI, DJANGO], ids=["fastapi", "django"])
def test_health_checks_of_other_frameworks(tmp_path: Path, code: str, conventions: str) -> None:
    db = tmp_path / "traces.db"
    done = python(code, traced(db, OTEL_SEMCONV_STABILITY_OPT_IN=conventions))
    assert done.code == 0, done.err
    assert [name for name in names(db) if name.startswith("query")] == ["query orders"]
    assert not [name for name in names(db) if "health" in name]
    assert len({span.trace_id for span in stored(db)}) == 1


def test_nothing_is_left_out_when_switched_off(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    done = python(FLASK, traced(db, SPANWELL_QUIET="none"))
    assert done.code == 0, done.err
    assert len(stored(db)) == 12


def test_a_word_that_is_none_is_said_once(tmp_path: Path) -> None:
    done = python(FLASK, traced(tmp_path / "traces.db", SPANWELL_QUIET="health,pols"))
    assert done.code == 0
    assert done.err.count("SPANWELL_QUIET: 'pols' is left out") == 1


AWS = """
import boto3
role = "arn:aws:iam::123456789012:role/shop"
sqs = boto3.Session(profile_name="shop").client("sqs")
url = sqs.create_queue(QueueName="orders")["QueueUrl"]
sqs.receive_message(QueueUrl=url)
sqs.receive_message(QueueUrl=url)
sqs.send_message(QueueUrl=url, MessageBody="one")
for message in sqs.receive_message(QueueUrl=url)["Messages"]:
    pass
try:
    sqs.receive_message(QueueUrl=url + "-gone")
except sqs.exceptions.QueueDoesNotExist:
    pass
boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="mine")
"""


def test_polls_and_credentials_of_a_worker(tmp_path: Path) -> None:
    db, config = tmp_path / "traces.db", tmp_path / "config"
    config.write_text(
        "[profile shop]\nrole_arn = arn:aws:iam::123456789012:role/shop\ncredential_source = Environment\n"
    )
    with moto() as url:
        env = traced(
            db,
            AWS_ENDPOINT_URL=url,
            AWS_CONFIG_FILE=str(config),
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_DEFAULT_REGION="eu-west-1",
            AWS_EC2_METADATA_DISABLED="true",
        )
        loud = python(AWS, {**env, "SPANWELL_QUIET": "none", "SPANWELL_SQLITE_PATH": str(tmp_path / "loud.db")})
        quiet = python(AWS, env)
    assert (loud.code, quiet.code) == (0, 0), loud.err + quiet.err

    def calls(path: Path) -> dict[str, int]:
        methods = [str(span.attributes.get("rpc.method")) for span in stored(path)]
        return {method: methods.count(method) for method in ("AssumeRole", "ReceiveMessage", "SendMessage")}

    assert calls(tmp_path / "loud.db") == {"AssumeRole": 2, "ReceiveMessage": 4, "SendMessage": 1}
    assert calls(db) == {"AssumeRole": 1, "ReceiveMessage": 2, "SendMessage": 1}, names(db)


METADATA = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()
    def log_message(self, *args): ...

server = HTTPServer(("127.0.0.1", 0), Answer)
Thread(target=server.serve_forever, daemon=True).start()
import requests, urllib3
place = f"http://127.0.0.1:{server.server_port}"
requests.get(place + "/latest/api/token")
urllib3.PoolManager().request("GET", place + "/latest/meta-data")
requests.get(place + "/broken")
requests.get(place.replace("127.0.0.1", "localhost") + "/orders")
"""


def test_calls_to_a_host_that_is_quiet(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    done = python(METADATA, traced(db, SPANWELL_QUIET="host:127.0.0.1"))
    assert done.code == 0, done.err
    urls = sorted({str(span.attributes.get("url.full")).rpartition("/")[2] for span in stored(db)})
    assert urls == ["broken", "orders"]


CONFIG = """
file_format: "1.1"
tracer_provider:
  processors:
    - batch:
        exporter:
          sqlite: {}
distribution:
  spanwell:
    quiet: ["path:/status*", "health"]
"""


def test_declarative_configuration_takes_the_setting_as_a_list(tmp_path: Path) -> None:
    db, file = tmp_path / "traces.db", tmp_path / "otel.yaml"
    file.write_text(CONFIG)
    done = python(FLASK.replace('"/healthz"', '"/status/all"'), traced(db, OTEL_CONFIG_FILE=str(file)))
    assert done.code == 0, done.err
    paths = sorted(str(span.attributes["url.path"]) for span in stored(db) if "url.path" in span.attributes)
    assert paths == ["/canary", "/health", "/orders"]


OWN_PROVIDER = (
    """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""
    + FLASK
)


def test_a_provider_of_the_applications_own_gets_it_too(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    done = python(OWN_PROVIDER, traced(db))
    assert done.code == 0, done.err
    found = {
        str(span.attributes["url.path"]): span.attributes for span in stored(db) if "url.path" in span.attributes
    }
    assert sorted(found) == ["/canary", "/health", "/orders"]
    assert found["/canary"]["spanwell.traffic"] == "canary"
    assert sorted(name for name in names(db) if name.startswith("query")) == [
        "query canary",
        "query health",
        "query orders",
    ]
