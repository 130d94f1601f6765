"""The names of CloudWatch Application Signals: local and remote, by kind of span."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from spanwell import _guard
from spanwell.enrich import app_signals
from spanwell.enrich.app_signals import AppSignals, environment_name, local_operation
from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.processor import FusedProcessor
from support.spans import make_span


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)


RESOURCE = {"service.name": "shop", "deployment.environment.name": "prod"}


def remote(attributes, kind=SpanKind.CLIENT):
    """(service, operation, resource type, identifier) of an exit span."""
    span = make_span(kind=kind, attributes=attributes, parent=7)
    Ended(parts(signals=AppSignals(lambda: RESOURCE))).on_end(span)
    names = ("service", "operation", "resource.type", "resource.identifier")
    return tuple(span.attributes.get(f"aws.remote.{name}") for name in names)


AWS = {"rpc.system": "aws-api"}
UNKNOWN = "UnknownRemoteOperation"
REMOTES = [
    ({**AWS, "rpc.service": "S3", "rpc.method": "GetObject", "aws.s3.bucket": "b"},
     ("AWS::S3", "GetObject", "AWS::S3::Bucket", "b")),
    ({**AWS, "rpc.service": "SFN", "rpc.method": "StartExecution"},
     ("AWS::StepFunctions", "StartExecution", None, None)),
    ({**AWS, "rpc.service": "Bedrock Runtime", "rpc.method": "Converse"},
     ("AWS::BedrockRuntime", "Converse", None, None)),
    ({**AWS, "rpc.service": "Lambda", "rpc.method": "Invoke", "faas.invoked_name": "pay"},
     ("pay", "Invoke", None, None)),
    ({"rpc.system": "grpc", "rpc.service": "Shop", "rpc.method": "Buy", "server.address": "h"},
     ("Shop", "Buy", None, None)),
    ({"db.system.name": "postgresql", "db.namespace": "a|b", "db.query.text": "SELECT * FROM t WHERE x = 'v'",
      "server.address": "db", "server.port": 5432},
     ("postgresql", "SELECT", "DB::Connection", "a^|b|db|5432")),
    ({"db.system": "mysql", "db.operation": "INSERT", "net.peer.name": "db"},
     ("mysql", "INSERT", "DB::Connection", "db")),
    ({"faas.invoked_name": "pay", "faas.trigger": "http"}, ("pay", "http", None, None)),
    ({"messaging.system": "kafka", "messaging.operation.type": "send"}, ("kafka", "send", None, None)),
    ({"graphql.operation.type": "query"}, ("graphql", "query", None, None)),
    ({"http.request.method": "GET", "url.full": "https://u:p@api:8443/orders/7?x=1", "server.address": "api",
      "server.port": 8443}, ("api:8443", "GET /orders", None, None)),
    ({"http.method": "GET", "http.url": "https://u:p@api:8443/orders/7"}, ("api:8443", "GET /orders", None, None)),
    ({"http.method": "GET", "http.url": "https://api?token=x"}, ("api", "GET /", None, None)),
    ({"peer.service": "stock", "http.method": "GET", "http.url": "http://h/"}, ("stock", "GET /", None, None)),
    ({"aws.remote.service": "mine", "aws.remote.operation": "op", "rpc.service": "x"}, ("mine", "op", None, None)),
    ({}, ("UnknownRemoteService", UNKNOWN, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "expected"), REMOTES, ids=[str(row[1][0]) for row in REMOTES])
@pytest.mark.parametrize("kind", [SpanKind.CLIENT, SpanKind.PRODUCER], ids=["client", "producer"])
def test_the_table_of_remotes(attributes, expected, kind):
    assert remote(attributes, kind) == expected


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ({"deployment.environment.name": "prod", "cloud.platform": "aws_ec2"}, "prod"),
        ({"deployment.environment": "prod"}, "prod"),
        ({"cloud.platform": "aws_lambda"}, "lambda:default"),
        ({"cloud.platform": "aws_eks", "k8s.cluster.name": "c", "k8s.namespace.name": "n"}, "eks:c/n"),
        ({"cloud.platform": "aws_ecs", "aws.ecs.cluster.arn": "arn:aws:ecs:eu-west-1:1:cluster/c"}, "ecs:c"),
        ({"cloud.platform": "aws_ec2"}, "ec2:default"),
        ({}, "generic:default"),
    ],
)
def test_environments(resource, name):
    assert environment_name(resource) == name


@pytest.mark.parametrize(
    ("name", "kind", "attributes", "function", "operation"),
    [
        ("GET /orders/{id}", SpanKind.SERVER, {}, "", "GET /orders/{id}"),
        ("GET", SpanKind.SERVER, {"http.request.method": "GET", "url.path": "/orders/7"}, "", "GET /orders"),
        ("GET", SpanKind.SERVER, {"http.method": "GET", "http.target": "/orders/7?x=1"}, "", "GET /orders"),
        ("GET", SpanKind.SERVER, {"http.method": "GET", "http.url": "http://h/a/b"}, "", "GET /a"),
        ("GET", SpanKind.SERVER, {"http.method": "GET"}, "", "UnknownOperation"),
        ("", SpanKind.SERVER, {"url.path": "/a/b"}, "", "/a"),
        ("poll", SpanKind.CONSUMER, {}, "", "InternalOperation"),
        ("work", SpanKind.INTERNAL, {}, "", "InternalOperation"),
        ("handler", SpanKind.SERVER, {}, "pay", "pay/FunctionHandler"),
    ],
)
def test_local_operations(name, kind, attributes, function, operation):
    assert local_operation(name, kind, attributes, function) == operation


def started(resource, function=""):
    signals = AppSignals(lambda: resource, function)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor([signals, Ended(parts(signals=signals))]))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return signals, provider.get_tracer("t"), exporter


def test_an_exit_span_has_the_operation_of_its_local_root_even_if_named_later():
    signals, tracer, exporter = started(RESOURCE)
    with tracer.start_as_current_span("GET", kind=SpanKind.SERVER) as root:
        root.update_name("GET /orders/{id}")
        with tracer.start_as_current_span("inner"), tracer.start_as_current_span("S3", kind=SpanKind.CLIENT):
            pass
    client, inner, server = exporter.get_finished_spans()
    assert dict(inner.attributes or {}) == {}
    local = {
        "aws.local.service": "shop",
        "aws.local.environment": "prod",
        "aws.local.operation": "GET /orders/{id}",
    }
    assert dict(server.attributes) == {**local, "aws.span.kind": "LOCAL_ROOT"}
    assert dict(client.attributes) == {
        **local,
        "aws.span.kind": "CLIENT",
        "aws.remote.service": "UnknownRemoteService",
        "aws.remote.operation": UNKNOWN,
    }
    assert not signals._roots


def test_an_unknown_service_is_called_so_and_a_root_that_calls_is_both():
    _, tracer, exporter = started({"service.name": "unknown_service:python"})
    tracer.start_span("call", kind=SpanKind.CLIENT).end()
    (span,) = exporter.get_finished_spans()
    assert span.attributes["aws.local.service"] == "UnknownService"
    assert span.attributes["aws.span.kind"] == "LOCAL_ROOT"
    assert span.attributes["aws.local.operation"] == "InternalOperation"
    assert span.attributes["aws.remote.service"] == "UnknownRemoteService"


def test_the_resource_may_become_complete_later():
    resource = {"cloud.platform": "aws_eks"}
    _, tracer, exporter = started(resource)
    tracer.start_span("a", kind=SpanKind.SERVER).end()
    resource["k8s.cluster.name"] = "c"
    tracer.start_span("b", kind=SpanKind.SERVER).end()
    first, second = exporter.get_finished_spans()
    assert first.attributes["aws.local.environment"] == "generic:default"
    assert second.attributes["aws.local.environment"] == "eks:c/default"


def test_spans_that_never_end_are_forgotten(monkeypatch):
    monkeypatch.setattr(app_signals, "_MAX_OPEN", 50)
    signals, tracer, _ = started(RESOURCE)
    spans = [tracer.start_span("s") for _ in range(500)]
    assert len(signals._roots) <= 50
    for span in spans:
        span.end()
    assert not signals._roots
