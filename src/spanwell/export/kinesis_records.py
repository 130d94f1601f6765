"""Spans as Kinesis records: one for each trace in a batch, keyed by the trace id, and how many go in a request. Pure.

Limits: PutRecords in the Kinesis API reference. A stream takes 1 MiB a record, key included, unless its owner raised
that; a request takes 500 records and 10 MiB, of which a half is used: a shard takes 1 MB a second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spanwell.export.otlp_grouping import Item, Part

    Requests = Callable[..., Iterator[Part]]

MAX_RECORD = 1_048_576
MAX_REQUEST = 5_242_880
MAX_RECORDS = 500
SHARD_RECORDS = 1_000
SHARD_BYTES = 1_000_000
# Before compression: what cannot be compressed grows a little, and a consumer knows what to expect.
MAX_PAYLOAD = 1_000_000


class Waiting(NamedTuple):
    """An encoded span, as it waits: its trace id (32 hex digits), and resource, scope and bytes."""

    trace_id: str
    item: Item


class Record(NamedTuple):
    """key: the partition key. data: an OTLP request. spans: how many are in it."""

    key: str
    data: bytes
    spans: int

    @property
    def size(self) -> int:
        """Bytes as Kinesis counts them."""
        return len(self.data) + len(self.key)


def records(
    waiting: Iterable[Waiting], requests: Requests, pack: Callable[[bytes], bytes] | None = None
) -> list[Record]:
    """One record for each trace, in the order of their first spans; more for a trace that is too large for one.

    `requests` groups items into OTLP requests of at most `max_bytes`, `pack` compresses one. A record over
    MAX_RECORD holds a single span; nothing can carry it.
    """
    traces: dict[str, list[Item]] = {}
    for each in waiting:
        traces.setdefault(each.trace_id, []).append(each.item)
    return [
        Record(trace_id, pack(part.body) if pack else part.body, len(part.items))
        for trace_id, items in traces.items()
        for part in requests(items, max_bytes=MAX_PAYLOAD)
    ]


def take(pending: list[Record], most: float) -> list[Record]:
    """The next request: records from the front of `pending`, taken out of it; at least one.

    They cost at most `most` shard-seconds.
    """
    number = size = 0
    for record in pending[:MAX_RECORDS]:
        size += record.size
        if number and (size > MAX_REQUEST or cost(number + 1, size) > most):
            break
        number += 1
    request = pending[:number]
    del pending[:number]
    return request


def cost(number: int, size: int) -> float:
    """Seconds in which one shard takes `number` records of `size` bytes in all."""
    return max(number / SHARD_RECORDS, size / SHARD_BYTES)


def cost_of(request: Iterable[Record]) -> float:
    """`cost` of these records."""
    sizes = [record.size for record in request]
    return cost(len(sizes), sum(sizes))


def entries(request: Iterable[Record]) -> list[dict[str, Any]]:
    """The parameter `Records` of PutRecords."""
    return [{"Data": record.data, "PartitionKey": record.key} for record in request]
