"""One contract for every library: the same spans whether instrumented at start, when imported, or by `run`.

Each scenario is a plain application in instrumentors/ that uses its library for real. `EXPECTED` says what it
must show at least, so that three times nothing does not count as equal.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from support import mongo, servers
from support.receiver import Receiver, Seen, otlp_receiver
from support.runs import MODES, Run, finish, start

pytestmark = pytest.mark.slow

PROOF = "spans of {} are the same deferred and at start"

# scenario -> (what it needs, (kind, span name) that must be there)
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "aiobotocore": (("moto",), ("CLIENT DynamoDB.GetItem",)),
    "aiohttp": ((), ("CLIENT GET", "SERVER GET /orders/{number}")),
    "boto3": (("moto",), ("CLIENT DynamoDB.PutItem", "CLIENT DynamoDB.GetItem", "CLIENT S3.GetObject")),
    "celery": ((), ("PRODUCER apply_async/shop.order", "CONSUMER run/shop.broken")),
    "django": ((), ("SERVER GET orders/<int:number>", "SERVER GET broken")),
    "fastapi": ((), ("SERVER GET /orders/{number}", "INTERNAL BackgroundTask notify")),
    "flask": ((), ("SERVER GET /orders/<int:number>", "SERVER GET /broken")),
    "grpc": ((), ("CLIENT /Shop/Same", "SERVER /Shop/Many", "CLIENT /AioShop/Same", "SERVER /AioShop/Same")),
    "httpx": (("stub",), ("CLIENT GET", "CLIENT POST")),
    "jinja2": ((), ("INTERNAL jinja2.render", "INTERNAL jinja2.compile", "INTERNAL jinja2.load")),
    "psycopg": (("postgres",), ("CLIENT CREATE", "CLIENT INSERT", "CLIENT SELECT")),
    "psycopg2": (("postgres",), ("CLIENT CREATE", "CLIENT INSERT", "CLIENT SELECT")),
    "pymongo": (("mongo",), ("CLIENT shop.insert", "CLIENT shop.find")),
    "redis": (("redis",), ("CLIENT SET", "CLIENT GET", "CLIENT SET GET")),
    "requests": (("stub",), ("CLIENT GET", "CLIENT POST")),
    "sqlalchemy": (("postgres",), ("CLIENT connect", "CLIENT INSERT postgres", "CLIENT SELECT postgres")),
    "sqlite3": ((), ("CLIENT CREATE", "CLIENT SELECT")),
    "starlette": ((), ("SERVER GET /orders/{number}",)),
    "urllib": (("stub",), ("CLIENT GET",)),
    "urllib3": (("stub",), ("CLIENT GET", "CLIENT POST")),
}


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as running:
        yield running


@pytest.fixture(scope="session")
def address() -> Iterator[Callable[[str], dict[str, str]]]:
    """The environment variables for a server, started at the first request for it and shared from then on."""
    starters = {
        "stub": lambda: servers.http_stub(),
        "mongo": lambda: mongo.mongo_server(),
        "moto": lambda: servers.moto(),
        "postgres": lambda: servers.postgres(PROOF.format("PostgreSQL drivers and SQLAlchemy")),
        "redis": lambda: servers.redis_server(PROOF.format("redis")),
    }
    with contextlib.ExitStack() as stack:
        urls: dict[str, str] = {}

        def find(what: str) -> dict[str, str]:
            if what not in urls:
                urls[what] = stack.enter_context(starters[what]())
            url = urls[what]
            if what == "moto":
                return {
                    "AWS_ENDPOINT_URL": url,
                    "AWS_ACCESS_KEY_ID": "test",
                    "AWS_SECRET_ACCESS_KEY": "test",
                    "AWS_DEFAULT_REGION": "eu-west-1",
                }
            return {{"postgres": "PG_URL"}.get(what, f"{what.upper()}_URL"): url}

        yield find


_numbers = itertools.count()

# The stock wsgi.py names the settings module after Django is imported. Instrumented at start, Django is then
# configured with empty settings and the application fails, so that run needs the variable from outside.
EAGER_ONLY = {"use_django.py": {"DJANGO_SETTINGS_MODULE": "django_project"}}


def run_all(receiver: Receiver, arguments: list[str], extra: dict[str, str]) -> dict[str, tuple[str, Run]]:
    """Run the same thing in every mode, side by side: mode -> (name of the run, outcome)."""
    names = {mode: f"{mode}{next(_numbers)}x" for mode in MODES}
    running = {
        mode: start(
            mode,
            arguments,
            receiver.endpoint(name),
            {**extra, "RUN": name, **(EAGER_ONLY.get(arguments[0], {}) if mode == "eager" else {})},
        )
        for mode, name in names.items()
    }
    return {mode: (names[mode], finish(process)) for mode, process in running.items()}


def compare(receiver: Receiver, outcome: dict[str, tuple[str, Run]], expected: tuple[str, ...]) -> None:
    """Fail unless every mode ended well, printed the same and sent the same spans, `expected` among them."""
    spans = {}
    for mode, (name, run) in outcome.items():
        assert run.code == 0, f"{mode}: {run.stdout}\n{run.stderr}"
        spans[mode] = receiver.seen(name, name)
        shown = {f"{span.kind} {span.name}" for span in spans[mode]}
        assert shown.issuperset(expected), f"{mode} sent {sorted(shown)}\n{run.stderr}"
        assert run.stdout.replace(name, "") == outcome["eager"][1].stdout.replace(outcome["eager"][0], "")
    for mode in MODES:
        more, fewer = spans[mode] - spans["eager"], spans["eager"] - spans[mode]
        assert not more, f"{mode} differs from eager: {_lines(more)} instead of {_lines(fewer)}"
        assert not fewer, f"{mode} lacks {_lines(fewer)}"


def _lines(spans: dict[Seen, int]) -> str:
    return "\n".join(f"{count} x {span}" for span, count in spans.items())


@pytest.mark.parametrize("library", sorted(EXPECTED))
def test_same_spans(library: str, receiver: Receiver, address: Callable[[str], dict[str, str]]) -> None:
    needs, expected = EXPECTED[library]
    extra: dict[str, str] = {}
    for what in needs:
        extra |= address(what)
    outcome = run_all(receiver, [f"use_{library}.py"], extra)
    compare(receiver, outcome, expected)


@pytest.mark.parametrize("order", ["starlette-first", "fastapi-first", "by-submodule"])
def test_fastapi_and_starlette_in_one_process(order: str, receiver: Receiver) -> None:
    outcome = run_all(receiver, ["use_asgi_both.py", order], {})
    compare(receiver, outcome, ("SERVER GET /", "SERVER GET /plain"))
    for name, _ in outcome.values():
        servers_seen = [
            (span.scope.rsplit(".", 1)[1], span.name)
            for span in receiver.seen(name).elements()
            if span.kind == "SERVER"
        ]
        assert servers_seen.count(("fastapi", "GET /plain")) == 1
        assert ("starlette", "GET /plain") not in servers_seen


WAYS = (
    "function",
    "thread",
    "many_threads",
    "names",
    "submodules",
    "by_name",
    "instrumentors_first",
    "half_import",
)


@pytest.mark.parametrize("way", WAYS)
def test_however_the_library_is_imported(
    way: str, receiver: Receiver, address: Callable[[str], dict[str, str]]
) -> None:
    outcome = run_all(receiver, ["ways.py", way], address("stub"))
    compare(receiver, outcome, ("SERVER GET /", "CLIENT GET"))
    name, _ = outcome["run"]
    (client,) = (span for span in receiver.seen(name) if span.kind == "CLIENT" and "requests" in span.scope)
    assert client.parent == "GET /"


def test_libraries_imported_before_opentelemetry(
    receiver: Receiver, address: Callable[[str], dict[str, str]]
) -> None:
    for number, lazy in enumerate(("false", "true")):
        name = f"before{number}"
        extra = {**address("stub"), "SPANWELL_LAZY_INSTRUMENTATION": lazy}
        run = finish(start("bare", ["already_imported.py"], receiver.endpoint(name), extra))
        assert run.code == 0, run.stderr
        shown = {f"{span.kind} {span.name}" for span in receiver.seen(name)}
        assert {"SERVER GET /", "CLIENT GET"} <= shown, run.stderr
