"""Trace exporter `dynamodb`: spans and their trace's partial summaries in one table that forgets by itself.

The layout is `dynamodb_layout`'s. Spans go first, then the summaries of those that arrived, so that no summary speaks
of a span that is not there. A repeated request writes the same items again: nothing is stored twice.
"""

from __future__ import annotations

import os
import random
import threading
import time

from spanwell._children import in_child
from spanwell._guard import losses, warn_once
from spanwell.export import dynamodb_layout as layout
from spanwell.export.dynamodb_writer import BatchWriter, Written
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.export.span_rows import RowEncoder, row_of
from spanwell.schema import SPAN_COLUMNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.export.dynamodb_layout import Item, Row
    from spanwell.export.dynamodb_writer import Key

TABLE = "spanwell-traces"
RETENTION_DAYS = 30

_DAY = 86_400
_OVERHEAD = 900  # bytes of a row's tuple, small values and keys
_SERVICE, _RESOURCE, _START = map(SPAN_COLUMNS.index, ("service", "resource_id", "start_ns"))
_MAX_KNOWN = 4096
_MAX_OWED = 1000
_FOR_SPANS = 0.7  # of the time for a batch; the rest is for what lists them


class DynamoDbSpanExporter(EncodingExporter):
    """Writes to `table`, which must be there; items go after `retention_days`.

    `client` makes botocore's client, at the first export. `limit`: seconds within which the attempts for one batch
    begin. `now` is Unix seconds, `clock` monotonic ones, `chance` a number from 0 to 1, `process` a name that no
    other process has. Raises ValueError for a table that cannot be.
    """

    name = "dynamodb"

    def __init__(
        self,
        table: str = TABLE,
        *,
        retention_days: int = RETENTION_DAYS,
        limit: float = 10.0,
        client: Callable[[], Any] | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[threading.Event, float], bool] = threading.Event.wait,
        process: Callable[[], str] | None = None,
    ) -> None:
        region = layout.check_table(table)
        self.table = table
        self.retention_days = retention_days
        self.limit = limit
        self._make = client or (lambda: make_client(region))
        self._now = now
        self._clock = clock
        self._chance = chance
        self._sleep = sleep
        self._name_process = process or _random_name
        self._stop = threading.Event()
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: connections, keys and what waits are the parent's."""
        stopped = self._stop.is_set()
        self._stop = threading.Event()
        if stopped:
            self._stop.set()
        self._client: Any = None
        self._rows = RowEncoder()
        self._process = self._name_process()
        self._batch = 0
        self._known: set[tuple[Key, str]] = set()
        self._owed: list[Item] = []

    def encode(self, span: ReadableSpan) -> tuple[tuple[Row, Resource], int]:
        """The row without what its resource says, which may still grow; about its bytes."""
        row = row_of(span, "", "")
        return (row, span.resource), _OVERHEAD + sum([len(value) for value in row if type(value) is str])

    def send(self, items: list[Any]) -> Sent:
        """Store the spans, then what lists their traces. `reached` is False if the table took nothing."""
        if self._client is None:
            self._client = self._make()
        expires = int(self._now()) + self.retention_days * _DAY
        rows, beside = self._complete(items, expires)
        spans: dict[Key, Item] = {}
        owner: dict[Key, Row] = {}
        lost, reason = 0, ""
        for row in rows:
            item = layout.span_item(row, expires)
            if item is None:
                lost, reason = lost + 1, "a span is larger than the 400 KB of an item, even without its attributes"
                continue
            key = layout.key_of(item)
            if key in owner and owner[key] != row:
                lost, reason = lost + 1, "two spans of a trace have the same id and start"
            spans[key], owner[key] = item, row
        written = self._write([*beside.values(), *spans.values()], self.limit * _FOR_SPANS)
        failed = {layout.key_of(item) for item in written.failed}
        self._remember(beside, failed)
        arrived = [row for key, row in owner.items() if key not in failed]
        if written.reached:
            self._list(arrived, expires)
        missing = len(owner) - len(arrived)
        return Sent(lost + missing, written.reason if missing else reason, written.reached or not spans)

    def _complete(self, items: list[Any], expires: int) -> tuple[list[Row], dict[tuple[Key, str], Item]]:
        """The rows with service and resource, and the items beside them that may not be there yet."""
        rows: list[Row] = []
        beside: dict[tuple[Key, str], Item] = {}
        written = layout.hour_of(int(self._now() * 1e9))
        for row, resource in items:
            resource_id, service, body = self._rows.resource(resource)
            whole = [*row]
            whole[_SERVICE], whole[_RESOURCE] = service, resource_id
            rows.append(tuple(whole))
            # Written again each hour: they must outlive every item that needs them.
            known = (layout.RESOURCE + resource_id, ""), written
            if known not in self._known and known not in beside:
                beside[known] = layout.resource_item(resource_id, body, expires + _DAY)
            known = (service, layout.hour_of(row[_START])), written
            if known not in self._known and known not in beside:
                beside[known] = layout.service_item(*known[0], expires + _DAY)
        return rows, beside

    def _remember(self, beside: dict[tuple[Key, str], Item], failed: set[Key]) -> None:
        if len(self._known) > _MAX_KNOWN:
            self._known = set()
        self._known |= {known for known, item in beside.items() if layout.key_of(item) not in failed}

    def _list(self, rows: list[Row], expires: int) -> None:
        """Write the partial summaries of stored rows; what fails goes with the next batch."""
        self._batch += 1
        made = layout.summary_items(
            rows, process=self._process, batch=self._batch, expires=expires, now_ms=int(self._now() * 1000)
        )
        written = self._write([*self._owed, *made], self.limit * (1 - _FOR_SPANS))
        self._owed = written.failed[-_MAX_OWED:]
        gone = len(written.failed) - len(self._owed)
        if gone:
            losses.add("trace summaries", "export failed (dynamodb)", gone)
        if written.failed:
            warn_once(
                "dynamodb:summaries",
                "spanwell: the spans of %d traces are stored but not listed yet: %s; this is tried again",
                len(written.failed),
                written.reason,
            )

    def _write(self, items: list[Item], limit: float) -> Written:
        if not items:
            return Written([], "", True)
        writer = BatchWriter(
            self._client,
            self.table,
            stop=self._stop,
            clock=self._clock,
            chance=self._chance,
            sleep=self._sleep,
        )
        return writer.write(items, limit)

    def last_attempt(self) -> None:
        """No more waiting between attempts."""
        self._stop.set()

    def shutdown(self) -> None:
        """Count the summaries that never arrived. Never raises."""
        self.last_attempt()
        owed, self._owed = self._owed, []
        if owed:
            losses.add("trace summaries", "exit (dynamodb)", len(owed))


def make_client(region: str = "") -> Any:
    """botocore's client for DynamoDB, by default in the region it finds; AWS_ENDPOINT_URL_DYNAMODB is its own."""
    from spanwell.export import aws_client

    # What we send is checked already, and that is a third of the time.
    return aws_client.make_client(
        "dynamodb",
        region=region,
        connect_timeout=2.0,
        read_timeout=3.0,
        max_pool_connections=4,
        parameter_validation=False,
    )


def _random_name() -> str:
    return os.urandom(6).hex()
