"""A trace as lines of text, and the trace model behind it."""

from __future__ import annotations

from spanwell.explore.model import Trace
from spanwell.explore.text import cells, fill, fit, format_duration, format_time
from spanwell.explore.tree import render
from spanwell.record import EventRecord, SpanRecord
from support.spans import START, record

MS = 1_000_000


def lines(*spans: SpanRecord, width: int = 80) -> list[str]:
    return list(render(Trace("ab" * 16, spans), width=width))


def test_a_whole_trace() -> None:
    aws = {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "PutItem"}
    thrown = {"exception.type": "Throttled", "exception.message": "slow\ndown"}
    found = lines(
        record("1", name="POST /orders", kind="server", duration=100 * MS, status="error", status_message="late",
               attributes={"http.response.status_code": 500}),
        record("2", "1", name="POST", kind="client", start=10 * MS, duration=80 * MS),
        record("3", "2", name="POST /", kind="server", service="orders", start=20 * MS, duration=60 * MS),
        record("4", "3", name="DynamoDB.PutItem", kind="client", service="orders", start=30 * MS, duration=20 * MS,
               attributes={**aws, "aws.dynamodb.table_names": ("orders", "stock")}, status="error",
               events=(EventRecord("exception", 1, thrown),)),
        record("5", "1", name="render", start=95 * MS, duration=1234),
        width=96,
    )  # fmt: skip
    assert found == [
        f"trace {'ab' * 16}  2026-11-20 09:46:13.154 UTC  100 ms  2 errors  5 spans …",
        "✗ POST /orders [server] 500                                                     shop      100 ms",
        "│ ✗ late",
        "├ POST [client]                                                                 shop     80.0 ms",
        "│ └ POST / [server]                                                             orders   60.0 ms",
        "│   └ ✗ DynamoDB.PutItem [client] orders,stock                                  orders   20.0 ms",
        "│       ✗ Throttled: slow\ufffddown",
        "└ render                                                                        shop     1.23 µs",
    ]


def test_the_bar_shows_when_and_how_long() -> None:
    found = lines(record("1", duration=100 * MS), record("2", "1", start=50 * MS, duration=25 * MS), width=120)
    bars = [line[-1 - 30 :] for line in (found[1], found[2].ljust(len(found[1])))]
    assert bars[0] == " " + "█" * 30
    assert bars[1] == " " + " " * 15 + "█" * 7 + " " * 8
    assert "█" not in "".join(lines(record("1"), width=99))


def test_orphans_stand_under_their_missing_parent() -> None:
    found = lines(
        record("1"), record("2", "77"), record("3", "77"), record("4", "88"), record("5", "2"), record("6", "6")
    )
    names = [line.split("  ")[0].rstrip() for line in found[1:]]
    assert names == [
        "work",
        "missing parent 77",
        "├ work",
        "│ └ work",
        "└ work",
        "missing parent 88",
        "└ work",
        "parents in a circle",
        "└ work",
    ]


def test_a_circle_is_cut_at_its_earliest_span() -> None:
    trace = Trace("t", [record("a", "c", start=5), record("b", "a", start=1), record("c", "b", start=9)])
    assert [trace.spans[position].span_id for position in trace.loops] == ["b"]
    assert trace.roots == trace.orphans == ()


def test_a_shared_span_id_puts_the_server_under_the_client() -> None:
    trace = Trace("t", [
        record("1", service="web"),
        record("2", "1", kind="server", service="api", start=2),
        record("2", "1", kind="client", service="web", start=1),
        record("3", "2", service="api", start=3),
        record("4", "2", service="web", start=4),
    ])  # fmt: skip
    parents = {(span.span_id, span.kind): trace.parents[position] for position, span in enumerate(trace.spans)}
    assert parents == {
        ("1", "internal"): None,
        ("2", "client"): 0,
        ("2", "server"): 1,
        ("3", "internal"): 2,  # the half of its own service
        ("4", "internal"): 1,
    }


def test_an_empty_trace() -> None:
    trace = Trace("t", [])
    assert (trace.root, trace.duration, trace.services) == (None, 0, ())
    assert len(list(render(trace))) == 1


def test_the_aws_operation_is_named_where_the_span_does_not() -> None:
    attributes = {
        "rpc.system": "aws-api",
        "rpc.service": "SQS",
        "rpc.method": "SendMessage",
        "aws.sqs.queue_url": "http://127.0.0.1:5000/123456789012/orders-queue",
    }
    (_, line) = lines(record("1", name="send", attributes=attributes), width=100)
    assert "send SQS.SendMessage orders-queue" in line


def test_wide_letters_keep_the_columns() -> None:
    found = lines(record("1", name="注文を作成する" * 10, service="店"), record("2", "1", name="e\u0301té"), width=70)
    assert [cells(line) for line in found[1:]] == [70, 70]
    assert "…" in found[1]


def test_a_terminal_cannot_be_steered_by_a_name() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    found = lines(record("1", "9", name=evil, service=evil, status="error", status_message=evil))
    assert all(line.isprintable() for line in found)


def test_paint_gets_every_role() -> None:
    roles = set()

    def paint(role: str, text: str) -> str:
        roles.add(role)
        return text

    spans = (
        record("1", kind="server", attributes={"http.status_code": 200}),
        record("2", "1"),
        record("3", "9", status="error", status_message="x"),
    )
    assert list(render(Trace("t", spans), width=120, paint=paint)) == list(render(Trace("t", spans), width=120))
    assert roles >= {"title", "name", "service", "kind", "detail", "duration", "bar", "error", "missing", "branch"}


def test_text_helpers() -> None:
    assert fit("abcdef", 4) == "abc…"
    assert fit("abc", 0) == ""
    assert fit("日本語", 4) == "日…"
    assert fill("日本", 6) == "日本  "
    expected = {
        0: "0 ns", 7: "7 ns", 999: "999 ns", 1000: "1.00 µs", 999_949: "1000 µs", 1_234_567: "1.23 ms",
        45_600_000_000: "45.6 s", 59_999_999_999: "1.00 min", 150 * 10**9: "2.50 min", -5: "0 ns",
    }  # fmt: skip
    expected[999_949] = "1.00 ms"
    assert {ns: format_duration(ns) for ns in expected} == expected
    assert format_time(START) == "2026-11-20 09:46:13.154"
    assert format_time(2**63 - 1) == "2262-04-11 23:47:16.854"
    assert format_time(10**30) == "?"
