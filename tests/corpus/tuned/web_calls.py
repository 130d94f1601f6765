"""Services that call others with requests: retried, throttled, failing, handled, many."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import requests
from flask import Flask
from opentelemetry import propagate
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.trace import SpanKind

from corpus.backend import Answer, Backend
from corpus.harness import World, case

Ask = Callable[[], int]


class Site:
    """A Flask application that calls a backend."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.backend: Backend = world.enter(Backend(world).running())
        self.session = world.enter(requests.Session())
        world.instrument(RequestsInstrumentor())

    def serve(self, route: str, work: Callable[[], object]) -> Ask:
        """What asks for `route`, which `work` answers with a status, or 200."""
        app = Flask("site")
        app.logger.disabled = True
        FlaskInstrumentor().instrument_app(app, tracer_provider=self.world.provider())

        def view() -> tuple[str, int]:
            status = work()
            return "", status if isinstance(status, int) else 200

        app.add_url_rule(route, route, view)
        return lambda: app.test_client().get(route).status_code

    def call(self, path: str, method: str = "GET") -> requests.Response:
        return self.session.request(method, self.backend.url + path, timeout=20)

    def checked(self, path: str, method: str = "GET") -> requests.Response:
        answer = self.call(path, method)
        answer.raise_for_status()
        return answer

    def insist(self, path: str, times: int, wait: float = 0.1) -> requests.Response:
        """Try `times`, and wait between."""
        for _ in range(times - 1):
            answer = self.call(path, "POST")
            if answer.ok:
                return answer
            self.world.clock.sleep(wait)
        return self.call(path, "POST")


# --- retried_call, throttled_dependency ---------------------------------------------------------------------------


@case("retried_call", positive=True, half="tuned")
@case("trace_errors", positive=True, half="tuned")
def payment_tried_again(world: World) -> Iterator[None]:
    site = Site(world)
    for status, failures, wait in ((503, 1, 0.1), (500, 2, 1), (502, 3, 0.5), (504, 2, 4.9), (408, 1, 0.2)):
        site.backend.queue(*[Answer(status)] * failures)
        site.serve("/pay", lambda failures=failures, wait=wait: site.insist("/charge", failures + 1, wait))()  # type: ignore[misc]
        yield


@case("retried_call", positive=False, half="tuned")
def failed_and_left_at_that(world: World) -> Iterator[None]:
    site = Site(world)
    site.backend.script = lambda method, path, _: Answer(503 if path == "/a" else 200)
    for paths in (("/a",), ("/a", "/b"), ("/b", "/b", "/b"), ("/b", "/a")):
        site.serve("/pay", lambda paths=paths: [site.call(path) for path in paths] and None)()  # type: ignore[misc]
        yield
    site.backend.queue(Answer(503))
    site.serve("/late", lambda: site.insist("/charge", 2, wait=6))()
    yield
    for status in (401, 404, 400, 422):
        site.backend.queue(Answer(status))
        site.serve("/pay", lambda: site.insist("/charge", 2))()
        yield


@case("retried_call", positive=False, half="tuned")
@case("n_plus_one", positive=False, half="tuned")
def asked_side_by_side(world: World) -> Iterator[None]:
    site = Site(world)
    world.instrument(ThreadingInstrumentor())
    for parallel in (10, 12):
        meet = threading.Barrier(parallel)
        site.backend.script = lambda *_, meet=meet: Answer(503, ms=10, meet=meet)  # type: ignore[misc]

        def work(parallel: int = parallel) -> None:
            with ThreadPoolExecutor(parallel) as pool:
                list(pool.map(lambda _: requests.get(site.backend.url + "/price", timeout=20), range(parallel)))

        site.serve("/prices", work)()
        yield


@case("throttled_dependency", positive=True, half="tuned")
@case("suppressed_error", positive=True, half="tuned")
def partner_says_too_many(world: World) -> Iterator[None]:
    site = Site(world)
    for calls in (1, 2, 5):
        site.backend.script = lambda *_: Answer(429, headers={"Retry-After": "1"})
        site.serve("/quote", lambda calls=calls: [site.call(f"/q{each}") for each in range(calls)] and None)()  # type: ignore[misc]
        yield


@case("throttled_dependency", positive=False, half="tuned")
def we_say_too_many(world: World) -> Iterator[None]:
    site = Site(world)
    for status in (200, 503, 500):
        site.backend.script = lambda *_, status=status: Answer(status)  # type: ignore[misc]

        def work() -> int:
            site.call("/q")
            return 429

        site.serve("/quote", work)()
        yield


# --- n_plus_one ---------------------------------------------------------------------------------------------------


@case("n_plus_one", positive=True, half="tuned")
def a_price_for_each_line(world: World) -> Iterator[None]:
    site = Site(world)
    for calls, path in ((10, "/price/{}"), (14, "/price?sku={}"), (30, "/skus/AB-{}/price")):
        site.serve(
            "/cart", lambda calls=calls, path=path: [site.call(path.format(n)) for n in range(calls)] and None
        )()  # type: ignore[misc]
        yield


@case("n_plus_one", positive=False, half="tuned")
def pages_and_polling(world: World) -> Iterator[None]:
    site = Site(world)
    site.serve("/all", lambda: [site.call(f"/items?page={page}") for page in range(15)] and None)()
    yield

    def poll() -> None:
        for _ in range(12):
            site.call("/job/7")
            world.clock.sleep(1.5)

    site.serve("/wait", poll)()
    yield
    site.serve("/few", lambda: [site.call(f"/price/{sku}") for sku in range(9)] and None)()
    yield


# --- trace_errors -------------------------------------------------------------------------------------------------


@case("trace_errors", positive=True, half="tuned")
@case("suppressed_error", positive=False, half="tuned")
def failures_that_come_through(world: World) -> Iterator[None]:
    site, tracer = Site(world), world.tracer()
    site.backend.script = lambda *_: Answer(500)

    def nested() -> None:
        with tracer.start_as_current_span("price"), tracer.start_as_current_span("tax"):
            site.checked("/tax")

    def own() -> None:
        with tracer.start_as_current_span("parse"):
            raise ValueError("odd")

    for work in (nested, own, lambda: 1 / 0, lambda: site.checked("/x"), lambda: 500, lambda: 503):
        assert site.serve("/order", work)() >= 500
        yield


@case("trace_errors", positive=False, half="tuned")
@case("suppressed_error", positive=False, half="tuned")
def told_to_the_caller_or_handled(world: World) -> Iterator[None]:
    site, tracer = Site(world), world.tracer()

    def handled() -> None:
        with contextlib.suppress(KeyError), tracer.start_as_current_span("look", set_status_on_exception=False):
            raise KeyError("nothing cached")

    def noted() -> None:
        with tracer.start_as_current_span("parse") as span:
            span.record_exception(ValueError("ignored"))
            span.set_attribute("error.handled", True)

    for work in (lambda: 404, lambda: 400, lambda: 401, lambda: 422, handled, noted):
        site.serve("/order", work)()
        yield


# --- suppressed_error ---------------------------------------------------------------------------------------------


@case("suppressed_error", positive=True, half="tuned")
def fallbacks(world: World) -> Iterator[None]:
    site, tracer = Site(world), world.tracer()
    site.backend.script = lambda method, path, _: Answer(500 if path.startswith("/broken") else 200)

    def ignored() -> None:
        with contextlib.suppress(requests.HTTPError):
            site.checked("/broken")

    def elsewhere() -> None:
        if not site.call("/broken").ok:
            site.call("/other")

    def inside() -> None:
        with contextlib.suppress(RuntimeError), tracer.start_as_current_span("recommend"):
            raise RuntimeError("no model")

    def deep() -> None:
        with (
            tracer.start_as_current_span("page"),
            contextlib.suppress(requests.HTTPError),
            tracer.start_as_current_span("side bar"),
        ):
            site.checked("/broken")

    for work in (ignored, elsewhere, inside, deep):
        assert site.serve("/page", work)() == 200
        yield


@case("suppressed_error", positive=True, half="tuned")
def losses_in_between(world: World) -> Iterator[None]:
    site = Site(world)
    site.backend.script = lambda method, path, _: Answer(500 if path.startswith("/broken") else 200)

    def one_of_many() -> None:
        for number in range(4):
            site.call("/broken" if number == 2 else f"/fine{number}")

    def given_up() -> None:
        site.insist("/broken", 3)

    def refused() -> None:
        with contextlib.suppress(requests.ConnectionError):
            site.session.get("http://127.0.0.1:1/", timeout=1)

    for work in (one_of_many, given_up, refused):
        assert site.serve("/page", work)() == 200
        yield


@case("suppressed_error", positive=False, half="tuned")
def answers_that_are_no_failure(world: World) -> Iterator[None]:
    site = Site(world)
    for status in (404, 404, 409):
        site.backend.queue(Answer(status))
        site.serve("/page", lambda: site.call("/maybe"))()
        yield
    for failures in (1, 2):
        site.backend.queue(*[Answer(503)] * failures)
        site.serve("/page", lambda failures=failures: site.insist("/charge", failures + 1))()  # type: ignore[misc]
        yield
    site.backend.script = lambda *_: Answer(500)

    def told() -> int:
        return 502 if not site.call("/x").ok else 200

    for _ in range(2):
        site.serve("/page", told)()
        yield


# --- high_service_count -------------------------------------------------------------------------------------------


def chain(world: World, services: int, fan: int = 1) -> None:
    """Services that call each other over HTTP headers: a row, or `fan` calls each."""
    clients = []
    for number in range(services):
        app = Flask(f"s{number}")
        FlaskInstrumentor().instrument_app(app, tracer_provider=world.provider(f"s{number}"))
        clients.append(app.test_client())

        def view(number: int = number) -> str:
            for each in range(number * fan + 1, min(services, number * fan + fan + 1)):
                with world.tracer(f"s{number}").start_as_current_span("GET", kind=SpanKind.CLIENT):
                    headers: dict[str, str] = {}
                    propagate.inject(headers)
                    clients[each].get("/", headers=headers)
            return ""

        app.add_url_rule("/", "view", view)
    clients[0].get("/")


@case("high_service_count", positive=True, half="tuned", whole=True)
def long_rows_and_wide_trees(world: World) -> Iterator[None]:
    for services, fan in ((6, 1), (7, 1), (9, 2), (12, 3), (20, 1), (6, 5)):
        chain(world, services, fan)
        yield


@case("high_service_count", positive=False, half="tuned", whole=True)
def a_few_services(world: World) -> Iterator[None]:
    for services, fan in ((1, 1), (2, 1), (3, 2), (4, 1), (5, 1), (5, 4)):
        chain(world, services, fan)
        yield


def _partners(world: World, site: Site, count: int) -> list[str]:
    return [world.enter(Backend(world).running()).url for _ in range(count)]


@case("high_service_count", positive=True, half="tuned")
def one_service_that_asks_many(world: World) -> Iterator[None]:
    site = Site(world)
    urls = _partners(world, site, 8)
    for count in (5, 6, 7, 8):
        site.serve(
            "/home", lambda count=count: [site.session.get(url, timeout=20) for url in urls[:count]] and None
        )()  # type: ignore[misc]
        yield


@case("high_service_count", positive=False, half="tuned")
def one_service_that_asks_few(world: World) -> Iterator[None]:
    site = Site(world)
    urls = _partners(world, site, 4)
    for calls in (1, 3, 4, 8, 40):
        site.serve(
            "/home",
            lambda calls=calls: [site.session.get(f"{urls[n % 4]}/{n}", timeout=20) for n in range(calls)] and None,
        )()  # type: ignore[misc]
        yield
