"""A provider whose local roots are looked at, as spanwell wires it: the insights' stage first, then what exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult

from spanwell.enrich.processor import FusedProcessor
from spanwell.insights.buffer import DEFAULT, Bounds, Buffer
from spanwell.insights.loading import Loaded
from spanwell.insights.model import WARNING, Fragment, Insight, Thresholds
from spanwell.insights.stage import Insights
from support.exporters import ListExporter
from support.tails import Clock


def detector(name: str, detect: Callable[[Fragment], Iterable[Insight]], may: Any = lambda hints: True) -> Any:
    """A detector of a user: it is asked about every local root."""
    return SimpleNamespace(NAME=name, DEFAULTS={}, may=may, detect=lambda fragment, thresholds: detect(fragment))


def names(fragment: Fragment) -> list[Insight]:
    """One insight whose evidence is every span of the fragment, in the order of their ends."""
    ids = tuple(span.span_id for span in fragment.spans)
    return [Insight("seen", WARNING, "It was seen.", (fragment.operation,), ids, {"count": len(ids)})]


class RecordOnly(Sampler):
    """Records every span and samples none."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "RecordOnly"


class Watched:
    """`fragments`: what was looked at. `told`: (insight, fingerprint, context). `exporter`: what left."""

    def __init__(
        self,
        *detectors: Any,
        bounds: Bounds = DEFAULT,
        sampler: Sampler = ALWAYS_ON,
        thresholds: Thresholds | None = None,
        every: Any = None,
        over_time: Any = tuple,
    ) -> None:
        self.clock = Clock()
        self.fragments: list[Fragment] = []
        self.told: list[tuple[Insight, str, Any]] = []
        self.exporter = ListExporter()
        seen = detector("seen", self._seen)
        loaded = Loaded([seen, *detectors], {}, thresholds or Thresholds({}))
        self.insights = Insights(
            loaded,
            resource=lambda: self.provider.resource.attributes,
            tell=[lambda *found: self.told.append(found)],
            over_time=over_time,
            clock=self.clock,
        )
        self.buffer = Buffer(lambda: self.insights, every=every, bounds=bounds)
        self.provider = TracerProvider(
            sampler=sampler, resource=Resource({"service.name": "shop"}), shutdown_on_exit=False
        )
        self.provider.add_span_processor(FusedProcessor([self.buffer]))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    def _seen(self, fragment: Fragment) -> Iterable[Insight]:
        self.fragments.append(fragment)
        return ()

    def names(self) -> list[list[str]]:
        """The names of the spans of each fragment."""
        return [[span.name for span in fragment.spans] for fragment in self.fragments]
