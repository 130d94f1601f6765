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
from spanwell.enrich.late import Detection
from spanwell.where import aws_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from spanwell.enrich.metadata import Budget, Fetch

    Attributes: TypeAlias = "dict[str, str | int | list[str]]"

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
        fetch: Fetch | None = None,
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
        # Imported here: off AWS, detection must cost next to nothing.
        from spanwell.enrich import platforms

        found: Attributes = {}
        with _guard.guard("AWS detection"):
            found.update(platforms.text("cloud.provider", "aws"))
            found.update(platforms.text("cloud.platform", platform))
            found.update(platforms.text("cloud.region", platforms.region_of(self._environ)))
            found.update(platforms.account_id(self._environ.get("AWS_ACCOUNT_ID")))
            found.update(self._local(platform))
        return platforms.encodable(found)

    def network(self, platform: str) -> Attributes:
        """What the metadata service of `platform` adds within the budget; {} when it does not answer."""
        if not self._asks(platform):
            return {}
        from spanwell.enrich import metadata, platforms

        found: Attributes = {}
        with _guard.guard("AWS detection"):
            budget = metadata.Budget(self._budget, self._fetch or metadata.fetch, self._clock)
            self._network(platform, budget, found)
            self.problems = tuple(budget.problems)
        for problem in self.problems:
            _guard.logger.debug("spanwell: AWS detection: %s", problem)
        return platforms.encodable(found)

    def _network(self, platform: str, budget: Budget, found: Attributes) -> None:
        from spanwell.enrich import kubernetes, platforms

        if platform == "aws_ecs":
            found.update(platforms.ecs(self._environ, budget))
        if platform == "aws_eks":
            found.update(kubernetes.cluster(self._environ, self._read, budget))
        if platform != "aws_ecs" and self._imds_allowed():
            found.update(platforms.instance(self._environ, budget, platform))

    def _asks(self, platform: str) -> bool:
        if self._budget <= 0 or platform in ("", "aws_lambda"):
            return False
        if platform == "aws_ecs":
            return True
        if self._imds_allowed() or platform != "aws_eks":
            return self._imds_allowed()
        from spanwell.enrich import kubernetes

        return kubernetes.has_token(self._read)

    def _imds_allowed(self) -> bool:
        return self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"

    def _local(self, platform: str) -> Attributes:
        from spanwell.enrich import platforms

        if platform == "aws_lambda":
            return platforms.function(self._environ, self._link(_ACCOUNT_LINK))
        from spanwell.enrich import kubernetes
        from spanwell.enrich.container import container_id

        cgroup = self._read("/proc/self/cgroup")
        if platform == "aws_ecs":
            # With awsvpc networking the mounted /etc/hostname belongs to the task's pause container.
            return {
                **platforms.launch_type(self._environ),
                **platforms.text("container.id", container_id(cgroup, "")),
            }
        mountinfo = self._read("/proc/self/mountinfo")
        inside = platforms.text("container.id", container_id(cgroup, mountinfo))
        if platform == "aws_eks":
            return {**inside, **kubernetes.pod(self._environ, self._read, mountinfo)}
        if platform == "aws_elastic_beanstalk":
            inside.update(platforms.beanstalk(self._read("/var/elasticbeanstalk/xray/environment.conf")))
        return {**inside, **platforms.machine(self._read)}

    def _link(self, path: str) -> str:
        try:
            return self._readlink(path)
        except OSError:
            return ""
