"""A shop in Flask with an ORM on SQLite: how orders are loaded, how long requests take, how much they record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from sqlalchemy import Engine, ForeignKey, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload
from sqlalchemy.pool import StaticPool

from corpus.harness import World, case

ORDERS = 40
UNCHECKED = {"check_same_thread": False}


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship()
    lines: Mapped[list[Line]] = relationship()


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str]


class Shop:
    """The application; `cost` is how many milliseconds each statement takes."""

    def __init__(self, world: World) -> None:
        self.world, self.cost = world, 0.0
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=UNCHECKED)
        event.listen(self.engine, "connect", self._slow)
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            for number in range(1, ORDERS + 1):
                session.add(Customer(id=number, name=f"c{number}"))
                lines = [Line(sku=f"s{number}-{each}") for each in range(2)]
                session.add(Order(id=number, customer_id=number, lines=lines))
            session.commit()
        world.instrument(SQLAlchemyInstrumentor(), engine=self.engine)

    def _slow(self, connection: Any, _: Any) -> None:
        connection.set_trace_callback(lambda _: self.world.clock.advance(ms=self.cost))

    def serve(self, route: str, work: Callable[..., Any]) -> Callable[[str], int]:
        """Answer `route` with what `work(session, **arguments)` says; gives what asks for a path."""

        def view(**arguments: Any) -> Any:
            with Session(self.engine) as session:
                return work(session, **arguments) or "done"

        app = Flask("shop")
        FlaskInstrumentor().instrument_app(app, tracer_provider=self.world.provider())
        app.add_url_rule(route, route, view)
        return lambda path: app.test_client().get(path).status_code


def _lazily(session: Session, count: int) -> None:
    for order in session.scalars(select(Order).limit(count)):
        assert order.customer.name


@case("n_plus_one", positive=True, half="tuned")
def customers_loaded_lazily(world: World) -> Iterator[None]:
    shop = Shop(world)
    ask = shop.serve("/orders/<int:count>", _lazily)
    for count, cost in ((5, 11), (6, 9), (8, 20), (12, 28), (20, 5), (40, 2)):
        shop.cost = cost
        ask(f"/orders/{count}")
        yield


@case("n_plus_one", positive=True, half="tuned")
def a_span_around_each_turn(world: World) -> Iterator[None]:
    shop, tracer = Shop(world), world.tracer()

    def show(session: Session, count: int) -> None:
        for number in range(1, count + 1):
            with tracer.start_as_current_span("show order", attributes={"order": number}):
                rows = session.execute(text("SELECT sku FROM lines WHERE order_id = :id"), {"id": number}).all()
                assert len(rows) == 2

    ask = shop.serve("/show/<int:count>", show)
    for count in (5, 9, 14):
        shop.cost = 15
        ask(f"/show/{count}")
        yield


@case("n_plus_one", positive=True, half="tuned")
def two_queries_in_turn(world: World) -> Iterator[None]:
    shop = Shop(world)

    def show(session: Session, count: int) -> None:
        for order in session.scalars(select(Order).limit(count)):
            assert order.customer.name
            assert order.lines

    ask = shop.serve("/both/<int:count>", show)
    for count in (5, 7, 11):
        shop.cost = 14
        ask(f"/both/{count}")
        yield


@case("n_plus_one", positive=False, half="tuned")
def loaded_together(world: World) -> Iterator[None]:
    shop = Shop(world)

    def joined(session: Session, count: int) -> None:
        for order in session.scalars(select(Order).options(joinedload(Order.customer)).limit(count)):
            assert order.customer.name

    def chunked(session: Session, count: int) -> None:
        for start in range(0, count, 5):
            chosen = select(Order).where(Order.id.in_(range(start, start + 5))).options(selectinload(Order.lines))
            session.scalars(chosen).all()

    for name, work in (("joined", joined), ("chunked", chunked)):
        ask = shop.serve(f"/{name}/<int:count>", work)
        for count in (10, 40):
            shop.cost = 30
            ask(f"/{name}/{count}")
            yield


@case("n_plus_one", positive=False, half="tuned")
def too_few_or_too_fast(world: World) -> Iterator[None]:
    shop = Shop(world)
    ask = shop.serve("/orders/<int:count>", _lazily)
    for count, cost in ((1, 80), (3, 100), (4, 200), (8, 2), (20, 1), (6, 5)):
        shop.cost = cost
        ask(f"/orders/{count}")
        yield


@case("n_plus_one", positive=False, half="tuned")
def queries_of_all_sorts(world: World) -> Iterator[None]:
    shop = Shop(world)
    columns = ("id", "name", "count(*)", "max(id)", "min(id)", "name, id", "id + 1", "lower(name)", "sum(id)")

    def report(session: Session, count: int) -> None:
        for column in columns[:count]:
            session.execute(text(f"SELECT {column} FROM customers")).all()

    def pages(session: Session, count: int) -> None:
        for page in range(count):
            session.scalars(select(Order).order_by(Order.id).limit(3).offset(page * 3)).all()

    for name, work in (("report", report), ("pages", pages)):
        ask = shop.serve(f"/{name}/<int:count>", work)
        for count in (6, 9):
            shop.cost = 40
            ask(f"/{name}/{count}")
            yield


@case("n_plus_one", positive=False, half="tuned")
def queries_side_by_side(world: World) -> Iterator[None]:
    meet: list[threading.Barrier] = []

    def run(_: str) -> None:
        if meet:  # a statement ends when all have begun
            meet[0].wait(20)
            world.clock.advance(ms=30)

    engines = [create_engine("sqlite://", poolclass=StaticPool, connect_args=UNCHECKED) for _ in range(8)]
    for engine in engines:
        event.listen(engine, "connect", lambda connection, _: connection.set_trace_callback(run))
        engine.connect().close()
    world.instrument(SQLAlchemyInstrumentor(), engines=engines)
    world.instrument(ThreadingInstrumentor())

    def one(engine: Engine) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT name FROM sqlite_master WHERE rootpage > :number"), {"number": 1})

    for count in (6, 7, 8):
        meet[:] = [threading.Barrier(count)]
        with world.tracer().start_as_current_span("report"), ThreadPoolExecutor(count) as pool:
            list(pool.map(one, engines[:count]))
        yield


# --- slow_trace ---------------------------------------------------------------------------------------------------


@case("slow_trace", positive=True, half="tuned")
def requests_that_take_long(world: World) -> Iterator[None]:
    shop = Shop(world)
    clock = world.clock
    heavy = shop.serve("/export/<int:ms>", lambda session, ms: clock.advance(ms=ms))
    query = shop.serve("/query", lambda session: session.scalars(select(Order).limit(1)).all() and None)
    for ms in (5_001, 5_500, 8_000, 31_000, 90_000):
        heavy(f"/export/{ms}")
        yield
    for cost in (5_100, 7_000, 20_000):
        shop.cost = cost
        query("/query")
        yield
    ask = shop.serve("/orders/<int:count>", _lazily)
    for count, cost in ((5, 1_000), (12, 500), (40, 130)):
        shop.cost = cost
        ask(f"/orders/{count}")
        yield


@case("slow_trace", positive=False, half="tuned")
def requests_that_do_not(world: World) -> Iterator[None]:
    shop = Shop(world)
    clock = world.clock
    heavy = shop.serve("/export/<int:ms>", lambda session, ms: clock.advance(ms=ms))
    for ms in (1, 20, 400, 999, 2_500, 4_000, 4_900, 4_998):
        heavy(f"/export/{ms}")
        yield
    ask = shop.serve("/orders/<int:count>", _lazily)
    for count, cost in ((5, 600), (40, 100)):
        shop.cost = cost
        ask(f"/orders/{count}")
        yield
    tracer = world.tracer()

    def later(session: Session) -> None:
        # Work that goes on behind the answer is not what the caller waits for.
        threading.Thread(target=lambda: None).start()
        behind.append(tracer.start_span("write report"))

    behind: list[Any] = []
    ask = shop.serve("/later", later)
    for _ in range(2):
        ask("/later")
        clock.advance(ms=9_000)
        behind.pop().end()
        yield


# --- oversized_trace ----------------------------------------------------------------------------------------------


@case("oversized_trace", positive=True, half="tuned")
def a_span_for_every_row(world: World) -> Iterator[None]:
    shop, tracer = Shop(world), world.tracer()

    def rows(session: Session, count: int) -> None:
        for number in range(count):
            with tracer.start_as_current_span("row", attributes={"number": number}):
                pass

    ask = shop.serve("/rows/<int:count>", rows)
    for count in (500, 501, 700, 1_500, 4_000):
        ask(f"/rows/{count}")
        yield


@case("oversized_trace", positive=True, half="tuned")
def documents_in_attributes(world: World) -> Iterator[None]:
    shop, tracer = Shop(world), world.tracer()

    def render(session: Session, size: int) -> None:
        with tracer.start_as_current_span("render") as span:
            if size % 2:
                span.set_attribute("document", "x" * size)
            else:
                span.set_attribute("document", "ü" * (size // 2))

    def pages(session: Session, size: int) -> None:
        with tracer.start_as_current_span("render") as span:
            for _ in range(10):
                span.add_event("page", {"body": "y" * (size // 10)})

    ask, by_page = shop.serve("/render/<int:size>", render), shop.serve("/pages/<int:size>", pages)
    for size in (64_001, 66_000, 90_001, 200_000):
        ask(f"/render/{size}")
        yield
        by_page(f"/pages/{size}")
        yield


@case("oversized_trace", positive=True, half="tuned")
def lists_and_events(world: World) -> Iterator[None]:
    for size in (3_000, 6_000, 9_000):
        with world.tracer().start_as_current_span("export") as span:
            span.set_attribute("owners", [f"owner number {number:012}" for number in range(size)])
        yield
    for frames in (70, 90, 400):
        with world.tracer().start_as_current_span("import") as span:
            for number in range(frames):
                span.add_event("skipped", {"row": number, "content": "z" * 1_000})
        yield


@case("oversized_trace", positive=False, half="tuned")
def many_but_not_too_many(world: World) -> Iterator[None]:
    shop, tracer = Shop(world), world.tracer()

    def work(session: Session, count: int, size: int) -> None:
        for number in range(count):
            with tracer.start_as_current_span("row") as span:
                span.set_attribute("text", "x" * size)
                span.set_attribute("number", number)

    ask = shop.serve("/lines/<int:count>/<int:size>", work)
    for count, size in (
        *((1, 1), (499, 1), (498, 100), (300, 2_000), (100, 30_000)),
        *((1, 63_000), (3, 60_000), (10, 50_000), (450, 500), (2, 62_500)),
    ):
        ask(f"/lines/{count}/{size}")
        yield
