"""Cache hits and statement summaries with real libraries: redis-py on a real Redis, pymemcache, sqlite3."""

from __future__ import annotations

import asyncio
import importlib
import socketserver
import sqlite3
import threading
from importlib import import_module

import pytest
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanwell import _guard
from spanwell.enrich import cache_hits
from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.processor import FusedProcessor
from support.servers import redis_server

pytestmark = pytest.mark.slow


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter, monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor([Ended(parts())]))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture(scope="module")
def url():
    with redis_server("a read of Redis says whether it was a hit") as address:
        yield address


@pytest.fixture
def _redis(provider):
    RedisInstrumentor().instrument(tracer_provider=provider, **cache_hits.redis_options())
    yield
    RedisInstrumentor().uninstrument()


def hits(exporter):
    return [(span.name, span.attributes.get("spanwell.cache.hit")) for span in exporter.get_finished_spans()]


@pytest.mark.usefixtures("_redis")
def test_redis(url, exporter):
    import redis

    with redis.Redis.from_url(url) as client:
        client.set("a", "1")
        client.hset("h", "f", "1")
        exporter.clear()
        client.get("a")
        client.get("absent")
        client.mget("a", "a")
        client.mget("a", "absent")
        client.hget("h", "f")
        client.hget("h", "absent")
        client.hgetall("h")
        client.hgetall("absent")
        client.set("a", "2")
        client.exists("absent")
        client.execute_command("GET a")
        with client.pipeline() as pipeline:
            pipeline.get("a").get("a").get("absent").execute()
    assert hits(exporter) == [
        ("GET", True),
        ("GET", False),
        ("MGET", True),
        ("MGET", False),
        ("HGET", True),
        ("HGET", False),
        ("HGETALL", True),
        ("HGETALL", False),
        ("SET", None),
        ("EXISTS", None),
        ("GET", None),  # sent as one word: the key is in it, and stays out of the name
        ("GET", None),
    ]
    assert {span.attributes["db.query.summary"] for span in exporter.get_finished_spans()} == {
        *("GET", "MGET", "HGET", "HGETALL", "SET", "EXISTS"),
    }


@pytest.mark.usefixtures("_redis")
def test_redis_asyncio(url, exporter):
    from redis import asyncio as aioredis

    async def main():
        async with aioredis.Redis.from_url(url) as client:
            await client.get("absent")

    asyncio.run(main())
    assert hits(exporter) == [("GET", False)]


class Memcached(socketserver.StreamRequestHandler):
    """As much of the protocol as reads need: the keys `a` and `b` have values."""

    def handle(self):
        while line := self.rfile.readline():
            command, *keys = line.split()
            for key in keys:
                if key in (b"a", b"b"):
                    self.wfile.write(b"VALUE %s 0 1%s\r\n1\r\n" % (key, b" 7" if command == b"gets" else b""))
            self.wfile.write(b"END\r\n")


@pytest.fixture
def memcached():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Memcached)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_address
    server.shutdown()
    server.server_close()


def test_pymemcache(memcached, provider, exporter):
    base = import_module("pymemcache.client.base")
    instrumentation = importlib.import_module("opentelemetry.instrumentation.pymemcache")
    originals = {name: base.Client.__dict__[name] for name in ("get", "gets", "get_many", "gets_many", "get_multi")}
    assert cache_hits.pymemcache_options() == {}
    assert cache_hits.pymemcache_options() == {}
    instrumentation.PymemcacheInstrumentor().instrument(tracer_provider=provider)
    try:
        client = base.Client(memcached)
        assert client.get("a") == b"1"
        assert client.get("x") is None
        assert client.get("x", 7) == 7
        assert client.gets("a") == (b"1", b"7")
        assert client.gets("x") == (None, None)
        assert client.get_many(["a", "b"]) == {"a": b"1", "b": b"1"}
        assert client.get_multi(["a", "x"]) == {"a": b"1"}
        client.close()
    finally:
        instrumentation.PymemcacheInstrumentor().uninstrument()
        for name, original in originals.items():
            setattr(base.Client, name, original)
    assert hits(exporter) == [
        ("get", True),
        ("get", False),
        ("get", False),
        ("gets", True),
        ("gets", False),
        ("get_many", True),
        ("get_multi", False),
    ]


def test_sqlite3(provider, exporter):
    SQLite3Instrumentor().instrument(tracer_provider=provider)
    try:
        cursor = sqlite3.connect(":memory:").cursor()
        cursor.execute("CREATE TABLE orders (id, mail)")
        cursor.execute("INSERT INTO orders VALUES (7, 'a@b.c')")
        cursor.execute("SELECT * FROM orders WHERE mail = 'a@b.c'")
    finally:
        SQLite3Instrumentor().uninstrument()
    names = ["CREATE TABLE orders", "INSERT orders", "SELECT orders"]
    assert [span.name for span in exporter.get_finished_spans()] == names
    assert [span.attributes["db.query.summary"] for span in exporter.get_finished_spans()] == names
