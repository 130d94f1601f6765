"""Filters of any shape: printed and parsed they are the same, and the trace file finds all that they match."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanwell import schema
from spanwell.explore.filters import FilterError, bounds, matches, parse, show
from spanwell.explore.filters import keywords as words
from spanwell.explore.filters import nodes as n
from spanwell.explore.filters.pushdown import may_hold
from spanwell.explore.model import Trace
from spanwell.explore.stores.sqlite import SqliteStore
from spanwell.explore.summary import summarise
from spanwell.record import EventRecord, SpanRecord
from spanwell.values import dumps, loads

if TYPE_CHECKING:
    from spanwell.explore.filters.nodes import Filter

SECOND = 1_000_000_000
TEXTS = (
    "a",
    "b",
    "web",
    "db:a",
    "pay.example",
    "A B",
    'q"\\u',
    "größe",
    "50%_off",
    "12",
    "true",
    "https",
    "x/y",
    "\t",
)
texts = st.sampled_from(TEXTS) | st.text(alphabet='ab"\\%_ é\n.:/', max_size=4)
numbers = st.sampled_from(("0", "1", "2", "0.5", "1.5", "400", "404", "429", "500", "12", "1e-9", "-1"))
KEYS = (
    "order.id", "order_id", "http.response.status_code", "http.status_code", "user.id", "url.path", "url.scheme",
    "server.address", "server.port", "rpc.system", "rpc.service", "db.system", "db.name", "error.type", "vip",
    "spanwell.throttled", "rpc.grpc.status_code", "http.method", "tags", "peer.service", 'k"ey',
)  # fmt: skip
values: st.SearchStrategy[Any] = (
    texts
    | st.sampled_from(
        (True, False, 12, 12.0, 1.5, 404, 429, 500, 8, float("nan"), float("inf"), "aws-api", "Throttling")
    )
    | st.lists(texts, max_size=2)
)
attributes = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)


@st.composite
def traces(draw: st.DrawFn) -> list[SpanRecord]:
    ids = [f"{number:016x}" for number in range(draw(st.integers(1, 6)))]
    resources = [{"host.id": draw(texts), "arn": "arn:" + draw(texts)}, {}]
    found = []
    for number, span_id in enumerate(ids):
        start = draw(st.integers(0, 3)) * SECOND // 2
        failed, broke = draw(st.booleans()), draw(st.booleans())
        exception = {"exception.type": draw(texts), "exception.message": draw(texts)}
        span = SpanRecord(
            "",
            span_id,
            draw(st.sampled_from([None, *ids] if number else [None, ids[-1]])),
            draw(texts),
            draw(st.sampled_from(["server", "client", "producer", "consumer", "internal"])),
            draw(st.sampled_from(["a", "b", "web"])),
            start,
            start + draw(st.integers(0, 4)) * SECOND // 2,
            "error" if failed else "unset",
            draw(texts) if failed else "",
            draw(attributes),
            (EventRecord("exception", 0, exception),) if broke else (),
            (),
            draw(st.sampled_from(resources)),
        )
        found.append(span)
    return found


def simple(place: str) -> st.SearchStrategy[Filter]:
    names = [name for name, keyword in words.KEYWORDS.items() if place in keyword.places]

    def compare(name: str) -> st.SearchStrategy[Filter]:
        kind = words.KEYWORDS[name].kind
        if kind == words.BOOLEAN:
            told = st.sampled_from(("true", "false")).map(lambda text: n.Value(text, quoted=False))
            return st.builds(n.Compare, st.just(name), st.sampled_from(("=", "!=")), told)
        if kind == words.NUMBER:
            told = numbers.map(lambda text: n.Value(text, quoted=False))
            return st.builds(n.Compare, st.just(name), st.sampled_from(n.NUMBER_OPERATORS), told)
        return st.builds(n.Compare, st.just(name), st.sampled_from(n.TEXT_OPERATORS), texts.map(n.Value))

    return st.builds(n.Has, st.sampled_from(names)) | st.sampled_from(names).flatmap(compare)


def outside(place: str) -> st.SearchStrategy[Filter]:
    bare = (numbers | st.sampled_from(("true", "false", "gold"))).map(lambda text: n.Value(text, quoted=False))
    keys = st.sampled_from((*KEYS, "order-id", "otel.resource.host.id", "k_ey"))
    return (
        simple(place)
        | st.builds(n.Annotation, keys)
        | st.builds(n.Annotation, keys, st.sampled_from(("=", "!=")), bare | texts.map(n.Value))
        | st.builds(n.Annotation, keys, st.sampled_from(("<", ">=")), numbers.map(lambda t: n.Value(t, quoted=False)))
        | st.builds(n.Annotation, keys, st.sampled_from(("CONTAINS", "ENDSWITH")), texts.map(n.Value))
        | texts.filter(bool).map(n.Words)
        | st.sampled_from(("gold", "12", "nan", "/x")).map(lambda text: n.Words(text, quoted=False))
    )


def combined(leaves: st.SearchStrategy[Filter], most: int = 4) -> st.SearchStrategy[Filter]:
    def more(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(n.Not, inner) | st.builds(n.And, several) | st.builds(n.Or, several)

    return st.recursive(leaves, more, max_leaves=most)


def causes() -> st.SearchStrategy[Filter]:
    def of(kind: str, part: str) -> st.SearchStrategy[Filter]:
        inner = combined(simple(words.place_of(kind, part)), 2)
        return st.builds(n.RootCause, st.just(kind), st.just(part), st.none() | inner)

    return st.one_of([of(kind, part) for kind in words.CAUSE_KINDS for part in words.CAUSE_PARTS])


node = st.builds(n.Node, texts, st.sampled_from(("", "", "remote", "AWS::DynamoDB")))
filters = combined(
    outside(words.TRACE)
    | st.builds(n.Service, node, st.none() | combined(outside(words.SERVICE), 2))
    | st.builds(n.Edge, node, node, st.none() | combined(outside(words.EDGE), 2))
    | causes()
)


@given(filters)
def test_printed_and_parsed_it_is_the_same(expression: Filter) -> None:
    assert parse(show(expression)) == expression


@given(st.text(alphabet="okservice(){}[]\"'!=<>,.:# \\1a\n", max_size=30))
def test_any_text_is_an_expression_or_an_error_within_it(text: str) -> None:
    refused, found = None, None
    try:
        found = parse(text)
    except FilterError as error:
        refused = error
    if found is not None:
        assert parse(show(found)) == found
    if refused is not None:
        assert 0 <= refused.position <= len(text)
        assert str(refused).count("\n") == 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("filters") / "traces.db")


def write(path: str, several: list[list[SpanRecord]]) -> None:
    connection = sqlite3.Connection(path, isolation_level=None)
    try:
        schema.migrate(connection)
        for table in ("span", "trace", "trace_service", "resource"):
            connection.execute(f"DELETE FROM {table}")
        rows, resources = [], {}
        for number, spans in enumerate(several):
            for span in spans:
                body = dumps(span.resource)
                resources[body] = (span.service, body)
                written = [
                    f'{{"name":"{each.name}","time_ns":0,"attributes":{dumps(each.attributes)}}}'
                    for each in span.events
                ]
                rows.append((
                    f"{number:032x}", *span[1:6], None, None, *span[6:9], span.status_message or None,
                    dumps(span.attributes), f"[{written[0]}]" if written else None, None, body, None, 0, 0, 0, 0,
                ))  # fmt: skip
        with schema.transaction(connection):
            schema.insert(connection, rows, resources)
    finally:
        connection.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(traces(), min_size=1, max_size=3), st.lists(filters, min_size=1, max_size=4))
def test_no_match_is_left_out(path: str, several: list[list[SpanRecord]], expressions: list[Filter]) -> None:
    write(path, several)
    with SqliteStore(path) as store:
        loaded = {trace_id: store.get(trace_id) for trace_id in store.ids()}
        for expression in expressions:
            expected = {trace_id for trace_id, trace in loaded.items() if matches(trace, expression)}
            assert {summary.trace_id for summary in store.search(expression)} == expected, show(expression)
            for trace_id in expected:
                assert may_hold(bounds(expression), summarise(loaded[trace_id])), show(expression)


@given(st.lists(traces(), min_size=1, max_size=1), filters)
def test_not_is_not(several: list[list[SpanRecord]], expression: Filter) -> None:
    spans = [span._replace(attributes=loads(dumps(span.attributes))) for span in several[0]]
    trace = Trace("1", spans)
    assert matches(trace, n.Not(expression)) is not matches(trace, expression)
