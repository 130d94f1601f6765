"""The table of the `dynamodb` exporter, read. Items that have expired but are still there are not seen."""

from __future__ import annotations

import time
from bisect import insort
from contextlib import contextmanager
from heapq import merge as merge_sorted
from typing import TYPE_CHECKING, Any

from spanwell.explore.filters import bounds, matches
from spanwell.explore.filters.pushdown import may_hold
from spanwell.explore.model import (
    AmbiguousTraceError,
    ExploreError,
    NoStoreError,
    StoreError,
    Trace,
    UnknownTraceError,
)
from spanwell.explore.stores.dynamodb_parts import Parts, merge
from spanwell.explore.stores.rows import record_of
from spanwell.explore.stores.sqlite import TraceFilter, normal_id
from spanwell.export import aws_client
from spanwell.export import dynamodb_layout as layout
from spanwell.schema import SPAN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from spanwell.explore.filters.nodes import Filter
    from spanwell.explore.summary import TraceSummary

    Closer = Callable[[Parts, Trace | None], None]

_SUGGESTIONS = 5
_LOOKED_THROUGH = 10_000
_PAGE = 100
_ALL = 2**31
_WHOLE_ID = 32
_RESOURCE = SPAN_COLUMNS.index("resource_id")


class DynamoDbStore:
    """Reads `table`. Raises `NoStoreError` or `StoreError` when it is not there or not readable.

    `client` makes botocore's client for DynamoDB; `now` is Unix seconds. `closer` is told of each trace that is read,
    with its spans or None, so that it can close those that are idle.
    """

    def __init__(
        self, table: str, *, client: Callable[[], Any] | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.table = table
        self.closer: Closer | None = None
        self._now = now
        self._resources: dict[str, dict[str, Any]] = {}
        with self.readable():
            region = layout.check_table(table)
            self.client = client() if client is not None else make_client(region)

    def __enter__(self) -> DynamoDbStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        with self.readable():
            self.client.close()

    def newest(self, wanted: TraceFilter = TraceFilter(), *, limit: int = 20) -> list[TraceSummary]:  # noqa: B008
        """The newest traces first, by their start, at most `limit`."""
        with self.readable():
            chosen = self._newest(wanted, limit)
            for parts in chosen:
                if self.closer is not None:
                    self.closer(parts, None)
        return [parts.summary for parts in chosen]

    def search(
        self,
        expression: Filter,
        wanted: TraceFilter = TraceFilter(),  # noqa: B008
        *,
        limit: int = 20,
        report: Callable[[int, int], object] = lambda _done, _of: None,
    ) -> list[TraceSummary]:
        """The newest traces that `expression` (`explore.filters`) matches, too; `report(done, 0)` is told of each
        trace that is loaded to be looked at: how many there are is not known.
        """
        bound = bounds(expression)
        done = 0

        def accepts(parts: Parts) -> bool:
            nonlocal done
            if not may_hold(bound, parts.summary):
                return False
            trace, _ = self.whole(parts.summary.trace_id)
            done += 1
            report(done, 0)
            return trace is not None and matches(trace, expression)

        with self.readable():
            return [parts.summary for parts in self._newest(wanted, limit, accepts)]

    def _newest(
        self, wanted: TraceFilter, limit: int, accepts: Callable[[Parts], bool] = lambda _parts: True
    ) -> list[Parts]:
        chosen: list[Parts] = []
        starts: list[int] = []
        seen: set[str] = set()
        for start, trace_id in self.candidates(wanted.service, wanted.since_ns):
            # What has not been met by now starts no later than here.
            if len(starts) >= limit and starts[-limit] >= start:
                break
            if trace_id in seen:
                continue
            seen.add(trace_id)
            parts = self.parts(trace_id)
            if parts is not None and self._matches(parts.summary, wanted) and accepts(parts):
                chosen.append(parts)
                insort(starts, parts.summary.start_ns)
        chosen.sort(key=lambda parts: (-parts.summary.start_ns, parts.summary.trace_id))
        return chosen[:limit]

    def get(self, trace_id: str) -> Trace:
        """The trace with this id, a beginning of it that no other has, or X-Ray's form `1-xxxxxxxx-…`.

        Raises `UnknownTraceError` and `AmbiguousTraceError`.
        """
        with self.readable():
            trace, parts = self.whole(self._resolve(trace_id))
            if trace is None:
                raise UnknownTraceError(f"no trace {trace_id!r} in table {self.table}")
            if parts is not None and self.closer is not None:
                self.closer(parts, trace)
            return trace

    def ids(self, wanted: TraceFilter = TraceFilter()) -> list[str]:  # noqa: B008
        """The ids of the traces, the oldest first."""
        with self.readable():
            if wanted != TraceFilter():  # what the index knows of a part need not hold of the whole trace
                found = {parts.summary.trace_id: parts.summary.start_ns for parts in self._newest(wanted, _ALL)}
            else:
                # Of several starts of a trace the last one is kept, which is the earliest.
                found = {trace_id: start for start, trace_id in self.candidates()}
        return sorted(found, key=lambda trace_id: (found[trace_id], trace_id))

    # --- what the closing of traces needs, too -------------------------------------------------------------------

    def candidates(self, service: str | None = None, since_ns: int | None = None) -> Iterator[tuple[int, str]]:
        """(start in nanoseconds, trace id) of the partial summaries, the latest start first."""
        buckets: list[str] = []
        hour = ""
        for item in self._query(layout.SERVICES, "", newest_first=True):
            found = item[layout.SORT]["S"].partition("#")[0]
            if since_ns is not None and found < layout.hour_of(since_ns):
                break
            if found != hour:
                yield from self._merged(buckets, since_ns)
                hour, buckets = found, []
            name = item["service"]["S"]
            if service is None or name == layout.short(service):
                buckets += [layout.bucket_of(name, hour, shard) for shard in range(int(item["shards"]["N"]))]
        yield from self._merged(buckets, since_ns)

    def parts(self, trace_id: str) -> Parts | None:
        """The merged summary of a trace; None for one that is not there."""
        parts = merge(trace_id, self._query(trace_id, layout.ANY_SUMMARY))
        if parts is None or parts.orphans_known:
            return parts
        trace, _ = self.whole(trace_id)
        missing = 0 if trace is None else len(trace.orphans)
        return parts._replace(summary=parts.summary._replace(orphans=missing), orphans_known=True)

    def whole(self, trace_id: str) -> tuple[Trace | None, Parts | None]:
        """The trace with its spans, and its summaries, as they are this moment."""
        items = list(self._query(trace_id, "", consistent=True))
        rows = [layout.span_row(item) for item in items if item[layout.SORT]["S"].startswith(layout.SPAN)]
        spans = [record_of(row, self._resource(row[_RESOURCE])) for row in rows]
        return (Trace(trace_id, spans) if spans else None), merge(trace_id, items)

    def final(self, trace_id: str) -> dict[str, Any] | None:
        """The item that closed the trace, or None, as it is this moment."""
        return next(self._query(trace_id, layout.FINAL, consistent=True), None)

    @contextmanager
    def readable(self) -> Iterator[None]:
        """What goes wrong in the block as one line of text."""
        try:
            yield
        except ExploreError:
            raise
        except Exception as error:
            if aws_client.error_code(error) == "ResourceNotFoundException":
                raise NoStoreError(
                    f"no traces yet: there is no table {self.table} in {self.client.meta.region_name}"
                    f" (make it: `spanwell dynamodb create --table {self.table}`)"
                ) from error
            denied = "allow dynamodb:Query on the table and its index, and dynamodb:PutItem to close traces"
            said = aws_client.explain(error, denied=denied)
            raise StoreError(f"cannot use the table {self.table}: {said}") from error

    # --- requests -----------------------------------------------------------------------------------------------

    def _query(
        self, key: str, begins: str, *, newest_first: bool = False, consistent: bool = False
    ) -> Iterator[dict[str, Any]]:
        condition, values = "#k = :k", {":k": {"S": key}}
        names = {"#k": layout.KEY}
        if begins:
            condition += " AND begins_with(#s, :s)"
            values[":s"] = {"S": begins}
            names["#s"] = layout.SORT
        return self._pages(
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ScanIndexForward=not newest_first,
            ConsistentRead=consistent,
        )

    def _merged(self, buckets: list[str], since_ns: int | None) -> Iterator[tuple[int, str]]:
        """The summaries in these buckets, the latest start first."""
        return merge_sorted(*(self._bucket(bucket, since_ns) for bucket in buckets), reverse=True)

    def _bucket(self, bucket: str, since_ns: int | None) -> Iterator[tuple[int, str]]:
        condition, values = "#b = :b", {":b": {"S": bucket}}
        names = {"#b": layout.BUCKET}
        if since_ns is not None:
            condition += " AND #t >= :t"
            values[":t"] = {"N": str(since_ns)}
            names["#t"] = layout.START
        for item in self._pages(
            IndexName=layout.INDEX,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ScanIndexForward=False,
            Limit=_PAGE,
        ):
            yield int(item[layout.START]["N"]), item[layout.KEY]["S"]

    def _pages(self, **query: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self.client.query(TableName=self.table, **query)
            for item in page.get("Items", ()):
                if self._lives(item):
                    yield item
            last = page.get("LastEvaluatedKey")
            if not last:
                return
            query["ExclusiveStartKey"] = last

    def _lives(self, item: dict[str, Any]) -> bool:
        # DynamoDB takes days to delete what has expired.
        return int(item.get(layout.EXPIRES, {"N": "0"})["N"]) > self._now()

    def _resource(self, resource_id: str) -> dict[str, Any]:
        if resource_id not in self._resources:
            item = next(iter(self._query(layout.RESOURCE + resource_id, layout.ONLY)), None)
            self._resources[resource_id] = layout.resource_attributes(item) if item else {}
        return self._resources[resource_id]

    # --- choosing -----------------------------------------------------------------------------------------------

    def _matches(self, summary: TraceSummary, wanted: TraceFilter) -> bool:
        if wanted.since_ns is not None and summary.start_ns < wanted.since_ns:
            return False
        if (wanted.errors and not summary.errors) or summary.duration < wanted.min_duration_ns:
            return False
        if wanted.name:
            return self._has_name(summary.trace_id, wanted.name.casefold(), wanted.service)
        return wanted.service is None or any(each.name == wanted.service for each in summary.services)

    def _has_name(self, trace_id: str, part: str, service: str | None) -> bool:
        trace, _ = self.whole(trace_id)
        spans = trace.spans if trace is not None else ()
        return any(part in span.name.casefold() and service in (None, span.service) for span in spans)

    def _resolve(self, given: str) -> str:
        wanted = normal_id(given)
        if len(wanted) == _WHOLE_ID:
            return wanted
        found: dict[str, None] = {}
        if wanted:
            # A table cannot be asked for the beginning of a hash key.
            for number, (_, trace_id) in enumerate(self.candidates()):
                if trace_id.startswith(wanted):
                    found[trace_id] = None
                if number >= _LOOKED_THROUGH or len(found) > _SUGGESTIONS:
                    break
        if len(found) == 1:
            return next(iter(found))
        if found:
            shown = ", ".join(list(found)[:_SUGGESTIONS])
            more = ", …" if len(found) > _SUGGESTIONS else ""
            raise AmbiguousTraceError(f"several traces begin with {given}: {shown}{more}")
        whole = "" if len(wanted) > _WHOLE_ID or not wanted else " among the newest ones; give the whole id"
        raise UnknownTraceError(f"no trace {given!r} in table {self.table}{whole}")


def make_client(region: str = "") -> Any:
    """botocore's client for reading: a few attempts, as a person waits for the answer."""
    return aws_client.make_client("dynamodb", region=region, retries={"mode": "standard", "total_max_attempts": 4})
