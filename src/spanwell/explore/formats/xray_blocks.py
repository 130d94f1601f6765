"""The blocks of a segment document (http, aws, sql, cause, service) as attributes of the semantic conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spanwell.analysis.names import THROTTLED
from spanwell.explore.formats.common import listed, mapped, named
from spanwell.record import EventRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUEST = {"method": "http.request.method", "user_agent": "user_agent.original", "client_ip": "client.address"}
_REQUEST |= {"traced": "aws.xray.traced", "x_forwarded_for": "aws.xray.x_forwarded_for"}
_RESPONSE = {"status": "http.response.status_code", "content_length": "http.response.body.size"}
_AWS = {
    "operation": "rpc.method",
    "region": "cloud.region",
    "account_id": "cloud.account.id",
    "request_id": "aws.request_id",
    "queue_url": "aws.sqs.queue.url",
    "bucket_name": "aws.s3.bucket",
    "key": "aws.s3.key",
    "topic_arn": "aws.sns.topic.arn",
    "stream_name": "aws.kinesis.stream_name",
    "function_name": "faas.invoked_name",
    "retries": "retry_attempts",
    "resource_names": "aws.xray.resource_names",
    "table_names": "aws.dynamodb.table_names",
    "id_2": "aws.extended_request_id",
}
_SQL = {
    "database_type": "db.system.name",
    "url": "db.connection_string",
    "connection_string": "db.connection_string",
    "user": "db.user",
    "sanitized_query": "db.query.text",
    "database_version": "db.version",
    "driver_version": "db.driver.version",
    "preparation": "db.preparation",
}
_RESOURCE: dict[str, dict[str, str]] = {
    "ec2": {
        "instance_id": "host.id",
        "availability_zone": "cloud.availability_zone",
        "instance_size": "host.type",
        "ami_id": "host.image.id",
    },
    "ecs": {
        "container": "container.name",
        "container_id": "container.id",
        "container_arn": "aws.ecs.container.arn",
        "cluster_arn": "aws.ecs.cluster.arn",
        "task_arn": "aws.ecs.task.arn",
        "task_family": "aws.ecs.task.family",
        "launch_type": "aws.ecs.launchtype",
        "availability_zone": "cloud.availability_zone",
    },
    "eks": {"cluster_name": "k8s.cluster.name", "pod": "k8s.pod.name", "container_id": "container.id"},
    "elastic_beanstalk": {
        "environment_name": "service.namespace",
        "version_label": "service.version",
        "deployment_id": "service.instance.id",
    },
    "xray": {"sdk": "telemetry.sdk.name", "sdk_version": "telemetry.sdk.version"},
}
_ORIGINS = {
    "AWS::EC2::Instance": "aws_ec2",
    "AWS::ECS::Container": "aws_ecs",
    "AWS::ECS::EC2": "aws_ecs",
    "AWS::ECS::Fargate": "aws_ecs",
    "AWS::EKS::Container": "aws_eks",
    "AWS::ElasticBeanstalk::Environment": "aws_elastic_beanstalk",
    "AWS::AppRunner::Service": "aws_app_runner",
    "AWS::Lambda::Function": "aws_lambda",
    "AWS::Lambda": "aws_lambda",
}


def blocks(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """The attributes that the blocks of a document tell."""
    told: dict[str, Any] = {}
    http = mapped(document.get("http"), "http")
    request = mapped(http.get("request"), "http.request")
    _take(request, _REQUEST, told)
    if request.get("url"):
        told.update(_url(named(request["url"]), kind))
    _take(mapped(http.get("response"), "http.response"), _RESPONSE, told)
    if document.get("namespace") == "aws":
        told.update(_call(named(document.get("name")), mapped(document.get("aws"), "aws")))
    elif document.get("namespace") == "remote" and not document.get("sql"):
        told.setdefault("peer.service", named(document.get("name")))
    sql = mapped(document.get("sql"), "sql")
    if sql:
        _take(sql, _SQL, told)
        if "db.system.name" in told:
            told["db.system.name"] = named(told["db.system.name"]).lower()
    if document.get("user"):
        told["user.id"] = named(document["user"])
    if document.get("throttle") is True:
        told[THROTTLED] = True
    if document.get("precursor_ids"):
        told["aws.xray.precursor_ids"] = listed(document["precursor_ids"], "precursor_ids")
    return told


def _take(block: dict[str, Any], names: Mapping[str, str], told: dict[str, Any]) -> None:
    for field, key in names.items():
        if block.get(field) is not None:
            told[key] = block[field]


def _url(url: str, kind: str) -> dict[str, Any]:
    """A caller tells the whole URL, a server its parts."""
    if kind != "server":
        return {"url.full": url}
    try:
        parts = urlsplit(url)
        told = {"url.scheme": parts.scheme, "server.address": parts.hostname, "server.port": parts.port}
    except ValueError:
        return {"url.full": url}
    told |= {"url.path": parts.path or "/", "url.query": parts.query}
    return {key: value for key, value in told.items() if value}


def _call(name: str, aws: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"rpc.system": "aws-api", "rpc.service": name}
    _take(aws, _AWS, told)
    if aws.get("table_name"):
        told.setdefault("aws.dynamodb.table_names", [aws["table_name"]])
    return told


def resource_of(segment: dict[str, Any]) -> dict[str, Any]:
    """What a segment tells of the process that sent it."""
    told: dict[str, Any] = {}
    aws = mapped(segment.get("aws"), "aws")
    for name, fields in _RESOURCE.items():
        _take(mapped(aws.get(name), name), fields, told)
    if aws.get("account_id"):
        told["cloud.account.id"] = aws["account_id"]
    groups = [group.get("log_group") for group in listed(aws.get("cloudwatch_logs"), "cloudwatch_logs")]
    if groups:
        told["aws.log.group.names"] = [named(group) for group in groups if group]
    service = mapped(segment.get("service"), "service")
    if service.get("version"):
        told["service.version"] = named(service["version"])
    if service.get("runtime"):
        told["process.runtime.name"] = named(service["runtime"])
        told["process.runtime.version"] = named(service.get("runtime_version"))
    origin = named(segment.get("origin"))
    if origin:
        told["aws.xray.origin"] = origin
        if origin in _ORIGINS:
            told |= {"cloud.provider": "aws", "cloud.platform": _ORIGINS[origin]}
    return told


def causes(document: dict[str, Any], end: int, told: dict[str, Any]) -> tuple[list[EventRecord], str]:
    """The exceptions of a document as events, and the message of the first."""
    cause = document.get("cause")
    if isinstance(cause, str):  # the id of an exception of another subsegment
        told["aws.xray.cause"] = cause
        return [], ""
    found = []
    for exception in listed(mapped(cause, "cause").get("exceptions"), "exceptions"):
        values = {
            "exception.type": named(exception.get("type")),
            "exception.message": named(exception.get("message")),
            "exception.stacktrace": _stack(exception),
        }
        found.append(EventRecord("exception", end, {key: value for key, value in values.items() if value}))
    if not found:
        return [], ""
    if found[0].attributes.get("exception.type"):
        told.setdefault("error.type", found[0].attributes["exception.type"])
    return found, found[0].attributes.get("exception.message", "")


def _stack(exception: dict[str, Any]) -> str:
    frames = listed(exception.get("stack"), "stack")
    lines = []
    for frame in reversed(frames):  # X-Ray has the innermost first, a traceback last
        place = f'File "{named(frame.get("path")) or "?"}", line {frame.get("line", "?")}'
        lines.append(f"  {place}, in {named(frame.get('label')) or '?'}")
    if not lines:
        return ""
    last = ": ".join(filter(None, (named(exception.get("type")), named(exception.get("message")))))
    return "\n".join(["Traceback (most recent call last):", *lines, last])
