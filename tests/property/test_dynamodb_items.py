"""Any span becomes an item that DynamoDB takes, and comes back as the trace file would give it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link

from spanwell.explore.stores.rows import record_of
from spanwell.export import dynamodb_layout as layout
from spanwell.export.span_rows import RowEncoder
from support.spans import context, make_span

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=30),
    st.lists(st.text(max_size=5) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.integers(60_000, 70_000).map(lambda size: "ü" * size),
)
attributes = st.dictionaries(st.text(max_size=10), values, max_size=6)
times = st.integers(-5, 2**64)


class Bag(dict[Any, Any]):
    """Attributes as the SDK never cleaned them."""


@settings(max_examples=150, deadline=None)
@given(
    name=st.text(max_size=400),
    service=st.text(max_size=400),
    start=times,
    end=times,
    bag=attributes,
    event=attributes,
    link=attributes,
    parent=st.none() | st.integers(1, 2**64 - 1),
    ids=st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1)),
    message=st.none() | st.text(max_size=300),
)
def test_a_span_comes_back(
    name: str,
    service: str,
    start: int,
    end: int,
    bag: dict[str, Any],
    event: dict[str, Any],
    link: dict[str, Any],
    parent: int | None,
    ids: tuple[int, int],
    message: str | None,
) -> None:
    span = make_span(
        trace_id=ids[0], span_id=ids[1], parent=parent, name=name, service=service, start=start, error=message
    )
    span._end_time = end  # type: ignore[attr-defined]
    span._attributes = Bag(bag)  # type: ignore[attr-defined]
    made = Event("e", None, 5)
    made._attributes = Bag(event)  # type: ignore[attr-defined]
    span._events = (made,)  # type: ignore[attr-defined]
    span._links = (Link(context(1, 2), Bag(link)),)  # type: ignore[attr-defined]
    row = RowEncoder().row(span, {})
    item = layout.span_item(row, 1)
    assert item is not None
    assert layout.size_of(item) <= layout.MAX_ITEM
    assert all(part for value in item.values() for part in value.values())  # no empty attribute
    assert repr(record_of(layout.span_row(item), {})) == repr(record_of(row, {}))
    (summary,) = layout.summary_items([row], process="p", batch=1, expires=1, now_ms=1)
    keys = (item[layout.SORT], summary[layout.SORT], summary[layout.BUCKET])
    assert all(0 < len(key["S"].encode()) <= 1024 for key in keys)
    assert layout.size_of(summary) < 200_000
