"""One function for each source of AWS resource attributes; `spanwell.enrich.aws` decides which are asked."""

from __future__ import annotations

from spanwell.enrich.metadata import json_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spanwell.enrich.aws import Attributes
    from spanwell.enrich.metadata import Budget

_DMI = "/sys/class/dmi/id/"


def text(key: str, value: object) -> Attributes:
    """{key: value} when there is a text to say; nothing otherwise."""
    if not isinstance(value, str):
        return {}
    value = value.strip()
    return {key: value[:4096]} if value else {}


def encodable(found: Attributes) -> Attributes:
    """`found` without lone surrogates, which JSON and environment variables may hold and protobuf refuses."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "replace").decode("utf-8")

    for key, value in found.items():
        if isinstance(value, str):
            found[key] = clean(value)
        elif isinstance(value, list):
            found[key] = [clean(item) for item in value]
    return found


def account_id(value: object) -> Attributes:
    known = isinstance(value, str) and len(value) == 12 and value.isascii() and value.isdigit()
    return text("cloud.account.id", value) if known else {}


def region_of(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_REGION", "") or environ.get("AWS_DEFAULT_REGION", "")


def _partition(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def function(environ: Mapping[str, str], account: str) -> Attributes:
    # cloud.resource_id needs the function's qualified ARN, which only an invocation tells.
    found = {
        **text("faas.name", environ.get("AWS_LAMBDA_FUNCTION_NAME")),
        **text("faas.version", environ.get("AWS_LAMBDA_FUNCTION_VERSION")),
        **text("faas.instance", environ.get("AWS_LAMBDA_LOG_STREAM_NAME")),
        **account_id(account),
    }
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if memory.isascii() and memory.isdigit() and len(memory) < 10:
        found["faas.max_memory"] = int(memory) * 1024 * 1024
    group, stream = environ.get("AWS_LAMBDA_LOG_GROUP_NAME"), environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
    return {**found, **_logs(group, stream, region_of(environ), found.get("cloud.account.id"))}


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


def launch_type(environ: Mapping[str, str]) -> Attributes:
    kinds = {"AWS_ECS_FARGATE": "fargate", "AWS_ECS_EC2": "ec2"}
    return text("aws.ecs.launchtype", kinds.get(environ.get("AWS_EXECUTION_ENV", "")))


def ecs(environ: Mapping[str, str], budget: Budget) -> Attributes:
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
        **text("cloud.region", region),
        **account_id(account),
        **text("cloud.availability_zone", task.get("AvailabilityZone")),
        **text("cloud.resource_id", container_arn or task_arn),
        **text("aws.ecs.container.arn", container_arn),
        **text("aws.ecs.cluster.arn", cluster if isinstance(cluster, str) and cluster[:4] == "arn:" else ""),
        **text("aws.ecs.task.arn", task_arn),
        **text("aws.ecs.task.id", _arn(task_arn) and str(task_arn).rpartition("/")[2]),
        **text("aws.ecs.task.family", task.get("Family") or label.get(name + "task-definition-family")),
        **text("aws.ecs.task.revision", task.get("Revision") or label.get(name + "task-definition-version")),
        **text("aws.ecs.launchtype", launch_type.lower() if isinstance(launch_type, str) else ""),
        **text("container.id", container.get("DockerId")),
        **text("container.name", container.get("DockerName") or container.get("Name")),
        **_image(container.get("Image"), container.get("ImageID")),
        **_ecs_logs(container, partition, region, account),
    }


def _arn(value: object) -> tuple[str, str, str, str] | None:
    """("arn", partition, region, account) of an ARN."""
    parts = value.split(":", 5) if isinstance(value, str) else []
    return ("arn", parts[1], parts[3], parts[4]) if len(parts) == 6 and parts[0] == "arn" else None


def _image(image: object, image_id: object) -> Attributes:
    found = text("container.image.id", image_id)
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
    return {**found, **text("container.image.name", name)}


def _ecs_logs(container: Mapping[str, object], partition: str, region: str, account: str) -> Attributes:
    options = container.get("LogOptions")
    if container.get("LogDriver") != "awslogs" or not isinstance(options, dict):
        return {}
    place = options.get("awslogs-region") or region
    return _logs(options.get("awslogs-group"), options.get("awslogs-stream"), place, account, partition)


def instance(environ: Mapping[str, str], budget: Budget, platform: str) -> Attributes:
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
        **text("cloud.region", identity.get("region")),
        **text("cloud.availability_zone", identity.get("availabilityZone")),
        **account_id(identity.get("accountId")),
        **text("host.id", identity.get("instanceId")),
        **text("host.type", identity.get("instanceType")),
        **text("host.image.id", identity.get("imageId")),
    }
    region, account, host = (found.get(key) for key in ("cloud.region", "cloud.account.id", "host.id"))
    if platform == "aws_ec2" and region and account and host:
        arn = f"arn:{_partition(str(region))}:ec2:{region}:{account}:instance/{host}"
        found["cloud.resource_id"] = arn
    return found


def machine(read: Callable[[str], str]) -> Attributes:
    # Nitro instances carry their id and type in DMI; older ones have neither.
    tag, kind = read(_DMI + "board_asset_tag").strip(), read(_DMI + "product_name").strip()
    found = text("host.name", read("/proc/sys/kernel/hostname"))
    if tag.startswith("i-"):
        found.update(text("host.id", tag))
        found.update(text("host.type", kind if "." in kind else ""))
    return found


def beanstalk(conf: str) -> Attributes:
    described = json_object(conf)
    deployment = described.get("deployment_id")
    return {
        **text("service.namespace", described.get("environment_name")),
        **text("service.version", described.get("version_label")),
        **text("service.instance.id", str(deployment) if isinstance(deployment, int) else deployment),
    }
