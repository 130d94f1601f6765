"""Random spans through each format and back: all that the format can say is the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from spanwell.explore.formats.files import FORMATS, Tally
from spanwell.explore.formats.json_values import repaired
from spanwell.record import EventRecord, LinkRecord, SpanRecord
from support.formats import found, written

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
KEYS = st.text("abcdefgh.", min_size=1, max_size=8)
SCALARS = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=4)
FLAT = st.dictionaries(
    KEYS, TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=4), max_size=4
)
TEXTS = st.dictionaries(KEYS, TEXT, max_size=4)
TRACE = f"{0xABC:032x}"
SPAN_IDS = st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}")
COUNTS = st.integers(0, 2**31)


@st.composite
def spans(draw: Any, attributes: Any, *, micro: bool = False, kinds: Any = None) -> list[SpanRecord]:
    """The spans of one trace."""
    times = st.integers(10**18, 2 * 10**18).map(lambda ns: ns // 1000 * 1000 if micro else ns)
    made = []
    for span_id in draw(st.lists(SPAN_IDS, min_size=1, max_size=4, unique=True)):
        start, status = draw(times), draw(st.sampled_from(("unset", "ok", "error")))
        events = st.builds(EventRecord, TEXT, times, attributes)
        links = st.builds(
            LinkRecord, SPAN_IDS.map(lambda each: each * 2), SPAN_IDS, attributes, st.sampled_from(("", "a=b"))
        )
        service = draw(st.sampled_from(("shop", "stock")))
        made.append(
            SpanRecord(
                TRACE, span_id, draw(st.none() | SPAN_IDS), draw(TEXT),
                draw(kinds or st.sampled_from(("internal", "server", "client", "producer", "consumer"))),
                service, start, start + draw(st.integers(0, 10**12)) // 1000 * 1000, status,
                draw(TEXT) if status == "error" else "", draw(attributes),
                tuple(draw(st.lists(events, max_size=2))), tuple(draw(st.lists(links, max_size=2))),
                {"service.name": service, **draw(attributes)}, draw(KEYS), draw(st.sampled_from(("", "1.0"))),
                draw(st.sampled_from(("", "a=b"))), draw(st.sampled_from((0, 1, 0x101, 0x301))),
                draw(COUNTS), draw(COUNTS), draw(COUNTS),
            )
        )  # fmt: skip
    return made


def there_and_back(name: str, trace: list[SpanRecord]) -> list[SpanRecord]:
    tally = Tally()
    reader = FORMATS[name].reader()
    back: list[SpanRecord] = []
    for each in found(written(name, [trace])):
        assert not each.problem
        assert FORMATS[name].matches(each.value)
        back += reader.feed(each.value, each.where, tally.refuse)
    back += reader.end(tally.refuse)
    assert tally.problems == []
    return back


@settings(max_examples=60, deadline=None)
@given(spans(ATTRIBUTES))
def test_otlp_says_everything(trace: list[SpanRecord]) -> None:
    assert there_and_back("otlp", trace) == trace


@settings(max_examples=60, deadline=None)
@given(spans(ATTRIBUTES))
def test_xray_documents_of_ours_say_everything(trace: list[SpanRecord]) -> None:
    assert there_and_back("xray", trace) == trace


@settings(max_examples=60, deadline=None)
@given(spans(FLAT, micro=True))
def test_jaeger_says_all_but_link_attributes(trace: list[SpanRecord]) -> None:
    back = there_and_back("jaeger", trace)
    follows = {"opentracing.ref_type": "follows_from"}
    assert back == [
        span._replace(
            links=tuple(link._replace(attributes=follows, trace_state="") for link in span.links),
            flags=span.flags & 0xFF,
        )
        for span in trace
    ]


@settings(max_examples=60, deadline=None)
@given(spans(TEXTS, micro=True))
def test_zipkin_says_times_ids_kinds_and_text(trace: list[SpanRecord]) -> None:
    back = there_and_back("zipkin", trace)
    assert len(back) == len(trace)
    for one, other in zip(trace, back, strict=True):
        for field in ("trace_id", "span_id", "parent_id", "name", "kind", "service", "start_ns", "end_ns", "status"):
            assert getattr(one, field) == getattr(other, field)
        assert (one.scope, one.scope_version) == (other.scope, other.scope_version)
        assert [event.attributes for event in sorted(one.events, key=lambda each: each.time_ns)] == [
            event.attributes for event in other.events
        ]
        told = {key: value for key, value in {**one.resource, **one.attributes}.items() if key != "service.name"}
        assert other.attributes == told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@example([False], 8, None)
@example([True, 12], 1, 1)
@given(st.lists(JSON, max_size=6), st.integers(1, 9), st.sampled_from((None, 1)))
def test_a_list_is_its_items_however_it_is_read(items: list[Any], piece: int, indent: int | None) -> None:
    read = found(json.dumps(items, ensure_ascii=False, indent=indent), piece)
    assert [each.value for each in read] == items


@settings(max_examples=80, deadline=None)
@given(st.lists(st.dictionaries(TEXT, JSON, max_size=3), min_size=1, max_size=5), st.data())
def test_what_breaks_off_gives_its_beginning(items: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = json.dumps({"x": items})
    saved = repaired(whole[: data.draw(st.integers(0, len(whole) - 1))])
    if saved is not None and "x" in saved:
        for one, other in zip(saved["x"][:-1], items, strict=False):
            assert one == other


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_no_change_of_a_document_raises(name: str, data: st.DataObject) -> None:
    trace = data.draw(spans(FLAT, micro=True))
    tally = Tally()
    reader = FORMATS[name].reader()
    for each in found(written(name, [trace])):
        reader_input = _disturbed(each.value, data)
        if isinstance(reader_input, dict) and FORMATS[name].matches(reader_input):
            list(reader.feed(reader_input, each.where, tally.refuse))
    list(reader.end(tally.refuse))


def _disturbed(tree: Any, data: st.DataObject) -> Any:
    """`tree` with one value somewhere in it replaced."""
    if isinstance(tree, dict) and tree and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(tree)))
        return {**tree, key: _disturbed(tree[key], data)}
    if isinstance(tree, list) and tree and data.draw(st.integers(0, 5)):
        at = data.draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], _disturbed(tree[at], data), *tree[at + 1 :]]
    return data.draw(JSON)
