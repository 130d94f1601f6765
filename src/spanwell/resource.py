"""The resource of this process: AWS, SDK and instance, the service's name, and what the user wrote, which wins."""

from __future__ import annotations

import sys

from spanwell._guard import warn_once
from spanwell._otel import sdk
from spanwell.enrich.aws import AwsResourceDetector
from spanwell.enrich.late import LateResource
from spanwell.enrich.service import default_service_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource

    from spanwell.settings import Settings


def build(settings: Settings, environ: Mapping[str, str], version: str) -> Resource:
    """The resource, complete but for what a metadata service is still being asked for in the background.

    `version` is the version of the auto-instrumentation. With OTEL_EXPERIMENTAL_RESOURCE_DETECTORS set, exactly
    the named detectors run, through the SDK.
    """
    name, _ = service_name(environ)
    attributes = {"service.name": name, "telemetry.distro.name": "spanwell", "telemetry.distro.version": _version()}
    if version:
        attributes["telemetry.auto.version"] = version
    if settings.chosen(type(settings).resource_detectors):
        from opentelemetry.sdk.resources import Resource

        with sdk.quiet_resources() as said:
            made = Resource.create({}).merge(sdk.user_resource())
        if said.last:
            warn_once("detectors", "spanwell: OTEL_EXPERIMENTAL_RESOURCE_DETECTORS: %s", said.last)
        return Resource(attributes).merge(made)
    detector = AwsResourceDetector(environ, budget=settings.resource_timeout)
    return LateResource(sdk.base_resource(attributes), detector.detect_in_background())


def service_name(environ: Mapping[str, str]) -> tuple[str, str]:
    """(service.name, where it came from) of this process."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    # A spawned child of multiprocessing runs `-c "from multiprocessing…"`; it got its parent's words in sys.argv.
    spawned = any(word.startswith("from multiprocessing") for word in sys.orig_argv)
    return default_service_name(environ, sys.argv if spawned else sys.orig_argv, getattr(spec, "name", "") or "")


def _version() -> str:
    from spanwell import __version__

    return __version__
