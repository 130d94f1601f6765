"""The `dynamodb` exporter over a table in memory: requests, retries, losses."""

from __future__ import annotations

import os
import random
import string
import threading
from collections.abc import Callable
from typing import Any

import pytest

from spanwell import _guard
from spanwell.export.aws_client import explain
from spanwell.export.dynamodb import DynamoDbSpanExporter
from spanwell.export.dynamodb_layout import RESOURCE, SERVICES, SPAN, SUMMARY
from spanwell.testing.clock import FakeClock
from support.spans import make_span
from support.tables import MemoryTable, refusal

NOW = 1_795_168_000


class Rig:
    """An exporter over a table that follows `plan`; no time passes but by sleeping."""

    def __init__(self, plan: Callable[[int, list[Any]], int] = lambda _number, _items: 0, **options: Any) -> None:
        self.table = table = MemoryTable(plan)
        self.clock = FakeClock()
        self.pauses: list[float] = []
        made = {"now": lambda: NOW, "clock": self.clock, "chance": lambda: 1.0, "process": lambda: "p", **options}
        self.exporter = DynamoDbSpanExporter("traces", client=lambda: table, sleep=self._sleep, **made)

    def _sleep(self, event: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        return event.is_set()

    def send(self, spans: list[Any]) -> Any:
        return self.exporter.send([self.exporter.encode(span)[0] for span in spans])

    def kinds(self, prefix: str) -> int:
        return sum(sort.startswith(prefix) for _, sort in self.table.items)


def test_spans_their_resource_their_hour_and_their_summary() -> None:
    made = Rig()
    assert made.send([make_span(span_id=number, trace_id=number % 2 + 1) for number in range(1, 11)]) == (0, "", True)
    assert made.kinds(SPAN) == 10
    assert made.kinds(SUMMARY) == 2
    assert sum(key.startswith(RESOURCE) for key, _ in made.table.items) == 1
    assert sum(key == SERVICES for key, _ in made.table.items) == 1
    assert {int(item["expires_at"]["N"]) - NOW for key, item in made.table.items.items() if key[0][0] != "#"} == {
        30 * 86_400
    }


def test_what_is_known_is_not_written_again_within_the_hour() -> None:
    now = [float(NOW)]
    made = Rig(now=lambda: now[0])
    made.send([make_span()])
    made.send([make_span()])
    assert made.table.calls == [3, 1, 1, 1]
    now[0] += 3600
    made.send([make_span()])
    assert made.table.calls[4:] == [3, 1]


def test_25_items_a_request() -> None:
    made = Rig()
    made.send([make_span() for _ in range(60)])
    assert max(made.table.calls) == 25
    assert made.kinds(SPAN) == 60


def test_many_spans_are_written_by_several_threads() -> None:
    made = Rig()
    assert made.send([make_span() for _ in range(1000)]).lost == 0
    assert made.kinds(SPAN) == 1000


def test_large_items_make_smaller_requests() -> None:
    chance = random.Random(1)
    noise = ["".join(chance.choices(string.printable, k=60_000)) for _ in range(6)]
    attributes = {str(number): text for number, text in enumerate(noise)}
    made = Rig()
    assert made.send([make_span(attributes=attributes) for _ in range(20)]).lost == 0
    assert max(made.table.calls) <= 14


def test_the_same_span_twice_is_one_item() -> None:
    made = Rig()
    span = make_span(span_id=1)
    assert made.send([span, make_span(span_id=2), span]).lost == 0
    assert made.kinds(SPAN) == 2


def test_two_spans_with_one_key_are_one_loss() -> None:
    made = Rig()
    sent = made.send([make_span(span_id=1, name="a"), make_span(span_id=1, name="b")])
    assert (sent.lost, sent.reached) == (1, True)
    assert "same id and start" in sent.reason


def test_unprocessed_items_are_sent_again_after_growing_pauses() -> None:
    made = Rig(lambda number, items: len(items) - 5 if number <= 4 else 0)
    assert made.send([make_span() for _ in range(23)]) == (0, "", True)
    assert made.kinds(SPAN) == 23
    assert made.pauses == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
def test_throttling_is_waited_for(code: str) -> None:
    def plan(number: int, _: list[Any]) -> int:
        if number < 3:
            raise refusal(code)
        return 0

    made = Rig(plan)
    assert made.send([make_span()]) == (0, "", True)


def test_after_the_time_limit_what_is_left_is_lost() -> None:
    made = Rig(lambda _number, items: len(items) - 1)
    sent = made.send([make_span() for _ in range(20)])
    assert 0 < sent.lost < 20
    assert sent.lost + made.kinds(SPAN) == 20
    assert sent.reached
    assert "capacity" in sent.reason
    assert sum(made.pauses) <= 10


def test_throttled_all_the_time() -> None:
    def plan(_number: int, _items: list[Any]) -> int:
        raise refusal("ThrottlingException")

    sent = Rig(plan).send([make_span(), make_span()])
    assert (sent.lost, sent.reached) == (2, True)


def test_at_the_end_each_item_is_tried_once() -> None:
    made = Rig(lambda _number, items: len(items) // 2)
    made.exporter.last_attempt()
    sent = made.send([make_span() for _ in range(60)])
    assert made.pauses == []
    assert sent.lost + made.kinds(SPAN) == 60
    assert made.kinds(SPAN) >= 30


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ExpiredTokenException"])
def test_what_will_not_get_better_is_not_tried_again(code: str) -> None:
    def plan(_number: int, _items: list[Any]) -> int:
        raise refusal(code)

    made = Rig(plan)
    sent = made.send([make_span() for _ in range(500)])
    assert (sent.lost, sent.reached) == (500, False)
    assert len(made.table.calls) <= 5
    assert code in sent.reason
    remedy = {
        "ResourceNotFoundException": "`spanwell dynamodb create --table traces` makes it",
        "AccessDeniedException": "allow dynamodb:BatchWriteItem on table traces in eu-west-1",
        "ExpiredTokenException": "renew them",
    }
    assert remedy[code] in sent.reason
    assert "\n" not in sent.reason


def test_one_bad_item_costs_itself_alone() -> None:
    def plan(_number: int, items: list[Any]) -> int:
        if any(item.get("name") == {"S": "bad"} for item in items):
            raise refusal("ValidationException")
        return 0

    made = Rig(plan)
    sent = made.send([make_span(name="bad" if number == 17 else "good") for number in range(40)])
    assert (sent.lost, sent.reached) == (1, True)
    assert made.kinds(SPAN) == 39


def test_a_server_in_trouble_is_tried_again() -> None:
    def plan(number: int, _: list[Any]) -> int:
        if number == 1:
            raise refusal("InternalServerError", 500)
        if number == 2:
            raise ConnectionResetError("gone")
        return 0

    assert Rig(plan).send([make_span()]).lost == 0


def test_summaries_that_failed_go_with_the_next_batch() -> None:
    down = [True]

    def plan(_number: int, items: list[Any]) -> int:
        if down[0] and any(item["sk"]["S"].startswith(SUMMARY) for item in items):
            raise refusal("AccessDeniedException")
        return 0

    made = Rig(plan)
    assert made.send([make_span(trace_id=1)]).lost == 0
    assert made.kinds(SUMMARY) == 0
    down[0] = False
    made.send([make_span(trace_id=2)])
    assert made.kinds(SUMMARY) == 2
    made.exporter.shutdown()
    assert _guard.losses.everything() == 0


def test_summaries_that_never_arrive_are_counted() -> None:
    def plan(_number: int, items: list[Any]) -> int:
        if any(item["sk"]["S"].startswith(SUMMARY) for item in items):
            raise refusal("AccessDeniedException")
        return 0

    made = Rig(plan)
    made.send([make_span(trace_id=1), make_span(trace_id=2)])
    made.exporter.shutdown()
    assert _guard.losses.total("trace summaries") == 2
    assert _guard.losses.total("spans") == 0


def test_a_client_that_cannot_be_made_loses_the_batch_once() -> None:
    def client() -> Any:
        raise RuntimeError("needs boto3: pip install 'spanwell[aws]'")

    exporter = DynamoDbSpanExporter("traces", client=client)
    exporter.export([make_span(), make_span()])
    assert _guard.losses.total("spans") == 2


def test_a_child_has_a_name_and_a_client_of_its_own() -> None:
    made: list[MemoryTable] = []

    def client() -> MemoryTable:
        made.append(MemoryTable())
        return made[-1]

    exporter = DynamoDbSpanExporter("traces", client=client)
    exporter.export([make_span()])
    before, reader = exporter._process, os.pipe()
    child = os.fork()
    if child == 0:
        exporter.export([make_span()])
        os.write(reader[1], f"{exporter._process} {len(made)}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    name, clients = os.read(reader[0], 100).decode().split()
    for end in reader:
        os.close(end)
    assert name != before
    assert clients == "2"


def test_a_missing_table_is_said_in_one_line() -> None:
    said = explain(refusal("ResourceNotFoundException"), missing="`spanwell dynamodb create`")
    assert said == "ResourceNotFoundException: refused (`spanwell dynamodb create`)"
