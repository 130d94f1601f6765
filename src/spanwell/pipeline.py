"""The span processors: enrichment first, then one batch processor for each exporter."""

from __future__ import annotations

from spanwell import exporters
from spanwell._guard import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor

    from spanwell.configurator import Wiring
    from spanwell.settings import Settings


def add_processors(provider: Any, settings: Settings, wiring: Wiring) -> None:
    """Enrichment first, then one batch processor an exporter; each is shut down within the exit's budget."""
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        warn_once("join", "spanwell: the application's %s takes no span processors", type(provider).__name__)
        return
    for processor in processors(settings, wiring):
        add(processor)
    wiring.exit.add(lambda: None, lambda _seconds: provider.shutdown())


def enrichment() -> SpanProcessor:
    """The one processor that writes on spans."""
    from spanwell.enrich.links import OtherParentLink
    from spanwell.enrich.processor import FusedProcessor

    return FusedProcessor([OtherParentLink()])


def processors(settings: Settings, wiring: Wiring) -> Iterator[SpanProcessor]:
    """Every span processor of ours, in order."""
    from spanwell.export.batch import BatchProcessor
    from spanwell.export.guarded import GuardedExporter

    yield enrichment()
    for name, build in exporters.trace_exporters(settings):
        exporter = GuardedExporter(name, build, where=exporters.endpoint(name, settings))
        batch = BatchProcessor(
            exporter,
            max_queue=settings.bsp_max_queue_size,
            max_batch=settings.bsp_max_export_batch_size,
            delay=settings.bsp_schedule_delay / 1000,
            flush_timeout=settings.bsp_export_timeout / 1000,
            ready=lambda: complete(wiring.resource, settings.resource_timeout),
        )
        wiring.exporters.append(name)
        wiring.exit.add(batch.begin_shutdown, batch.finish, exporter.record_losses)
        yield batch


def complete(resource: Resource | None, seconds: float) -> None:
    """Wait up to `seconds` for the attributes that a metadata service is being asked for."""
    from spanwell.enrich.late import LateResource

    if isinstance(resource, LateResource):
        resource.complete(seconds)
