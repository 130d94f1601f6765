"""The span processors: enrichment first, then one batch processor for each exporter."""

from __future__ import annotations

import os

from spanwell import exporters
from spanwell._guard import logger, warn_once
from spanwell.where import follows_invocations, on_lambda

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.configurator import Wiring
    from spanwell.enrich.signal_counts import SignalCounts
    from spanwell.export.batch import BatchProcessor
    from spanwell.export.open_spans import OpenSpans
    from spanwell.insights.buffer import Look
    from spanwell.sampling.quiet import Watch
    from spanwell.settings import Settings


def add_processors(provider: Any, settings: Settings, wiring: Wiring) -> None:
    """Enrichment first, then one batch processor an exporter; each is shut down within the exit's budget."""
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        warn_once("join", "spanwell: the application's %s takes no span processors", type(provider).__name__)
        return
    add(processor(settings, wiring))
    wiring.exit.add(lambda: None, lambda _seconds: provider.shutdown())


def enrichment(
    settings: Settings, wiring: Wiring, stages: Iterable[object] = (), last: Iterable[SpanProcessor] = ()
) -> SpanProcessor:
    """The one processor that writes on spans; after that the `stages` of quiet, insights and sampler, and `last`."""
    from spanwell.enrich.links import InvocationLinks, OtherParentLink
    from spanwell.enrich.processor import FusedProcessor, MeasuredProcessor

    linking = [OtherParentLink(), InvocationLinks()] if on_lambda(os.environ) else [OtherParentLink()]
    every = [*linking, *attribute_stages(settings, wiring), *stages]
    if not settings.insights and not wiring.has_metrics:  # nobody would look
        return FusedProcessor(every, last)
    from spanwell.insights.vitals import Vitals

    measured = MeasuredProcessor(every, last)
    wiring.vitals = Vitals(measured, wiring.batches, wiring.fragments, wiring.red)
    return measured


def attribute_stages(settings: Settings, wiring: Wiring) -> Iterator[object]:
    """What becomes of the attributes of a span: see docs/enrichment.md."""
    from spanwell.enrich.ended import Ended
    from spanwell.enrich.parts import parts

    if settings.baggage_keys:
        from spanwell.enrich.attributes import BaggageAttributes, Keys

        yield BaggageAttributes(Keys(settings.baggage_keys))
    signals = None
    if settings.wants_application_signals:
        from spanwell.enrich.app_signals import AppSignals

        signals = AppSignals(
            lambda: {} if wiring.resource is None else wiring.resource.attributes,
            os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        )
        yield signals
    yield Ended(parts(fixed=dict(settings.span_attributes), annotations=settings.annotations, signals=signals))
    if settings.redaction:
        from spanwell.enrich.redaction import Redaction

        yield Redaction(
            drop_keys=settings.redact_keys,
            keep_keys=settings.redact_keep_keys,
            patterns=settings.redact_patterns,
            report=lambda problem: warn_once(f"redact:{problem}", "spanwell: SPANWELL_REDACT_PATTERNS: %s", problem),
        )
    if counts_signals(settings):
        yield signal_counts(settings, wiring)


def counts_signals(settings: Settings) -> bool:
    """Whether this process counts for Application Signals: not on Lambda, where no agent runs and X-Ray does."""
    wanted = settings.wants_application_signals and settings.application_signals_endpoint.lower() != "none"
    return wanted and not on_lambda(os.environ)


def signal_counts(settings: Settings, wiring: Wiring) -> SignalCounts:
    """What counts spans for Application Signals, and sends the sums to the CloudWatch agent."""
    from spanwell.enrich.signal_counts import SignalCounts
    from spanwell.export.signals import SignalsExporter

    counts = SignalCounts()
    exporter = SignalsExporter(
        settings.application_signals_endpoint,
        counts.drain,
        lambda: {} if wiring.resource is None else wiring.resource.attributes,
        # Longer ones would put metrics and traces too far apart to be matched, says ADOT.
        interval=min(settings.metric_export_interval / 1000, 60.0),
    )
    counts.first = exporter.begin
    wiring.exit.add(exporter.begin_shutdown, exporter.finish)
    return counts


def processor(settings: Settings, wiring: Wiring) -> SpanProcessor:
    """Our span processor, with the exporters' in it: the SDK's own loop over several would cost each span more."""
    found = wiring.batches = list(batches(settings, wiring))

    def promote(span: ReadableSpan) -> None:
        for batch in found:
            batch.promote(span)

    stages = quiet_stages(settings, wiring, promote)
    if follows_invocations():
        stages.append(open_spans(settings, wiring, found))
    return enrichment(settings, wiring, stages, found)


def open_spans(settings: Settings, wiring: Wiring, exporting: Iterable[BatchProcessor]) -> OpenSpans:
    """What knows the spans that have not ended; copies of them are redacted and exported, and nothing else."""
    from spanwell.enrich.processor import FusedProcessor
    from spanwell.export.open_spans import OpenSpans
    from spanwell.export.synchronous import SynchronousProcessor

    wiring.open = OpenSpans()
    wiring.copies = FusedProcessor(attribute_stages(settings, wiring))
    for each in exporting:
        if isinstance(each, SynchronousProcessor):
            each.left = wiring.open.left
    return wiring.open


def quiet_sampler(inner: Sampler, settings: Settings, wiring: Wiring) -> Sampler:
    """`inner`, asked only about what is not left out while it goes well; it sees who sent a request.

    Where spans are counted, for Application Signals or as RED metrics and insights, what it drops is recorded.
    """
    from spanwell.enrich.traffic import describe
    from spanwell.sampling.quiet import QuietSampler

    made = QuietSampler(inner, quiet_watch(settings, wiring), describe)
    if not counts_signals(settings) and not (settings.insights and wiring.has_metrics):
        return made
    from spanwell.sampling.recorded import RecordingSampler

    return RecordingSampler(made)


def quiet_watch(settings: Settings, wiring: Wiring) -> Watch:
    """What SPANWELL_QUIET leaves out in this process; made once."""
    if wiring.quiet is None:
        from spanwell.enrich import quiet
        from spanwell.sampling.quiet import Watch

        rules = quiet.parse(settings.quiet, lambda problem: warn_once(problem, "spanwell: %s", problem))
        wiring.quiet = watch = Watch(rules, quiet.failed, quiet.idle)
        wiring.exit.add(lambda: None, lambda _seconds: logger.debug("spanwell: left out: %s", watch.counts()))
    return wiring.quiet


def quiet_stages(settings: Settings, wiring: Wiring, promote: Callable[[ReadableSpan], None] | None) -> list[object]:
    """The stages of insights and sampler, behind those that tell who sent a request and what is left out while it
    goes well.

    Under a provider of the application's own no sampler of ours sees the spans first, and these stages do all of it.
    """
    found: list[object] = []
    headers = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST" in os.environ
    watch = quiet_watch(settings, wiring)
    if headers or watch.asked is None:
        from spanwell.enrich.traffic import Traffic

        found.append(Traffic(headers=headers))
    inner = [*insight_stages(settings, wiring), *sampler_stages(wiring, promote)]
    if watch.rules is None:
        return [*found, *inner]
    from spanwell.enrich.processor import FusedProcessor
    from spanwell.sampling.quiet import QuietStage

    alone = wiring.fragments if len(inner) == 1 else None  # one call less for every span
    return [*found, QuietStage(watch, promote, alone or (FusedProcessor(inner) if inner else None))]


def insight_stages(settings: Settings, wiring: Wiring) -> list[object]:
    """What looks at every recorded span, sampled or not, before a sampler decides which of them leave."""
    if not settings.insights:
        return []
    from spanwell.insights.buffer import Buffer

    def make() -> Look:  # when the first local root has ended, which is when the outputs are known
        from spanwell.insight_parts import insights

        wiring.insights = insights(settings, wiring)
        return wiring.insights

    if wiring.has_metrics:
        from spanwell.insights.red import Red

        wiring.red = Red()
    wiring.fragments = Buffer(make, every=None if wiring.red is None else wiring.red.spans)
    if wiring.red is not None:
        wiring.red.pull = wiring.fragments.flush
    return [wiring.fragments]


def sampler_stages(wiring: Wiring, promote: Callable[[ReadableSpan], None] | None) -> list[object]:
    """Connect the sampler, if it is one of ours, to what it needs; the span stages it brings."""
    sampler: Any = wiring.root_sampler
    if not hasattr(sampler, "connect"):  # the SDK's: nothing of ours is imported for them
        return []
    from spanwell.sampling.parentbased import Surroundings

    resource = wiring.resource
    around = Surroundings(lambda: {} if resource is None else resource.attributes, promote)
    sampler.connect(around)
    wiring.exit.add(sampler.begin_shutdown, sampler.finish)
    return around.stages


def batches(settings: Settings, wiring: Wiring) -> Iterator[BatchProcessor]:
    """One batch processor an exporter."""
    from spanwell.export.batch import BatchProcessor
    from spanwell.export.guarded import GuardedExporter
    from spanwell.settings import Settings

    make, synchronous = BatchProcessor, follows_invocations()
    if synchronous:
        from spanwell.export.synchronous import SynchronousProcessor

        make = SynchronousProcessor
    for name, build in exporters.trace_exporters(settings):
        exporter = GuardedExporter(name, build, where=exporters.endpoint(name, settings), once=synchronous)
        batch = make(
            exporter,
            max_queue=settings.bsp_max_queue_size if settings.chosen(Settings.bsp_max_queue_size) else None,
            max_batch=settings.bsp_max_export_batch_size,
            backlog_batch=0 if settings.chosen(Settings.bsp_max_export_batch_size) else 4096,
            max_bytes=settings.export_buffer_mb * 1_000_000,
            drop_newest=settings.export_drop == "newest",
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
