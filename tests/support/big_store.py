"""A trace file of any size, the same for the same numbers: `python -m support.big_store FILE [TRACES]` (in tests/).

Shop traffic of ten services: a request has 20 spans over four of them, and calls a table, a database and a peer that
has no spans. One request in 50 fails with a 500, one in 40 is refused with a 404, one in 1,000 is throttled; one in
10,000 holds the attribute `order.rare`.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

from spanwell import schema
from spanwell.values import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = tuple[Any, ...]

SERVICES = ("orders", "stock", "users", "billing", "search", "basket", "mail", "offers", "reviews", "shipping")
SPANS = 20
_BATCH = 500
_SECOND = 1_000_000_000


def make(path: str, traces: int = 50_000, *, start_ns: int = 1_795_000_000 * _SECOND) -> None:
    """Write `traces` traces of 20 spans, one a second, into the file at `path`."""
    chance = random.Random(1)
    connection = sqlite3.Connection(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        schema.migrate(connection)
        body = dumps({"service.name": "x", "host.id": "i-0123456789", "cloud.platform": "aws_ecs"})
        resources = {name: (name, body.replace('"x"', f'"{name}"')) for name in ("web", *SERVICES)}
        for first in range(0, traces, _BATCH):
            rows = [
                row
                for number in range(first, min(traces, first + _BATCH))
                for row in _trace(number, start_ns + number * _SECOND, chance)
            ]
            with schema.transaction(connection):
                schema.insert(connection, rows, resources)
    finally:
        connection.close()


def _trace(number: int, start: int, chance: random.Random) -> Iterator[Row]:
    trace_id = f"{chance.getrandbits(128):032x}"
    took = int(chance.lognormvariate(18.5, 1.2)) + SPANS * 1_000
    failed = number % 50 == 7
    status = 500 if failed else 404 if number % 40 == 3 else 200
    called = chance.sample(SERVICES, 3)
    for position in range(SPANS):
        service = "web" if position < 5 else called[(position - 5) // 5]
        kind, name, told = _work(number, position, status if position == 0 else 200, service, chance)
        if number % 10_000 == 5 and position == 12:
            told["order.rare"] = "white raven"
        error = (failed and position in (0, 5, 10)) or "spanwell.throttled" in told
        above = 0 if position % 5 == 0 else position - position % 5
        parent = None if position == 0 else f"{above + 1:016x}"
        yield (
            *(trace_id, f"{position + 1:016x}", parent, name, kind, service, "made", "1"),
            *(start + position * 1_000, start + took - position * 1_000, "error" if error else "unset"),
            *("it broke" if error else None, dumps(told), None, None, service, None, 1, 0, 0, 0),
        )


def _work(
    number: int, position: int, status: int, service: str, chance: random.Random
) -> tuple[str, str, dict[str, Any]]:
    told: dict[str, Any] = {"thread.id": 140_000_000_000 + position, "code.function": f"{service}.handlers.work"}
    if position % 5 == 0:
        told |= {
            "http.request.method": "GET",
            "http.route": "/orders/{id}",
            "url.path": f"/orders/{number}",
            "url.scheme": "https",
            "server.address": f"{service}.shop.example",
            "http.response.status_code": status,
            "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
            "user.id": f"user-{chance.randrange(5_000)}",
        }
        return "server", "GET /orders/{id}", told
    if position % 5 == 2:
        told |= {
            "rpc.system": "aws-api",
            "rpc.service": "DynamoDB",
            "rpc.method": "GetItem",
            "cloud.region": "eu-west-1",
        }
        told |= {"aws.dynamodb.table_names": ["orders"], "aws.request_id": f"{chance.getrandbits(96):024X}"}
        if number % 1_000 == 9 and position == 12:
            told["spanwell.throttled"] = True
        return "client", "DynamoDB.GetItem", told
    if position % 5 == 3:
        told |= {
            "db.system.name": "postgresql",
            "db.namespace": "shop",
            "db.query.text": "SELECT * FROM items WHERE id = %s",
        }
        return "client", "SELECT shop", told
    if position == 4:
        told |= {
            "http.request.method": "POST",
            "url.full": "https://pay.example/charge",
            "server.address": "pay.example",
        }
        return "client", "POST", told
    return "internal", f"work {position}", told


if __name__ == "__main__":
    before = time.perf_counter()
    make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50_000)
    print(f"{time.perf_counter() - before:.1f} s")
