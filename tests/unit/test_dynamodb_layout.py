"""Items of the DynamoDB table: what they hold, how large they get, how they come back."""

from __future__ import annotations

import random
import string
import time
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind

from spanwell.explore.stores.dynamodb_parts import merge
from spanwell.explore.stores.rows import record_of
from spanwell.export import dynamodb_layout as layout
from spanwell.export.span_rows import RowEncoder
from spanwell.record import SpanRecord
from support.spans import START, context, make_span, nezha

EXPIRES = 1_800_000_000
NOISE = "".join(random.Random(4).choices(string.ascii_letters + string.digits, k=800_000))


def row_of(span: Any) -> tuple[Any, ...]:
    return RowEncoder().row(span, {})


def back(span: Any) -> SpanRecord:
    item = layout.span_item(row_of(span), EXPIRES)
    assert item is not None
    assert layout.size_of(item) <= layout.MAX_ITEM
    return record_of(layout.span_row(item), {})


ODD = {
    "text": "grün 🌲 \ud800 \x00",
    "nan": float("nan"),
    "inf": float("-inf"),
    "large": 2**70,
    "bytes": b"\x00\xff",
    "list": [1, 2.5, None, "x"],
    "map": {"$bytes": "no", "b": {"c": [True]}},
    "none": None,
    "": "empty name",
    "$dollar": "kept",
}


@pytest.mark.parametrize(
    "span",
    [
        make_span(),
        make_span(name="", service=""),
        make_span(name="n" * 70_000, service="s" * 3000, parent=5, remote_parent=True, kind=SpanKind.CONSUMER),
        make_span(name="half \udfff", error="it broke \ud800", attributes=ODD),
        make_span(start=0, duration=0),
        make_span(start=2**63 + 5, duration=2**40),
        make_span(duration=-1000),
        make_span(
            events=(Event("exception", {"exception.type": "E", "stack": "line\n" * 400}, START),),
            links=(Link(context(7, 8, state="a=b"), {"why": "batch"}), Link(context(9, 10))),
        ),
        make_span(attributes={"body": "x" * 60_000}),
        make_span(attributes={"text": "plain"}, resource=Resource({"service.name": "a#b#c"})),
    ],
)
def test_a_span_comes_back_as_from_the_trace_file(span: Any) -> None:
    assert repr(back(span)) == repr(record_of(row_of(span), {}))  # repr: nan is not equal to itself


def test_real_spans_come_back() -> None:
    for span in nezha():
        assert back(span) == record_of(row_of(span), {})


def test_a_small_span_is_one_write_unit_of_readable_text() -> None:
    item = layout.span_item(row_of(make_span(attributes={"http.route": "/orders/{id}"})), EXPIRES)
    assert item is not None
    assert '"http.route":"/orders/{id}"' in item["data"]["S"]
    assert layout.size_of(item) < 1024


def test_a_span_that_would_cost_more_is_compressed() -> None:
    item = layout.span_item(row_of(make_span(attributes={"db.query.text": "SELECT name " * 300})), EXPIRES)
    assert item is not None
    assert "B" in item["data"]
    assert layout.size_of(item) < 1024


def test_what_does_not_get_smaller_stays_text() -> None:
    item = layout.span_item(row_of(make_span(attributes={"text": "ab"}, name=NOISE[:90])), EXPIRES)
    assert item is not None
    assert set(item["data"]) == {"S"}


def test_large_attributes_are_cut_first() -> None:
    attributes = {f"body{number}": NOISE[number:][:60_000] for number in range(9)}
    event = Event("first", {"text": "kept"}, START)
    found = back(make_span(attributes={**attributes, "small": "kept"}, events=(event,)))
    assert found.attributes["small"] == "kept"
    assert str(found.attributes["body0"]).endswith("…[+57952 characters]")
    assert [event.name for event in found.events] == ["first"]
    assert found.dropped_attributes == found.dropped_events == 0


def test_then_events_go_and_are_counted() -> None:
    events = tuple(Event("e", {"text": NOISE[number * 1000 :][:60_000]}, START) for number in range(12))
    found = back(make_span(attributes={"small": "kept"}, events=events))
    assert found.attributes == {"small": "kept"}
    assert (found.events, found.dropped_events) == ((), 12)


def test_many_small_attributes_go_last() -> None:
    attributes = {f"key{number}": NOISE[number * 2000 :][:2000] for number in range(400)}
    found = back(make_span(attributes=attributes))
    assert (dict(found.attributes), found.dropped_attributes) == ({}, 400)


def test_what_fits_in_no_item_has_none() -> None:
    chance = random.Random(5)
    texts = ["".join(chr(chance.randrange(0x1F000, 0x2F000)) for _ in range(65_000)) for _ in range(4)]
    span = make_span(name=texts[0], error=texts[1])
    span._instrumentation_scope = InstrumentationScope(texts[2], texts[3])  # type: ignore[attr-defined]
    assert layout.span_item(row_of(span), EXPIRES) is None


@pytest.mark.parametrize("item_of", [lambda text: {"S": text}, lambda text: {"B": text.encode()}])
def test_a_size_counts_bytes(item_of: Any) -> None:
    assert layout.size_of({"name": item_of("grün")}) == 4 + 5


def test_hours_and_buckets_sort() -> None:
    assert layout.hour_of(START) == time.strftime("%Y-%m-%dT%H", time.gmtime(START // 10**9))
    assert layout.hour_of(-5) == "1970-01-01T00"
    assert layout.hour_of(2**63 - 1) == "2262-04-11T23"
    assert layout.bucket_of("shop", "2026-11-20T09", 3) == "shop#2026-11-20T09#3"


def test_long_service_names_stay_apart_within_the_limits_of_keys() -> None:
    one, other = "ü" * 5000 + "1", "ü" * 5000 + "2"
    assert layout.short(one) != layout.short(other)
    assert len(layout.bucket_of(one, "2026-11-20T09", 3).encode()) < 1024
    rows = [row_of(make_span(service=service, start=START)) for service in (one, other)]
    items = layout.summary_items(rows, process="p", batch=1, expires=EXPIRES, now_ms=0)
    assert len({layout.key_of(item) for item in items}) == 2
    assert all(len(item["sk"]["S"].encode()) < 1024 for item in items)


@pytest.mark.parametrize("table", ["a", "a b", "", "x" * 256, "arn:aws:dynamodb:eu-west-1:1:table/abc"])
def test_a_table_that_cannot_be(table: str) -> None:
    with pytest.raises(ValueError, match="is no table"):
        layout.check_table(table)


def test_an_arn_names_its_region() -> None:
    assert layout.check_table("traces.v1") == ""
    assert layout.check_table("arn:aws-cn:dynamodb:cn-north-1:123456789012:table/traces") == "cn-north-1"


def test_a_resource_that_is_too_large_is_cut() -> None:
    body = '{"service.name":"shop","big":"' + NOISE + '"}'
    item = layout.resource_item("r", body, EXPIRES)
    assert layout.size_of(item) <= layout.MAX_ITEM
    found = layout.resource_attributes(item)
    assert found["service.name"] == "shop"
    assert str(found["big"]).endswith("characters]")


# --- summaries --------------------------------------------------------------------------------------------------


def partials(*batches: list[Any]) -> list[Any]:
    made = []
    for number, batch in enumerate(batches):
        rows = [row_of(span) for span in batch]
        made += layout.summary_items(rows, process="p", batch=number, expires=EXPIRES + number, now_ms=number * 1000)
    return made


def test_partial_summaries_merge_into_that_of_the_trace() -> None:
    root = make_span(span_id=1, name="GET /", start=START, duration=9_000_000)
    inner = make_span(span_id=2, parent=1, start=START + 5, error="no")
    call = make_span(span_id=3, parent=2, start=START + 9, service="orders")
    lost = make_span(span_id=4, parent=77, start=START + 9, service="orders")
    # Children end first: their parents come with a later batch, or from another process.
    parts = merge("1", partials([inner], [call, lost], [root]))
    assert parts is not None
    summary = parts.summary
    assert (summary.spans, summary.errors, summary.orphans, summary.root_name) == (4, 1, 1, "GET /")
    assert (summary.start_ns, summary.end_ns) == (START, START + 9_000_000)
    assert [tuple(service) for service in summary.services] == [("orders", 2, 0), ("shop", 2, 1)]
    assert (parts.first_ms, parts.last_ms, parts.expires, parts.orphans_known) == (0, 2000, EXPIRES + 2, True)
    assert not summary.complete


def test_without_a_root_it_is_not_complete() -> None:
    parts = merge("1", partials([make_span(span_id=2, parent=1)]))
    assert parts is not None
    assert (parts.summary.root_name, parts.summary.orphans) == (None, 1)


def test_a_batch_too_large_for_its_ids_says_so() -> None:
    batch = [make_span(span_id=number, parent=1 if number > 1 else None) for number in range(1, 2502)]
    items = partials(batch)
    assert layout.size_of(items[0]) < 1024
    parts = merge("1", items)
    assert parts is not None
    assert (parts.orphans_known, parts.summary.spans) == (False, 2501)


def test_nothing_merges_into_nothing() -> None:
    assert merge("1", []) is None
