"""A ledger: FastAPI on the standard library's sqlite3, by hand-written SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

from corpus.harness import World, case

ACCOUNTS = 60


class Ledger:
    """Accounts and entries. Every statement takes `took` milliseconds."""

    def __init__(self, world: World) -> None:
        self.world, self.took = world, 0.0
        world.instrument(SQLite3Instrumentor())
        self.db: Any = sqlite3.connect(":memory:", check_same_thread=False)
        self.db.executescript(
            "create table accounts (id integer primary key, owner text, balance int);"
            "create table entries (id integer primary key, account_id int, amount int);"
        )
        for number in range(1, ACCOUNTS + 1):
            self.db.execute("insert into accounts values (?, ?, ?)", (number, f"owner {number}", number))
        self.db.set_trace_callback(lambda _: world.clock.advance(ms=self.took))

    def all(self, statement: str, *arguments: Any) -> list[Any]:
        cursor = self.db.cursor()
        cursor.execute(statement, arguments)
        rows: list[Any] = cursor.fetchall()
        return rows

    def endpoint(self, path: str, work: Callable[[int], Any]) -> Callable[[int], None]:
        """What asks for `path` with a number."""
        app = FastAPI()
        FastAPIInstrumentor.instrument_app(app, tracer_provider=self.world.provider("ledger"))
        app.get(path + "/{number}")(lambda number: work(int(number)) and None)
        client = TestClient(app)

        def ask(number: int) -> None:
            assert client.get(f"{path}/{number}").status_code == 200

        return ask


def measured(ledger: Ledger, ask: Callable[[int], None], *pairs: tuple[int, float]) -> Iterator[None]:
    """Ask with each number, while statements take so long."""
    ledger.world.take()
    for number, took in pairs:
        ledger.took = took
        ask(number)
        yield


@case("n_plus_one", positive=True, half="held_out")
def balances_one_by_one(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def statement(count: int) -> None:
        for (number,) in ledger.all("select id from accounts limit ?", count):
            ledger.all("select sum(amount) from entries where account_id = ?", number)

    ask = ledger.endpoint("/statement", statement)
    yield from measured(ledger, ask, (5, 12), (7, 9), (10, 30), (33, 4))


@case("n_plus_one", positive=True, half="held_out")
def values_written_into_the_statement(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def owners(count: int) -> None:
        for number in range(count):
            ledger.all(f"select owner from accounts where id = {number} and owner <> 'it''s {number}'")

    yield from measured(ledger, ledger.endpoint("/owners", owners), (6, 10), (9, 7))


@case("n_plus_one", positive=True, half="held_out")
def entries_written_one_by_one(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def book(count: int) -> None:
        tracer = world.tracer("ledger")
        for number in range(count):
            with tracer.start_as_current_span("book"), tracer.start_as_current_span("store"):
                ledger.all("insert into entries (account_id, amount) values (?, ?)", number, 10)

    yield from measured(ledger, ledger.endpoint("/book", book), (6, 20), (50, 3))


@case("n_plus_one", positive=False, half="held_out")
def written_in_one_go(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def book(count: int) -> None:
        entries = [(number, 10) for number in range(count)]
        ledger.db.cursor().executemany("insert into entries (account_id, amount) values (?, ?)", entries)

    yield from measured(ledger, ledger.endpoint("/book", book), (10, 10), (60, 5))


@case("n_plus_one", positive=False, half="held_out")
def read_in_chunks(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def chunks(count: int) -> None:
        for start in range(0, count, 8):
            ledger.all(f"select * from accounts where id in ({', '.join(map(str, range(start, start + 8)))})")

    def pages(count: int) -> None:
        for start in range(0, count, 8):
            ledger.all("select * from accounts order by id limit 8 offset ?", start)

    yield from measured(ledger, ledger.endpoint("/chunks", chunks), (48, 20), (60, 30))
    yield from measured(ledger, ledger.endpoint("/pages", pages), (48, 20), (60, 30))


@case("n_plus_one", positive=False, half="held_out")
def a_handful_of_statements(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def mixed(count: int) -> None:
        for number in range(count):
            ledger.all("select owner from accounts where id = ?", number)
        ledger.all("select count(*) from accounts")
        ledger.all("select max(balance) from accounts")
        ledger.all("update accounts set balance = 0 where id = ?", 1)

    yield from measured(ledger, ledger.endpoint("/mixed", mixed), (4, 100), (3, 50), (1, 400), (30, 1), (9, 4))


# --- slow_trace, oversized_trace ----------------------------------------------------------------------------------


@case("slow_trace", positive=True, half="held_out")
def closing_the_year(world: World) -> Iterator[None]:
    ledger = Ledger(world)
    ask = ledger.endpoint("/close", lambda count: [ledger.all("select * from entries") for _ in range(count)])
    yield from measured(ledger, ask, (1, 5_200), (2, 2_600), (5, 1_100), (10, 510), (1, 60_000))
    tracer = world.tracer("ledger")
    for seconds in (5.1, 6, 12, 30, 100):
        with tracer.start_as_current_span("nightly"):
            world.clock.sleep(seconds / 2)
            with tracer.start_as_current_span("compact"):
                world.clock.sleep(seconds / 2)
        yield


@case("slow_trace", positive=False, half="held_out")
def closing_the_day(world: World) -> Iterator[None]:
    ledger = Ledger(world)
    ask = ledger.endpoint("/close", lambda count: [ledger.all("select * from entries") for _ in range(count)])
    yield from measured(ledger, ask, (1, 4_900), (2, 2_400), (5, 900), (10, 480), (1, 10))
    tracer = world.tracer("ledger")
    for seconds in (0.1, 1, 2, 4, 4.99):
        for _ in range(2):  # one after the other: each its own
            with tracer.start_as_current_span("minutely"):
                world.clock.sleep(seconds)
        yield


@case("oversized_trace", positive=True, half="held_out")
def an_entry_a_span(world: World) -> Iterator[None]:
    ledger = Ledger(world)
    ask = ledger.endpoint("/read", lambda count: [ledger.all("select 1") for _ in range(count)])
    yield from measured(ledger, ask, (500, 0), (600, 0), (900, 0), (2_000, 0))


@case("oversized_trace", positive=True, half="held_out")
def long_statements(world: World) -> Iterator[None]:
    ledger = Ledger(world)

    def inlined(count: int) -> None:
        ledger.all(f"select * from accounts where id in ({','.join('1000000' for _ in range(count))})")

    yield from measured(ledger, ledger.endpoint("/in", inlined), (8_200, 0), (9_000, 0), (20_000, 0))


@case("oversized_trace", positive=False, half="held_out")
def ordinary_sizes(world: World) -> Iterator[None]:
    ledger = Ledger(world)
    ask = ledger.endpoint("/read", lambda count: [ledger.all("select 1") for _ in range(count)])
    yield from measured(ledger, ask, (1, 0), (10, 0), (490, 0), (300, 0))
    for size in (10, 500, 1_500):
        with world.tracer("ledger").start_as_current_span("export") as span:
            span.set_attribute("owners", [f"owner number {number:012}" for number in range(size)])
            span.set_attribute("numbers", list(range(size)))
        yield
    for frames in (1, 30, 58):
        with world.tracer("ledger").start_as_current_span("import") as span:
            for _ in range(frames):
                span.add_event("skipped", {"content": "z" * 1_000})
        yield
