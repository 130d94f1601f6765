"""`tail`: what is kept, why, how it leaves, and what others are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from spanwell import _guard, incoming
from spanwell.sampling.build import Making
from spanwell.sampling.parentbased import Surroundings
from spanwell.sampling.probability import MAX, adjusted_count
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.tail import TailSampler, from_argument
from spanwell.sampling.tail_rules import Rules
from support.tails import EVERYTHING, NOTHING, Tailed, is_promoted, reason, remote, weight

ERROR = Status(StatusCode.ERROR, "no")


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", True)


class Ids(RandomIdGenerator):
    """Trace ids as told, span ids at random."""

    def __init__(self, *trace_ids: int) -> None:
        self.trace_ids = list(trace_ids)

    def generate_trace_id(self) -> int:
        return self.trace_ids.pop(0)


def request(tailed: Tailed, name: str = "request", *, bad: str = "", **root: Any) -> None:
    """A root with two children in a row; the span called `bad` fails."""
    with tailed.tracer.start_as_current_span(name, **root) as span:
        for child in ("first", "second"):
            with tailed.tracer.start_as_current_span(child) as inner:
                if child == bad:
                    inner.set_status(ERROR)
        if name == bad:
            span.set_status(ERROR)


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_trace_without_a_reason_goes() -> None:
    tailed = Tailed()
    request(tailed)
    assert tailed.names() == []
    assert (tailed.buffer.held, tailed.buffer.evictions) == (0, {})


@pytest.mark.parametrize("bad", ["request", "first", "second"])
def test_an_error_anywhere_keeps_the_whole_tree(bad: str) -> None:
    tailed = Tailed()
    request(tailed, bad=bad)
    assert tailed.names() == ["first", "second", "request"]
    assert all(is_promoted(span) for span in tailed.spans())
    assert [reason(span) for span in tailed.spans()] == [None, None, "error"]
    assert tailed.buffer.held == 0


def test_an_error_is_exported_before_the_local_root_ends() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("root"):
        tailed.tracer.start_span("fine").end()
        assert (tailed.names(), tailed.buffer.held) == ([], 1)
        failed = tailed.tracer.start_span("failed")
        failed.set_status(ERROR)
        failed.end()
        assert (tailed.names(), tailed.buffer.held) == (["fine", "failed"], 0)
        tailed.tracer.start_span("after").end()
        assert tailed.names()[-1] == "after"


def test_an_exception_that_was_dealt_with_is_no_error() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("root") as root:
        root.record_exception(ValueError("retried"))
    assert tailed.names() == []


def test_errors_may_be_no_reason() -> None:
    tailed = Tailed(rules=Rules(errors=False))
    request(tailed, bad="request")
    assert tailed.names() == []


@pytest.mark.parametrize(("milliseconds", "kept"), [(999, []), (1000, ["root"])])
def test_slow_is_a_second_or_as_told(milliseconds: int, kept: list[str]) -> None:
    for slow_ms, scale in ((1000.0, 1), (250.0, 4)):
        tailed = Tailed(rules=Rules(slow_ms=slow_ms))
        tailed.tracer.start_span("root", start_time=10**18).end(10**18 + milliseconds * 1_000_000 // scale)
        assert tailed.names() == kept
        assert [reason(span) for span in tailed.spans()] == ["slow"] * len(kept)


def test_slow_0_is_no_rule() -> None:
    tailed = Tailed(rules=Rules(slow_ms=0))
    tailed.tracer.start_span("root", start_time=1).end(10**18)
    assert tailed.names() == []


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({"http.response.status_code": 500}, True),
        ({"http.status_code": 503}, True),
        ({"http.status_code": "599"}, True),
        ({"http.response.status_code": 499}, False),
        ({"http.response.status_code": 600}, False),
        ({"http.response.status_code": "many"}, False),
        ({}, False),
    ],
)
def test_the_status_of_the_local_root(attributes: dict[str, Any], kept: bool) -> None:
    tailed = Tailed()
    request(tailed, attributes=attributes)
    assert [reason(span) for span in tailed.spans() if span.parent is None] == ["status"] * kept


def test_the_status_of_a_span_below_is_no_reason() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("root"):
        tailed.tracer.start_span("call", attributes={"http.response.status_code": 503}).end()
    assert tailed.names() == []


@pytest.mark.parametrize(
    ("value", "kept"),
    [("Gold-7", True), ("silver", False), (7, False), (True, False), (("silver", "gold"), True), ((), False)],
)
def test_an_attribute_of_any_span(value: Any, kept: bool) -> None:
    tailed = Tailed(rules=Rules(attributes=[("user.tier", "gold*"), ("other", "*")]))
    with tailed.tracer.start_as_current_span("root"):
        tailed.tracer.start_span("below", attributes={"user.tier": value}).end()
    assert tailed.names() == (["below", "root"] if kept else [])


def test_numbers_and_booleans_are_matched_as_text() -> None:
    tailed = Tailed(rules=Rules(attributes=[("n", "7?"), ("b", "true")]))
    tailed.tracer.start_span("number", attributes={"n": 75}).end()
    tailed.tracer.start_span("boolean", attributes={"b": True}).end()
    assert tailed.names() == ["number", "boolean"]


# --- what others are told, and what the head said -------------------------------------------------------------------


def test_others_are_told_the_heads_decision() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("root") as root, tailed.tracer.start_as_current_span("child") as child:
        assert root.is_recording()
        assert child.is_recording()
        assert not root.get_span_context().trace_flags.sampled
        assert not child.get_span_context().trace_flags.sampled


def test_a_sampled_trace_leaves_at_once_and_unmarked() -> None:
    tailed = Tailed(EVERYTHING)
    with tailed.tracer.start_as_current_span("root"):
        tailed.tracer.start_span("child").end()
        assert tailed.names() == ["child"]
        assert tailed.buffer.held == 0
    assert [is_promoted(span) for span in tailed.spans()] == [False, False]
    assert reason(tailed.spans()[-1]) == "rate"
    assert weight(tailed.spans()[-1]) == "th:0"


def test_a_rule_overrides_the_reason_and_the_weight_of_a_sampled_root() -> None:
    tailed = Tailed(RatioSampler(0.5), ids=Ids(MAX - 1))
    request(tailed, bad="first")
    child, _, root = tailed.spans()
    assert (reason(root), weight(root), is_promoted(root)) == ("error", None, False)
    assert (reason(child), weight(child)) == (None, "th:8")


def test_the_application_sees_no_change() -> None:
    tailed = Tailed(RatioSampler(0.5), ids=Ids(MAX - 1, MAX - 2))
    root = tailed.tracer.start_span("root", attributes={"a": 1})
    root.set_status(ERROR)
    before = dict(root.attributes or {})  # type: ignore[attr-defined]
    root.end()
    assert dict(root.attributes or {}) == before  # type: ignore[attr-defined]
    assert root.get_span_context().trace_state.get("ot") == "th:8"


def test_a_foreign_head_is_asked_about_everything_and_its_roots_get_a_reason() -> None:
    tailed = Tailed(ParentBased(ALWAYS_ON))
    request(tailed)
    tailed.tracer.start_span("remote", remote(sampled=True)).end()
    tailed.tracer.start_span("unsampled", remote(sampled=False)).end()
    assert [(span.name, reason(span)) for span in tailed.spans()] == [
        ("first", None),
        ("second", None),
        ("request", "head"),
        ("remote", "parent"),
    ]


class Whimsical(Sampler):
    """Samples by name."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any) -> SamplingResult:
        return (ALWAYS_ON if "sampled" in name else ALWAYS_OFF).should_sample(parent_context, trace_id, name)

    def get_description(self) -> str:
        return "whimsical"


def test_a_span_that_a_foreign_head_samples_within_an_unsampled_trace_leaves_once() -> None:
    tailed = Tailed(Whimsical())
    with tailed.tracer.start_as_current_span("root") as root:
        tailed.tracer.start_span("sampled").end()
        tailed.tracer.start_span("plain").end()
        root.set_status(ERROR)
    assert [(span.name, is_promoted(span)) for span in tailed.spans()] == [
        ("sampled", False),
        ("plain", True),
        ("root", True),
    ]


def test_a_span_that_a_foreign_head_drops_within_a_sampled_trace_stays_dropped() -> None:
    tailed = Tailed(Whimsical())
    with tailed.tracer.start_as_current_span("sampled") as root:
        with tailed.tracer.start_as_current_span("not"):
            tailed.tracer.start_span("nor this").end()
        root.set_status(ERROR)
    assert tailed.names() == ["sampled"]


class Broken(Sampler):
    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        raise RuntimeError("broken")

    def get_description(self) -> str:
        return "broken"


def test_a_head_that_raises_is_no_sampling_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    tailed = Tailed(Broken())
    request(tailed, bad="first")
    assert tailed.names() == ["first", "second", "request"]
    assert _guard.losses.total("errors") > 0


# --- base and weights -----------------------------------------------------------------------------------------------


def test_base_keeps_by_the_traces_randomness_and_says_so() -> None:
    tailed = Tailed(RatioSampler(0.25), base=0.5, ids=Ids(MAX // 2 - 1, MAX // 2, MAX - 1))
    for name in ("no", "base", "head"):
        request(tailed, name)
    roots = [span for span in tailed.spans() if span.parent is None]
    assert [(span.name, reason(span), weight(span), is_promoted(span)) for span in roots] == [
        ("base", "base", "th:8", True),
        ("head", "rate", "th:8", False),  # kept with probability 0.5 as well, since base alone would have kept it
    ]
    assert len(tailed.spans()) == 6


def test_a_base_below_the_heads_rate_changes_nothing() -> None:
    tailed = Tailed(RatioSampler(0.5), base=0.25, ids=Ids(MAX // 2 - 1, MAX // 2, MAX - 1))
    for name in ("no", "head", "both"):
        request(tailed, name)
    roots = [span for span in tailed.spans() if span.parent is None]
    assert [(span.name, reason(span), weight(span)) for span in roots] == [
        ("head", "rate", "th:8"),
        ("both", "rate", "th:8"),
    ]


def test_base_over_a_head_whose_chance_is_another_has_no_weight() -> None:
    tailed = Tailed(ALWAYS_OFF, base=1.0)
    request(tailed)
    assert [(reason(span), weight(span)) for span in tailed.spans()][-1] == ("base", None)


def test_base_under_a_remote_decision_has_no_weight() -> None:
    tailed = Tailed(base=1.0)
    tailed.tracer.start_span("root", remote(sampled=False)).end()
    tailed.tracer.start_span("sampled", remote(MAX - 1, sampled=True, state="ot=th:c")).end()
    assert [(reason(span), weight(span)) for span in tailed.spans()] == [("base", None), ("parent", "th:c")]


@pytest.mark.parametrize(("header", "expected"), [("0", None), ("?", "th:0")])
def test_base_under_the_decision_of_a_header_without_a_parent(header: str, expected: str | None) -> None:
    tailed = Tailed(base=1.0)
    context = incoming.put(Context(), incoming.Incoming(0xABC, parentless=True, sampled=header))
    tailed.tracer.start_span("root", context).end()
    assert [(reason(span), weight(span)) for span in tailed.spans()] == [("base", expected)]


def test_an_estimate_from_the_weights_is_unbiased() -> None:
    number, failing = 4000, 400
    ids = Ids(*(index * 0x9E3779B97F4A7C15 % MAX + (1 << 100) for index in range(1, number + 1)))
    tailed = Tailed(RatioSampler(0.1), base=0.25, ids=ids)
    for index in range(number):
        root = tailed.tracer.start_span("failing" if index % (number // failing) == 0 else "fine")
        if index % (number // failing) == 0:
            root.set_status(ERROR)
        root.end()
    estimate = {"failing": 0.0, "fine": 0.0}
    for span in tailed.spans():
        estimate[span.name] += adjusted_count(span.context.trace_state) or 1
    assert estimate["failing"] == failing
    # Ids spread evenly: 0.25 of 3600 within a few, each worth 4.
    assert abs(estimate["fine"] - (number - failing)) < 100


# --- whose span is it -----------------------------------------------------------------------------------------------


def test_a_local_root_with_a_remote_parent_is_decided_on_here() -> None:
    tailed = Tailed()
    context = remote(0xABC, sampled=False, state="x=1,ot=th:c")
    with tailed.tracer.start_as_current_span("root", context) as root:
        assert root.get_span_context().trace_state.get("x") == "1"
        tailed.tracer.start_span("child").end()
        root.set_status(ERROR)
    assert [(span.name, reason(span), is_promoted(span)) for span in tailed.spans()] == [
        ("child", None, True),
        ("root", "error", True),
    ]
    assert weight(tailed.spans()[1]) is None


def test_a_service_that_calls_itself_has_two_verdicts_in_one_trace() -> None:
    for failing in ("outer", "inner"):
        tailed = Tailed()
        with tailed.tracer.start_as_current_span("outer") as outer:
            with tailed.tracer.start_as_current_span("call") as call:
                context = call.get_span_context()
                with tailed.tracer.start_as_current_span(
                    "inner", remote(context.trace_id, context.span_id, sampled=False)
                ) as inner:
                    tailed.tracer.start_span("inner child").end()
                    if failing == "inner":
                        inner.set_status(ERROR)
                late = tailed.tracer.start_span("late of inner", set_span_in_context(inner))
                late.end()
            if failing == "outer":
                outer.set_status(ERROR)
        expected = {
            "inner": ["inner child", "inner", "late of inner"],
            "outer": ["call", "outer"],
        }
        assert tailed.names() == expected[failing]


def test_a_request_to_itself_that_comes_sampled_is_sampled() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("call") as call:
        context = call.get_span_context()
        tailed.tracer.start_span("inner", remote(context.trace_id, context.span_id, sampled=True)).end()
    assert [(span.name, reason(span), is_promoted(span)) for span in tailed.spans()] == [("inner", "parent", False)]


def test_late_spans_below_the_kept_one_of_two_local_roots() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("outer") as outer:
        context = outer.get_span_context()
        below = remote(context.trace_id, context.span_id, sampled=False)
        with tailed.tracer.start_as_current_span("inner", below) as inner:
            child = tailed.tracer.start_span("inner child")
            child.end()
            inner.set_status(ERROR)
    tailed.tracer.start_span("late", set_span_in_context(child)).end()
    assert tailed.names() == ["inner child", "inner", "late"]


@pytest.mark.parametrize("before", [0, 1])
def test_the_verdict_comes_while_a_span_is_being_added(before: int) -> None:
    tailed = Tailed()
    for _ in range(before):  # what a fine span's status looks like is known from then on
        request(tailed)
    root = tailed.tracer.start_span("root")
    span = tailed.tracer.start_span("span", set_span_in_context(root))

    class Slow(list[ReadableSpan]):
        def append(self, item: ReadableSpan) -> None:
            root.set_status(ERROR)
            root.end()  # as if in another thread, after this one has looked
            super().append(item)

    tailed.buffer.open[root.get_span_context().span_id].spans = Slow()
    span.end()
    assert tailed.names() == ["root", "span"]


def test_late_spans_follow_the_verdict() -> None:
    tailed = Tailed()
    for name in ("fine", "failed"):
        root = tailed.tracer.start_span(name)
        child = tailed.tracer.start_span(f"open at the end of {name}", set_span_in_context(root))
        if name == "failed":
            root.set_status(ERROR)
        root.end()
        child.end()
        # Started after the root has ended: of the root, of a span that has ended as well, and below that.
        for parent in (root, child):
            later = tailed.tracer.start_span(f"later of {name}", set_span_in_context(parent))
            tailed.tracer.start_span(f"below later of {name}", set_span_in_context(later)).end()
            later.end()
    assert tailed.names() == [
        "failed",
        "open at the end of failed",
        *["below later of failed", "later of failed"] * 2,
    ]
    assert all(is_promoted(span) for span in tailed.spans())


def test_a_span_whose_parent_has_ended_belongs_to_the_open_trace() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("root") as root:
        child = tailed.tracer.start_span("child")
        child.end()
        tailed.tracer.start_span("grandchild", set_span_in_context(child)).end()
        root.set_status(ERROR)
    assert tailed.names() == ["child", "grandchild", "root"]


def test_a_span_started_in_one_thread_and_ended_in_another() -> None:
    tailed = Tailed()
    root = tailed.tracer.start_span("root")
    children = [tailed.tracer.start_span("child", set_span_in_context(root)) for _ in range(8)]
    threads = [threading.Thread(target=child.end) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    root.set_status(ERROR)
    root.end()
    assert tailed.names() == ["child"] * 8 + ["root"]


def test_asyncio() -> None:
    tailed = Tailed()

    async def work(number: int) -> None:
        with tailed.tracer.start_as_current_span(f"root {number}") as root:
            await asyncio.gather(*(step(number) for _ in range(3)))
            if number % 2:
                root.set_status(ERROR)

    async def step(number: int) -> None:
        with tailed.tracer.start_as_current_span(f"step {number}"):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))

    asyncio.run(main())
    wanted = [f"root {number}" for number in range(1, 10, 2)] + [f"step {number}" for number in range(1, 10, 2)] * 3
    assert sorted(tailed.names()) == sorted(wanted)


def test_a_generators_span_that_the_collector_ends() -> None:
    tailed = Tailed()

    def stream() -> Iterator[int]:
        span = tailed.tracer.start_span("stream")
        span.set_status(ERROR)
        try:
            yield 1
        finally:
            span.end()

    with tailed.tracer.start_as_current_span("root") as root:
        generator = stream()
        next(generator)
        with tailed.buffer._lock:  # as if collected while this thread is inside
            del generator
        assert tailed.names() == ["stream"]
        assert root.is_recording()
    assert tailed.names() == ["stream", "root"]


# --- surroundings ---------------------------------------------------------------------------------------------------


def test_where_nothing_can_be_promoted_it_is_its_head(caplog: pytest.LogCaptureFixture) -> None:
    sampler = TailSampler(NOTHING)
    around = Surroundings(dict)
    sampler.connect(around)
    sampler.connect(around)
    assert around.stages == []
    assert not sampler.should_sample(None, 1, "root").decision.is_recording()
    assert sampler.figures() == {}
    assert [record.message for record in caplog.records] == [
        "spanwell: the sampler tail decides as its head sampler alone (ratio{0}): nothing here can export a span "
        "that is not sampled; use spanwell's configurator, or a batch span processor of the SDK's"
    ]


def test_nobody_connected_it() -> None:
    assert not TailSampler(NOTHING).should_sample(None, 1, "root").decision.is_recording()
    assert TailSampler(EVERYTHING).should_sample(None, 1, "root").decision.is_sampled()


class Recorder(RatioSampler):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.told: list[object] = []

    def connect(self, around: Surroundings) -> None:
        super().connect(around)
        self.told.append(around)

    def begin_shutdown(self) -> None:
        self.told.append("begin")

    def finish(self, seconds: float) -> None:
        self.told.append(seconds)


def test_the_head_learns_of_everything_first() -> None:
    head = Recorder()
    sampler = TailSampler(head)
    around = Surroundings(dict, lambda span: None)
    sampler.connect(around)
    sampler.begin_shutdown()
    sampler.finish(0.5)
    assert head.told == [around, "begin", 0.5]
    assert (sampler.nested(), sampler.kind, sampler.get_description()) == ((head,), "tail", "tail{ratio{0}}")


def test_a_span_that_another_stage_has_promoted_does_not_leave_twice() -> None:
    tailed = Tailed()
    with tailed.tracer.start_as_current_span("root") as root:
        span = tailed.tracer.start_span("taken", attributes={"aws.trace.flag.sampled": False})
        span.end()
        root.set_status(ERROR)
    assert tailed.names() == ["root"]


def test_an_exporter_that_raises_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    tailed = Tailed()
    taken: list[str] = []

    def promote(span: Any) -> None:
        taken.append(span.name)
        raise OSError("no")

    tailed.buffer._hand_over = promote
    request(tailed, bad="request")
    assert taken == ["first", "second", "request"]
    assert _guard.losses.total("errors") == 3


def test_decisions_are_counted() -> None:
    tailed = Tailed(RatioSampler(0.5), ids=Ids(1, 2, MAX - 1, MAX - 2))
    request(tailed)
    request(tailed, bad="first")
    request(tailed)
    request(tailed, bad="first")
    assert tailed.sampler.decisions.snapshot() == {("", "error"): 2, ("", "head"): 1}
    assert tailed.sampler.figures() == {"evictions": [], "held": [({}, 0.0)]}


# --- the argument ---------------------------------------------------------------------------------------------------


def made(argument: str) -> tuple[TailSampler, list[str]]:
    problems: list[str] = []
    return from_argument(argument, Making(problems.append)), problems


def test_the_argument_and_its_defaults() -> None:
    sampler, problems = made("")
    assert (sampler.get_description(), problems) == ("tail{ratio{0.05}}", [])
    assert (sampler._base, sampler._bounds) == (0.0, (2000, 512, 12_000, 60.0))
    sampler, problems = made(
        "head=(ratio;0.5),slow_ms=250,errors=false,status=5xx|429|30x,base=0.1,attribute=a:b*,attribute=c.d:e:f,"
        "max_traces=1,max_spans=2,max_total=3,max_age=4"
    )
    assert (sampler.get_description(), problems) == ("tail{ratio{0.5}}", [])
    assert (sampler._base, sampler._bounds) == (0.1, (1, 2, 3, 4.0))
    rules = sampler._rules
    assert rules._status == ((500, 599), (429, 429), (300, 309))
    assert [key for key, _ in rules.globs] == ["a", "c.d"]
    assert rules.globs[1][1].matches("e:F")
    assert (rules.slow, rules._errors) == (250e6, False)


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("slow_ms=soon", "slow_ms='soon' is not a number from 0"),
        ("status=5xxx", "status='5xxx' is not a list of HTTP statuses such as 5xx|429, or none"),
        ("status=xxx", "status='xxx' is not a list of HTTP statuses"),
        ("base=2", "base='2' is not a probability from 0 to 1"),
        ("attribute=tier", "attribute='tier' is not an attribute and a glob such as user.tier:gold*"),
        ("errors=perhaps", "errors='perhaps' is not true or false"),
        ("max_age=0", "max_age='0' is not a number of seconds from 1"),
        ("max_total=-1", "max_total='-1' is not a whole number from 1"),
        ("head=(nobody)", "sampler 'nobody'"),
        ("hed=ratio", "did you mean head=?"),
    ],
)
def test_what_cannot_be_used_is_said_and_the_rest_applies(argument: str, problem: str) -> None:
    sampler, problems = made(f"{argument},base=0.5" if "base" not in argument else argument)
    assert len(problems) == 1
    assert problem in problems[0]
    assert sampler._base == (0.5 if "base" not in argument else 0.0)
    assert sampler.get_description() == "tail{ratio{0.05}}"


def test_no_status() -> None:
    assert made("status=none")[0]._rules._status == ()


def test_a_base_that_is_no_probability() -> None:
    with pytest.raises(ValueError, match="a probability from 0 to 1"):
        TailSampler(NOTHING, base=1.5)


def test_server_spans_of_frameworks_keep_their_kind() -> None:
    tailed = Tailed()
    request(tailed, bad="first", kind=SpanKind.SERVER)
    assert tailed.spans()[-1].kind is SpanKind.SERVER
    assert trace.get_current_span() is trace.INVALID_SPAN
