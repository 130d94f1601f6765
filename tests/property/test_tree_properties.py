"""Any graph of parents is drawn: every span in exactly one line, nothing wider than asked, nothing raised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.explore.model import Trace
from spanwell.explore.summary import summarise, trace_json
from spanwell.explore.text import cells, clean, fill, fit, format_duration, format_time
from spanwell.explore.tree import render
from spanwell.record import EventRecord, SpanRecord

pytestmark = pytest.mark.full


ids = st.sampled_from([f"{number:016x}" for number in range(8)])
times = st.integers(0, 2**63 - 1)


@st.composite
def spans(draw: st.DrawFn) -> list[SpanRecord]:
    """Few ids, so that self parents, circles, repeated ids and missing parents are all common."""
    return [
        SpanRecord(
            "ab" * 16,
            draw(ids),
            draw(st.none() | ids),
            f"<{number}>",
            draw(st.sampled_from(["internal", "server", "client", "producer", "consumer"])),
            draw(st.sampled_from(["orders", "shop", ""])),
            draw(times),
            draw(times),
            draw(st.sampled_from(["unset", "error"])),
            draw(st.sampled_from(["", "no\nstock"])),
            {"http.response.status_code": draw(st.none() | st.integers())},
            draw(st.sampled_from([(), (EventRecord("exception", 1, {"exception.type": "KeyError"}),)])),
        )
        for number in range(draw(st.integers(0, 14)))
    ]


@settings(max_examples=400, deadline=None)
@given(spans(), st.integers(40, 200))
def test_every_span_stands_in_exactly_one_line(found: list[SpanRecord], width: int) -> None:
    lines = list(render(Trace("ab" * 16, found), width=width))
    for number in range(len(found)):
        assert sum(f"<{number}>" in line for line in lines) == 1
    assert all(cells(line) <= width for line in lines)


@given(spans())
def test_every_span_is_reached_exactly_once(found: list[SpanRecord]) -> None:
    trace = Trace("ab" * 16, found)
    reached = [*trace.roots, *trace.orphans, *trace.loops]
    for position in reached:  # grows while it is walked
        reached += trace.children.get(position, ())
    assert sorted(reached) == list(range(len(found)))
    assert trace_json(trace)["span_count"] == summarise(trace).spans == len(found)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text(), st.integers(-5, 300))
def test_any_text_at_any_width(name: str, service: str, message: str, width: int) -> None:
    span = SpanRecord("ab" * 16, "1", None, name, "server", service, 5, 9, "error", message)
    lines = list(render(Trace("ab" * 16, [span]), width=width))
    assert len(lines) in (2, 3)
    for line in lines:
        assert cells(line) <= max(40, width)
        assert line.isprintable()


@given(st.text(), st.integers(0, 50))
def test_fill_is_exact(text: str, width: int) -> None:
    assert cells(fit(clean(text), width)) <= width
    assert cells(fill(clean(text), width)) == width


@given(st.integers(-(2**70), 2**70))
def test_any_number_is_a_duration_and_a_time(ns: int) -> None:
    assert format_duration(ns)
    assert format_time(ns)


def test_a_chain_of_a_hundred_thousand_spans() -> None:
    chain = [
        SpanRecord("a", f"{n:x}", f"{n - 1:x}" if n else None, f"<{n}>", "internal", "s", n, n + 1)
        for n in range(100_000)
    ]
    lines = list(render(Trace("a", chain), width=80))
    assert len(lines) == 100_001
    assert "⋯99999 └ <99999>" in lines[-1]
    assert max(map(cells, lines)) <= 80
