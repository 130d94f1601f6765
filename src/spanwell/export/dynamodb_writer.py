"""BatchWriteItem with what it asks of its callers: 25 items a request, and later again what was not processed."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from spanwell._otel.exporting import suppressed
from spanwell.export.aws_client import PERMANENT, THROTTLED, error_code, explain, status_code, verdict
from spanwell.export.dynamodb_layout import key_of, weight_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from spanwell.export.dynamodb_layout import Item

    Key = tuple[str, str]

_MAX_ITEMS = 25
_MAX_BYTES = 2_000_000  # of DynamoDB's 16 MB: what is not ASCII takes up to six times that on the wire
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0
_PER_THREAD = 100
_THREADS = 4
_JOIN = 0.5
_NAMED_BY = "SPANWELL_DYNAMODB_TABLE or AWS_REGION"
# What is wrong with the items of a request, not with the table or the caller.
_BAD_ITEMS = frozenset(("ValidationException", "SerializationException", "ItemCollectionSizeLimitExceededException"))


class Written(NamedTuple):
    """Items that are not in the table, why, and whether DynamoDB took or throttled anything at all."""

    failed: list[Item]
    reason: str
    reached: bool


class BatchWriter:
    """Puts items into `table` through a botocore client.

    `stop` ends all waiting between attempts, once set: then every item is tried once. `sleep(event, seconds)` tells
    whether it was set; `chance` is a number from 0 to 1.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        *,
        stop: threading.Event,
        clock: Callable[[], float],
        chance: Callable[[], float],
        sleep: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._client = client
        self._table = table
        self._stop = stop
        self._clock = clock
        self._chance = chance
        self._sleep = sleep

    def write(self, items: Iterable[Item], limit: float) -> Written:
        """Put `items`, the last of those with the same key. No attempt begins later than in `limit` seconds."""
        work = _Work(items, self._clock() + limit)
        helpers = self._helpers(work)
        self._drain(work)
        for helper in helpers:
            helper.join(max(0.0, work.deadline - self._clock()) + _JOIN)
        return work.result()

    def _helpers(self, work: _Work) -> list[threading.Thread]:
        started: list[threading.Thread] = []
        for _ in range(min(_THREADS, len(work.left) // _PER_THREAD) - 1):
            helper = threading.Thread(target=self._help, args=(work,), name="spanwell-dynamodb-put", daemon=True)
            try:
                helper.start()
            except RuntimeError:  # the interpreter is shutting down, or there are no threads left
                break
            started.append(helper)
        return started

    def _help(self, work: _Work) -> None:
        with suppressed():
            self._drain(work)

    def _drain(self, work: _Work) -> None:
        failures = 0
        while self._clock() < work.deadline and (batch := work.take()):
            again = self._put(batch, work)
            failures = failures + 1 if again else 0
            if again and not self._stop.is_set() and self._pause(failures, work):
                work.put_back(again)
            # Else they were tried, and there is no time to wait: they are lost, the others still have their turn.

    def _put(self, batch: list[Item], work: _Work) -> list[Item]:
        """One request; what of it is to be tried again, later."""
        requests = [{"PutRequest": {"Item": item}} for item in batch]
        try:
            answer = self._client.batch_write_item(RequestItems={self._table: requests})
        except Exception as error:
            return self._failed(batch, error, work)
        return work.answered(batch, answer.get("UnprocessedItems") or {})

    def _failed(self, batch: list[Item], error: Exception, work: _Work) -> list[Item]:
        if error_code(error) in _BAD_ITEMS or status_code(error) == 413:
            work.refused(batch, explain(error))
            return []
        kind = verdict(error)
        work.reached = work.reached or kind == THROTTLED
        where = f"table {self._table} in {self._client.meta.region_name}"
        remedy = f"`spanwell dynamodb create --table {self._table}` makes it; or correct {_NAMED_BY}"
        said = explain(error, missing=remedy, denied=f"allow dynamodb:BatchWriteItem on {where}")
        work.reason = f"{where}: {said}"
        if kind == PERMANENT or (kind != THROTTLED and self._stop.is_set()):
            work.close()  # the next request would fail the same way
            return []
        return batch

    def _pause(self, failures: int, work: _Work) -> bool:
        pause = min(_LAST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 10)) * (0.5 + self._chance() / 2)
        return self._clock() + pause < work.deadline and not self._sleep(self._stop, pause)


class _Work:
    """The items of one `write`, shared by its threads. `left`: what is not known to be in the table."""

    def __init__(self, items: Iterable[Item], deadline: float) -> None:
        self.deadline = deadline
        self.left: dict[Key, Item] = {key_of(item): item for item in items}
        self.pending: deque[Item] = deque(self.left.values())
        self.reason = ""
        self.reached = False
        self._closed = False
        self._most = _MAX_ITEMS
        self._lock = threading.Lock()

    def take(self) -> list[Item]:
        """The items of the next request; none when nothing waits, or nothing more is to be tried."""
        batch: list[Item] = []
        size = 0
        with self._lock:
            while self.pending and not self._closed and len(batch) < self._most:
                size += weight_of(self.pending[0])
                if batch and size > _MAX_BYTES:
                    break
                batch.append(self.pending.popleft())
        return batch

    def put_back(self, items: list[Item]) -> None:
        """Items that are to be tried again, before the others."""
        with self._lock:
            self.pending.extendleft(items)

    def answered(self, batch: list[Item], unprocessed: dict[str, list[Any]]) -> list[Item]:
        """A request went through but for `unprocessed`, which are returned as they stood in `batch`."""
        keys = {key_of(each["PutRequest"]["Item"]) for some in unprocessed.values() for each in some}
        with self._lock:
            self.reached = True
            self._most = min(_MAX_ITEMS, self._most * 2)
            for item in batch:
                if key_of(item) not in keys:
                    self.left.pop(key_of(item), None)
        if keys:
            self.reason = "the table takes no more: its write capacity is used up"
        return [item for item in batch if key_of(item) in keys]

    def refused(self, batch: list[Item], reason: str) -> None:
        """DynamoDB found fault with an item: smaller requests find which; it is left out alone."""
        with self._lock:
            self.reached = True
            self.reason = reason
            if len(batch) > 1:
                self._most = max(1, len(batch) // 2)
                self.pending.extendleft(batch)

    def close(self) -> None:
        """Try nothing more."""
        self._closed = True

    def result(self) -> Written:
        """What became of it; what a thread still has under way is not known to be there."""
        self.close()
        with self._lock:
            return Written(
                list(self.left.values()), self.reason or "no answer in time", self.reached or not self.left
            )
