"""Rate, errors and duration of what a process serves and of what it calls, counted on every recorded span.

Own aggregates: recording a span in the SDK's histogram costs 10 us. Here a span is one look-up and one append; the
histogram is brought up to date once in 32 spans. `points` hands the sums to the metrics exporters.
"""

from __future__ import annotations

import threading
import time

from opentelemetry.trace import SpanKind

from spanwell._children import in_child
from spanwell._otel.spans import REMOTE
from spanwell.analysis.names import (
    DEPENDENCY,
    ENTRY,
    ERROR_TYPE,
    KIND,
    MAX_NAMES,
    MAX_SERIES,
    OPERATION,
    OUTCOME,
    PEER,
)
from spanwell.analysis.quantiles import Histogram
from spanwell.insights import labels
from spanwell.insights.cardinality import OTHER, Budget, Names
from spanwell.insights.paths import template
from spanwell.insights.records import KINDS, SENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeAlias

    from spanwell._otel.spans import Ended

    Labels: TypeAlias = "tuple[tuple[str, str], ...]"

_CLIENT, _PRODUCER = SENDING
_SERVER = SpanKind.SERVER
_PENDING = 32
_LAST = _PENDING - 1
_REMEMBERED = 4096
_MAX_REMEMBERED_TEXT = 1024
_RESERVED = 18
_MAX_NS = 2**63


_RPC, _DB = ("rpc", labels.RPC_CALL), ("db", labels.DB_CALL)
_MESSAGES, _HTTP = ("messages", labels.MESSAGE_CALL), ("http", labels.HTTP_CALL)


# Most spans are HTTP requests and calls that have nothing else of what labels are made of: for these a few attributes
# tell the label set. (A call has an address, a request its route and method.)
_ADDRESS, _PORT, _ROUTE = "server.address", "server.port", "http.route"
_METHOD, _CODE, _TYPE = "http.request.method", "http.response.status_code", "error.type"
_UNLIKE_CALLS = frozenset(
    ("net.peer.name", *labels.HTTP_CALL, *labels.RPC_CALL, *labels.DB_CALL, *labels.MESSAGE_CALL)
) - {_ADDRESS, _PORT, _METHOD, _CODE, _TYPE}
_OLD_REQUEST = frozenset(("http.method", "http.status_code"))


def _sort(attributes: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The sort of a call, and the attributes that tell its calls apart."""
    if "rpc.system" in attributes or "rpc.system.name" in attributes:
        return _RPC
    if "db.system" in attributes or "db.system.name" in attributes:
        return _DB
    return _MESSAGES if "messaging.system" in attributes else _HTTP


def _call(client: bool, failed: bool, attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the label set of any call."""
    get = attributes.get
    host = get("server.address") or get("net.peer.name") or labels.authority(attributes)
    sort, keys = _sort(attributes)
    return (sort, client, failed, host, *map(get, keys))


def _entry(name: str, kind: str, failed: bool, attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the label set of any entry."""
    get = attributes.get
    if get("http.request.method") or get("http.method"):
        path = labels.raw_path(attributes) if not get("http.route") else ""
        return (kind, failed, path and template(path), *map(get, labels.REQUEST))
    return (kind, failed, name, *map(get, labels.WORK))


class Series:
    """One label set of a metric: durations as they come in, in nanoseconds, and their histogram, in seconds."""

    __slots__ = ("_histogram", "_lock", "labels", "metric", "pending")

    def __init__(self, metric: str, named: Labels) -> None:
        self.metric = metric
        self.labels = named
        self.pending: list[int] = []
        self.reset()

    def reset(self) -> None:
        """Start from nothing: after a fork what was seen so far belongs to the parent."""
        self._lock = threading.RLock()
        self._histogram = Histogram()
        self.pending.clear()

    def observe(self, nanoseconds: int) -> None:
        """Count one duration. Any thread."""
        pending = self.pending
        pending.append(nanoseconds)
        if len(pending) >= _PENDING:
            with self._lock:
                self._fold()

    def _fold(self) -> None:
        pending = self.pending
        number = len(pending)  # other threads go on appending
        durations = pending[:number]
        del pending[:number]
        self._histogram.observe_all([nanoseconds / 1e9 for nanoseconds in durations])

    def drain(self) -> Histogram | None:
        """What was observed since the last call, or None."""
        with self._lock:
            self._fold()
            found = self._histogram
            if not found.count:
                return None
            self._histogram = Histogram()
        return found


def _nothing() -> None:
    """Nobody holds spans back."""


class Red:
    """Aggregates of entry spans, of calls to dependencies, and the number of insights; each label set bounded.

    `pull` is called before anything is handed out: whoever has spans for `spans` that wait brings them now.

    max_series: label sets in this process, beyond which spans count in the series of `other`. max_operations and
    max_peers: different values of those labels.
    """

    def __init__(
        self,
        *,
        max_series: int = MAX_SERIES,
        max_operations: int = MAX_NAMES,
        max_peers: int = MAX_NAMES,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.clock_ns = clock_ns
        self.pull: Callable[[], object] = _nothing
        # The series of `other` must fit too: 5 kinds of 3 outcomes, insights of 3 severities.
        self.budget = Budget(max(0, max_series - _RESERVED))
        self.operations, self.peers = Names(max_operations), Names(max_peers)
        self._calls, self._errors, self._types = Names(max_operations), Names(max_peers), Names(max_peers)
        self._series: dict[tuple[str, Labels], Series] = {}
        self._known: dict[tuple[Any, ...], Series] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._begin()
        in_child(self._after_fork)

    def _begin(self) -> None:
        self.start_ns = self.clock_ns()
        self._lock = threading.RLock()

    def _after_fork(self) -> None:
        self._begin()
        self._counts = {}
        for series in list(self._series.values()):
            series.reset()
        for names in (self.operations, self.peers, self._calls, self._errors, self._types):
            names.after_fork()

    # --- what comes in ------------------------------------------------------------------------------------------

    def spans(self, ended: Iterable[Ended]) -> None:
        """Count spans that were recorded, sampled or not: those that have no parent here, and all calls. Only reads.

        Several at once: each by a call of its own would cost twice as much.
        """
        known = self._known
        for _, parent, name, kind, start, end, status, attributes, _, _, _, _ in ended:
            get, failed = attributes.get, status == "error"
            key: tuple[Any, ...]
            if kind is _CLIENT or kind is _PRODUCER:
                if _ADDRESS in attributes and _UNLIKE_CALLS.isdisjoint(attributes):
                    key = (kind is _CLIENT, failed, get(_ADDRESS), get(_PORT), get(_METHOD), get(_CODE), get(_TYPE))
                else:
                    key = _call(kind is _CLIENT, failed, attributes)
            elif parent is not None and not parent[REMOTE]:
                continue
            elif kind is _SERVER and get(_ROUTE) and get(_METHOD) and _OLD_REQUEST.isdisjoint(attributes):
                key = (failed, get(_ROUTE), get(_METHOD), get(_CODE), get(_TYPE))
            else:
                key = _entry(name, KINDS[kind.value], failed, attributes)
            try:
                series = known.get(key)
            except TypeError:  # a list among the values: of a span that was not made by the SDK
                key, series = (), None
            if series is None:
                series = self._find(name, KINDS[kind.value], failed, attributes, key)
            pending = series.pending
            nanoseconds = end - start
            if not 0 <= nanoseconds < _MAX_NS:
                nanoseconds = 0 if nanoseconds < 0 else _MAX_NS
            if len(pending) < _LAST:
                pending.append(nanoseconds)
            else:
                series.observe(nanoseconds)

    def insight(self, kind: str, severity: str) -> None:
        """Count one insight of type `kind`."""
        with self._lock:
            key = (self._types.bounded(kind), severity)
            if key not in self._counts and not self.budget.take():
                key = (OTHER, severity)
            self._counts[key] = self._counts.get(key, 0) + 1

    def _find(
        self, name: str, kind: str, failed: bool, attributes: Mapping[str, Any], key: tuple[Any, ...]
    ) -> Series:
        result, error = labels.outcome(attributes, failed)
        if kind in ("client", "producer"):
            series = self._get(
                DEPENDENCY,
                ((PEER, self.peers.bounded(labels.peer(attributes))),),
                self._calls.bounded(labels.dependency_operation(attributes)),
                (kind, result),
                error,
            )
        else:
            operation = self.operations.bounded(labels.entry_operation(name, attributes))
            series = self._get(ENTRY, (), operation, (kind, result), error)
        # Values that a request chooses must not fill the memory.
        if key and sum(len(part) for part in key if isinstance(part, str)) <= _MAX_REMEMBERED_TEXT:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = series
        return series

    def _get(self, metric: str, who: Labels, operation: str, fixed: tuple[str, str], error: str) -> Series:
        kept = ((KIND, fixed[0]), (OUTCOME, fixed[1]))
        named = ((OPERATION, operation), *kept, *who)
        if error:
            named = (*named, (ERROR_TYPE, self._errors.bounded(error)))
        found = self._series.get((metric, named))
        if found is not None:
            return found
        with self._lock:
            if (metric, named) not in self._series and not self.budget.take():
                named = ((OPERATION, OTHER), *kept, *((label, OTHER) for label, _ in who))
                if error:
                    named = (*named, (ERROR_TYPE, OTHER))
            return self._series.setdefault((metric, named), Series(metric, named))

    # --- what goes out ------------------------------------------------------------------------------------------

    def drain(self) -> Iterator[tuple[Series, Histogram]]:
        """Each series with what it observed since the last call. One caller at a time."""
        self.pull()
        for series in list(self._series.values()):
            histogram = series.drain()
            if histogram is not None:
                yield series, histogram

    def insights(self) -> dict[tuple[str, str], int]:
        """(type, severity) -> how many insights since the start."""
        with self._lock:
            return dict(self._counts)

    @property
    def series(self) -> int:
        """How many label sets there are."""
        return len(self._series) + len(self._counts)
