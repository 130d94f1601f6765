"""One contract for every library: the same spans whether instrumented at start, when imported, or by `run`.

Each scenario is a plain application in instrumentors/ that uses its library for real. `EXPECTED` says what it
must show at least, so that three times nothing does not count as equal.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import mongo, servers
from support.receiver import Receiver, Seen, otlp_receiver, stored
from support.runs import MODES, Run, finish, kill, start

pytestmark = [pytest.mark.slow, pytest.mark.full]

PROOF = "spans of {} are the same deferred and at start"

# scenario -> (what it needs, (kind, span name) that must be there)
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "aiobotocore": (("moto",), ("CLIENT DynamoDB.GetItem",)),
    "asyncio": ((), ("INTERNAL asyncio coro-order", "CLIENT SELECT")),
    "aiohttp": ((), ("CLIENT GET", "SERVER GET /orders/{number}")),
    "boto3": (
        ("moto",),
        ("CLIENT DynamoDB.PutItem", "CLIENT DynamoDB.GetItem", "CLIENT S3.GetObject", "CONSUMER process queue-RUN"),
    ),
    "celery": ((), ("PRODUCER apply_async/shop.order", "CONSUMER run/shop.broken")),
    "django": ((), ("SERVER GET orders/<int:number>", "SERVER GET broken")),
    "fastapi": ((), ("SERVER GET /orders/{number}", "INTERNAL BackgroundTask notify")),
    "flask": ((), ("SERVER GET /orders/<int:number>", "SERVER GET /broken")),
    "grpc": ((), ("CLIENT /Shop/Same", "SERVER /Shop/Many", "CLIENT /AioShop/Same", "SERVER /AioShop/Same")),
    "httpx": (("stub",), ("CLIENT GET", "CLIENT POST")),
    "jinja2": ((), ("INTERNAL jinja2.render", "INTERNAL jinja2.compile", "INTERNAL jinja2.load")),
    "psycopg": (("postgres",), ("CLIENT CREATE TABLE orders", "CLIENT INSERT orders", "CLIENT SELECT orders")),
    "psycopg2": (("postgres",), ("CLIENT CREATE TABLE orders", "CLIENT INSERT orders", "CLIENT SELECT orders")),
    "pymongo": (("mongo",), ("CLIENT shop.insert", "CLIENT shop.find")),
    "redis": (("redis",), ("CLIENT SET", "CLIENT GET", "CLIENT SET GET")),
    "requests": (("stub",), ("CLIENT GET", "CLIENT POST")),
    "sqlalchemy": (("postgres",), ("CLIENT connect", "CLIENT INSERT orders", "CLIENT SELECT orders")),
    "sqlite3": ((), ("CLIENT CREATE TABLE orders", "CLIENT SELECT orders")),
    "starlette": ((), ("SERVER GET /orders/{number}",)),
    "threads": (("stub",), ("CLIENT GET", "SERVER GET /")),
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
        "stub": servers.http_stub,
        "mongo": mongo.mongo_server,
        "moto": servers.moto,
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


Outcome = dict[str, tuple[str, Run]]


def run_all(
    receiver: Receiver, arguments: list[str], extra: dict[str, str], modes: tuple[str, ...] = MODES
) -> Outcome:
    """Run the same thing in every mode, side by side: mode -> (name of the run, outcome)."""
    names = {mode: f"{mode}{next(_numbers)}x" for mode in modes}
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


def seen(receiver: Receiver, outcome: Outcome) -> dict[str, collections.Counter[Seen]]:
    """The spans of each mode that the receiver got."""
    return {mode: receiver.seen(name, name) for mode, (name, _) in outcome.items()}


def compare(outcome: Outcome, spans: dict[str, collections.Counter[Seen]], expected: tuple[str, ...]) -> None:
    """Fail unless every mode ended well, printed the same and sent the same spans, `expected` among them."""
    (first, (first_name, first_run)), *_ = outcome.items()
    for mode, (name, run) in outcome.items():
        assert run.code == 0, f"{mode}: {run.stdout}\n{run.stderr}"
        shown = {f"{span.kind} {span.name}" for span in spans[mode]}
        assert shown.issuperset(expected), f"{mode} sent {sorted(shown)}\n{run.stderr}"
        assert run.stdout.replace(name, "") == first_run.stdout.replace(first_name, "")
        more, fewer = spans[mode] - spans[first], spans[first] - spans[mode]
        assert not more, f"{mode} differs from {first}: {_lines(more)} instead of {_lines(fewer)}"
        assert not fewer, f"{mode} lacks {_lines(fewer)}"


def _lines(spans: collections.Counter[Seen]) -> str:
    return "\n".join(f"{count} x {span}" for span, count in spans.items())


@pytest.mark.parametrize("library", sorted(EXPECTED))
def test_same_spans(library: str, receiver: Receiver, address: Callable[[str], dict[str, str]]) -> None:
    needs, expected = EXPECTED[library]
    extra = {"OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE": "order"} if library == "asyncio" else {}
    for what in needs:
        extra |= address(what)
    outcome = run_all(receiver, [f"use_{library}.py"], extra)
    compare(outcome, seen(receiver, outcome), expected)


@pytest.mark.parametrize("library", ["requests", "urllib3", "sqlite3", "boto3"])
def test_same_spans_where_the_exporter_is_not_the_first_to_import_the_library(
    library: str, receiver: Receiver, address: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """Exporting OTLP imports requests and urllib3, the sqlite exporter sqlite3; neither traces itself."""
    needs, expected = EXPECTED[library]
    extra = {"OTEL_TRACES_EXPORTER": "sqlite"}
    for what in needs:
        extra |= address(what)
    outcome: Outcome = {}
    for mode in MODES:
        path = {"SPANWELL_SQLITE_PATH": str(tmp_path / mode)}
        outcome |= run_all(receiver, [f"use_{library}.py"], extra | path, (mode,))
    spans = {mode: stored(tmp_path / mode, name) for mode, (name, _) in outcome.items()}
    compare(outcome, spans, expected)
    scopes = {span.scope.rsplit(".", 1)[1] for span in spans["run"]}
    assert not scopes & ({"requests", "urllib3", "sqlite3"} - {library})
    assert not any("INSERT INTO span" in str(span.attributes) for span in spans["run"])


@pytest.mark.parametrize("order", ["starlette-first", "fastapi-first", "by-submodule"])
def test_fastapi_and_starlette_in_one_process(order: str, receiver: Receiver) -> None:
    outcome = run_all(receiver, ["use_asgi_both.py", order], {})
    compare(outcome, seen(receiver, outcome), ("SERVER GET /", "SERVER GET /plain"))
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


@pytest.fixture(scope="module")
def usual(receiver: Receiver, address: Callable[[str], dict[str, str]]) -> collections.Counter[Seen]:
    """The spans of ways.py with everything instrumented at start."""
    outcome = run_all(receiver, ["ways.py", "function"], address("stub"), ("eager",))
    compare(outcome, seen(receiver, outcome), ("SERVER GET /", "CLIENT GET"))
    return seen(receiver, outcome)["eager"]


@pytest.mark.parametrize("way", WAYS)
def test_however_the_library_is_imported(
    way: str,
    receiver: Receiver,
    address: Callable[[str], dict[str, str]],
    usual: collections.Counter[Seen],
) -> None:
    outcome = run_all(receiver, ["ways.py", way], address("stub"), ("lazy", "run"))
    spans = seen(receiver, outcome)
    compare(outcome, spans, ("SERVER GET /", "CLIENT GET"))
    assert spans["run"] == usual
    (client,) = (span for span in usual if span.kind == "CLIENT" and span.scope.endswith("requests"))
    assert client.parent == "GET /"


def test_libraries_imported_before_opentelemetry(
    receiver: Receiver, address: Callable[[str], dict[str, str]], usual: collections.Counter[Seen]
) -> None:
    for number, lazy in enumerate(("false", "true")):
        name = f"before{number}"
        extra = {**address("stub"), "SPANWELL_LAZY_INSTRUMENTATION": lazy}
        run = finish(start("bare", ["already_imported.py"], receiver.endpoint(name), extra))
        assert run.code == 0, run.stderr
        assert receiver.seen(name, name) == usual, run.stderr


@pytest.mark.parametrize("mode", MODES)
def test_a_child_forked_after_the_thread_pool_was_imported_lives(mode: str, receiver: Receiver) -> None:
    """The SDK asks a thread pool for the child's resource, whose lock is not released before in this order."""
    name = f"fork-{mode}"
    run = finish(start(mode, ["fork_late.py"], receiver.endpoint(name), {}))
    assert (run.code, run.stdout) == (0, "child ended\n"), run.stderr
    assert len(receiver.spans(name)) == 2, run.stderr


@pytest.mark.parametrize("mode", MODES)
def test_celery_worker_that_forks(mode: str, receiver: Receiver, address: Callable[[str], dict[str, str]]) -> None:
    """A real worker with a pool of processes, and a producer elsewhere: one trace, the worker's span below."""
    name = f"celery-{mode}"
    # The worker polls Redis all the time; the telling spans are Celery's.
    extra = {**address("redis"), "RUN": name, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis"}
    extra["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    endpoint = receiver.endpoint(name)
    arguments = ["-m", "celery", "-A", "celery_shop", "worker", "-P", "prefork", "-c", "1"]
    quiet = ["--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = start(mode, [*arguments, *quiet], endpoint, extra)
    try:
        producer = finish(start(mode, ["celery_shop.py"], endpoint, extra))
        assert (producer.code, producer.stdout) == (0, "42\n"), producer.stderr
        receiver.wait(name, 2)
        worker.terminate()
        finish(worker, 30)
    finally:
        kill(worker)
    spans = {span.name: span for _, span in receiver.spans(name)}
    assert sorted(spans) == ["apply_async/order", "run/order"]
    assert spans["run/order"].parent_span_id == spans["apply_async/order"].span_id
    assert spans["run/order"].trace_id == spans["apply_async/order"].trace_id
