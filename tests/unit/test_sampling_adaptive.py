"""Adaptive sampling's stage: what is an anomaly, which spans leave, how traces are counted."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult, StaticSampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from spanwell.sampling.adaptive import Adaptive, detect, operation_of, rule_hash
from spanwell.sampling.adaptive_config import Config, read
from spanwell.sampling.parentbased import Surroundings


class Counter:
    def __init__(self, default_detection: bool = True) -> None:
        self.default_detection = default_detection
        self.counted: list[tuple[bool, bool]] = []

    def count(self, *, anomalous: bool, sampled: bool) -> None:
        self.counted.append((anomalous, sampled))


class Rules:
    """The boosted rules, by name."""

    def __init__(self, **counters: Counter) -> None:
        self.counters = {rule_hash(name): counter for name, counter in counters.items()}

    @property
    def any_boost(self) -> bool:
        return bool(self.counters)

    def for_hash(self, hashed_rule_name: str) -> Counter | None:
        return self.counters.get(hashed_rule_name)


class Setup:
    """A real provider whose root decision is `decision` with the tracestate of `rule`; children follow."""

    def __init__(
        self, config: str, rules: Rules | None = None, *, promotes: bool = True, limit: int = 10_000
    ) -> None:
        self.now = 100.0
        self.sent: list[ReadableSpan] = []
        self.rules = rules or Rules()
        parsed = read(config, pytest.fail) if config else None
        self.adaptive = Adaptive(parsed, self.rules, clock=lambda: self.now, limit=limit)
        around = Surroundings(dict, self.sent.append if promotes else None)
        self.adaptive.connect(around)
        self.provider = TracerProvider(shutdown_on_exit=False)
        stages = around.stages

        class Stages(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                for stage in stages:
                    stage.on_end(span)  # type: ignore[attr-defined]

        self.provider.add_span_processor(Stages())

    def start(self, sampled: bool, name: str, parent: Any = None, rule: str = "") -> Span:
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY
        state = TraceState([("xrsr", rule_hash(rule))]) if rule else None

        class Fixed(StaticSampler):
            def should_sample(self, *_args: Any, **_more: Any) -> SamplingResult:
                return SamplingResult(decision, None, state)

        tracer = self.provider.get_tracer("tests")
        tracer.sampler = Fixed(decision)  # type: ignore[attr-defined]
        context = set_span_in_context(parent) if parent is not None else otel_context.Context()
        return tracer.start_span(name, context, start_time=0)  # type: ignore[return-value]

    def trace(self, sampled: bool = False, code: object = None, rule: str = "", error: bool = False) -> Span:
        span = self.start(sampled, "root", rule=rule)
        if code is not None:
            span.set_attribute("http.response.status_code", code)  # type: ignore[arg-type]
        if error:
            span.set_status(Status(StatusCode.ERROR))
        span.end(1)
        return span

    def names(self) -> list[str]:
        return [span.name for span in self.sent]


DEFAULT = "version: 1.0"


def ended(attributes: dict[str, Any], *, error: bool = False, milliseconds: int = 1) -> ReadableSpan:
    status = Status(StatusCode.ERROR if error else StatusCode.UNSET)
    return ReadableSpan(
        "x", attributes=attributes, status=status, start_time=5, end_time=5 + milliseconds * 1_000_000
    )


# --- detection


@pytest.mark.parametrize("key", ["http.response.status_code", "http.status_code"])
@pytest.mark.parametrize(
    ("code", "error", "found"),
    [
        (200, False, False),
        (499, True, False),
        (500, False, True),
        (599, False, True),
        ("503", False, True),
        ("404", True, False),
        ("strange", True, True),
        ("strange", False, False),
        (True, False, False),
        ("9" * 5000, False, False),
        ((500, 500), False, False),
    ],
)
def test_the_default_condition(key: str, code: object, error: bool, found: bool) -> None:
    span = ended({key: code}, error=error)
    assert detect(None, span) == (found, found)
    assert detect(Config(), span) == (found, found)
    assert detect(Config(), span, default=False) == (False, False)


def test_without_a_status_code_an_error_is_an_anomaly() -> None:
    assert detect(None, ended({}, error=True)) == (True, True)
    assert detect(None, ended({})) == (False, False)


def parsed(conditions: str) -> Config:
    config = read(f"{{version: 1.0, anomalyConditions: {conditions}}}", pytest.fail)
    assert config is not None
    return config


@pytest.mark.parametrize("key", ["http.response.status_code", "http.status_code"])
def test_conditions_in_both_conventions(key: str) -> None:
    config = parsed(
        "[{errorCodeRegex: '^5\\d\\d$', highLatencyMs: 300}, {errorCodeRegex: '429', usage: sampling-boost}]"
    )
    assert detect(config, ended({key: 500}, milliseconds=300)) == (True, True)
    assert detect(config, ended({key: 500}, milliseconds=299)) == (False, False)
    assert detect(config, ended({key: 200}, milliseconds=900)) == (False, False)
    assert detect(config, ended({key: 429})) == (True, False)
    assert detect(config, ended({key: 4290})) == (False, False)
    assert detect(config, ended({}, error=True)) == (False, False)


def test_conditions_add_up() -> None:
    config = parsed(
        "[{highLatencyMs: 10, usage: sampling-boost}, {highLatencyMs: 20, usage: anomaly-trace-capture},"
        " {highLatencyMs: 30, usage: neither}]"
    )
    assert [detect(config, ended({}, milliseconds=each)) for each in (5, 10, 20)] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_the_default_has_no_say_where_there_are_conditions() -> None:
    config = parsed("[{highLatencyMs: 10, usage: neither}]")
    assert detect(config, ended({"http.status_code": 500}, milliseconds=20)) == (False, False)
    config = parsed("[{errorCodeRegex: '5..'}]")
    assert detect(config, ended({"http.status_code": 500}), default=False) == (True, True)


def test_operations() -> None:
    config = parsed("[{highLatencyMs: 0, operations: ['GET /api', Named]}]")
    for attributes, found in (
        ({"http.request.method": "GET", "url.path": "/api/users/7"}, True),
        ({"http.method": "GET", "http.target": "/api?x=/1"}, True),
        ({"http.request.method": "POST", "url.path": "/api"}, False),
        ({"http.request.method": "GET", "url.path": "/api", "aws.local.operation": "Other"}, False),
        ({"aws.local.operation": "Named"}, True),
        ({}, False),
    ):
        assert detect(config, ended(attributes)) == (found, found)


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({}, "UnknownOperation"),
        ({"http.request.method": "GET"}, "UnknownOperation"),
        ({"url.path": "/a/b"}, "/a"),
        ({"http.request.method": "GET", "url.path": ""}, "GET /"),
        ({"http.request.method": "GET", "url.path": "//a"}, "GET /"),
        ({"http.request.method": "GET", "url.path": "a/b"}, "GET /"),
        ({"http.request.method": "GET", "url.full": "https://host:81/a/b?c=/d"}, "GET /a"),
        ({"http.method": "PUT", "http.url": "http://host"}, "PUT /"),
        ({"http.method": "PUT", "http.url": "http://host?x=/y"}, "PUT /"),
        ({"http.method": "PUT", "http.url": "nonsense"}, "PUT /"),
        ({"http.method": "PUT", "http.target": "/a#b"}, "PUT /a"),
        ({"http.method": 5, "http.target": 7}, "5 /"),
        ({"aws.local.operation": "Mine", "url.path": "/a"}, "Mine"),
    ],
)
def test_operation_names(attributes: dict[str, Any], operation: str) -> None:
    assert operation_of(attributes) == operation


# --- capture


def test_an_anomalous_unsampled_root_leaves_marked() -> None:
    setup = Setup(DEFAULT)
    setup.trace(code=200)
    setup.trace(code=500)
    (span,) = setup.sent
    assert span.attributes is not None
    assert span.attributes["aws.trace.flag.sampled"] is False
    assert span.attributes["spanwell.sampling.reason"] == "anomaly"


def test_once_captured_the_rest_of_the_trace_follows() -> None:
    setup = Setup(DEFAULT)
    root = setup.start(False, "root")
    before, failing, after = (setup.start(False, name, root) for name in ("before", "failing", "after"))
    before.end()
    failing.set_status(Status(StatusCode.ERROR))
    failing.end()
    after.end()
    root.end()
    assert setup.names() == ["failing", "after", "root"]
    assert [(span.attributes or {}).get("spanwell.sampling.reason") for span in setup.sent] == [None, None, "anomaly"]
    assert all((span.attributes or {})["aws.trace.flag.sampled"] is False for span in setup.sent)


def test_a_rate_of_ten_never_bursts_to_a_hundred() -> None:
    setup = Setup("{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: 10}}")
    setup.now = 1_000_000.0
    for expected, step in ((10, 0.0), (20, 3600.0), (20, 0.0), (21, 0.125), (22, 0.125), (32, 100.0), (32, -50.0)):
        setup.now += step
        for _ in range(200 if step in (0.0, 3600.0, 100.0, -50.0) else 1):
            setup.trace(code=500)
        assert len(setup.sent) == expected


def test_the_first_second_is_not_lost_and_a_slow_rate_keeps_one() -> None:
    setup = Setup("{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: 0.5}}")
    for expected, step in ((1, 0.0), (1, 1.5), (2, 0.5), (3, 1000.0)):
        setup.now += step
        for _ in range(5):
            setup.trace(code=500)
        assert len(setup.sent) == expected


def test_sampled_spans_take_no_token_and_are_not_sent_twice() -> None:
    setup = Setup(DEFAULT)
    for _ in range(50):
        setup.trace(sampled=True, code=500)
    assert setup.sent == []
    setup.trace(code=500)
    assert len(setup.sent) == 1


def test_a_span_that_has_left_already_is_not_sent_again() -> None:
    setup = Setup(DEFAULT)
    span = setup.start(False, "root")
    span.set_attribute("aws.trace.flag.sampled", False)
    span.set_status(Status(StatusCode.ERROR))
    span.end()
    assert setup.sent == []
    setup.trace(code=500)  # it took no token either
    assert len(setup.sent) == 1


def test_nothing_is_captured_where_nothing_can_export(caplog: pytest.LogCaptureFixture) -> None:
    rules = Rules(boosted=Counter())
    setup = Setup(DEFAULT, rules, promotes=False)
    assert not setup.adaptive.captures
    assert not setup.adaptive.records_root(False)
    setup.trace(code=500, rule="boosted")
    assert setup.sent == []
    assert rules.counters[rule_hash("boosted")].counted == [(True, False)]
    assert "captures none" in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: 0}}",
        "{version: 1, anomalyConditions: [{errorCodeRegex: '5..', usage: sampling-boost}]}",
    ],
)
def test_nothing_is_captured_or_recorded_unless_asked_for(config: str, caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(config)
    assert not setup.adaptive.captures
    setup.trace(code=500)
    assert setup.sent == []
    assert caplog.text == ""
    assert setup.adaptive.configured is bool(config)


def test_the_memory_is_bounded_and_keeps_the_latest() -> None:
    setup = Setup("{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: 1000}}", limit=10)
    roots = [setup.start(False, "root") for _ in range(11)]
    for root in roots:
        failing = setup.start(False, "failing", root)
        failing.set_status(Status(StatusCode.ERROR))
        failing.end()
        setup.start(False, "later", roots[0]).end()  # stays in use, so it is not the oldest
    setup.sent.clear()
    for root in roots:
        root.end()
    assert (
        [span.context.span_id for span in setup.sent]
        == [  # type: ignore[union-attr]
            root.get_span_context().span_id for root in (roots[0], *roots[2:])
        ]
    )
    assert len(setup.adaptive._traces) == 10


def test_threads_share_the_tokens() -> None:
    setup = Setup("{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: 25}}")
    tracer = setup.provider.get_tracer("tests")
    tracer.sampler = StaticSampler(Decision.RECORD_ONLY)  # type: ignore[attr-defined]

    def serve() -> None:
        for _ in range(20):
            with tracer.start_as_current_span("root", otel_context.Context(), attributes={"http.status_code": 500}):
                pass

    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(setup.sent) == 25


# --- boost statistics


@pytest.mark.parametrize("config", ["", DEFAULT])
@pytest.mark.parametrize("sampled", [True, False])
def test_each_trace_is_counted_once(config: str, sampled: bool) -> None:
    counter = Counter()
    setup = Setup(config, Rules(boosted=counter))
    root = setup.start(sampled, "root", rule="boosted")
    for _ in range(3):
        setup.start(sampled, "child", root, rule="boosted").end()
    root.set_status(Status(StatusCode.ERROR))
    root.end()
    assert counter.counted == [(True, sampled)]
    setup.trace(sampled, code=200, rule="boosted")
    assert counter.counted[1:] == [(False, sampled)]


def test_with_capture_a_failing_child_makes_its_trace_an_anomaly() -> None:
    counter = Counter()
    setup = Setup(DEFAULT, Rules(boosted=counter))
    for sampled in (True, False):
        root = setup.start(sampled, "root", rule="boosted")
        for _ in range(2):
            child = setup.start(sampled, "child", root, rule="boosted")
            child.set_status(Status(StatusCode.ERROR))
            child.end()
        root.end()
    assert counter.counted == [(True, True), (True, False)]


def test_without_capture_local_roots_alone_are_looked_at_sampled_or_not() -> None:
    counter = Counter()
    setup = Setup("", Rules(boosted=counter))
    root = setup.start(True, "root", rule="boosted")
    child = setup.start(True, "child", root, rule="boosted")
    child.set_status(Status(StatusCode.ERROR))
    child.end()
    root.end()
    assert counter.counted == [(False, True)]


def test_two_local_roots_of_one_trace_count_once() -> None:
    counter = Counter()
    setup = Setup("", Rules(boosted=counter))
    remote = NonRecordingSpan(SpanContext(7, 8, True, TraceFlags(1), TraceState([("xrsr", rule_hash("boosted"))])))
    for _ in range(2):
        setup.start(True, "served", remote, rule="boosted").end()
    assert counter.counted == [(False, True)]


def test_only_the_rule_that_decided_counts() -> None:
    counter, silent = Counter(), Counter(default_detection=False)
    setup = Setup(DEFAULT, Rules(boosted=counter, silent=silent))
    setup.trace(code=500)
    setup.trace(code=500, rule="unknown")
    assert counter.counted == silent.counted == []
    setup.trace(code=500, rule="silent")
    assert silent.counted == [(False, False)]
    assert len(setup.sent) == 1  # of the one token; the rule without default detection would not have captured


def test_default_detection_switched_off_captures_nothing() -> None:
    setup = Setup(DEFAULT, Rules(silent=Counter(default_detection=False)))
    setup.trace(code=500, rule="silent")
    assert setup.sent == []


def test_conditions_count_for_a_rule_without_default_detection() -> None:
    counter = Counter(default_detection=False)
    setup = Setup(
        "{version: 1, anomalyConditions: [{errorCodeRegex: '5..', usage: sampling-boost}]}", Rules(silent=counter)
    )
    setup.trace(code=500, rule="silent")
    assert counter.counted == [(True, False)]


# --- what must be recorded


def test_what_an_unsampled_span_is_recorded_for() -> None:
    rules = Rules(boosted=Counter())

    def parent(remote: bool, rule: str = "boosted") -> SpanContext:
        return SpanContext(7, 8, remote, TraceFlags(0), TraceState([("xrsr", rule_hash(rule))]))

    boosts_only = Setup("", rules).adaptive
    assert boosts_only.records_root(True)
    assert not boosts_only.records_root(False)
    assert boosts_only.records_child(parent(True))
    assert not boosts_only.records_child(parent(True, "unknown"))
    assert not boosts_only.records_child(parent(False))
    assert not boosts_only.records_child(SpanContext(7, 8, True))
    capturing = Setup(DEFAULT).adaptive
    assert capturing.records_root(False)
    assert capturing.records_child(parent(False))
    assert capturing.records_child(SpanContext(7, 8, True))


def test_the_hash_of_a_rule_name() -> None:
    assert rule_hash("Default") == "21b111cbfe6e8fca"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_tokens_and_no_held_lock() -> None:
    setup = Setup(DEFAULT)
    setup.trace(code=500)
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with setup.adaptive._lock, setup.adaptive._tokens._lock:
            held.set()
            forked.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:  # a held lock would hang it: the alarm ends it then
        signal.alarm(30)
        setup.sent.clear()
        setup.trace(code=500)
        setup.trace(code=500)
        os._exit(0 if len(setup.sent) == 1 else 1)
    forked.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_a_span_that_ends_within_our_locks_does_not_wait_for_itself() -> None:
    # As when the garbage collector, or a signal handler, ends a span in the middle of another one's end.
    setup = Setup(DEFAULT)

    def end() -> None:
        with setup.adaptive._lock, setup.adaptive._tokens._lock:
            setup.trace(code=500)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(setup.sent) == 1


def test_a_sampler_that_is_gone_leaves_nothing_behind() -> None:
    def count() -> int:
        gc.collect()
        return sum(isinstance(each, Adaptive) for each in gc.get_objects())

    before = count()
    Adaptive(None, Rules())
    assert count() == before
