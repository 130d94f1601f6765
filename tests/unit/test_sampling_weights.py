"""The weights that kept traces carry tell the number of requests without bias: sum over kept of (weight or 1).

Reservoir, floor and error picks count as one; what is kept by chance counts as 1 / p. Each run must be within four
sigma of the truth, sigma from the sampling variance; the mean over seeds must be too, with sigma / sqrt(seeds).
Everything has fixed seeds, so a run that passes once passes always.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import StatusCode

from spanwell.enrich.processor import FusedProcessor
from spanwell.sampling.budget import BudgetSampler
from spanwell.sampling.build import Making, make
from spanwell.sampling.local import RulesSampler
from spanwell.sampling.outcome import REASON
from spanwell.sampling.parentbased import RootSampler, Surroundings
from spanwell.sampling.probability import adjusted_count
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.rules import Rule
from support.traffic import NOBODY, Clock, Load, bursts, nights, play, skewed, steady, step

SAMPLERS: dict[str, Callable[[Clock], Sampler]] = {
    "ratio 0.5": lambda _: RatioSampler(0.5),
    "ratio 0.02": lambda _: RatioSampler(0.02),
    "rules": lambda clock: RulesSampler(
        [
            Rule("quiet", 1, 0.3, 0, url_path="/operation3*"),
            Rule("busy", 2, 0.05, 2, url_path="/operation0*"),
            Rule("rest", 3, 0.1, 1),
        ],
        clock=clock,
    ),
    "budget": lambda clock: BudgetSampler(12, floor=20, clock=clock),
    "budget, no floor": lambda clock: BudgetSampler(12, floor=0, clock=clock),
    "budget, short floor": lambda clock: BudgetSampler(12, floor=2, clock=clock),
    "a month's budget": lambda clock: BudgetSampler(spans_per_month=12 * 86400 * 30.44, clock=clock),
}
LOADS = {
    "steady": Load(steady(40), 100, skewed(5), 2),
    "bursty": Load(bursts(5, 300, 10), 100, skewed(5), 2),
    "a jump": Load(step(4, 80, 50), 100, skewed(5), 2),
    "day and night": Load(nights(70, 2, 25), 100, skewed(5), 2),
    "many operations": Load(steady(40), 100, skewed(150), 2),
    "parents elsewhere": Load(steady(40), 100, skewed(5), 2, remote=0.2),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_weights_tell_how_many_requests_there_were(sampler: str, load: str) -> None:
    deviations = []
    for seed in range(4):
        clock = Clock()
        kept = play(SAMPLERS[sampler](clock), clock, LOADS[load], seed)
        assert 0 < sum(kept.traces.values()) < kept.requests
        assert abs(kept.deviation()) <= 4
        deviations.append((kept.estimate - kept.requests, kept.variance))
    total, variance = (sum(column) for column in zip(*deviations, strict=True))
    assert abs(total) <= 4 * variance**0.5


def test_weighting_every_pick_would_be_biased() -> None:
    """The test has teeth: if reservoir picks took the rate's weight, the estimate would be far off."""
    clock = Clock()
    kept = play(SAMPLERS["rules"](clock), clock, LOADS["steady"], 1)
    wrong = kept.estimate + kept.reasons["reservoir"] * (1 / 0.1 - 1)
    assert abs(wrong - kept.requests) > 4 * kept.variance**0.5


def test_a_weight_is_what_the_operations_share_was() -> None:
    clock = Clock()
    kept = play(BudgetSampler(5, floor=0, clock=clock), clock, Load(steady(50), 300, (1, 20)), 3)
    for name in kept.seen:
        share = kept.traces[name] / kept.seen[name]
        assert 0 < share < 1
    assert (
        kept.traces["operation0"] / kept.seen["operation0"] > 4 * kept.traces["operation1"] / kept.seen["operation1"]
    )


class _Exported(SpanProcessor):
    def __init__(self) -> None:
        self.roots: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        if span.context.trace_flags & 1:
            self.take(span)

    def take(self, span: ReadableSpan) -> None:
        if span.parent is None:
            self.roots.append(span)


@pytest.mark.parametrize(
    "argument",
    [
        "head=(ratio;0.05),base=0.2",
        "head=(ratio;0.3),base=0.1",
        "head=(ratio;0.1),base=0",
        "head=(budget;spans_per_second=5;floor=10),base=0.1",
        "head=(ratio;0),base=0.2",
    ],
)
def test_tail_with_a_base_rate(argument: str) -> None:
    """Requests that fail are kept as they are and count as one, the others by the weight of head or base."""
    clock, chance, exported = Clock(), random.Random(5), _Exported()
    sampler = make("tail", argument, Making(pytest.fail, clock=clock))
    assert isinstance(sampler, RootSampler)
    around = Surroundings(dict, exported.take)
    sampler.connect(around)
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor(around.stages))
    provider.add_span_processor(exported)
    tracer = provider.get_tracer("tests")
    state, number, failed = random.getstate(), 4000, 0
    random.seed(6)  # the SDK's ids
    try:
        for _ in range(number):
            clock.now += chance.expovariate(40)
            span = tracer.start_span("work", NOBODY)
            if chance.random() < 0.05:
                span.set_status(StatusCode.ERROR)
                failed += 1
            span.end()
    finally:
        random.setstate(state)
    weights = [adjusted_count(span.context.trace_state) or 1.0 for span in exported.roots]
    errors = [span for span in exported.roots if span.status.status_code is StatusCode.ERROR]
    assert len(errors) == failed
    assert len({span.context.trace_id for span in exported.roots}) == len(exported.roots)
    assert all(span.attributes and span.attributes[REASON] for span in exported.roots)
    variance = sum(weight * (weight - 1) for weight in weights)
    assert abs(sum(weights) - number) <= 4 * variance**0.5
