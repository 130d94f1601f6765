"""What is left out while it goes well: recognised, recorded apart, exported if it fails, kept from samplers."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF, DEFAULT_ON, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from spanwell.enrich import quiet
from spanwell.enrich.processor import FusedProcessor
from spanwell.enrich.traffic import describe
from spanwell.sampling.local import RulesSampler
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.quiet import MOST_CHILDREN, MOST_OPEN, QuietSampler, QuietStage, Watch
from spanwell.sampling.rules import Rule
from spanwell.sampling.tail import TailSampler
from spanwell.sampling.tail_rules import Rules as TailRules
from spanwell.sampling.undecided import UndecidedSampler

SERVER, CLIENT, INTERNAL = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL
POLL = {"rpc.system": "aws-api", "rpc.service": "SQS", "rpc.method": "ReceiveMessage"}
IMDS = {"http.request.method": "GET", "url.full": "http://169.254.169.254/latest/meta-data/iam/"}


def get(path: str, agent: str = "curl/8", method: str = "GET") -> dict[str, Any]:
    return {"http.request.method": method, "url.path": path, "user_agent.original": agent}


class Bench:
    """A provider set up as the distro does; `names` are the exported spans, sampled ones and promoted ones."""

    def __init__(self, root: Sampler = DEFAULT_ON, words: Any = quiet.DEFAULT, *, theirs: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        self.promoted: list[ReadableSpan] = []
        self.watch = Watch(quiet.parse(words, pytest.fail), quiet.failed, quiet.idle)
        around = Surroundings(dict, self.promoted.append)
        if hasattr(root, "connect"):
            root.connect(around)
        sampler = root if theirs else QuietSampler(UndecidedSampler(root), self.watch, describe)
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(
            FusedProcessor([QuietStage(self.watch, self.promoted.append, FusedProcessor(around.stages))])
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def names(self) -> list[str]:
        return sorted(span.name for span in (*self.exporter.get_finished_spans(), *self.promoted))

    def request(
        self, attributes: dict[str, Any], *, status: int = 200, remote: SpanContext | None = None
    ) -> SpanContext:
        """A request with a child that has a child; gives what the innermost one would hand on."""
        context = None if remote is None else trace.set_span_in_context(NonRecordingSpan(remote))
        with self.tracer.start_as_current_span("request", context, SERVER, attributes) as root:
            with (
                self.tracer.start_as_current_span("query"),
                self.tracer.start_as_current_span("call", kind=CLIENT) as call,
            ):
                inner = call.get_span_context()
            root.set_attribute("http.response.status_code", status)
        return inner


# --- recognition ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        get("/health"),
        get("/healthz"),
        get("/health/live"),
        get("/healthcheck"),
        get("/health-check"),
        get("/Health.json"),
        get("/ping"),
        get("/readyz", method="HEAD"),
        get("/orders", "ELB-HealthChecker/2.0"),
        get("/orders", "kube-probe/1.31", "POST"),
        get("/", "Amazon-Route53-Health-Check-Service (ref 2e7d; report http://amzn.to/1vsZADi)"),
        {"http.method": "GET", "http.target": "/health?deep=1"},
        {
            "http.method": "GET",
            "http.url": "http://x/",
            "http.target": "/",
            "http.user_agent": "ELB-HealthChecker/2.0",
        },
        {"url.full": "https://shop.test/ping"},
    ],
    ids=str,
)
def test_a_health_check_is_known_by_its_path_or_its_sender(attributes: dict[str, Any]) -> None:
    assert quiet.Rules().label(SERVER, attributes) == quiet.HEALTH
    assert quiet.Rules().label(CLIENT, attributes) == ""


@pytest.mark.parametrize(
    "attributes",
    [
        get("/healthcare"),
        get("/health-insurance/12"),
        get("/pingpong"),
        get("/ping/12"),
        get("/orders/health"),
        get("/health", method="POST"),
        get("/orders", "Mozilla/5.0"),
        {},
        None,
        {"url.path": 7},
        {"user_agent.original": b"\xff"},
    ],
    ids=str,
)
def test_business_is_no_health_check(attributes: dict[str, Any]) -> None:
    assert quiet.Rules().label(SERVER, attributes) == ""


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("GET health/", "health"),
        ("GET /ping", "health"),
        ("GET ^healthz/$", "health"),
        ("GET", ""),
        ("GET orders", ""),
    ],
)
def test_without_a_path_the_name_tells_it(name: str, label: str) -> None:
    attributes = {"http.request.method": "GET", "url.scheme": "http"}
    assert quiet.Rules().label(SERVER, attributes, name) == label


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("http://169.254.169.254/latest/api/token", "credentials"),
        ("http://169.254.170.2/v2/credentials/x", "credentials"),
        ("http://169.254.170.23:80/v1/credentials", "credentials"),
        ("http://[fd00:ec2::254]/latest/meta-data", "credentials"),
        ("http://[fd00:ec2::254]:80/latest/meta-data", "credentials"),
        ("http://user@169.254.169.254/x", "credentials"),
        ("http://shop.test/?next=http://169.254.169.254/", ""),
        ("http://169.254.169.254.evil.test/", ""),
        ("http://169.254.100.1/", ""),
        ("", ""),
    ],
)
def test_metadata_services_are_known_by_their_host(url: str, label: str) -> None:
    assert quiet.Rules().label(CLIENT, {"url.full": url}) == label
    assert quiet.Rules().label(CLIENT, {"http.url": url}) == label
    assert quiet.Rules(["health"]).label(CLIENT, {"url.full": url}) == ""


def test_a_role_is_quiet_when_the_credential_chain_assumes_it() -> None:
    call = {"rpc.service": "STS", "rpc.method": "AssumeRole"}
    rules = quiet.Rules()
    assert rules.label(CLIENT, call) == ""
    scope = {"__name__": "botocore.credentials", "rules": rules, "call": call, "CLIENT": CLIENT}
    assert eval("rules.label(CLIENT, call)", scope) == quiet.CREDENTIALS


def test_the_setting_changes_what_is_quiet() -> None:
    rules = quiet.parse(["polls", "path:/status*", "agent:Pinger", "host:vault.test"], pytest.fail)
    assert rules is not None
    assert rules.label(SERVER, get("/status/all")) == "health"
    assert rules.label(SERVER, get("/", "the pinger/1")) == "health"
    assert rules.label(SERVER, get("/health")) == ""
    assert rules.label(CLIENT, {"url.full": "https://vault.test:8200/v1"}) == "credentials"
    assert rules.label(CLIENT, IMDS) == ""
    assert rules.label(CLIENT, POLL) == "polls"
    assert quiet.parse(["none"], pytest.fail) is None
    assert quiet.parse([], pytest.fail) is None


def test_a_word_that_cannot_be_read_is_said_and_the_rest_applies() -> None:
    said: list[str] = []
    rules = quiet.parse(["healht", "path:", "polls"], said.append)
    assert rules is not None
    assert rules.kinds == {"polls"}
    assert ["'healht'" in said[0], "'path:'" in said[1], "SPANWELL_QUIET" in said[0]] == [True] * 3


# --- health checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [False, True], ids=["our sampler", "the application's"])
def test_a_health_check_that_goes_well_leaves_nothing(theirs: bool) -> None:
    bench = Bench(theirs=theirs)
    inner = bench.request(get("/health"))
    assert bench.names == []
    assert inner.trace_flags & 1 == theirs
    assert bench.watch.counts() == {"health": 3}
    bench.request(get("/orders"))
    assert bench.names == ["call", "query", "request"]
    assert not bench.watch.checks


@pytest.mark.parametrize("theirs", [False, True], ids=["our sampler", "the application's"])
def test_a_failing_health_check_leaves_with_what_was_in_it(theirs: bool) -> None:
    bench = Bench(theirs=theirs)
    bench.request(get("/health"), status=503)
    assert bench.names == ["call", "query", "request"]
    assert bench.watch.counts() == {}
    if not theirs:
        root = next(span for span in bench.promoted if span.name == "request")
        assert root.attributes is not None
        assert root.attributes["spanwell.sampling.reason"] == "error"
        assert root.attributes["aws.trace.flag.sampled"] is False


def test_a_status_of_error_is_a_failure() -> None:
    bench = Bench()
    with bench.tracer.start_as_current_span("request", kind=SERVER, attributes=get("/ping")) as span:
        span.set_status(StatusCode.ERROR)
    assert bench.names == ["request"]


def test_a_sampled_caller_does_not_make_a_health_check_loud() -> None:
    bench = Bench()
    bench.request(get("/health"), remote=SpanContext(7, 8, True, TraceFlags(1)))
    assert bench.names == []


def test_what_begins_after_the_check_has_ended_is_dropped() -> None:
    bench = Bench()
    with bench.tracer.start_as_current_span("request", kind=SERVER, attributes=get("/health")) as root:
        context = trace.set_span_in_context(root)
    bench.tracer.start_span("late", context).end()
    assert bench.names == []


def test_a_child_that_outlives_the_check_is_not_exported() -> None:
    bench = Bench()
    with bench.tracer.start_as_current_span("request", kind=SERVER, attributes=get("/health")):
        child = bench.tracer.start_span("child")
    child.end()
    assert bench.names == []
    assert not bench.watch.checks


def test_a_check_holds_a_bounded_number_of_spans() -> None:
    bench = Bench()
    with bench.tracer.start_as_current_span("request", kind=SERVER, attributes=get("/health")) as root:
        for _ in range(MOST_CHILDREN + 5):
            bench.tracer.start_span("child").end()
        root.set_status(StatusCode.ERROR)
    assert len(bench.promoted) == MOST_CHILDREN + 1


def test_checks_that_never_end_are_forgotten_in_time() -> None:
    bench = Bench()
    spans = [bench.tracer.start_span("request", None, SERVER, get("/health")) for _ in range(MOST_OPEN + 1)]
    assert len(bench.watch.checks) <= MOST_OPEN
    spans[0].end()
    assert bench.names == []


# --- polls and calls for credentials --------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [False, True], ids=["our sampler", "the application's"])
def test_an_empty_poll_is_left_out_and_one_with_messages_is_not(theirs: bool) -> None:
    bench = Bench(theirs=theirs)
    bench.tracer.start_span("empty", kind=CLIENT, attributes=POLL).end()
    with bench.tracer.start_as_current_span("full", kind=CLIENT, attributes=POLL) as poll:
        poll.set_attribute("messaging.message.id", "m-1")
    assert bench.names == ["full"]
    assert bench.exporter.get_finished_spans()[0].context.trace_flags & 1
    assert bench.watch.counts() == {"polls": 1}


def test_a_failing_poll_leaves() -> None:
    bench = Bench()
    with bench.tracer.start_as_current_span("poll", kind=CLIENT, attributes=POLL) as poll:
        poll.set_status(StatusCode.ERROR)
    assert bench.names == ["poll"]


def test_within_a_trace_only_the_dull_call_is_missing() -> None:
    bench = Bench()
    with bench.tracer.start_as_current_span("job"):
        bench.tracer.start_span("poll", kind=CLIENT, attributes=POLL).end()
        bench.tracer.start_span("imds", kind=CLIENT, attributes=IMDS).end()
        with bench.tracer.start_as_current_span("failing imds", kind=CLIENT, attributes=IMDS) as call:
            call.set_status(StatusCode.ERROR)
    assert bench.names == ["failing imds", "job"]
    assert bench.watch.counts() == {"polls": 1, "credentials": 1}


def test_an_unsampled_trace_exports_no_failing_call() -> None:
    bench = Bench(DEFAULT_OFF)
    with (
        bench.tracer.start_as_current_span("job"),
        bench.tracer.start_as_current_span("c", None, CLIENT, IMDS) as call,
    ):
        call.set_status(StatusCode.ERROR)
    bench.tracer.start_span("full", None, CLIENT, {**POLL, "messaging.message.id": "m"}).end()
    assert bench.names == []


def test_nothing_is_quiet_when_switched_off() -> None:
    bench = Bench(words=["none"])
    bench.request(get("/health"))
    bench.tracer.start_span("poll", kind=CLIENT, attributes=POLL).end()
    assert bench.names == ["call", "poll", "query", "request"]


# --- samplers -------------------------------------------------------------------------------------------------------


def test_a_reservoir_is_kept_for_what_counts() -> None:
    rule = Rule("one", fixed_rate=0.0, reservoir_size=1)
    root = RulesSampler([rule], clock=lambda: 5.0)
    bench = Bench(root)
    for _ in range(20):
        bench.request(get("/health"))
        bench.tracer.start_span("poll", kind=CLIENT, attributes=POLL).end()
        bench.tracer.start_span("imds", kind=CLIENT, attributes=IMDS).end()
    assert root.decisions.snapshot() == {}
    with bench.tracer.start_as_current_span("poll", kind=CLIENT, attributes=POLL) as poll:
        poll.set_attribute("messaging.message.id", "m-1")
    bench.request(get("/orders"))
    assert bench.names == ["poll"]
    (span,) = bench.exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["spanwell.sampling.reason"] == "reservoir"
    assert root.decisions.snapshot() == {("one", "reservoir"): 1, ("one", "dropped"): 1}


def test_the_tail_sees_nothing_of_what_is_left_out() -> None:
    seconds = iter(range(0, 10_000, 100))
    root = TailSampler(DEFAULT_OFF, TailRules(slow_ms=0.0001), clock=lambda: float(next(seconds)))
    bench = Bench(root)
    bench.request(get("/health"))
    bench.tracer.start_span("poll", kind=CLIENT, attributes=POLL).end()
    assert root.buffer is not None
    assert (bench.names, root.buffer.held, root.decisions.snapshot()) == ([], 0, {})
    with bench.tracer.start_as_current_span("job"):
        bench.tracer.start_span("poll", kind=CLIENT, attributes=POLL).end()
        bench.tracer.start_span("full", None, CLIENT, {**POLL, "messaging.message.id": "m"}).end()
    assert bench.names == ["full", "job"]
    assert not root.buffer.open


def test_the_sampler_knows_who_sent_a_request() -> None:
    rule = Rule("canaries", priority=1, fixed_rate=0.0, reservoir_size=0, attributes={"spanwell.traffic": "canary"})
    bench = Bench(RulesSampler([rule, Rule("rest", fixed_rate=1.0)], clock=lambda: 5.0))
    bench.request(get("/orders", "Mozilla/5.0 CloudWatchSynthetics/arn:aws:synthetics:eu-west-1:1:canary:shop"))
    assert bench.names == []
    bench.request(get("/orders", "Mozilla/5.0"))
    assert bench.names == ["call", "query", "request"]


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_forked_child_starts_from_nothing() -> None:
    bench = Bench()
    bench.request(get("/health"))
    open_one = bench.tracer.start_span("request", None, SERVER, get("/health"))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, f"{len(bench.watch.checks)} {bench.watch.counts()}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"0 {}"
    open_one.end()
    assert bench.watch.counts() == {"health": 4}
    gc.collect()


def test_the_metric_tells_how_many_were_left_out() -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from spanwell.sampling.observe import count_quiet

    reader = InMemoryMetricReader()
    bench = Bench()
    count_quiet(MeterProvider([reader], shutdown_on_exit=False).get_meter("tests"), bench.watch)
    bench.request(get("/health"))
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, point.value, dict(point.attributes)) == (
        "spanwell.quiet.suppressed",
        3,
        {"spanwell.quiet": "health"},
    )
