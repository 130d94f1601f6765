"""Spans in any order and number: every fragment is whole, once, and healthy traces pass without being looked at."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from spanwell.insights.buffer import Bounds
from spanwell.insights.hints import Hints
from spanwell.insights.loading import load
from spanwell.insights.model import Fragment
from spanwell.insights.written import MOST, read, write
from spanwell.record import SpanRecord
from support.ended import healthy
from support.tails import remote
from support.watched import Watched, detector, names

STEPS = st.lists(
    st.tuples(st.sampled_from(["root", "inner", "child", "child", "child", "end", "end"]), st.integers(0, 50)),
    max_size=60,
)


class Run:
    """Plays steps and knows which local root every span belongs to."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.spans: list[Span] = []
        self.root_of: list[int] = []
        self.ended: list[int] = []
        self.certain: set[int] = set()  # those whose ancestors were all open when they started

    def play(self, step: str, which: int) -> None:
        position = which % len(self.spans) if self.spans else 0
        if step == "root":
            self._start(Context(), len(self.spans))
        elif step == "inner" and self.spans:
            caller = self.spans[position].get_span_context()
            self._start(remote(caller.trace_id, caller.span_id, sampled=True), len(self.spans))
        elif step == "child" and self.spans:
            if position not in self.ended and (position in self.certain or self.root_of[position] == position):
                self.certain.add(len(self.spans))
            # A span that starts after its parent's end may join another local root of the same trace.
            self._start(set_span_in_context(self.spans[position], Context()), self.root_of[position])
        elif step == "end" and self.spans and position not in self.ended:
            self.ended.append(position)
            self.spans[position].end()

    def _start(self, context: Context, root: int) -> None:
        self.spans.append(self.watched.tracer.start_span(str(len(self.spans)), context=context))
        self.root_of.append(root)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_every_fragment_is_what_ended_below_its_local_root_before_it(steps: list[tuple[str, int]]) -> None:
    run = Run(watched := Watched())
    for step in steps:
        run.play(*step)
    seen = watched.names()
    assert max(Counter(name for fragment in seen for name in fragment).values(), default=1) == 1
    for fragment in seen:
        root = int(fragment[-1])
        before = run.ended[: run.ended.index(root)]
        assert set(fragment[:-1]) <= {str(each) for each in before}
        certain = {str(each) for each in before if run.root_of[each] == root and each in run.certain}
        assert certain <= set(fragment)
    assert len(seen) == sum(run.root_of[each] == each for each in run.ended)
    buffer = watched.buffer
    assert buffer.spans + buffer.late + buffer.held == len(run.ended)


@given(STEPS, st.integers(1, 4), st.integers(0, 4), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_the_bounds_hold_and_nothing_is_lost_uncounted(
    steps: list[tuple[str, int]], traces: int, spans: int, total: int
) -> None:
    run = Run(watched := Watched(bounds=Bounds(traces, spans, total)))
    buffer = watched.buffer
    for step in steps:
        run.play(*step)
        assert buffer.live <= traces
        assert buffer.held <= total
        assert all(len(local.spans) <= spans for local in buffer._live.values())
    for position, span in enumerate(run.spans):
        if position not in run.ended:
            span.end()
    assert buffer.held == 0
    assert (buffer._live, buffer._further) == ({}, {})
    assert all(len(fragment.spans) <= spans + 1 for fragment in watched.fragments)


ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "db.system.name": st.just("postgresql"),
        "rpc.system": st.just("aws-api"),
        "retry_attempts": st.integers(0, 2),
        "http.response.status_code": st.sampled_from([200, 429, 500]),
        "spanwell.throttled": st.booleans(),
        "db.query.text": st.sampled_from(["SELECT 1", "x" * 20_000]),
        "faas.coldstart": st.booleans(),
        "spanwell.lambda.remaining_ms": st.integers(0, 1000),
    },
)


@st.composite
def fragments(draw: st.DrawFn) -> Fragment:
    longest = draw(st.sampled_from([1, 30, 60, 600, 6000])) * 1_000_000
    spans = []
    for number in range(draw(st.integers(1, 12))):
        start = draw(st.integers(0, longest))
        spans.append(
            SpanRecord(
                "t",
                f"{number}",
                None if number == 0 else "0",
                "work",
                draw(st.sampled_from(["client", "internal", "producer"])) if number else "server",
                "shop",
                0 if number == 0 else start,
                longest if number == 0 else draw(st.integers(start, longest)),
                status=draw(st.sampled_from(["unset", "unset", "unset", "error"])),
                attributes=draw(ATTRIBUTES),
            )
        )
    return Fragment(spans, spans[0])


CHOSEN = st.lists(
    st.sampled_from(["slow_trace.duration_ms=20", "n_plus_one.duration_ms@work=5", "high_service_count.count=0"]),
    max_size=2,
)


@given(fragments(), CHOSEN)
@settings(max_examples=300, deadline=None)
def test_no_detector_would_have_found_anything_in_a_healthy_trace(fragment: Fragment, chosen: list[str]) -> None:
    loaded = load(chosen=chosen, report=print)
    root = fragment.root
    assert root is not None
    if healthy(fragment.spans, loaded.limits, root.attributes):
        hints = Hints.of(fragment.spans, root, loaded.thresholds)
        assert [each.NAME for each in loaded.local if each.may(hints)] == []
        assert [found for each in loaded.local for found in each.detect(fragment, loaded.thresholds)] == []


@given(fragments())
@settings(max_examples=100, deadline=None)
def test_what_is_found_in_a_process_is_what_the_records_say(fragment: Fragment) -> None:
    loaded = load(report=print)
    watched = Watched(*loaded.local, thresholds=loaded.thresholds)
    root = fragment.spans[0]
    kinds = {kind.name.lower(): kind for kind in SpanKind}
    top = watched.tracer.start_span(root.name, kind=SpanKind.SERVER, start_time=1, attributes=dict(root.attributes))
    for span in fragment.spans[1:]:
        one: Any = watched.tracer.start_span(
            span.name,
            set_span_in_context(top),
            kinds[span.kind],
            dict(span.attributes),
            start_time=span.start_ns + 1,
        )
        if span.is_error:
            one.set_status(Status(StatusCode.ERROR))
        one.end(span.end_ns + 1)
    if root.is_error:
        top.set_status(Status(StatusCode.ERROR))
    top.end(root.end_ns + 1)
    expected = Counter(
        insight.type
        for insight in {
            found.fingerprint("shop"): found
            for each in loaded.local
            for found in each.detect(watched.fragments[0], loaded.thresholds)
        }.values()
    )
    assert Counter(insight.type for insight, _, _ in watched.told) == expected
    stored = watched.exporter.spans[-1].attributes or {}
    assert len(read(stored)) == min(MOST, sum(expected.values()))


@given(st.lists(st.sampled_from(["a", "b", "n_plus_one", "a.b"]), max_size=12))
def test_what_was_written_is_read_back(types: list[str]) -> None:
    watched = Watched(detector("x", names))
    watched.tracer.start_span("root").end()
    insight, _, _ = watched.told[0]
    found = [(f"{number:016x}", insight._replace(type=kind)) for number, kind in enumerate(types)]
    back = read(write(found))
    assert sorted((one.type, one.fingerprint) for one in back) == sorted(
        (kind.type, key) for key, kind in found[:MOST]
    )
