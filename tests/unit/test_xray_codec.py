from __future__ import annotations

import pytest

from spanwell.propagation.xray import TraceHeader, format_header, parse

ROOT = 0x5759E988BD862E3FE1BE46A994272793
PARENT = 0x53995C3F42CD8AD8
R = "Root=1-5759e988-bd862e3fe1be46a994272793"
P = "Parent=53995c3f42cd8ad8"

ACCEPTED = {
    f"{R};{P};Sampled=1": TraceHeader(ROOT, PARENT, "1"),
    f"{R};{P};Sampled=0": TraceHeader(ROOT, PARENT, "0"),
    f"{R};{P};Sampled=?": TraceHeader(ROOT, PARENT, "?"),
    f"{R};{P}": TraceHeader(ROOT, PARENT),
    R: TraceHeader(ROOT),
    f"{R};": TraceHeader(ROOT),
    f"{R};Sampled=?": TraceHeader(ROOT, 0, "?"),
    f"{R};Sampled=0": TraceHeader(ROOT, 0, "0"),
    f"Self=1-67891234-12456789abcdef0123456789;{R}": TraceHeader(ROOT),
    f"Self=1-67891234-12456789abcdef0123456789;{R};{P};Sampled=1": TraceHeader(ROOT, PARENT, "1"),
    f"Sampled=1;{P};{R}": TraceHeader(ROOT, PARENT, "1"),
    f"ROOT{R[4:]};parent{P[6:]};sAmPlEd=1": TraceHeader(ROOT, PARENT, "1"),
    f" {R} ; {P} ;\tSampled = 1 ; ": TraceHeader(ROOT, PARENT, "1"),
    f"{R.upper().replace('ROOT', 'Root')};{P.upper()};Sampled=1": TraceHeader(ROOT, PARENT, "1"),
    f"{R};{P};Sampled=1;CalledFrom=app=x==;token==": TraceHeader(ROOT, PARENT, "1"),
    f"{R};{P};Sampled=1;Lineage=25:a87bd80c:1": TraceHeader(ROOT, PARENT, "1", "25:a87bd80c:1"),
    f"{R};Lineage=a87bd80c:0|68fd508a:5": TraceHeader(ROOT, 0, "", "a87bd80c:0|68fd508a:5"),
    f";;{R};;{P};;Sampled=1;;": TraceHeader(ROOT, PARENT, "1"),
    # What cannot be read is left out; the trace is kept.
    f"{R};Parent=;Sampled=": TraceHeader(ROOT),
    f"{R};Parent=0000000000000000;Sampled=1": TraceHeader(ROOT, 0, "1"),
    f"{R};Parent=53995c3f42cd8adg;Sampled=2": TraceHeader(ROOT),
    f"{R};{P};Sampled=1;Lineage=a\r\nSet-Cookie:b": TraceHeader(ROOT, PARENT, "1"),
    f"{R};{P};Sampled=1;Lineage={'x' * 600}": TraceHeader(ROOT, PARENT, "1"),
    f"{R};{P};Sampled=1;x={'y' * 5000}": TraceHeader(ROOT, PARENT, "1"),
    f"{R};{R[:-1]}4;{P};Sampled=1;Sampled=0": TraceHeader(ROOT, PARENT, "1"),
}

REJECTED = [
    "",
    ";",
    "=",
    "Root",
    "Root=",
    P,
    f"{P};Sampled=1",
    "Root=1-00000000-000000000000000000000000",
    "Root=2-5759e988-bd862e3fe1be46a994272793",
    "Root=1-5759e988-bd862e3fe1be46a99427279",
    "Root=1-5759e988-bd862e3fe1be46a9942727933",
    "Root=1-5759e988bbd862e3fe1be46a994272793",
    "Root=1-0x59e988-bd862e3fe1be46a994272793",
    "Root=1-+759e988-bd862e3fe1be46a994272793",
    "Root=1-57_9e988-bd862e3fe1be46a994272793",
    "Root=1-5759 988-bd862e3fe1be46a99427 793",
    "Root=1-5759 98 -bd862e3fe1be46a99427  93",
    "Root=1-\u0665759e988-bd862e3fe1be46a994272793",
    "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
    f"{'x' * 5000};{R}",
    "Root=1-0000 000-0000 0000000000000000000;Parent=53995c3f42cd8ad8;Sampled=1",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_everything_aws_sends_is_read(text):
    assert parse(text) == ACCEPTED[text]


@pytest.mark.parametrize("text", REJECTED)
def test_a_header_without_a_readable_root_is_no_header(text):
    assert parse(text) is None


def test_a_field_cut_at_the_length_limit_is_left_out():
    start = f"{R};{P};Sampled=1;x="
    text = start + "y" * (4096 - len(start) - len(";Lineage=ab")) + ";Lineage=abcdef"
    assert parse(text) == TraceHeader(ROOT, PARENT, "1")


def test_the_text_has_the_order_of_aws():
    header = TraceHeader(ROOT, PARENT, "0", "1:a:2")
    assert format_header(header) == f"{R};{P};Sampled=0;Lineage=1:a:2"
    assert format_header(TraceHeader(1)) == "Root=1-00000000-000000000000000000000001"
    assert repr(header) == f"TraceHeader('{format_header(header)}')"


def test_headers_compare_by_value():
    assert len({TraceHeader(1, 2), TraceHeader(1, 2), TraceHeader(1, 3)}) == 2
    assert TraceHeader(1) != "Root"
