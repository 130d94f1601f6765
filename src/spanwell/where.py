"""Where does this process run? Local evidence only: environment variables and DMI files, no network."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DMI = "/sys/class/dmi/id/"


def read_file(path: str) -> str:
    """The first 4 KiB of `path` as text, or "" when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""


def on_lambda(environ: Mapping[str, str]) -> bool:
    """Whether this is a Lambda function."""
    return bool(environ.get("AWS_LAMBDA_FUNCTION_NAME"))


def handler_module(environ: Mapping[str, str]) -> str:
    """The module that Lambda's runtime imports the handler from; "" where this is no Lambda function."""
    if not on_lambda(environ):
        return ""
    handler = environ.get("ORIG_HANDLER") or environ.get("_HANDLER", "")
    return handler.rpartition(".")[0].replace("/", ".")


_invocations: list[bool] = []


def follow_invocations() -> None:
    """This process runs a Lambda handler in our wrapper: it flushes before each response, and no thread has to."""
    _invocations[:] = [True]


def follows_invocations() -> bool:
    """Whether `follow_invocations` was called in this process or, before a fork, in its parent."""
    return bool(_invocations)


LAMBDA_DEFAULTS = "Lambda"


def lambda_defaults(environ: Mapping[str, str]) -> tuple[tuple[str, dict[str, str]], ...]:
    """The settings that differ where our wrapper runs the handler, as `layers` of `Settings.from_env`: unless an OTLP
    endpoint is named, spans go to the daemon that Lambda runs, in the form that it takes from AWS's own layers."""
    if not follows_invocations():
        return ()
    return ((LAMBDA_DEFAULTS, {} if _names_endpoint(environ) else {"OTEL_TRACES_EXPORTER": "xray_otlp_udp"}),)


def _names_endpoint(environ: Mapping[str, str]) -> bool:
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(environ.get(name, "").strip() for name in names)


def aws_platform(environ: Mapping[str, str], read: Callable[[str], str] = read_file) -> str:
    """`cloud.platform` of semantic conventions (aws_lambda, aws_ecs, aws_eks, aws_elastic_beanstalk, aws_ec2),
    or "" off AWS. An EKS pod is told from another Kubernetes pod by the node's DMI data."""
    if on_lambda(environ):
        return "aws_lambda"
    if environ.get("ECS_CONTAINER_METADATA_URI_V4") or environ.get("ECS_CONTAINER_METADATA_URI"):
        return "aws_ecs"
    on_ec2 = _is_ec2(read)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "aws_eks" if on_ec2 else ""
    if on_ec2 and read("/var/elasticbeanstalk/xray/environment.conf"):
        return "aws_elastic_beanstalk"
    return "aws_ec2" if on_ec2 else ""


def is_deployed(environ: Mapping[str, str], read: Callable[[str], str] = read_file) -> bool:
    """Whether this is an AWS or Kubernetes environment, so not somebody's laptop."""
    if environ.get("KUBERNETES_SERVICE_HOST") or environ.get("AWS_EXECUTION_ENV"):
        return True
    return bool(aws_platform(environ, read))


def _is_ec2(read: Callable[[str], str]) -> bool:
    if read(_DMI + "sys_vendor").strip() == "Amazon EC2":
        return True
    if read(_DMI + "board_asset_tag").startswith("i-"):
        return True
    # Xen instances carry the mark in the hypervisor's id instead.
    return read("/sys/hypervisor/uuid").lower().startswith("ec2")
