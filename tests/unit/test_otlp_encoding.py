"""The OTLP encodings: what is remembered and what is not, odd values, spans as the SDK makes them."""

from __future__ import annotations

import enum
import json
import math
import threading
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, TraceFlags

from spanwell.enrich.late import Detection, LateResource
from spanwell.export import otlp_json, otlp_protobuf
from spanwell.export.otlp_pairs import Pairs, varint
from spanwell.export.otlp_values import MAX_VALUES
from support.otlp_messages import (
    attributes_of,
    canonical,
    items,
    ours,
    ours_through_json,
    parsed,
    spans_of,
    upstreams,
)
from support.spans import context, make_span, nezha


def said(value: Any) -> Any:
    (span,) = spans_of(ours([make_span(attributes={"k": value})]))
    return attributes_of(span.attributes)["k"]


def test_equal_values_of_other_types_are_told_apart() -> None:
    for value in (True, 1, 1.0, 1, True, 0, False, 0.0, -0.0, (True,), (1,), (1.0,), "1", ("1",)):
        found = said(value)
        expected = list(value) if isinstance(value, tuple) else value
        assert (found, repr(found)) == (expected, repr(expected))


class Colour(str, enum.Enum):
    RED = "red"


class Unequal(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    def __hash__(self) -> int:
        raise RuntimeError("not to be hashed")


class Level(enum.IntEnum):
    HIGH = 3


def test_each_documented_form() -> None:
    assert said(2**63 - 1) == 2**63 - 1
    assert said(-(2**63)) == -(2**63)
    assert said(2**63) == str(2**63)
    assert said(-(10**5000)) == hex(-(10**5000))
    assert said("a\ud800b") == "a?b"
    assert math.isnan(said(math.nan))
    assert said(-math.inf) == -math.inf
    assert said(b"\x00\xff") == b"\x00\xff"
    assert said(bytearray(b"ab")) == b"ab"
    assert said((None, "a", (None,))) == [None, "a", [None]]
    assert said({1: "a", "b": {"c": (1, None)}}) == {"1": "a", "b": {"c": [1, None]}}
    assert said(None) is None
    assert said(1 + 2j) == "(1+2j)"
    assert said(Colour.RED) == "red"
    assert said(Level.HIGH) == 3
    assert said(Unequal("text")) == "text"
    assert said("") == ""


def test_what_is_too_deep_or_in_a_circle_stays_readable_for_every_receiver() -> None:
    circle: list[Any] = []
    circle.append(circle)
    found = said(circle)
    for _ in range(16):
        (found,) = found
    assert found == "<list>"
    deep: Any = {"end": 1}
    for _ in range(50):
        deep = {"k": deep}
    assert ours_through_json([make_span(attributes={"k": deep})])
    assert said(deep)


@pytest.mark.parametrize("encoder", [otlp_protobuf, otlp_json])
def test_only_an_attribute_of_too_many_values_is_dropped_and_counted(encoder: Any) -> None:
    wide: list[Any] = []
    wide += [wide] * 10  # 10^16 values, were it followed
    span = make_span(attributes={"a": 1, "wide": wide, "flat": ["x"] * (MAX_VALUES - 1), "b": {}})
    read = ours if encoder is otlp_protobuf else ours_through_json
    (found,) = spans_of(read([span]))
    assert [pair.key for pair in found.attributes] == ["a", "flat", "b"]
    assert found.dropped_attributes_count == 1


@pytest.mark.parametrize("encoder", [otlp_protobuf, otlp_json])
def test_a_span_without_identity_is_refused(encoder: Any) -> None:
    with pytest.raises(ValueError, match="without a context"):
        encoder.encode_span(ReadableSpan(name="x"))
    with pytest.raises(ValueError, match="out of range"):
        encoder.encode_span(make_span(trace_id=2**128))
    with pytest.raises(ValueError, match="out of range"):
        encoder.encode_span(make_span(parent=2**64))


def test_a_late_resource_is_said_as_it_is_when_it_is_sent() -> None:
    go = threading.Event()

    def work() -> dict[str, object]:
        go.wait(10)
        return {"host.id": "i-1"}

    late = LateResource(Resource({"service.name": "shop"}), Detection({}, work))
    waiting = items(otlp_protobuf, [make_span(resource=late)])
    before = parsed(otlp_protobuf.request(waiting))
    go.set()
    assert late.complete(10)
    after = parsed(otlp_protobuf.request(waiting))
    assert attributes_of(before.resource_spans[0].resource.attributes) == {"service.name": "shop"}
    assert attributes_of(after.resource_spans[0].resource.attributes) == {"host.id": "i-1", "service.name": "shop"}


def test_spans_of_the_sdk_with_everything_dropped() -> None:
    kept = InMemorySpanExporter()
    limits = SpanLimits(
        max_span_attributes=2, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1
    )
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    link = Link(SpanContext(7, 8, True, TraceFlags(3), context(1, 1, state="a=1").trace_state), {"a": 1, "b": 2})
    with provider.get_tracer("lib", "2", attributes={"x": "y"}).start_as_current_span(
        "work", attributes={"a": 1, "b": 2, "c": 3}, links=[link, link, link]
    ) as span:
        span.add_event("first")
        span.add_event("second", {"a": 1, "b": "two"})
        span.record_exception(ValueError("no"))
    (found,) = spans_of(ours(list(kept.get_finished_spans())))
    (upstream,) = spans_of(upstreams(list(kept.get_finished_spans())))
    assert (found.dropped_attributes_count, found.dropped_events_count, found.dropped_links_count) == (1, 2, 2)
    assert (found.links[0].flags, found.links[0].trace_state) == (0x303, "a=1")
    assert (found.flags, upstream.flags) == (0x101 | found.flags & 2, 0x100)
    found.flags = upstream.flags
    found.links[0].flags, found.links[0].trace_state = upstream.links[0].flags, ""
    assert canonical(found) == canonical(upstream)


def test_dropped_attributes_of_resource_and_scope_are_counted() -> None:
    span = make_span(attributes={})
    resource: Any = span.resource
    scope: Any = span.instrumentation_scope
    resource.attributes.dropped, scope.attributes.dropped = 3, 4
    for message in (ours([span]), ours_through_json([span])):
        (group,) = message.resource_spans
        assert group.resource.dropped_attributes_count == 3
        assert group.scope_spans[0].scope.dropped_attributes_count == 4


def test_real_spans() -> None:
    spans = nezha()[:400]
    message = ours(spans)
    assert canonical(ours_through_json(spans)) == canonical(message)
    for span in spans_of(message):
        assert span.flags & 0xFF == 1
        span.flags &= 0x300
    assert canonical(message) == canonical(upstreams(spans))


def test_no_items_are_an_empty_request() -> None:
    assert otlp_protobuf.request([]) == b""
    assert json.loads(otlp_json.request([])) == {"resourceSpans": []}
    assert list(otlp_protobuf.requests([])) == []


def test_memos_are_bounded_and_right_when_they_overflow() -> None:
    pairs = Pairs(0x4A, bound=50)
    fresh = Pairs(0x4A, bound=50)
    for number in range(400):
        for value in (f"v{number}", number, number % 2 == 0, ("a", f"t{number}"), "y" * number):
            key = f"k{number % 70}"
            expected = fresh.odd(key, value), 0
            assert pairs.joined({key: value}) == pairs.joined({key: value}) == expected
        assert all(len(memo) <= 50 for memo in (pairs, pairs._ints, pairs._bools, pairs._heads, pairs._text_heads))
    assert len(pairs._kept) <= 150


def test_a_key_whose_values_never_come_again_leaves_room() -> None:
    pairs = Pairs(0x4A)
    for number in range(5000):
        pairs.joined({"route": "/orders", "user": f"u{number}"})
    assert ("route", "/orders") in pairs
    assert len(pairs) <= 129


def test_threads_that_encode_at_once_do_not_mix_their_values() -> None:
    pairs = Pairs(0x4A, bound=20)
    wrong = []

    def work(first: int) -> None:
        own = Pairs(0x4A)
        for number in range(first, first + 2000):
            attributes = {"a": f"v{number % 50}", f"k{number % 30}": number, "c": number % 2 == 0}
            if pairs.joined(attributes)[0] != b"".join(own.odd(*item) for item in attributes.items()):
                wrong.append(attributes)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_many_names_and_tracestates() -> None:
    spans = [
        make_span(name=f"n{number}", links=(Link(context(1, 2, state=f"a={number}")),)) for number in range(3000)
    ]
    for number, found in enumerate(spans_of(ours(spans))):
        assert found.name == f"n{number}"
        assert found.links[0].trace_state == f"a={number}"
    assert len(otlp_protobuf._names) <= 1024
    assert len(otlp_protobuf._states) <= 64


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16383, 16384, 2**32, 2**64 - 1])
def test_varints(number: int) -> None:
    from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined,unused-ignore]

    assert _DecodeVarint(varint(number), 0) == (number, len(varint(number)))
    assert varint(number) == varint(number)
