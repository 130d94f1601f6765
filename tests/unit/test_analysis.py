"""What the analyses find in traces made by hand and in real ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from spanwell.analysis.critical_path import critical_path, time_on_path
from spanwell.analysis.quantiles import Histogram
from spanwell.analysis.root_cause import find_errors
from spanwell.analysis.self_time import self_times
from spanwell.analysis.skew import adjust
from spanwell.analysis.tree import Tree
from spanwell.record import EventRecord, SpanRecord
from support.spans import START, nezha, record

ZIPKIN = Path(__file__).parent.parent / "data" / "zipkin_smartthings_call.json"


def path(*spans: SpanRecord) -> list[tuple[str, int, int]]:
    tree = Tree(spans)
    return [(tree.spans[s.position].span_id, s.start_ns - START, s.end_ns - START) for s in critical_path(tree)]


def test_of_two_side_by_side_the_later_to_end_is_on_the_path() -> None:
    assert path(
        record("1", duration=100),
        record("2", "1", start=10, duration=30),
        record("3", "1", start=20, duration=60),
        record("4", "3", start=30, duration=10),
    ) == [("1", 0, 20), ("3", 20, 30), ("4", 30, 40), ("3", 40, 80), ("1", 80, 100)]


def test_calls_back_to_back_are_all_on_the_path() -> None:
    calls = [record(f"c{n}", "1", start=n * 10, duration=10) for n in range(5)]
    assert path(record("1", duration=50), *calls) == [(f"c{n}", n * 10, n * 10 + 10) for n in range(5)]


def test_children_are_cut_to_their_parents_and_left_out_outside() -> None:
    assert path(
        record("1", duration=50),
        record("2", "1", start=-10, duration=20),
        record("3", "1", start=40, duration=60),
        record("4", "3", start=45, duration=90),
        record("5", "1", start=51, duration=10),
        record("6", "1", start=20, duration=-5),
    ) == [("2", 0, 10), ("1", 10, 40), ("3", 40, 45), ("4", 45, 50)]


def test_nobody_waits_for_the_consumer_of_a_message() -> None:
    spans = (
        record("1", duration=50),
        record("2", "1", kind="producer", start=10, duration=30),
        record("3", "2", kind="consumer", service="worker", start=20, duration=10, status="error"),
    )
    assert path(*spans) == [("1", 0, 10), ("2", 10, 40), ("1", 40, 50)]
    tree = Tree(spans)
    assert self_times(tree) == {0: 20, 1: 30}
    assert find_errors(tree).suppressed == ()


def test_a_path_may_begin_anywhere() -> None:
    tree = Tree(
        [record("1", "gone", duration=50), record("2", "1", start=10, duration=30), record("3", "2", start=15)]
    )
    assert tree.main == 0
    assert tree.position(tree.spans[1]) == 1
    assert tree.position(record("9")) is None
    assert time_on_path(critical_path(tree, 1)) == {1: 5, 2: 25}
    assert self_times(tree, 1) == {1: 5, 2: 25}


def test_nothing_comes_of_nothing() -> None:
    tree = Tree([])
    assert (tree.main, tree.downwards, critical_path(tree), self_times(tree)) == (None, (), [], {})
    assert find_errors(tree) == ((), (), (), ())
    assert adjust(tree).tree is tree


def test_self_time_counts_what_overlaps_once() -> None:
    tree = Tree([
        record("1", duration=100),
        record("2", "1", start=10, duration=40),
        record("3", "1", start=30, duration=40),
        record("4", "1", start=35, duration=5),
    ])  # fmt: skip
    assert self_times(tree) == {0: 40, 1: 40, 2: 40, 3: 5}


def test_where_errors_began_and_where_they_were_swallowed() -> None:
    tree = Tree([
        record("root", status="error"),
        record("a", "root", start=1, status="error"),
        record("a1", "a", start=2, status="error"),
        record("b", "root", start=3),
        record("b1", "b", start=4, status="error"),
        record("b2", "b1", start=5, status="error"),
        record("c", "root", start=6, status="error"),
    ])  # fmt: skip
    named = [[tree.spans[position].span_id for position in group] for group in find_errors(tree)]
    assert named == [["a1", "b2", "c"], ["root", "a", "b1"], ["b1"], ["a1", "c"]]


def test_another_hosts_clock_is_moved_with_all_that_hangs_on_it() -> None:
    events = (EventRecord("x", START + 5_000),)
    tree = Tree([
        record("1", duration=1000),
        record("2", "1", kind="client", start=100, duration=500),
        record("3", "2", kind="server", service="orders", start=4_900, duration=300, events=events),
        record("4", "3", service="orders", start=5_000, duration=10),
        record("5", "1", kind="client", start=700, duration=200),
        record("6", "5", kind="server", service="orders", start=5_450, duration=180),
    ])  # fmt: skip
    found = adjust(tree)
    starts = {span.span_id: span.start_ns - START for span in found.tree.spans}
    # the first call says 4,600 to 4,800 too late, the second 4,730 to 4,750: both with 4,740
    assert starts == {"1": 0, "2": 100, "3": 160, "4": 260, "5": 700, "6": 710}
    assert (found.warning, found.largest_ns) == (True, 4_740)
    assert [span.events[0].time_ns - START for span in found.tree.spans if span.events] == [260]
    assert max(span.start_ns for span in tree.spans) == START + 5_450  # what was given stays raw


def test_work_that_goes_on_after_the_answer_is_no_skew() -> None:
    host = {"host.name": "a"}
    spans = [
        record("1", duration=1000),
        record("2", "1", kind="client", start=0, duration=100),
        record("3", "2", kind="server", service="orders", start=10, duration=80),
        record("4", "1", kind="client", start=200, duration=100),
        record("5", "4", kind="server", service="orders", start=250, duration=90),  # 40 late, but 3 has no such room
        record("6", "1", kind="producer", start=400, duration=10),
        record("7", "6", kind="consumer", service="mail", start=9_000, duration=5),
        record("8", "1", service="timeless", kind="server", start=-START, duration=5),
        record("9", "1", kind="client", start=20, duration=5, resource=host),
        record("a", "9", kind="server", service="same host", start=90, duration=3, resource=host),
    ]
    assert not adjust(Tree(spans)).warning


def zipkin() -> list[SpanRecord]:
    return [
        SpanRecord(
            span["traceId"],
            span["id"],
            span["parentId"],
            span["name"],
            span["kind"].lower(),
            span["localEndpoint"]["serviceName"],
            span["timestamp"] * 1000,
            (span["timestamp"] + span.get("duration", 0)) * 1000,
            resource={"host.name": span["localEndpoint"]["ipv4"]},
        )
        for span in json.loads(ZIPKIN.read_text())
    ]


def test_a_real_call_with_shared_ids_and_one_clock_2_ms_off() -> None:
    tree = Tree(zipkin())
    assert (len(tree.tops), tree.main, len(tree.downwards)) == (1, 0, 21)
    for position, parent in enumerate(tree.parents):
        if parent is not None and tree.spans[position].kind == "server":
            assert tree.spans[parent].span_id == tree.spans[position].span_id
            assert tree.spans[parent].kind == "client"
    found = adjust(tree)
    moved = {found.tree.spans[position].name: shift for position, shift in enumerate(found.shifts) if shift}
    assert set(moved.values()) == {-2_278_500}
    assert next(iter(moved)) == "post /api/devices/validateownership"
    for each in (tree, found.tree):
        shares = time_on_path(critical_path(each))
        longest = each.spans[max(shares, key=shares.__getitem__)]
        assert (longest.service, longest.kind) == ("bookie", "server")
        assert sum(shares.values()) == sum(self_times(each).values()) == each.duration  # one thing at a time
        assert set(shares) == {position for position, time in self_times(each).items() if time}


def test_real_traces_of_a_shop() -> None:
    traces: dict[str, list[SpanRecord]] = {}
    for span in nezha():
        assert span.context is not None
        traces.setdefault(f"{span.context.trace_id:032x}", []).append(
            SpanRecord(
                f"{span.context.trace_id:032x}",
                f"{span.context.span_id:016x}",
                f"{span.parent.span_id:016x}" if span.parent else None,
                span.name,
                "internal",
                str(span.resource.attributes["service.name"]),
                span.start_time or 0,
                span.end_time or 0,
            )
        )
    for spans in traces.values():
        tree = Tree(spans)
        assert (len(tree.roots), tree.orphans, tree.loops) == (1, (), ())
        root = tree.spans[tree.roots[0]]
        assert sum(section.duration for section in critical_path(tree)) == root.duration
        assert len(self_times(tree)) == len(spans)
        assert adjust(tree).largest_ns < 1_000_000  # in one cluster: below a millisecond, where at all


def test_a_histogram_ignores_what_is_no_number_and_takes_negatives_as_zero() -> None:
    found = Histogram()
    assert math.isnan(found.quantile(0.5))
    assert (found.buckets(), list(found.values()), found.scale) == ((0, []), [], 20)
    for value in (math.nan, math.inf, -math.inf):
        found.observe(value)
    assert found.count == 0
    for value in (-1.0, 0, 2.0, 2.0):
        found.observe(value)
    assert (found.count, found.zero_count, found.sum, found.min, found.max) == (4, 2, 4.0, 0, 2.0)
    assert [found.quantile(q) for q in (0.5, 0.51, 1.0)] == [0, pytest.approx(2.0, rel=1e-6), 2.0]
    assert found.buckets() == ((1 << 20) - 1, [2])
    with pytest.raises(ValueError, match="at least 4"):
        Histogram(3)


def test_a_histogram_stays_small() -> None:
    found = Histogram()
    for exponent in range(-300, 300):
        found.observe(10.0**exponent)
    assert len(found.buckets()[1]) <= 160
    assert found.scale == -4
    assert 1e-155 < found.quantile(0.25) < 1e-145
