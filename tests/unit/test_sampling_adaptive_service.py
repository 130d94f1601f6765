"""Adaptive sampling and the service together: what it is told of anomalies, and what its boost does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from spanwell.enrich.processor import FusedProcessor
from spanwell.sampling.adaptive import rule_hash
from spanwell.sampling.adaptive_config import read
from spanwell.sampling.client import SamplingClient
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.remote import XRaySampler
from spanwell.sampling.tail import TailSampler
from spanwell.sampling.tail_rules import Rules
from spanwell.testing import FakeClock, FakeSamplingService

EPOCH = 1_795_000_000.0
RESOURCE = {"service.name": "shop"}
BOOSTED = {
    "RuleName": "shop",
    "FixedRate": 0.0,
    "ReservoirSize": 0,
    "SamplingRateBoost": {"MaxRate": 1.0, "CooldownWindowMinutes": 1},
}


class Process(SpanProcessor):
    """One traced process whose clock and polls the test moves."""

    def __init__(self, service: FakeSamplingService, clock: FakeClock, config: str, *, tail: bool = False) -> None:
        self.clock = clock
        self.promoted: list[ReadableSpan] = []
        self.ended: list[ReadableSpan] = []
        self.sampler = XRaySampler(
            RatioSampler(0.0),
            adaptive=read(config, pytest.fail),
            client=lambda: SamplingClient(service.endpoint),
            clock=clock,
            wall=lambda: EPOCH + clock(),
            random=lambda: 0.0,
        )
        self.sampler.poller.idle = False  # no thread: the test polls
        around = Surroundings(lambda: RESOURCE, self.promoted.append)
        outer = TailSampler(self.sampler, Rules(slow_ms=0), clock=clock) if tail else self.sampler
        outer.connect(around)
        provider = TracerProvider(sampler=outer, shutdown_on_exit=False)
        provider.add_span_processor(FusedProcessor(around.stages))
        provider.add_span_processor(self)
        self.tracer = provider.get_tracer("tests")

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def poll(self, seconds: float) -> None:
        self.clock.advance(seconds)
        while self.sampler.poller.turn() <= 0:
            pass

    def serve(self, code: int = 200, parent: SpanContext | None = None, child_fails: bool = False) -> SpanContext:
        context = set_span_in_context(NonRecordingSpan(parent)) if parent else otel_context.Context()
        root = self.tracer.start_span("served", context)
        child = self.tracer.start_span("asked", set_span_in_context(root))
        if child_fails:
            child.set_status(Status(StatusCode.ERROR))
        child.end()
        root.set_attribute("http.response.status_code", code)
        root.end()
        return root.get_span_context()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(clock: FakeClock) -> Iterator[FakeSamplingService]:
    with FakeSamplingService([BOOSTED], clock=lambda: EPOCH + clock()) as service:
        yield service
        assert service.violations == []


def boosts(service: FakeSamplingService) -> list[tuple[object, ...]]:
    names = ("RuleName", "ServiceName", "TotalCount", "AnomalyCount", "SampledAnomalyCount")
    return [tuple(document[name] for name in names) for document in service.boosts]


@pytest.mark.parametrize("config", ["", "version: 1.0"])
def test_anomalies_are_reported_and_a_boost_holds_until_its_end(
    service: FakeSamplingService, clock: FakeClock, config: str
) -> None:
    process = Process(service, clock, config)
    process.poll(0)
    for code in (200, 500, 200, 503, 404):
        assert not process.serve(code).trace_flags.sampled
    process.poll(11)
    assert boosts(service) == [("shop", "shop", 5, 2, 0)]
    service.set_boost("shop", 1.0, seconds=30)
    process.serve()
    process.poll(11)
    assert process.serve(500).trace_flags.sampled
    assert process.ended[-1].attributes is not None
    assert process.ended[-1].attributes["spanwell.sampling.reason"] == "boost"
    service.set_boost("shop", None)
    process.poll(11)  # defect 6: a target without SamplingBoost does not end the boost
    assert boosts(service)[1:] == [("shop", "shop", 1, 0, 0), ("shop", "shop", 1, 1, 1)]
    assert process.serve().trace_flags.sampled
    clock.advance(7)
    assert process.serve().trace_flags.sampled
    clock.advance(2)
    assert not process.serve().trace_flags.sampled


def test_without_configuration_only_boosted_local_roots_are_recorded(
    service: FakeSamplingService, clock: FakeClock
) -> None:
    service.set_rules([BOOSTED, {"RuleName": "plain", "Priority": 1, "URLPath": "/plain", "FixedRate": 0.0}])
    process = Process(service, clock, "")
    process.poll(0)
    process.serve()
    assert [span.name for span in process.ended] == ["served"]
    process.ended.clear()
    process.tracer.start_span("plain", otel_context.Context(), attributes={"url.path": "/plain"}).end()  # borrowed
    process.tracer.start_span("plain", otel_context.Context(), attributes={"url.path": "/plain"}).end()
    assert [span.context.trace_flags.sampled for span in process.ended] == [True]  # type: ignore[union-attr]
    assert process.promoted == []


def test_capture_records_everything_and_sends_one_trace_a_second(
    service: FakeSamplingService, clock: FakeClock
) -> None:
    process = Process(service, clock, "version: 1.0")
    process.poll(0)
    process.serve()
    assert [span.name for span in process.ended] == ["asked", "served"]
    assert process.ended[1].attributes is not None
    assert process.ended[1].attributes["aws.xray.adaptive_sampling_configured"] is True
    assert process.ended[1].attributes["aws.xray.sampling_rule"] == "shop"
    for _ in range(3):
        process.serve(child_fails=True)
    assert [span.name for span in process.promoted] == ["asked", "served"]
    clock.advance(1.0)
    process.serve(500)
    assert [span.name for span in process.promoted] == ["asked", "served", "served"]
    process.poll(11)
    assert boosts(service) == [("shop", "shop", 5, 4, 0)]


def test_downstream_counts_under_the_rule_that_the_tracestate_names(
    service: FakeSamplingService, clock: FakeClock
) -> None:
    process = Process(service, clock, "version: 1.0")
    process.poll(0)

    def parent(sampled: bool, rule: str) -> SpanContext:
        state = TraceState([("xrsr", rule_hash(rule))]) if rule else None
        return SpanContext(9 if sampled else 8, 7, True, TraceFlags(sampled), state)

    process.serve(500, parent(True, "shop"))
    process.serve(500, parent(False, "shop"))
    process.serve(500, parent(False, "of another account"))
    process.serve(500, parent(False, ""))
    process.poll(11)
    assert boosts(service) == [("shop", "shop", 2, 2, 1)]
    assert service.total() == (0, 0, 0)


def test_a_service_without_roots_of_its_own_asks_for_the_rules_too(
    service: FakeSamplingService, clock: FakeClock
) -> None:
    process = Process(service, clock, "")
    process.sampler.poller.idle = True
    context = SpanContext(9, 7, True, TraceFlags(1))
    process.serve(200, context)
    assert process.sampler.poller.idle
    process.serve(200, SpanContext(9, 7, True, TraceFlags(1), TraceState([("xrsr", rule_hash("shop"))])))
    assert not process.sampler.poller.idle
    process.sampler.begin_shutdown()
    process.sampler.finish(1)


def test_while_there_are_no_rules_anomalies_are_captured_all_the_same(
    service: FakeSamplingService, clock: FakeClock
) -> None:
    service.fail()
    process = Process(service, clock, "version: 1.0")
    process.poll(0)
    process.serve(500)
    (span,) = process.promoted
    assert span.attributes is not None
    assert span.attributes["spanwell.sampling.reason"] == "anomaly"
    assert span.attributes["aws.xray.adaptive_sampling_configured"] is True


def test_around_it_tail_has_the_first_word_and_nothing_leaves_twice(
    service: FakeSamplingService, clock: FakeClock
) -> None:
    config = "{version: 1.0, anomalyConditions: [{errorCodeRegex: '4..'}, {errorCodeRegex: '5..'}]}"
    process = Process(service, clock, config, tail=True)
    process.poll(0)
    for _ in range(3):
        process.serve(503)  # tail keeps it for its status, and takes no token of ours
    process.serve(404)
    process.serve(404)
    reasons = [(span.attributes or {}).get("spanwell.sampling.reason") for span in process.promoted]
    assert reasons == [None, "status"] * 3 + ["anomaly"]
    assert len({span.get_span_context().span_id for span in process.promoted}) == 7  # type: ignore[union-attr]
    process.poll(11)
    assert boosts(service) == [("shop", "shop", 5, 5, 0)]
