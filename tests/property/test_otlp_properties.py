"""Our OTLP says what upstream's encoder says, and what that leaves out; splits lose nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from spanwell.export import otlp_json, otlp_protobuf
from support.otlp_messages import canonical, items, ours, ours_through_json, parsed, parsed_json, spans_of, upstreams

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["GET", "/orders", "x" * 300]
)
keys = st.sampled_from(["http.route", "server.port", "k" * 200, "ключ"]) | texts.filter(bool)
# One NaN: JSON has no others.
floats = st.floats().map(lambda number: math.nan if math.isnan(number) else number)
ints = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 200])
scalars = st.none() | st.booleans() | ints | floats | texts | st.binary(max_size=20)
values = st.recursive(
    scalars | st.sampled_from([True, 1, 1.0, 200, 200.0]),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(keys, values, max_size=6)
states = st.none() | st.sampled_from([TraceState([("a", "1"), ("b", "2")]), TraceState()])
times = st.integers(0, 2**63)
DROPPED = st.sampled_from([0, 0, 1, 300, 2**32 - 1])


@st.composite
def attributes(draw: Any, bounded: bool = True) -> Any:
    """As the SDK holds them, or as a span made by hand has them."""
    found = draw(mappings)
    if not bounded:
        return found
    made = BoundedAttributes(attributes=found)
    made.dropped = draw(DROPPED)
    return made


contexts = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    states,
)
statuses = st.sampled_from([Status(StatusCode.UNSET), Status(StatusCode.OK)]) | st.builds(
    Status, st.just(StatusCode.ERROR), st.none() | texts
)
resources = st.sampled_from(
    [
        Resource({"service.name": "shop", "list": ["a", "b"]}),
        Resource({"service.name": "shop", "list": ["a", "b"]}),
        Resource({"service.name": "pay"}, "https://opentelemetry.io/schemas/1.30.0"),
        Resource({}),
    ]
)
scopes = st.sampled_from(
    [
        None,
        InstrumentationScope("lib", "1.0"),
        InstrumentationScope("lib", "1.0"),
        InstrumentationScope("lib", "1.0", "https://opentelemetry.io/schemas/1.20.0"),
        InstrumentationScope("other", attributes={"a": 1, "b": (True, None)}),
        InstrumentationScope("", "0.1"),
    ]
)


@st.composite
def lists(draw: Any, one: Any, bounded: bool) -> Any:
    found = draw(st.lists(one, max_size=3))
    if not bounded:
        return tuple(found)
    made = BoundedList.from_seq(None, found)
    made.dropped = draw(DROPPED)
    return made


@st.composite
def spans(draw: Any) -> ReadableSpan:
    bounded = draw(st.booleans())
    own = attributes(bounded)
    return ReadableSpan(
        name=draw(texts),
        context=draw(contexts),
        parent=draw(st.none() | contexts),
        resource=draw(resources),
        attributes=draw(own),
        events=draw(lists(st.builds(Event, texts, own, times), bounded)),
        links=draw(lists(st.builds(Link, contexts, own), bounded)),
        kind=draw(st.sampled_from(SpanKind)),
        status=draw(statuses),
        start_time=draw(times),
        end_time=draw(times),
        instrumentation_scope=draw(scopes),
    )


def remote(context: SpanContext | None) -> int:
    return 0x100 | (0x200 if context is not None and context.is_remote else 0)


def take_what_upstream_drops(message: Any, given_spans: list[ReadableSpan]) -> None:
    """Assert on the flags of spans and links and the tracestate of links; leave upstream's part of them.

    The spans are told apart by their place: grouping keeps their order within a resource and scope.
    """
    expected: dict[tuple[Any, Any], list[ReadableSpan]] = {}
    for span in given_spans:
        expected.setdefault((span.resource, span.instrumentation_scope), []).append(span)
    by_resource: dict[Any, list[ReadableSpan]] = {}
    for (resource, _), group in expected.items():
        by_resource.setdefault(resource, []).extend(group)
    in_order = [span for group in by_resource.values() for span in group]
    for said, span in zip(spans_of(message), in_order, strict=True):
        assert span.context is not None
        assert said.flags == int(span.context.trace_flags) | remote(span.parent)
        said.flags &= 0x300
        for said_link, link in zip(said.links, span.links, strict=True):
            assert said_link.flags == int(link.context.trace_flags) | remote(link.context)
            assert said_link.trace_state == link.context.trace_state.to_header()
            said_link.flags &= 0x300
            said_link.trace_state = ""


@settings(max_examples=150, deadline=None)
@given(st.lists(spans(), max_size=4))
def test_upstreams_parser_finds_what_upstreams_encoder_says(given_spans: list[ReadableSpan]) -> None:
    message = ours(given_spans)
    take_what_upstream_drops(message, given_spans)
    assert canonical(message) == canonical(upstreams(given_spans))


@settings(max_examples=80, deadline=None)
@given(st.lists(spans(), max_size=3))
def test_json_says_the_same(given_spans: list[ReadableSpan]) -> None:
    assert canonical(ours_through_json(given_spans)) == canonical(ours(given_spans))


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


odd_scalars = st.one_of(
    scalars,
    st.text(),
    st.builds(Odd),
    st.builds(object),
    st.complex_numbers(),
    st.integers(),
    st.sets(st.integers(), max_size=3),
    st.binary(max_size=3).map(bytearray),
)
odd_values = st.recursive(
    odd_scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.none() | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
odd_mappings = st.dictionaries(st.text(max_size=5) | st.none() | st.integers(), odd_values, max_size=5)


@st.composite
def odd_spans(draw: Any) -> ReadableSpan:
    name: Any = draw(st.text(max_size=5) | st.none() | st.integers())
    odd_times = st.none() | st.integers(-(2**70), 2**70)
    made = draw(odd_mappings)
    return ReadableSpan(
        name=name,
        context=draw(contexts),
        resource=Resource({"service.name": "shop"}),
        attributes=made,
        events=[Event(name, draw(odd_mappings), 1)],
        links=[Link(draw(contexts), draw(odd_mappings)), Link(SpanContext(2**128, 1, False))],
        start_time=draw(odd_times),
        end_time=draw(odd_times),
    )


@settings(max_examples=120, deadline=None)
@given(odd_spans())
def test_odd_spans_are_said_or_counted_in_both_encodings(span: ReadableSpan) -> None:
    message = ours([span])
    (said,) = spans_of(message)
    assert len(said.attributes) + said.dropped_attributes_count == len(span.attributes or ())
    assert len(said.events) == 1
    assert len(said.links) == said.dropped_links_count == 1
    assert canonical(ours_through_json([span])) == canonical(message)


made_items = st.lists(
    st.tuples(resources, scopes, st.integers(0, 300)).map(
        lambda drawn: ReadableSpan(
            name="x" * drawn[2],
            context=SpanContext(1, 1, False),
            resource=drawn[0],
            instrumentation_scope=drawn[1],
            start_time=1,
            end_time=2,
        )
    ),
    max_size=25,
)


@pytest.mark.parametrize(
    ("encoder", "read"), [(otlp_protobuf, parsed), (otlp_json, parsed_json)], ids=["bytes", "json"]
)
@settings(max_examples=150, deadline=None)
@given(given_spans=made_items, max_bytes=st.integers(1, 3000), max_spans=st.integers(1, 10))
def test_parts_are_within_the_limits_and_nothing_is_lost(
    encoder: Any, read: Any, given_spans: list[ReadableSpan], max_bytes: int, max_spans: int
) -> None:
    whole = items(encoder, given_spans)
    parts = list(encoder.requests(iter(whole), max_bytes=max_bytes, max_spans=max_spans))
    assert [item for part in parts for item in part.items] == whole
    for number, part in enumerate(parts):
        assert 1 <= len(part.items) <= max_spans
        assert len(part.body) <= max_bytes or len(part.items) == 1
        assert part.body == encoder.request(part.items)
        found = spans_of(read(part.body))
        assert sorted(len(span.name) for span in found) == sorted(
            len(span.name) for span in given_spans[: len(part.items)]
        )
        given_spans = given_spans[len(part.items) :]
        if number + 1 < len(parts) and len(part.items) < max_spans:  # a part is as full as can be
            longer = encoder.request([*part.items, parts[number + 1].items[0]])
            assert len(longer) > max_bytes - 100
