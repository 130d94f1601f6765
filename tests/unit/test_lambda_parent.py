"""The parent and the links of an invocation, by where its spans go and what its header says."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import get_current_span

from spanwell import incoming
from spanwell.aws_lambda import parent
from spanwell.ids import XRayIdGenerator
from spanwell.propagation.carriers import extract
from spanwell.propagation.codec import TraceHeadersPropagator

ROOT, SEGMENT = 0x5759E988BD862E3FE1BE46A994272793, 0x53995C3F42CD8AD8
BARE = f"Root=1-5759e988-{ROOT & (1 << 96) - 1:024x}"
ACTIVE, PASSIVE = f"{BARE};Parent={SEGMENT:016x};Sampled=1", f"{BARE};Parent={SEGMENT:016x};Sampled=0"


@pytest.fixture(autouse=True)
def _propagators() -> Iterator[None]:
    before = propagate.get_global_textmap()
    both = [W3CBaggagePropagator(), TraceHeadersPropagator(prefer_xray=True)]
    propagate.set_global_textmap(CompositePropagator(both))
    yield
    propagate.set_global_textmap(before)
    incoming.forget_root()


def w3c(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


def request(**headers: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"requestContext": {"http": {"method": "GET"}}, "rawPath": "/", "headers": names}


def queue(*numbers: int) -> dict[str, Any]:
    attributes = [{"traceparent": {"stringValue": w3c(number)}} for number in numbers]
    return {"Records": [{"eventSource": "aws:sqs", "body": "", "messageAttributes": each} for each in attributes]}


def enter(event: object, header: str, *, to_xray: bool, called: object = None) -> tuple[Any, list[tuple[int, int]]]:
    """((trace id, parent or 0), links): the trace id is the one that a root would have."""
    context, links = parent.enter(extract(event), header, called, to_xray=to_xray)
    span = get_current_span(context).get_span_context()
    where = (span.trace_id, span.span_id) if span.is_valid else (XRayIdGenerator().generate_trace_id(), 0)
    return where, [(each.trace_id, each.span_id) for each in links]


@pytest.mark.parametrize("event", [{}, None, queue(1), queue(1, 2), request(traceparent=w3c(9))])
def test_to_x_ray_the_functions_segment_is_the_parent(event: object) -> None:
    where, _ = enter(event, ACTIVE, to_xray=True)
    assert where == (ROOT, SEGMENT)


def test_to_x_ray_what_the_event_names_is_linked() -> None:
    assert enter(request(traceparent=w3c(9)), ACTIVE, to_xray=True)[1] == [(9, 9)]
    assert enter(queue(1, 2, 1), ACTIVE, to_xray=True)[1] == [(1, 1), (2, 2)]


def test_to_x_ray_a_caller_in_the_same_trace_is_above_the_segment_and_no_link() -> None:
    same = f"00-{ROOT:032x}-{7:016x}-01"
    assert enter(request(traceparent=same), ACTIVE, to_xray=True) == ((ROOT, SEGMENT), [])


def test_to_x_ray_baggage_and_lineage_go_on() -> None:
    found = extract(request(baggage="a=b", traceparent=w3c(9)))
    context, _ = parent.enter(found, ACTIVE + ";Lineage=25:3d5c8a4c:7", None, to_xray=True)
    assert get_all(context) == {"a": "b"}
    came = incoming.of(context)
    assert came is not None
    assert came.lineage == "25:3d5c8a4c:7"


@pytest.mark.parametrize("header", [ACTIVE, PASSIVE, BARE, "", "Root=nonsense"])
def test_elsewhere_the_events_context_is_the_parent(header: str) -> None:
    where, links = enter(request(traceparent=w3c(9)), header, to_xray=False)
    assert where == (9, 9)
    assert links == ([(ROOT, SEGMENT)] if header == ACTIVE else [])


@pytest.mark.parametrize(("header", "expected"), [(ACTIVE, [(ROOT, SEGMENT)]), (PASSIVE, []), (BARE, [])])
def test_elsewhere_without_one_the_root_goes_on(header: str, expected: list[tuple[int, int]]) -> None:
    assert enter({}, header, to_xray=False) == ((ROOT, 0), expected)


def test_elsewhere_an_x_ray_header_of_the_request_counts() -> None:
    event = request(x_amzn_trace_id=f"Root=1-00000000-{7:024x};Parent={7:016x};Sampled=1")
    assert enter(event, ACTIVE, to_xray=False) == ((7, 7), [(ROOT, SEGMENT)])
    assert enter(event, PASSIVE + ";Lineage=a:1", to_xray=False) == ((7, 7), [])


@pytest.mark.parametrize("header", [ACTIVE, PASSIVE, BARE, ""])
def test_elsewhere_a_single_message_is_the_parent(header: str) -> None:
    where, links = enter(queue(1), header, to_xray=False)
    assert where == (1, 1)
    assert links == ([(1, 1), (ROOT, SEGMENT)] if header == ACTIVE else [(1, 1)])


def test_elsewhere_several_messages_are_links_of_a_root() -> None:
    assert enter(queue(1, 2), PASSIVE, to_xray=False) == ((ROOT, 0), [(1, 1), (2, 2)])


def test_a_direct_callers_context_stands_beside_the_event() -> None:
    client = SimpleNamespace(custom={"traceparent": w3c(5), "other": 3})
    assert enter({}, PASSIVE, to_xray=False, called=SimpleNamespace(client_context=client)) == ((5, 5), [])
    called = SimpleNamespace(client_context=None, w3c=lambda: {"traceparent": w3c(6), "baggage": "a=b"})
    assert enter({}, PASSIVE, to_xray=False, called=called) == ((6, 6), [])


@pytest.mark.parametrize("called", [None, 7, SimpleNamespace(client_context=3), SimpleNamespace(w3c=lambda: 3)])
def test_an_odd_context_object_is_none(called: object) -> None:
    assert enter({}, "", to_xray=False, called=called)[0][1] == 0


def test_nothing_is_changed() -> None:
    event = request(x_amzn_trace_id=BARE, traceparent=w3c(9))
    before = repr(event)
    enter(event, ACTIVE, to_xray=False)
    enter(event, ACTIVE, to_xray=True)
    assert repr(event) == before
