"""Where on AWS this process runs, as resource attributes: local evidence first, metadata services second.

Attribute names are those of OpenTelemetry's semantic conventions. They stand here as text because importing
the conventions' package costs more than the detection does. AWS Batch has no names there, so a job is
described by the ECS task that it runs in.
"""

from __future__ import annotations

import os
import time

from opentelemetry.sdk.resources import Resource, ResourceDetector

from spanwell import _guard
from spanwell.enrich import kubernetes
from spanwell.enrich.container import container_id
from spanwell.enrich.late import Detection
from spanwell.enrich.metadata import Budget, fetch, json_object
from spanwell.where import aws_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from spanwell.enrich.metadata import Fetch

    Attributes: TypeAlias = "dict[str, str | int | list[str]]"

_DMI = "/sys/class/dmi/id/"
# The OpenTelemetry Lambda extension leaves the account here, as the target of a dangling link.
_ACCOUNT_LINK = "/tmp/.otel-aws-account-id"
_MAX_FILE = 1024 * 1024


def read_file(path: str) -> str:
    """The first million characters of `path`, or "" if unreadable. A pod's mountinfo is longer than 4 KiB."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE)
    except OSError:
        return ""


class AwsResourceDetector(ResourceDetector):
    """Resource attributes of Lambda, ECS, EKS, Elastic Beanstalk and EC2; an empty resource anywhere else.

    `environ`, `read` (path -> text, "" when unreadable), `fetch` (see `spanwell.enrich.metadata`), `clock`
    (monotonic seconds) and `readlink` are the outside world. `budget` is the time in seconds that all
    requests of one detection may take together; 0 means local evidence only. Never emits `service.name`,
    never raises, logs nothing above DEBUG for a service that does not answer (`problems` tells).
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        budget: float = 0.3,
        read: Callable[[str], str] = read_file,
        fetch: Fetch = fetch,
        clock: Callable[[], float] = time.monotonic,
        readlink: Callable[[str], str] = os.readlink,
    ) -> None:
        super().__init__(raise_on_error=False)
        self._environ = environ
        self._budget = budget
        self._read = read
        self._fetch = fetch
        self._clock = clock
        self._readlink = readlink
        self.problems: tuple[str, ...] = ()

    def detect(self) -> Resource:
        """Everything that can be known within the budget, waiting for it."""
        platform = self.platform()
        if not platform:
            return Resource.get_empty()
        return Resource({**self.local(platform), **self.network(platform)})

    def detect_in_background(self, on_ready: Callable[[Mapping[str, object]], None] | None = None) -> Detection:
        """What is known locally at once, the rest from a daemon thread; `on_ready` gets all of it there.

        No thread is started where the network has nothing to add.
        """
        platform = self.platform()
        local = self.local(platform) if platform else {}
        if not self._asks(platform):
            return Detection(local, None, on_ready)
        return Detection(local, lambda: {**self.network(platform)}, on_ready)

    def platform(self) -> str:
        """`cloud.platform`, from local evidence, or "" off AWS."""
        with _guard.guard("AWS detection"):
            return aws_platform(self._environ, self._read)
        return ""

    def local(self, platform: str) -> Attributes:
        """What environment variables and files say."""
        found: Attributes = {}
        with _guard.guard("AWS detection"):
            found.update(_text("cloud.provider", "aws"))
            found.update(_text("cloud.platform", platform))
            found.update(_text("cloud.region", _region(self._environ)))
            found.update(_account(self._environ.get("AWS_ACCOUNT_ID")))
            found.update(self._local(platform))
        return _encodable(found)

    def network(self, platform: str) -> Attributes:
        """What the metadata service of `platform` adds within the budget; {} when it does not answer."""
        found: Attributes = {}
        if not self._asks(platform):
            return found
        budget = Budget(self._budget, self._fetch, self._clock)
        with _guard.guard("AWS detection"):
            if platform == "aws_ecs":
                found.update(_ecs(self._environ, budget))
            if platform == "aws_eks":
                found.update(kubernetes.cluster(self._environ, self._read, budget))
            if platform != "aws_ecs" and self._imds_allowed():
                found.update(_instance(self._environ, budget, platform))
        self.problems = tuple(budget.problems)
        for problem in self.problems:
            _guard.logger.debug("spanwell: AWS detection: %s", problem)
        return _encodable(found)

    def _asks(self, platform: str) -> bool:
        if self._budget <= 0 or platform in ("", "aws_lambda"):
            return False
        if platform == "aws_ecs":
            return True
        return self._imds_allowed() or (platform == "aws_eks" and kubernetes.has_token(self._read))

    def _imds_allowed(self) -> bool:
        return self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"

    def _local(self, platform: str) -> Attributes:
        if platform == "aws_lambda":
            return _lambda(self._environ, self._link(_ACCOUNT_LINK))
        cgroup = self._read("/proc/self/cgroup")
        if platform == "aws_ecs":
            # With awsvpc networking the mounted /etc/hostname belongs to the task's pause container.
            return {**_launch_type(self._environ), **_text("container.id", container_id(cgroup, ""))}
        mountinfo = self._read("/proc/self/mountinfo")
        inside = _text("container.id", container_id(cgroup, mountinfo))
        if platform == "aws_eks":
            return {**inside, **kubernetes.pod(self._environ, self._read, mountinfo)}
        if platform == "aws_elastic_beanstalk":
            inside.update(_beanstalk(self._read("/var/elasticbeanstalk/xray/environment.conf")))
        return {**inside, **_machine(self._read)}

    def _link(self, path: str) -> str:
        try:
            return self._readlink(path)
        except OSError:
            return ""


def _text(key: str, value: object) -> Attributes:
    """{key: value} when there is a text to say; nothing otherwise."""
    if not isinstance(value, str):
        return {}
    value = value.strip()
    return {key: value[:4096]} if value else {}


def _encodable(found: Attributes) -> Attributes:
    """`found` without lone surrogates, which JSON and environment variables may hold and protobuf refuses."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "replace").decode("utf-8")

    for key, value in found.items():
        if isinstance(value, str):
            found[key] = clean(value)
        elif isinstance(value, list):
            found[key] = [clean(item) for item in value]
    return found


def _account(value: object) -> Attributes:
    known = isinstance(value, str) and len(value) == 12 and value.isascii() and value.isdigit()
    return _text("cloud.account.id", value) if known else {}


def _region(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_REGION", "") or environ.get("AWS_DEFAULT_REGION", "")


def _partition(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def _lambda(environ: Mapping[str, str], account: str) -> Attributes:
    # cloud.resource_id needs the function's qualified ARN, which only an invocation tells.
    found = {
        **_text("faas.name", environ.get("AWS_LAMBDA_FUNCTION_NAME")),
        **_text("faas.version", environ.get("AWS_LAMBDA_FUNCTION_VERSION")),
        **_text("faas.instance", environ.get("AWS_LAMBDA_LOG_STREAM_NAME")),
        **_account(account),
    }
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if memory.isascii() and memory.isdigit() and len(memory) < 10:
        found["faas.max_memory"] = int(memory) * 1024 * 1024
    group, stream = environ.get("AWS_LAMBDA_LOG_GROUP_NAME"), environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
    return {**found, **_logs(group, stream, _region(environ), found.get("cloud.account.id"))}


def _logs(group: object, stream: object, region: object, account: object, partition: str = "") -> Attributes:
    """The log attributes, which are lists; ARNs only where every part is known."""
    found: Attributes = {}
    if not isinstance(group, str) or not group:
        return found
    found["aws.log.group.names"] = [group]
    known = isinstance(stream, str) and stream
    if known:
        found["aws.log.stream.names"] = [str(stream)]
    if isinstance(region, str) and isinstance(account, str) and region and account:
        arn = f"arn:{partition or _partition(region)}:logs:{region}:{account}:log-group:{group}"
        found["aws.log.group.arns"] = [arn]
        if known:
            found["aws.log.stream.arns"] = [f"{arn}:log-stream:{stream}"]
    return found


def _launch_type(environ: Mapping[str, str]) -> Attributes:
    kinds = {"AWS_ECS_FARGATE": "fargate", "AWS_ECS_EC2": "ec2"}
    return _text("aws.ecs.launchtype", kinds.get(environ.get("AWS_EXECUTION_ENV", "")))


def _ecs(environ: Mapping[str, str], budget: Budget) -> Attributes:
    base = environ.get("ECS_CONTAINER_METADATA_URI_V4") or environ.get("ECS_CONTAINER_METADATA_URI") or ""
    container = budget.document(base)
    task = budget.document(f"{base}/task")
    return ecs_attributes(container, task)


def ecs_attributes(container: Mapping[str, object], task: Mapping[str, object]) -> Attributes:
    """The two documents of the ECS task metadata endpoint (version 4, or what 3 has of it) as attributes.

    Either may be {}: the container's labels repeat most of what the task says.
    """
    labels = container.get("Labels")
    label = labels if isinstance(labels, dict) else {}
    name = "com.amazonaws.ecs."
    task_arn = task.get("TaskARN") or label.get(name + "task-arn")
    container_arn = container.get("ContainerARN")
    _, partition, region, account = _arn(container_arn) or _arn(task_arn) or ("", "", "", "")
    cluster = task.get("Cluster") or label.get(name + "cluster")
    if isinstance(cluster, str) and cluster and not cluster.startswith("arn:") and account:
        cluster = f"arn:{partition}:ecs:{region}:{account}:cluster/{cluster}"
    launch_type = task.get("LaunchType")
    return {
        **_text("cloud.region", region),
        **_account(account),
        **_text("cloud.availability_zone", task.get("AvailabilityZone")),
        **_text("cloud.resource_id", container_arn or task_arn),
        **_text("aws.ecs.container.arn", container_arn),
        **_text("aws.ecs.cluster.arn", cluster if isinstance(cluster, str) and cluster[:4] == "arn:" else ""),
        **_text("aws.ecs.task.arn", task_arn),
        **_text("aws.ecs.task.id", _arn(task_arn) and str(task_arn).rpartition("/")[2]),
        **_text("aws.ecs.task.family", task.get("Family") or label.get(name + "task-definition-family")),
        **_text("aws.ecs.task.revision", task.get("Revision") or label.get(name + "task-definition-version")),
        **_text("aws.ecs.launchtype", launch_type.lower() if isinstance(launch_type, str) else ""),
        **_text("container.id", container.get("DockerId")),
        **_text("container.name", container.get("DockerName") or container.get("Name")),
        **_image(container.get("Image"), container.get("ImageID")),
        **_ecs_logs(container, partition, region, account),
    }


def _arn(value: object) -> tuple[str, str, str, str] | None:
    """("arn", partition, region, account) of an ARN."""
    parts = value.split(":", 5) if isinstance(value, str) else []
    return ("arn", parts[1], parts[3], parts[4]) if len(parts) == 6 and parts[0] == "arn" else None


def _image(image: object, image_id: object) -> Attributes:
    found = _text("container.image.id", image_id)
    if not isinstance(image, str) or not image:
        return found
    name, _, digest = image.partition("@")
    if digest:
        found["container.image.repo_digests"] = [image]
    # A colon before the last slash is the registry's port.
    head, _, tag = name.rpartition(":")
    if head and "/" not in tag:
        found["container.image.tags"] = [tag]
        name = head
    return {**found, **_text("container.image.name", name)}


def _ecs_logs(container: Mapping[str, object], partition: str, region: str, account: str) -> Attributes:
    options = container.get("LogOptions")
    if container.get("LogDriver") != "awslogs" or not isinstance(options, dict):
        return {}
    place = options.get("awslogs-region") or region
    return _logs(options.get("awslogs-group"), options.get("awslogs-stream"), place, account, partition)


def _instance(environ: Mapping[str, str], budget: Budget, platform: str) -> Attributes:
    base = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
    if not base:
        six = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
        base = "http://[fd00:ec2::254]" if six else "http://169.254.169.254"
    token = budget.text(
        f"{base}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    # A token is one line of text; anything else would be a header injected by whoever answered.
    if not token or not token.isascii() or not token.isprintable():
        return {}
    identity = budget.document(
        f"{base}/latest/dynamic/instance-identity/document", headers={"X-aws-ec2-metadata-token": token}
    )
    found = {
        **_text("cloud.region", identity.get("region")),
        **_text("cloud.availability_zone", identity.get("availabilityZone")),
        **_account(identity.get("accountId")),
        **_text("host.id", identity.get("instanceId")),
        **_text("host.type", identity.get("instanceType")),
        **_text("host.image.id", identity.get("imageId")),
    }
    region, account, host = (found.get(key) for key in ("cloud.region", "cloud.account.id", "host.id"))
    if platform == "aws_ec2" and region and account and host:
        arn = f"arn:{_partition(str(region))}:ec2:{region}:{account}:instance/{host}"
        found["cloud.resource_id"] = arn
    return found


def _machine(read: Callable[[str], str]) -> Attributes:
    # Nitro instances carry their id and type in DMI; older ones have neither.
    tag, kind = read(_DMI + "board_asset_tag").strip(), read(_DMI + "product_name").strip()
    found = _text("host.name", read("/proc/sys/kernel/hostname"))
    if tag.startswith("i-"):
        found.update(_text("host.id", tag))
        found.update(_text("host.type", kind if "." in kind else ""))
    return found


def _beanstalk(conf: str) -> Attributes:
    described = json_object(conf)
    deployment = described.get("deployment_id")
    return {
        **_text("service.namespace", described.get("environment_name")),
        **_text("service.version", described.get("version_label")),
        **_text("service.instance.id", str(deployment) if isinstance(deployment, int) else deployment),
    }
