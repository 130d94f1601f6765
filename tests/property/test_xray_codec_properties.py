from __future__ import annotations

import sys
from string import hexdigits

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spanwell.propagation.trace_header import LONGEST_HEADER, TraceHeader, _scan, _usual, format_header, parse

lineages = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=";"), max_size=512)
headers = st.builds(
    TraceHeader,
    st.integers(1, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from(["0", "1", "?", ""]),
    lineages,
)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
near_headers = st.lists(
    st.one_of(
        st.sampled_from(["Root", "Parent", "Sampled", "Lineage", "=", ";", "1-", "-", " ", "?", "0", "1"]),
        st.text(hexdigits, max_size=24),
        st.text(max_size=3),
    ),
    max_size=30,
).map("".join)


@relaxed
@given(headers)
def test_what_is_written_is_read_back(header):
    assert parse(format_header(header)) == header


@relaxed
@given(headers, st.data())
def test_order_case_spaces_and_unknown_keys_do_not_matter(header, data):
    fields = [field.split("=", 1) for field in format_header(header).split(";")]
    unknown = data.draw(st.lists(st.tuples(st.sampled_from(["Self", "x", ""]), st.text("=1-a ", max_size=9))))
    mixed = data.draw(st.permutations([*fields, *unknown]))
    space = data.draw(st.sampled_from(["", " ", "\t"]))
    case = data.draw(st.sampled_from([str.lower, str.upper, str.title, str]))
    text = ";".join(f"{space}{case(key)}{space}={space}{value}{space}" for key, value in mixed)
    assert parse(text + data.draw(st.sampled_from(["", ";", ";;"]))) == header


@relaxed
@given(st.one_of(st.text(), near_headers))
@example("Root=1-5759e988-bd862e3fe1be46a99427279\ud800")
def test_any_text_is_read_without_an_exception(text):
    found = parse(text)
    assert found is None or parse(format_header(found)) == found


@relaxed
@given(st.one_of(near_headers, headers.map(format_header)))
def test_the_short_cut_reads_what_the_scanner_reads(text):
    quick = _usual(text)
    assert quick is None or quick == _scan(text)


@relaxed
@given(st.sampled_from(["=", ";", "Root=", "Root=1-;", "Lineage=x;", " ", "a", "\0"]), st.integers(1, 3))
def test_the_work_is_bounded_for_megabytes(piece, megabytes):
    """Lines run by the interpreter, not seconds: more than the limit's worth of text costs nothing more."""

    def lines(text):
        count = 0

        def tracer(frame, event, arg):
            nonlocal count
            count += event == "line"
            return tracer

        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            assert parse(text) is None
        finally:
            sys.settrace(before)
        return count

    huge = piece * (megabytes * 1_000_000 // len(piece))
    assert lines(huge) <= lines(piece * (LONGEST_HEADER // len(piece))) + 20
