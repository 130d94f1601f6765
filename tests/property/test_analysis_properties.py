"""The analyses of a trace against slow and obvious ones, on any trace and on any tangle of spans."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.analysis.critical_path import critical_path, time_on_path
from spanwell.analysis.intervals import detached, inner
from spanwell.analysis.root_cause import find_errors
from spanwell.analysis.self_time import self_times
from spanwell.analysis.skew import adjust
from spanwell.analysis.tree import RECEIVING, SENDING, Tree
from spanwell.record import SpanRecord
from support.trees import KINDS, tangles, traces

pytestmark = pytest.mark.full


anything = settings(max_examples=400, deadline=None)
any_spans = traces() | tangles()


def slow_parent(spans: tuple[SpanRecord, ...], position: int) -> int | None:
    span = spans[position]
    if span.kind in RECEIVING:
        for other, found in enumerate(spans):
            if found.span_id == span.span_id and found.kind in SENDING:
                return other
    named = [other for other, found in enumerate(spans) if found.span_id == span.parent_id and other != position]
    return min(named, key=lambda other: (spans[other].service != span.service, other), default=None)


@anything
@given(any_spans)
def test_parents_are_those_that_a_search_finds_but_for_one_cut_in_each_circle(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    wanted = [slow_parent(tree.spans, position) for position in range(len(found))]
    for position, parent in enumerate(tree.parents):
        circle: list[int] = []
        step: int | None = position
        while step is not None and step not in circle:
            circle.append(step)
            step = wanted[step]
        if step == position and position == min(circle):
            assert parent is None
        else:
            assert parent == wanted[position]


@anything
@given(any_spans)
def test_every_span_comes_once_after_its_parent(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    assert sorted(tree.downwards) == list(range(len(found)))
    assert sorted((*tree.roots, *tree.orphans, *tree.loops)) == list(tree.tops)
    seen: set[int | None] = {None}
    for position in tree.downwards:
        assert tree.parents[position] in seen
        seen.add(position)


Cells = dict[int, int]


def slow_path(tree: Tree, position: int, start: int, end: int) -> Cells:
    """Which span has each nanosecond, by searching all children again at each step."""
    owners: Cells = {}
    now = end
    while now > start:
        ends = []
        for child in tree.children.get(position, ()):
            span = tree.spans[child]
            cut = max(start, span.start_ns), min(end, span.end_ns)
            if cut[0] < cut[1] <= now and not detached(tree.spans[position], span):
                ends.append((cut[1], -cut[0], child))
        if not ends:
            owners.update((cell, position) for cell in range(start, now))
            break
        child_end, minus_start, child = max(ends)
        owners.update((cell, position) for cell in range(child_end, now))
        owners.update(slow_path(tree, child, -minus_start, child_end))
        now = -minus_start
    return owners


@anything
@given(any_spans)
def test_the_critical_path_is_without_gaps_and_as_long_as_its_span(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    for top in tree.tops:
        sections = critical_path(tree, top)
        times = inner(tree, top)
        span = tree.spans[top]
        assert sum(section.duration for section in sections) == span.duration
        assert sum(time_on_path(sections).values()) == span.duration
        now = span.start_ns
        for section in sections:
            assert section.start_ns == now < section.end_ns
            assert times[section.position][0] <= section.start_ns
            assert section.end_ns <= times[section.position][1]
            now = section.end_ns
        cells = {cell: s.position for s in sections for cell in range(s.start_ns, s.end_ns)}
        assert cells == slow_path(tree, top, span.start_ns, span.end_ns)


@anything
@given(any_spans)
def test_self_time_is_what_no_child_covers(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    for top in tree.tops:
        times, own = inner(tree, top), self_times(tree, top)
        assert own.keys() == times.keys()
        for position, (start, end) in times.items():
            covered = {
                cell for child in tree.children.get(position, ()) if child in times for cell in range(*times[child])
            }
            assert own[position] == len(set(range(start, end)) - covered)
            assert 0 <= own[position] <= tree.spans[top].duration


@anything
@given(traces())
def test_self_times_add_up_to_the_root_where_nothing_runs_side_by_side(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    (root,) = tree.roots
    times, own = inner(tree, root), self_times(tree)
    duration = tree.spans[root].duration
    busy = sum(
        max(0, min(times[a][1], times[b][1]) - max(times[a][0], times[b][0]))
        for children in tree.children.values()
        for a in children
        for b in children
        if a < b and a in times and b in times
    )
    total = sum(own.values())
    assert total >= duration if busy else total == duration


@anything
@given(any_spans)
def test_causes_are_the_ends_of_unbroken_chains_of_errors(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    errors = find_errors(tree)
    assert sorted((*errors.own, *errors.propagated)) == list(tree.errors)
    for position, span in enumerate(tree.spans):
        failed = [
            child
            for child in tree.children.get(position, ())
            if tree.spans[child].is_error and not detached(span, tree.spans[child])
        ]
        assert (position in errors.own) == (span.is_error and not failed)
        assert (position in errors.propagated) == (span.is_error and bool(failed))
        assert not span.is_error or not set(failed) & set(errors.suppressed)
        assert span.is_error or set(failed) <= set(errors.suppressed)
        chain, step = span.is_error, position
        while chain and step != tree.main:
            parent = tree.parents[step]
            chain = parent is not None and tree.spans[parent].is_error
            chain = chain and not detached(tree.spans[parent or 0], tree.spans[step])
            step = parent or 0
        assert (position in errors.causes) == (chain and position in errors.own)


@anything
@given(any_spans)
def test_adjusting_keeps_everything_but_the_times_and_needs_no_second_time(found: list[SpanRecord]) -> None:
    tree = Tree(found)
    adjusted = adjust(tree)
    assert adjusted.warning or adjusted.tree is tree
    for position, span in enumerate(adjusted.tree.spans):
        shift = adjusted.shifts[position]
        raw = span._replace(start_ns=span.start_ns - shift, end_ns=span.end_ns - shift)
        parent = adjusted.tree.parents[position]
        (old,) = (other for other, known in enumerate(tree.spans) if known == raw and known.name == span.name)
        old_parent = tree.parents[old]
        if parent is None or old_parent is None:
            assert parent is old_parent is None
            assert shift == 0
        else:
            assert adjusted.tree.spans[parent].name == tree.spans[old_parent].name
            assert span.service != tree.spans[old_parent].service or shift in (0, adjusted.shifts[parent])


@anything
@given(traces(), st.dictionaries(st.sampled_from("abc"), st.integers(-500, 500), min_size=3))
def test_a_clock_that_is_off_is_put_right_as_far_as_calls_tell(
    found: list[SpanRecord], clocks: dict[str, int]
) -> None:
    """What fits with true clocks fits again after any skew of the hosts: causes before effects, calls in callers."""
    tree = Tree(found)
    fitting = [
        tree.spans[position]._replace(start_ns=start + 10_000, end_ns=end + 10_000)
        for position, (start, end) in inner(tree, tree.roots[0]).items()
    ]
    skewed = [
        span._replace(start_ns=span.start_ns + clocks[span.service], end_ns=span.end_ns + clocks[span.service])
        for span in fitting
    ]
    assert not adjust(Tree(fitting)).warning
    adjusted = adjust(Tree(skewed)).tree
    for position, parent in enumerate(adjusted.parents):
        if parent is None:
            continue
        span, above = adjusted.spans[position], adjusted.spans[parent]
        assert above.start_ns <= span.start_ns
        if above.kind in ("client", "internal") and above.duration:
            assert span.end_ns <= above.end_ns


def test_a_hundred_thousand_spans_in_a_chain_or_with_one_id() -> None:
    """Neither recursion nor a search among equals: with either this would fail or take hours."""
    count = 100_000
    chain = [
        SpanRecord(
            "a", f"{n:x}", f"{n - 1:x}" if n else None, "", "client", "ab"[n % 2], n + 1, 3 * count - n, "error"
        )
        for n in range(count)
    ]
    alike = [SpanRecord("a", "1", "1", "", KINDS[n % 5], "ab"[n % 2], n + 1, n + 9, "error") for n in range(count)]
    for spans in (chain, alike):
        tree = Tree(spans)
        top = tree.main or 0
        assert len(tree.downwards) == count
        assert sum(section.duration for section in critical_path(tree)) == tree.spans[top].duration
        assert max(self_times(tree).values()) <= tree.spans[top].duration
        assert len(adjust(tree).shifts) == count
    assert find_errors(Tree(chain)).causes == (count - 1,)
