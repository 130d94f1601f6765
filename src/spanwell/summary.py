"""The one line that a healthy start logs."""

from __future__ import annotations

import os

from spanwell._guard import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spanwell.configurator import Wiring
    from spanwell.lazy import Instrumentors


def log_summary(wiring: Wiring, instrumentors: Instrumentors) -> None:
    """Log service, exporters, sampler, propagators and instrumentors at INFO, unless it is switched off."""
    if wiring.settings.startup_summary:
        logger.info("%s", summary(wiring, instrumentors))


def summary(wiring: Wiring, instrumentors: Instrumentors) -> str:
    """``spanwell 0.1.0: service=shop exporter=otlp …``"""
    from spanwell import __version__

    resource = wiring.resource
    service = resource.attributes.get("service.name", "?") if resource is not None else "?"
    states = list(instrumentors.states.values())
    return (
        f"spanwell {__version__}: service={service}{_hint(str(service))}"
        f" exporter={','.join(wiring.exporters) or 'none'}"
        f" sampler={wiring.sampler}"
        f" propagators={','.join(wiring.settings.propagators)}"
        f" instrumentors={states.count('active')} active, {instrumentors.deferred} deferred"
    )


def _hint(service: str) -> str:
    """Where the service's name came from, when it is not the user's."""
    from spanwell.resource import service_name

    name, source = service_name(os.environ)
    if name != service or source in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        return ""
    return f" (from {source or 'nothing'}; set OTEL_SERVICE_NAME to choose)"
