"""Spans as X-Ray segment documents: the mapping, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanKind

from spanwell.export.segment_names import annotation_key, clean
from spanwell.export.segment_resource import Parts, part_of
from spanwell.export.segments import drafts, finished
from support import segment_schema
from support.spans import START, context, make_span

CAPTURE = Path(__file__).parent.parent / "data" / "xray_sdk_python_capture.jsonl"
SERVER, CLIENT, INTERNAL = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL
PRODUCER, CONSUMER = SpanKind.PRODUCER, SpanKind.CONSUMER
TRACE = 0x6AFFFFA375FFD247F389607C4796EFFD


def documents(span: ReadableSpan) -> list[dict[str, Any]]:
    part = part_of(span.resource.attributes)
    return [segment_schema.check(finished(draft, part)) for draft in drafts(span)]


def document(**span: Any) -> dict[str, Any]:
    (found,) = documents(make_span(trace_id=TRACE, span_id=0xAB, **span))
    return found


def subsegment(attributes: dict[str, Any], kind: SpanKind = CLIENT, **more: Any) -> dict[str, Any]:
    found = document(kind=kind, parent=5, attributes=attributes, **more)
    assert found["type"] == "subsegment"
    return found


def test_ids_and_times() -> None:
    found = document(kind=SERVER, parent=0xCD, duration=2_500_000)
    assert found["trace_id"] == "1-6affffa3-75ffd247f389607c4796effd"
    assert (found["id"], found["parent_id"]) == ("00000000000000ab", "00000000000000cd")
    assert (found["start_time"], found["end_time"]) == (START / 1e9, (START + 2_500_000) / 1e9)
    assert document(duration=-5)["end_time"] == START / 1e9  # a clock that was set back


@pytest.mark.parametrize(
    ("kind", "parent", "remote", "marked", "types"),
    [
        (SERVER, None, False, None, [None]),
        (SERVER, 5, True, None, [None]),
        (SERVER, 5, False, None, [None]),
        (INTERNAL, None, False, None, [None]),
        (INTERNAL, 5, True, None, [None]),
        (INTERNAL, 5, False, None, ["subsegment"]),
        (INTERNAL, 5, False, "LOCAL_ROOT", [None]),
        (CLIENT, 5, False, None, ["subsegment"]),
        (CLIENT, None, False, None, ["subsegment", None]),
        (CLIENT, 5, True, None, ["subsegment", None]),
        (CLIENT, 5, True, "CLIENT", ["subsegment"]),
        (CLIENT, None, False, "CLIENT", [None]),
        (PRODUCER, 5, False, "LOCAL_ROOT", ["subsegment", None]),
        (CONSUMER, 5, True, "LOCAL_ROOT", ["subsegment", None]),
        (CONSUMER, 5, False, None, ["subsegment"]),
    ],
)
def test_segment_or_subsegment(
    kind: SpanKind, parent: int | None, remote: bool, marked: str | None, types: list[str | None]
) -> None:
    attributes = {"aws.span.kind": marked} if marked else {}
    span = make_span(kind=kind, parent=parent, remote_parent=remote, attributes=attributes)
    assert [each.get("type") for each in documents(span)] == types


def test_a_first_span_that_calls_is_a_service_and_its_dependency() -> None:
    listed = ("order", "aws.remote.service")
    span = make_span(
        kind=CLIENT,
        parent=9,
        remote_parent=True,
        name="GET",
        error="no",
        attributes={
            "http.request.method": "GET",
            "url.full": "https://api.example/x",
            "http.response.status_code": 503,
            "aws.remote.service": "api",
            "aws.xray.annotations": listed,
            "order": 7,
        },
    )
    dependency, service = documents(span)
    assert (dependency["name"], service["name"]) == ("api", "shop")
    assert dependency["parent_id"] == service["id"]
    assert service["parent_id"] == "0000000000000009"
    assert dependency["namespace"] == "remote"
    assert dependency["fault"] is service["fault"] is True
    assert service["cause"] == dependency["cause"]["exceptions"][0]["id"]
    assert "http" not in service
    assert dependency["annotations"] == {"order": 7, "aws.remote.service": "api"}
    assert service["annotations"] == {"order": 7}
    assert set(service["metadata"]["default"]) == {"otel.resource.service.name"}


def test_links_stay_with_the_consumers_segment() -> None:
    links = (Link(context(TRACE, 0x77), {"k": "v"}), Link(context(TRACE, 0x78)))
    shown = [
        {"trace_id": "1-6affffa3-75ffd247f389607c4796effd", "id": "0000000000000077", "attributes": {"k": "v"}},
        {"trace_id": "1-6affffa3-75ffd247f389607c4796effd", "id": "0000000000000078"},
    ]
    for kind, of_dependency, of_service in ((CONSUMER, None, shown), (CLIENT, shown, None)):
        dependency, service = documents(make_span(kind=kind, links=links))
        assert (dependency.get("links"), service.get("links")) == (of_dependency, of_service)
    assert document(kind=SERVER, links=links)["links"] == shown


@pytest.mark.parametrize(
    ("kind", "attributes", "name"),
    [
        (SERVER, {}, "shop"),
        (SERVER, {"aws.local.service": "checkout"}, "checkout"),
        (SERVER, {"peer.service": "p"}, "p"),
        (INTERNAL, {"aws.local.service": "jobs"}, "jobs"),
        (INTERNAL, {"peer.service": "p"}, "shop"),
    ],
)
def test_the_name_of_a_segment(kind: SpanKind, attributes: dict[str, Any], name: str) -> None:
    assert document(kind=kind, name="GET /orders", attributes=attributes)["name"] == name


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"aws.remote.service": "AWS::DynamoDB", "rpc.system": "aws-api", "rpc.service": "DynamoDB"}, "DynamoDB"),
        ({"aws.remote.service": "AWS.SDK.S3", "rpc.system": "aws-api", "rpc.service": "S3"}, "S3"),
        ({"aws.remote.service": "AWS::Mine"}, "AWS::Mine"),
        ({"peer.service": "billing", "aws.service": "x", "db.name": "y"}, "billing"),
        ({"service.peer.name": "billing"}, "billing"),
        ({"aws.service": "DynamoDB"}, "DynamoDB"),
        ({"rpc.system": "aws-api", "rpc.service": "SQS", "rpc.method": "SendMessage"}, "SQS"),
        ({"rpc.system.name": "aws-api", "rpc.method": "DynamoDB/PutItem"}, "DynamoDB"),
        (
            {"db.system": "mysql", "db.name": "shop", "db.connection_string": "jdbc:mysql://u:p@db.x:3306"},
            "shop@db.x",
        ),
        ({"db.system.name": "postgresql", "db.namespace": "shop", "server.address": "pg"}, "shop@pg"),
        ({"db.system": "redis", "net.peer.name": "cache"}, "cache"),
        ({"rpc.system": "grpc", "rpc.service": "shop.Orders", "server.address": "x"}, "shop.Orders"),
        ({"http.host": "a.example", "net.peer.name": "b.example"}, "a.example"),
        ({"http.method": "GET", "http.url": "https://u:p@c.example:8443/x"}, "c.example"),
        ({"http.url": "http://[::1]:80/x"}, "::1"),
        ({"messaging.system": "kafka"}, "kafka"),
        ({}, "orders publish"),
    ],
)
def test_the_name_of_a_dependency(attributes: dict[str, Any], name: str) -> None:
    assert subsegment(attributes, PRODUCER, name="orders publish")["name"] == name


@pytest.mark.parametrize(
    ("kind", "attributes", "namespace"),
    [
        (CLIENT, {}, "remote"),
        (PRODUCER, {}, "remote"),
        (CONSUMER, {}, "remote"),
        (INTERNAL, {}, None),
        (CLIENT, {"rpc.system": "aws-api", "rpc.service": "S3"}, "aws"),
        (PRODUCER, {"aws.service": "SQS"}, "aws"),
    ],
)
def test_namespaces(kind: SpanKind, attributes: dict[str, Any], namespace: str | None) -> None:
    assert subsegment(attributes, kind).get("namespace") == namespace


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("GET /orders/{id}?", "GET /orders/id"),
        ("größe 日本 ١٢", "größe 日本 ١٢"),
        ("a\tb\nc", "a b c"),
        ("a_.:/%&#=+\\-@z", "a_.:/%&#=+\\-@z"),
        ("(){}*", "span"),
        ("", "span"),
        ("\ud800ok", "ok"),
        ("x" * 201, "x" * 200),
    ],
)
def test_names_are_cleaned(name: str, shown: str) -> None:
    assert clean(name) == shown
    assert subsegment({"peer.service": name}, name=name)["name"] == shown


SERVED = {
    "http.request.method": "POST",
    "url.scheme": "https",
    "server.address": "shop.example",
    "server.port": 8443,
    "url.path": "/orders",
    "url.query": "a=1&b=2",
    "user_agent.original": "curl/8",
    "client.address": "203.0.113.7",
    "network.peer.address": "10.0.0.1",
    "http.response.status_code": 201,
    "http.response.body.size": 17,
    "http.route": "/orders",
}
SERVED_OLD = {
    "http.method": "POST",
    "http.scheme": "https",
    "http.host": "shop.example:8443",
    "http.target": "/orders?a=1&b=2",
    "http.user_agent": "curl/8",
    "http.client_ip": "203.0.113.7",
    "net.peer.ip": "10.0.0.1",
    "http.status_code": 201,
    "http.response_content_length": 17,
    "http.route": "/orders",
}


@pytest.mark.parametrize("attributes", [SERVED, SERVED_OLD], ids=["stable", "old"])
def test_a_request_that_was_served(attributes: dict[str, Any]) -> None:
    found = document(kind=SERVER, attributes=attributes)
    assert found["http"] == {
        "request": {
            "method": "POST",
            "url": "https://shop.example:8443/orders?a=1&b=2",
            "user_agent": "curl/8",
            "client_ip": "203.0.113.7",
            "x_forwarded_for": True,
        },
        "response": {"status": 201, "content_length": 17},
    }
    default = found["metadata"]["default"]
    assert default["http.route"] == "/orders"
    assert not {"http.request.method", "http.method", "url.path", "http.target"} & default.keys()


@pytest.mark.parametrize(
    ("kind", "attributes", "request_block"),
    [
        (
            CLIENT,
            {"http.request.method": "GET", "url.full": "https://a/b?c"},
            {"method": "GET", "url": "https://a/b?c"},
        ),
        (
            CLIENT,
            {"http.method": "GET", "net.peer.name": "a", "net.peer.port": 80},
            {"method": "GET", "url": "http://a/"},
        ),
        (
            CLIENT,
            {"http.method": "GET", "http.scheme": "https", "net.peer.name": "a", "net.peer.port": "443"},
            {"method": "GET", "url": "https://a/"},
        ),
        (
            CLIENT,
            {"http.method": "GET", "net.peer.ip": "10.1.1.1", "http.target": "/x"},
            {"method": "GET", "url": "http://10.1.1.1/x"},
        ),
        (CLIENT, {"url.full": "http://a/", "aws.xray.traced": True}, {"url": "http://a/", "traced": True}),
        (SERVER, {"url.path": "/only"}, {"url": "/only"}),
        (SERVER, {"http.method": "GET", "client.address": "10.0.0.1"}, {"method": "GET", "client_ip": "10.0.0.1"}),
        (SERVER, {"http.method": "GET", "net.peer.ip": "::1"}, {"method": "GET", "client_ip": "::1"}),
        (SERVER, {"http.method": "GET", "client.address": "some host"}, {"method": "GET"}),
        (
            SERVER,
            {"http.method": "GET", "net.host.name": "::1", "net.host.port": 8080},
            {"method": "GET", "url": "http://[::1]:8080/"},
        ),
    ],
)
def test_requests(kind: SpanKind, attributes: dict[str, Any], request_block: dict[str, Any]) -> None:
    assert document(kind=kind, parent=5, attributes=attributes)["http"]["request"] == request_block


def test_no_http_without_a_sign_of_it() -> None:
    found = subsegment({"server.address": "db", "server.port": 5432})
    assert "http" not in found
    assert found["metadata"]["default"] == {"server.address": "db", "server.port": 5432}


@pytest.mark.parametrize(
    ("attributes", "error", "flags"),
    [
        ({}, None, set()),
        ({}, "no", {"fault"}),
        ({"http.response.status_code": 200}, None, set()),
        ({"http.response.status_code": 404}, None, {"error"}),
        ({"http.status_code": 404}, "no", {"error"}),
        ({"http.status_code": "429"}, None, {"error", "throttle"}),
        ({"http.response.status_code": 500}, None, {"fault"}),
        ({"http.response.status_code": 200}, "no", {"fault"}),
        ({"http.response.status_code": 302}, "no", {"fault"}),
        ({"http.status_code": 400, "spanwell.throttled": True}, "no", {"error", "throttle"}),
        ({"spanwell.throttled": True}, "no", {"error", "throttle"}),
        ({"http.status_code": 503, "spanwell.throttled": True}, "no", {"fault", "throttle"}),
    ],
)
def test_error_throttle_fault(attributes: dict[str, Any], error: str | None, flags: set[str]) -> None:
    found = subsegment(attributes, error=error)
    assert {each for each in ("error", "throttle", "fault") if found.get(each)} == flags


@pytest.mark.parametrize(
    ("attributes", "block"),
    [
        (
            {
                "rpc.system": "aws-api",
                "rpc.service": "DynamoDB",
                "rpc.method": "PutItem",
                "aws.region": "eu-west-1",
                "aws.request_id": "R",
                "aws.dynamodb.table_names": ("orders",),
                "retry_attempts": 2,
            },
            {"operation": "PutItem", "region": "eu-west-1", "request_id": "R", "retries": 2, "table_name": "orders"},
        ),
        (
            {"rpc.system.name": "aws-api", "rpc.method": "DynamoDB/Batch", "aws.dynamodb.table_names": ("a", "b")},
            {"operation": "Batch", "table_names": ["a", "b"]},
        ),
        (
            {
                "rpc.system": "aws-api",
                "rpc.service": "SQS",
                "aws.queue_url": "https://sqs/q",
                "aws.operation": "Send",
            },
            {"operation": "Send", "queue_url": "https://sqs/q"},
        ),
        (
            {
                "rpc.system": "aws-api",
                "rpc.service": "S3",
                "rpc.method": "Get",
                "aws.s3.bucket": "b",
                "aws.s3.key": "k",
            },
            {"operation": "Get", "bucket_name": "b", "key": "k", "resource_names": ["b"]},
        ),
        (
            {
                "rpc.system": "aws-api",
                "rpc.service": "SNS",
                "rpc.method": "Publish",
                "cloud.account.id": "1",
                "aws.remote.resource.identifier": "topic",
            },
            {"operation": "Publish", "account_id": "1", "resource_names": ["topic"]},
        ),
    ],
)
def test_calls_of_aws(attributes: dict[str, Any], block: dict[str, Any]) -> None:
    assert subsegment(attributes)["aws"] == block


def test_a_call_of_another_system_has_no_aws_block() -> None:
    found = subsegment({"rpc.system": "grpc", "rpc.service": "a.B", "rpc.method": "C", "aws.region": "x"})
    assert "aws" not in found
    assert found["metadata"]["default"]["rpc.method"] == "C"


@pytest.mark.parametrize(
    ("attributes", "block"),
    [
        (
            {
                "db.system": "postgresql",
                "db.name": "shop",
                "db.user": "app",
                "db.statement": "SELECT ?",
                "net.peer.name": "pg",
                "net.peer.port": 5432,
            },
            {
                "database_type": "postgresql",
                "url": "postgresql://pg:5432/shop",
                "user": "app",
                "sanitized_query": "SELECT ?",
            },
        ),
        (
            {
                "db.system.name": "microsoft.sql_server",
                "db.namespace": "shop",
                "db.query.text": "SELECT 1",
                "server.address": "ms",
            },
            {
                "database_type": "microsoft.sql_server",
                "url": "microsoft.sql_server://ms/shop",
                "sanitized_query": "SELECT 1",
            },
        ),
        (
            {"db.system": "mysql", "db.connection_string": "jdbc:mysql://root:secret@db:3306/shop?password=x"},
            {"database_type": "mysql", "url": "jdbc:mysql://db:3306/shop"},
        ),
        ({"db.system": "sqlite", "db.name": "a.db"}, {"database_type": "sqlite", "url": "sqlite:a.db"}),
        ({"db.system": "redis", "db.statement": "GET ?"}, None),
    ],
)
def test_queries(attributes: dict[str, Any], block: dict[str, Any] | None) -> None:
    assert subsegment(attributes).get("sql") == block


def test_what_is_too_long_for_its_field_is_whole_in_the_metadata() -> None:
    query, url, agent = "SELECT " + "x, " * 200, "https://a/" + "b" * 300, "agent " * 60
    found = subsegment({"db.system": "mysql", "db.statement": query, "http.url": url, "http.user_agent": agent})
    assert found["sql"]["sanitized_query"] == query[:249] + "…"
    assert found["http"]["request"]["url"] == url[:249] + "…"
    default = found["metadata"]["default"]
    assert (default["db.statement"], default["http.url"], default["http.user_agent"]) == (query, url, agent)
    long = subsegment({}, error="because " * 50)
    assert long["metadata"]["default"]["exception.message"] == "because " * 50


def test_annotations_and_metadata() -> None:
    found = document(
        kind=SERVER,
        attributes={
            "aws.xray.annotations": ("order.id", "http.response.status_code", "a-b", "list", "missing", "long"),
            "order.id": 7,
            "http.response.status_code": 200,
            "a-b": True,
            "list": ("x",),
            "long": "y" * 2000,
            "rest": 1.5,
            "enduser.id": "u-1",
        },
    )
    assert found["annotations"] == {
        "order.id": 7,
        "http.response.status_code": 200,
        "a_b": True,
        "long": "y" * 999 + "…",
    }
    assert found["user"] == "u-1"
    assert found["http"]["response"] == {"status": 200}
    assert found["metadata"]["default"] == {
        "list": ["x"],
        "long": "y" * 2000,
        "rest": 1.5,
        "otel.resource.service.name": "shop",
    }


def test_fifty_annotations_at_most() -> None:
    keys = tuple(f"k{number}" for number in range(60))
    found = document(attributes={**dict.fromkeys(keys, 1), "aws.xray.annotations": keys}, parent=5)
    assert len(found["annotations"]) == 50
    assert len(found["metadata"]["default"]) == 10


@pytest.mark.parametrize(("key", "shown"), [("a.b_c9", "a.b_c9"), ("a-b c/ü", "a_b_c__"), ("k" * 501, "k" * 500)])
def test_keys_of_annotations(key: str, shown: str) -> None:
    assert annotation_key(key) == shown


def test_metadata_of_an_xray_sdk_keeps_its_namespaces() -> None:
    found = subsegment(
        {
            "aws.xray.metadata.cart": '{"n": 1}',
            "aws.xray.metadata.default": '{"m": 2}',
            "aws.xray.metadata.broken": "{",
        }
    )["metadata"]
    assert found["cart"] == {"n": 1}
    assert found["default"] == {"m": 2, "aws.xray.metadata.broken": "{"}


def test_what_a_document_has_no_field_for_is_kept() -> None:
    events = (Event("cache miss", {"key": "a"}, timestamp=START), Event("exception", {"exception.type": "E"}))
    found = subsegment({}, events=events, name="GET /x", kind=CLIENT)
    assert found["name"] == "GET /x"
    assert found["metadata"]["otel"] == {
        "kind": "CLIENT",
        "scope": "tests",
        "events": [{"name": "cache miss", "time": START / 1e9, "attributes": {"key": "a"}}],
    }
    assert subsegment({"peer.service": "p"}, name="op")["metadata"]["otel"]["name"] == "op"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (b"\xff\x00", "/wA="),
        (2**63, str(2**63)),
        ("\ud800", "?"),
        ({"a": (1, b"x")}, {"a": [1, "eA=="]}),
    ],
)
def test_odd_values(value: Any, shown: Any) -> None:
    span = make_span(parent=5)
    span._attributes = {"v": value, "none": None}
    assert documents(span)[0]["metadata"]["default"] == {"v": shown}


def test_a_promoted_span_is_sent_like_any_other() -> None:
    found = document(kind=SERVER, attributes={"aws.trace.flag.sampled": False, "spanwell.sampling.reason": "error"})
    assert found["metadata"]["default"]["aws.trace.flag.sampled"] is False


@pytest.mark.parametrize("change", [{"trace_id": 0}, {"span_id": 0}, {"start": 0}])
def test_spans_that_xray_has_no_place_for(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a span without"):
        drafts(make_span(**change))


# --- the resource -------------------------------------------------------------------------------------------------

SDK = {"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "python", "telemetry.sdk.version": "1.44.0"}


@pytest.mark.parametrize(
    ("attributes", "origin", "aws"),
    [
        ({}, None, {}),
        (
            {"cloud.platform": "aws_ec2", "host.id": "i-1", "host.type": "t3", "cloud.availability_zone": "a"},
            "AWS::EC2::Instance",
            {"ec2": {"instance_id": "i-1", "availability_zone": "a", "instance_size": "t3"}},
        ),
        ({"host.id": "a machine"}, None, {}),
        (
            {
                "cloud.provider": "aws",
                "cloud.platform": "aws_ecs",
                "aws.ecs.launchtype": "FARGATE",
                "container.id": "c",
            },
            "AWS::ECS::Fargate",
            {"ecs": {"container_id": "c", "launch_type": "FARGATE"}},
        ),
        ({"cloud.platform": "aws_ecs"}, "AWS::ECS::Container", {}),
        (
            {"cloud.platform": "aws_eks", "k8s.cluster.name": "k", "k8s.pod.name": "p"},
            "AWS::EKS::Container",
            {"eks": {"cluster_name": "k", "pod": "p"}},
        ),
        (
            {
                "cloud.platform": "aws_elastic_beanstalk",
                "service.namespace": "env",
                "service.instance.id": "32",
                "service.version": "v1",
            },
            "AWS::ElasticBeanstalk::Environment",
            {"elastic_beanstalk": {"environment_name": "env", "version_label": "v1", "deployment_id": 32}},
        ),
        ({"cloud.platform": "aws_app_runner"}, "AWS::AppRunner::Service", {}),
        ({"cloud.platform": "aws_lambda"}, None, {}),
        ({"cloud.provider": "gcp", "cloud.platform": "aws_ec2", "cloud.account.id": "1"}, None, {}),
        ({"cloud.account.id": "123"}, None, {"account_id": "123"}),
        (
            {"aws.log.group.names": "g1&g2"},
            None,
            {"cloudwatch_logs": [{"log_group": "g1"}, {"log_group": "g2"}]},
        ),
        (
            {"aws.log.group.arns": ("arn:aws:logs:eu-west-1:1:log-group:/aws/x:*",)},
            None,
            {"cloudwatch_logs": [{"log_group": "/aws/x", "arn": "arn:aws:logs:eu-west-1:1:log-group:/aws/x:*"}]},
        ),
    ],
)
def test_where_a_segment_ran(attributes: dict[str, Any], origin: str | None, aws: dict[str, Any]) -> None:
    resource = Resource({"service.name": "shop", **SDK, **attributes})
    found = document(kind=SERVER, resource=resource)
    assert found.get("origin") == origin
    sdk = {"sdk": "opentelemetry for python", "sdk_version": "1.44.0", "auto_instrumentation": False}
    assert found["aws"] == {"xray": sdk, **aws}
    default = found["metadata"]["default"]
    assert {key.removeprefix("otel.resource.") for key in default} == set(resource.attributes)
    assert not {"origin", "service"} & subsegment({}, resource=resource).keys()


def test_the_version_and_the_automatic_instrumentation() -> None:
    resource = Resource({"service.name": "s", "service.version": "2.0", "telemetry.auto.version": "1"})
    found = document(kind=SERVER, resource=resource)
    assert found["service"] == {"version": "2.0"}
    assert found["aws"]["xray"]["auto_instrumentation"] is True


def test_a_resource_may_be_annotated() -> None:
    listed = ("otel.resource.service.version", "a")
    span = make_span(
        kind=SERVER,
        attributes={"aws.xray.annotations": listed, "a": 1, "otel.resource.mine": "kept"},
        resource=Resource({"service.name": "s", "service.version": "2.0"}),
    )
    (found,) = documents(span)
    assert found["annotations"] == {"otel.resource.service.version": "2.0", "a": 1}
    assert found["metadata"]["default"] == {"otel.resource.mine": "kept", "otel.resource.service.name": "s"}


def test_attributes_of_a_resource_may_arrive_after_the_span_was_encoded() -> None:
    class Late(Resource):
        more: dict[str, Any] = {}

        @property
        def attributes(self) -> Any:
            return {**super().attributes, **self.more}

    resource = Late({"service.name": "shop"})
    (draft,) = drafts(make_span(kind=SERVER, resource=resource))
    resource.more = {"cloud.platform": "aws_ec2"}
    found = segment_schema.check(finished(draft, Parts()(resource)))
    assert found["origin"] == "AWS::EC2::Instance"


# --- against the real X-Ray SDK -----------------------------------------------------------------------------------


def captured() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CAPTURE.read_text().splitlines()]


def flat(segment: dict[str, Any]) -> list[dict[str, Any]]:
    return [segment, *(inner for each in segment.get("subsegments", []) for inner in flat(each))]


def as_span(segment: dict[str, Any], trace: int) -> ReadableSpan:
    """What OpenTelemetry's instrumentors record of the same work."""
    http, aws = segment.get("http", {}), segment.get("aws", {})
    attributes: dict[str, Any] = {}
    kind = INTERNAL
    if segment.get("type") != "subsegment":
        kind = SERVER
        attributes["http.request.method"] = http["request"]["method"]
        attributes.update({"url.scheme": "http", "server.address": "localhost", "url.path": "/order"})
        attributes.update({"aws.xray.annotations": ("order",), **segment["annotations"]})
    if segment.get("namespace") == "aws":
        kind = CLIENT
        attributes.update({"rpc.system": "aws-api", "rpc.service": segment["name"], "rpc.method": aws["operation"]})
        attributes.update({"aws.region": aws["region"], "aws.request_id": aws["request_id"]})
        if "table_name" in aws:
            attributes["aws.dynamodb.table_names"] = (aws["table_name"],)
    if "response" in http:
        attributes["http.response.status_code"] = http["response"]["status"]
    events = []
    for each in segment.get("cause", {}).get("exceptions", []):
        lines = [f'  File "{at["path"]}", line {at["line"]}, in {at["label"]}\n    code' for at in each["stack"]]
        text = "\n".join(("Traceback (most recent call last):", *lines, f"{each['type']}: {each['message']}", ""))
        event = {"exception.type": each["type"], "exception.message": each["message"], "exception.stacktrace": text}
        events.append(Event("exception", event))
    return make_span(
        trace_id=trace,
        span_id=int(segment["id"], 16),
        parent=int(segment["parent_id"], 16) if "parent_id" in segment else None,
        name=segment["name"],
        kind=kind,
        service="orders",
        start=round(segment["start_time"] * 1e9),
        duration=round((segment["end_time"] - segment["start_time"]) * 1e9),
        error="" if segment.get("fault") else None,
        attributes=attributes,
        events=tuple(events),
    )


@pytest.mark.parametrize("number", range(5))
def test_the_same_shape_as_the_xray_sdk(number: int) -> None:
    whole = captured()[number]
    trace = int(whole["trace_id"].replace("-", "")[1:], 16)
    for theirs in flat(whole):
        ours = documents(as_span(theirs, trace))[0]
        for field in ("id", "trace_id", "name", "parent_id", "type", "http", "annotations"):
            assert ours.get(field) == theirs.get(field), field
        assert ours["start_time"] == pytest.approx(theirs["start_time"], abs=1e-6)
        assert ours["end_time"] == pytest.approx(theirs["end_time"], abs=1e-6)
        # The SDK calls its own code `local`, which X-Ray's documentation does not know.
        assert ours.get("namespace", "local") == theirs.get("namespace", "local")
        if theirs.get("type"):
            assert ours.get("aws", {}) == theirs.get("aws", {})
        # A call that AWS refused is an error; the SDK calls it a fault as well.
        assert bool(ours.get("error")) == bool(theirs.get("error"))
        assert bool(ours.get("fault")) == (bool(theirs.get("fault")) and not theirs.get("error"))
        exceptions = theirs.get("cause", {}).get("exceptions", [])
        for mine, other in zip(ours.get("cause", {}).get("exceptions", []), exceptions, strict=True):
            assert {key: mine[key] for key in ("message", "type", "remote")} == {
                key: other[key] for key in ("message", "type", "remote")
            }
            assert mine["stack"] == other["stack"][::-1]  # the innermost first, as in other languages
