"""Settings -> sampler, id generator, resource, processors, providers. No algorithms here.

Nothing goes through the SDK's own `_configure`, which imports metrics and logs (36 ms) whether they are used or
not, takes no span limits and reads the environment unchecked (RATIONALE.md, "Our own set-up of the SDK").
"""

from __future__ import annotations

import os

from opentelemetry import trace

from spanwell._otel import registry, sdk

with registry.readable_limits():
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from spanwell import libraries
from spanwell._collector import without_gc
from spanwell._guard import guard, warn_once
from spanwell.exit import Exit
from spanwell.pipeline import add_processors, quiet_sampler
from spanwell.propagators import set_propagators
from spanwell.settings import Settings
from spanwell.where import lambda_defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.export.batch import BatchProcessor
    from spanwell.export.open_spans import OpenSpans
    from spanwell.insights.buffer import Buffer
    from spanwell.insights.red import Red
    from spanwell.insights.stage import Insights
    from spanwell.insights.vitals import Vitals
    from spanwell.sampling.quiet import Watch


class SpanwellConfigurator:
    """The `opentelemetry_configurator` entry point: sets up the SDK from the environment."""

    def configure(self, **kwargs: Any) -> None:
        """Set up the SDK once. `auto_instrumentation_version` is what opentelemetry-instrument passes."""
        with without_gc():
            settings = Settings.from_env(os.environ, layers=lambda_defaults(os.environ))
            set_up(settings, version=str(kwargs.get("auto_instrumentation_version") or ""))


class Wiring:
    """What was set up in this process.

    joined: whether the provider is the application's. has_metrics, has_logs: whether these signals are exported.
    fragments, insights, red: spans on their way to the detectors, the detectors once the first local root has ended,
    and RED aggregates where metrics are exported.
    batches, vitals: what spans leave through, and how tracing itself is doing. open, copies: the spans that have not
    ended, and what copies of them go through, where each Lambda invocation flushes.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.exit = Exit(settings.shutdown_timeout)
        self.resource: Resource | None = None
        self.exporters: list[str] = []
        self.sampler = ""
        self.joined = False
        self.root_sampler: Sampler | None = None
        self.quiet: Watch | None = None
        self.has_metrics = any(name != "none" for name in settings.metrics_exporter)
        self.has_logs = any(name != "none" for name in settings.logs_exporter)
        self.fragments: Buffer | None = None
        self.insights: Insights | None = None
        self.red: Red | None = None
        self.batches: list[BatchProcessor] = []
        self.vitals: Vitals | None = None
        self.open: OpenSpans | None = None
        self.copies: SpanProcessor | None = None

    def adopt(self, settings: Settings) -> None:
        """Go on with `settings`, which hold more than those of the start."""
        self.settings = settings
        self.exit.timeout = settings.shutdown_timeout


current: Wiring | None = None


def set_up(settings: Settings, *, version: str = "", provider: Any = None) -> Wiring | None:
    """Set the global providers and propagators; None when OTEL_SDK_DISABLED says so.

    With `provider`, a TracerProvider that the application made, our processors join it instead.
    """
    global current
    for problem in settings.problems:
        warn_once(f"setting:{problem}", "spanwell: %s", problem)
    if settings.sdk_disabled:
        return None
    set_propagators(settings)
    wiring = Wiring(settings)
    if settings.config_file:
        from spanwell.declarative import configure_from_file

        configure_from_file(settings, wiring)
    else:
        _configure(settings, wiring, version, provider)
    sdk.refresh_in_line()
    service = wiring.resource.attributes.get("service.name", "") if wiring.resource is not None else ""
    libraries.begin(wiring.settings, str(service))
    wiring.exit.install()
    current = wiring
    return wiring


def _configure(settings: Settings, wiring: Wiring, version: str, provider: Any) -> None:
    resource = wiring.resource = make_resource(settings, version)
    if provider is None:
        provider = TracerProvider(
            sampler=make_sampler(settings, wiring),
            resource=resource,
            id_generator=make_id_generator(settings),
            span_limits=span_limits(settings),
            shutdown_on_exit=False,
        )
        add_processors(provider, settings, wiring)
        trace.set_tracer_provider(provider)
    else:
        wiring.sampler, wiring.joined = "the application's", True
        add_processors(provider, settings, wiring)
    set_up_signals(settings, resource, wiring)


# --- parts ----------------------------------------------------------------------------------------------------------


def make_sampler(settings: Settings, wiring: Wiring) -> Sampler:
    """The chosen sampler, in wrappers for an undecided X-Ray header and for what is left out while it goes well."""
    from spanwell.sampling.undecided import UndecidedSampler

    wiring.root_sampler, wiring.sampler = _inner_sampler(settings)
    return quiet_sampler(UndecidedSampler(wiring.root_sampler), settings, wiring)


def _inner_sampler(settings: Settings) -> tuple[Sampler, str]:
    from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

    name, argument = settings.sampler, settings.sampler_arg
    shown = f"{name}({argument})" if argument else name
    try:
        known = registry.known_sampler(name.lower(), argument)
        if known is not None:
            return known, shown
        made = registry.load_entry_point("opentelemetry_traces_sampler", name)(argument or None)
        if isinstance(made, Sampler):
            return made, shown
        raise TypeError(f"its factory gave a {type(made).__name__}, not a Sampler")
    except Exception as error:
        warn_once(
            "sampler",
            "spanwell: OTEL_TRACES_SAMPLER=%r (argument %r) cannot be used: %s; using parentbased_always_on",
            name,
            argument,
            error,
        )
        return DEFAULT_ON, "parentbased_always_on"


def make_id_generator(settings: Settings) -> IdGenerator:
    """The chosen id generator; spanwell's X-Ray-compatible one unless the user named another."""
    from spanwell.ids import XRayIdGenerator

    name = settings.id_generator
    if name != "spanwell_xray":
        try:
            return registry.load_entry_point("opentelemetry_id_generator", name)()  # type: ignore[no-any-return]
        except Exception as error:
            warn_once("ids", "spanwell: OTEL_PYTHON_ID_GENERATOR=%r: %s; using spanwell_xray", name, error)
    return XRayIdGenerator()


def make_resource(settings: Settings, version: str) -> Resource:
    """The resource: AWS, SDK and instance, a default service name, then what the user wrote, which wins."""
    from spanwell.resource import build

    return build(settings, os.environ, version)


def span_limits(settings: Settings) -> SpanLimits:
    """The limits as values: SpanLimits() itself raises on a bad variable."""
    attributes = settings.span_attribute_count_limit
    length = settings.span_attribute_value_length_limit
    whole_length = settings.attribute_value_length_limit
    unset = SpanLimits.UNSET
    return SpanLimits(
        max_attributes=settings.attribute_count_limit,
        max_span_attributes=settings.attribute_count_limit if attributes is None else attributes,
        max_events=settings.span_event_count_limit,
        max_links=settings.span_link_count_limit,
        max_event_attributes=settings.event_attribute_count_limit,
        max_link_attributes=settings.link_attribute_count_limit,
        max_attribute_length=unset if whole_length is None else whole_length,
        max_span_attribute_length=(unset if whole_length is None else whole_length) if length is None else length,
    )


def set_up_signals(settings: Settings, resource: Resource, wiring: Wiring) -> None:
    """Metrics and logs, where an exporter is named for them; nothing of theirs is imported otherwise."""
    if wiring.has_metrics:
        with guard("setting up metrics"):
            from spanwell import metrics

            metrics.set_up(settings, resource, wiring.exit, wiring.red)
            _observe(wiring)
    if wiring.has_logs:
        with guard("setting up logs"):
            with sdk.quiet_resources():  # the import of the SDK's logs runs the detectors once more
                from spanwell import logs

            logs.set_up(settings, resource, wiring.exit)


def _observe(wiring: Wiring) -> None:
    """Our own metrics, where metrics are exported: those of the sampler, and how tracing itself is doing."""
    from opentelemetry.metrics import get_meter

    from spanwell import __version__
    from spanwell.sampling.observe import count_quiet, register

    if wiring.quiet is not None:
        count_quiet(get_meter("spanwell", __version__), wiring.quiet)
    if wiring.vitals is not None:
        wiring.vitals.register(get_meter("spanwell", __version__))
    if wiring.root_sampler is not None:
        register(get_meter("spanwell.sampling", __version__), wiring.root_sampler)
