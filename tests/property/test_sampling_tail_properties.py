"""`tail` under any order of starts and ends, in one thread and in several, with bounds and without."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.tail_buffer import Bounds
from support.tails import Tailed, is_promoted, reason, remote

ERROR = Status(StatusCode.ERROR, "no")


class Step(NamedTuple):
    """What happens next: a root, a root with a remote parent, a child of an open or ended span, or an end."""

    kind: str
    which: int
    fails: bool


STEPS = st.lists(
    st.builds(
        Step, st.sampled_from(["root", "inner", "child", "child", "end", "end"]), st.integers(0, 50), st.booleans()
    ),
    max_size=60,
)


class Run:
    """Plays steps and knows which local root every span belongs to."""

    def __init__(self, tailed: Tailed) -> None:
        self.tailed = tailed
        self.spans: list[Span] = []
        self.open: list[int] = []
        self.root_of: list[int] = []
        self.ended: set[int] = set()
        self.failed: set[int] = set()

    def play(self, step: Step) -> None:
        if step.kind == "root":
            self._start(Context(), len(self.spans))
        elif step.kind == "inner" and self.spans:
            caller = self.spans[step.which % len(self.spans)].get_span_context()
            context = remote(caller.trace_id, caller.span_id, sampled=bool(caller.trace_flags.sampled))
            self._start(context, len(self.spans))
        elif step.kind == "child" and self.open:
            parent = self.open[step.which % len(self.open)]
            self._start(set_span_in_context(self.spans[parent], Context()), self.root_of[parent])
        elif step.kind == "end" and self.open:
            self.end(self.open[step.which % len(self.open)], step.fails)

    def _start(self, context: Context, root: int) -> None:
        self.open.append(len(self.spans))
        self.root_of.append(root)
        self.spans.append(self.tailed.tracer.start_span(str(len(self.spans)), context))

    def end(self, index: int, fails: bool) -> None:
        span = self.spans[index]
        if fails and span.is_recording():
            span.set_status(ERROR)
            if self.root_of[index] not in self.ended:  # what fails after the verdict changes nothing
                self.failed.add(self.root_of[index])
        span.end()
        self.open.remove(index)
        self.ended.add(index)


def is_sampled(span: Span | ReadableSpan) -> bool:
    context = span.get_span_context()
    return context is not None and bool(context.trace_flags.sampled)


@given(STEPS, st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=150, deadline=None)
def test_one_thread_without_overflow(steps: list[Step], rate: float) -> None:
    run = Run(Tailed(RatioSampler(rate)))
    for step in steps:
        run.play(step)
    wanted = Counter(
        str(index) for index in run.ended if is_sampled(run.spans[index]) or run.root_of[index] in run.failed
    )
    assert Counter(run.tailed.names()) == wanted
    for span in run.tailed.spans():
        index = int(span.name)
        assert is_promoted(span) == (not is_sampled(run.spans[index]))
        if run.root_of[index] == index and index in run.failed:
            assert reason(span) == "error"
    waiting = [index for index in run.ended if run.root_of[index] not in run.ended | run.failed]
    assert run.tailed.buffer.held == sum(not is_sampled(run.spans[index]) for index in waiting)


BOUNDS = st.builds(Bounds, st.integers(1, 4), st.integers(1, 5), st.integers(1, 8), st.sampled_from([1.0, 60.0]))


@given(STEPS, st.sampled_from([0.0, 0.5]), BOUNDS, st.lists(st.integers(0, 40), max_size=60))
@settings(max_examples=150, deadline=None)
def test_one_thread_with_tiny_bounds(steps: list[Step], rate: float, bounds: Bounds, pauses: list[int]) -> None:
    run = Run(Tailed(RatioSampler(rate), bounds=bounds))
    buffer = run.tailed.buffer
    for number, step in enumerate(steps):
        run.tailed.clock.now += pauses[number] if number < len(pauses) else 0
        run.play(step)
        assert buffer.held <= bounds.total
        assert len(buffer._live) <= bounds.traces
        assert all(len(fragment.spans) <= bounds.spans for fragment in buffer._live.values())
    exported = Counter(run.tailed.names())
    assert set(exported.values()) <= {1}
    assert set(exported) >= {str(index) for index in run.ended if is_sampled(run.spans[index])}
    for name in exported:
        if not is_sampled(run.spans[int(name)]):  # all or nothing: whatever of a kept tree was recorded is there
            mates = [index for index in run.ended if run.root_of[index] == run.root_of[int(name)]]
            assert {str(index) for index in mates if isinstance(run.spans[index], ReadableSpan)} <= set(exported)
    assert buffer.held == next(buffer._added) - 1 - buffer._taken


@given(st.lists(STEPS, min_size=2, max_size=4), st.sampled_from([0.0, 0.5]))
@settings(max_examples=25, deadline=None)
def test_several_threads_over_the_same_spans(plans: list[list[Step]], rate: float) -> None:
    tailed = Tailed(RatioSampler(rate))
    roots = [tailed.tracer.start_span(f"root {number}", Context()) for number in range(3)]
    ended: list[Span] = []
    failing = {step.which % 3 for plan in plans for step in plan if step.fails}

    def work(plan: list[Step]) -> None:
        for step in plan:
            root = roots[step.which % 3]
            span = tailed.tracer.start_span("child", set_span_in_context(root, Context()))
            if step.fails:
                span.set_status(ERROR)
            span.end()
            ended.append(span)

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for root in roots:
        root.end()
        ended.append(root)
    bad = {roots[number].get_span_context().trace_id for number in failing}
    wanted = {
        span.get_span_context().span_id
        for span in ended
        if is_sampled(span) or span.get_span_context().trace_id in bad
    }
    assert Counter(span.context.span_id for span in tailed.spans()) == Counter(wanted)
    assert tailed.buffer.held == 0


def test_randomness_covers_both_sides_of_a_half() -> None:
    """The properties above see sampled and unsampled traces."""
    tailed = Tailed(RatioSampler(0.5))
    seen = {is_sampled(tailed.tracer.start_span("root", Context())) for _ in range(64)}
    assert seen == {True, False}
