"""What the segments of a process have in common: origin, service version, the AWS resource, metadata of the resource.

It is worked out when documents leave, because a resource may get attributes until then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spanwell.export.segment_names import clean
from spanwell.export.segment_parts import RESOURCE
from spanwell.export.segment_values import encoded, plain, said, short, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.resources import Resource

_MAX_PARTS = 64
_MAX_GROUPS = 20

_ORIGINS = {
    "aws_ec2": "AWS::EC2::Instance",
    "aws_ecs": "AWS::ECS::Container",
    "aws_eks": "AWS::EKS::Container",
    "aws_elastic_beanstalk": "AWS::ElasticBeanstalk::Environment",
    "aws_app_runner": "AWS::AppRunner::Service",
}
_LAUNCH = {"ec2": "AWS::ECS::EC2", "fargate": "AWS::ECS::Fargate"}
_EC2 = (
    *(("instance_id", "host.id"), ("availability_zone", "cloud.availability_zone"), ("instance_size", "host.type")),
    ("ami_id", "host.image.id"),
)
_ECS = (
    *(("container", "container.name"), ("container_id", "container.id"), ("container_arn", "aws.ecs.container.arn")),
    *(("cluster_arn", "aws.ecs.cluster.arn"), ("task_arn", "aws.ecs.task.arn")),
    *(("task_family", "aws.ecs.task.family"), ("launch_type", "aws.ecs.launchtype")),
    ("availability_zone", "cloud.availability_zone"),
)
_EKS = (("cluster_name", "k8s.cluster.name"), ("pod", "k8s.pod.name"), ("container_id", "container.id"))


class Part(NamedTuple):
    """What a resource adds to a segment. fields: origin, service, aws. The bytes are the same, to be joined: `top`
    starts with a comma, `metadata` is what stands between the braces."""

    name: str
    fields: dict[str, Any]
    metadata: dict[str, Any]
    attributes: Mapping[str, Any]
    top: bytes
    inner: bytes


class Parts:
    """Remembers the parts of the resources it has met."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Resource, Part]] = {}

    def __call__(self, resource: Resource) -> Part:
        """The part of `resource`, from whose first call on it must not change."""
        known = self._known.get(id(resource))
        if known is None or known[0] is not resource:
            if len(self._known) >= _MAX_PARTS:
                self._known = {}
            known = self._known[id(resource)] = resource, part_of(resource.attributes)
        return known[1]


def part_of(attributes: Mapping[str, Any]) -> Part:
    """What a resource with `attributes` adds to a segment."""
    told = dict(attributes)
    fields: dict[str, Any] = {}
    origin = _origin(told)
    if origin:
        fields["origin"] = origin
    version = told.get("service.version")
    if version:
        fields["service"] = {"version": short(version)}
    aws = _aws(told)
    if aws:
        fields["aws"] = aws
    metadata = {RESOURCE + said(key): plain(value) for key, value in told.items() if value is not None}
    name = clean(short(told.get("service.name")) or "unknown_service")
    return Part(
        name, fields, metadata, told, b"," + encoded(fields)[1:-1] if fields else b"", encoded(metadata)[1:-1]
    )


def _origin(told: Mapping[str, Any]) -> str:
    if told.get("cloud.provider", "aws") != "aws":
        return ""
    platform = said(told.get("cloud.platform"))
    if platform == "aws_ecs":
        return _LAUNCH.get(said(told.get("aws.ecs.launchtype")).lower(), _ORIGINS["aws_ecs"])
    return _ORIGINS.get(platform, "")


def _aws(told: Mapping[str, Any]) -> dict[str, Any]:
    aws: dict[str, Any] = {"xray": _sdk(told)}
    if told.get("cloud.provider", "aws") != "aws":
        return aws
    platform = told.get("cloud.platform")
    if told.get("cloud.account.id"):
        aws["account_id"] = short(told["cloud.account.id"])
    # Elsewhere host.id is a machine id.
    on_aws = told.get("cloud.provider") == "aws" or said(platform).startswith("aws_")
    blocks: tuple[tuple[str, bool, Callable[[Mapping[str, Any]], dict[str, Any]]], ...] = (
        ("ec2", on_aws and bool(told.get("host.id")), _block(_EC2)),
        ("ecs", platform == "aws_ecs", _block(_ECS)),
        ("eks", platform == "aws_eks" or "k8s.cluster.name" in told, _block(_EKS)),
        ("elastic_beanstalk", platform == "aws_elastic_beanstalk", _beanstalk),
    )
    for name, there, make in blocks:
        block = make(told) if there else None
        if block:
            aws[name] = block
    groups = _log_groups(told)
    if groups:
        aws["cloudwatch_logs"] = groups
    return aws


def _sdk(told: Mapping[str, Any]) -> dict[str, Any]:
    name, language = said(told.get("telemetry.sdk.name")), said(told.get("telemetry.sdk.language"))
    sdk: dict[str, Any] = {"auto_instrumentation": bool(told.get("telemetry.auto.version"))}
    if name:
        sdk["sdk"] = short(f"{name} for {language}" if language else name)
    if told.get("telemetry.sdk.version"):
        sdk["sdk_version"] = short(told["telemetry.sdk.version"])
    return sdk


def _block(fields: tuple[tuple[str, str], ...]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda told: {field: short(told[key]) for field, key in fields if told.get(key)}


def _beanstalk(told: Mapping[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for field, key in (("environment_name", "service.namespace"), ("version_label", "service.version")):
        if told.get(key):
            block[field] = short(told[key])
    number = whole_number(told.get("service.instance.id"))
    if number is not None:
        block["deployment_id"] = number
    return block


def _log_groups(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    arns = _listed(told.get("aws.log.group.arns"))
    if arns:
        return [{"log_group": short(_group_of(arn)), "arn": short(arn)} for arn in arns]
    return [{"log_group": short(name)} for name in _listed(told.get("aws.log.group.names"))]


def _group_of(arn: str) -> str:
    """The name in ``arn:aws:logs:region:account:log-group:NAME:*``"""
    parts = arn.split(":")
    return parts[6] if len(parts) > 6 else arn


def _listed(value: Any) -> list[str]:
    """A list; OTEL_RESOURCE_ATTRIBUTES has no lists, there `&` stands between the names."""
    found = value.split("&") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
    return [each for each in found if isinstance(each, str) and each][:_MAX_GROUPS]
