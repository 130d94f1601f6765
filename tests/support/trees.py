"""Traces as real ones are and as they should not be, for property tests: small times, so that ends often touch."""

from __future__ import annotations

from hypothesis import strategies as st

from spanwell.record import SpanRecord

KINDS = ("internal", "server", "client", "producer", "consumer")
TRACE = "ab" * 16


@st.composite
def traces(draw: st.DrawFn, most: int = 14) -> list[SpanRecord]:
    """One root and what is below it: within its parent, across its ends or outside, of no length or of negative."""
    found = [_span(0, None, "server", draw(st.sampled_from("ab")), 100, 100 + draw(st.integers(0, 40)), draw)]
    for number in range(1, draw(st.integers(1, most))):
        parent = found[draw(st.integers(0, number - 1))]
        start = parent.start_ns + draw(st.integers(-4, 12))
        end = start + draw(st.integers(-1, 20))
        kind, service = draw(st.sampled_from(KINDS)), draw(st.sampled_from("abc"))
        found.append(_span(number, parent.span_id, kind, service, start, end, draw))
    return draw(st.permutations(found))


@st.composite
def tangles(draw: st.DrawFn) -> list[SpanRecord]:
    """Few ids, so that self parents, circles, repeated ids and missing parents are all common."""
    ids = st.sampled_from([f"{number:016x}" for number in range(8)])
    return [
        SpanRecord(
            TRACE,
            draw(ids),
            draw(st.none() | ids),
            f"<{number}>",
            draw(st.sampled_from(KINDS)),
            draw(st.sampled_from("abc")),
            draw(st.integers(0, 60)),
            draw(st.integers(0, 60)),
            draw(st.sampled_from(["unset", "error"])),
        )
        for number in range(draw(st.integers(0, 14)))
    ]


def _span(
    number: int, parent: str | None, kind: str, service: str, start: int, end: int, draw: st.DrawFn
) -> SpanRecord:
    status = draw(st.sampled_from(["unset", "error"]))
    return SpanRecord(TRACE, f"{number:x}", parent, f"<{number}>", kind, service, start, end, status)
