"""The requests of a simulation: of a stated load, or of a store of traces."""

from __future__ import annotations

import random
from functools import cached_property
from heapq import heappop, heappush
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from spanwell.sampling.budget import operation
from spanwell.sampling.probability import adjusted_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from spanwell.explore.model import Trace
    from spanwell.explore.stores.sqlite import SqliteStore
    from spanwell.record import SpanRecord

_MOST = 10_000_000
_LATE = ("http.response.", "http.status_code", "error.", "exception.", "rpc.grpc.status_code")
_PLAIN = (str, bool, int, float, bytes, list, tuple)  # what every version of the SDK takes without a word
_OURS = ("spanwell.", "aws.xray.sampling_rule", "aws.xray.adaptive", "aws.trace.flag.sampled")


class PlannedSpan(NamedTuple):
    """A span as it will happen: `start` and `end` are seconds after its request's start.

    `parent` is a position in the plan, smaller than its own, or -1. `late` are the attributes it gets at its end.
    """

    start: float
    end: float
    parent: int
    name: str
    kind: str
    service: str
    attributes: Mapping[str, Any]
    late: Mapping[str, Any]
    error: bool
    resource: Mapping[str, Any]


class Plan:
    """The spans of one request and what to know of it. `spans[0]` is its root, which starts at 0."""

    def __init__(self, spans: list[PlannedSpan], slow: float) -> None:
        self.spans = spans
        root = spans[0]
        self.operation = operation(root.name, root.attributes)
        self.error = any(span.error for span in spans)
        self.slow = root.end - root.start >= slow
        self.services = {span.service for span in spans}

    @cached_property
    def events(self) -> list[tuple[float, bool, int]]:
        """(seconds, whether it ends, position) of everything that happens after the root's start, in order."""
        starts = [(span.start, False, at) for at, span in enumerate(self.spans)]
        ends = [(span.end, True, at) for at, span in enumerate(self.spans)]
        # Where times are equal a parent starts first and ends last.
        return sorted((*starts[1:], *ends), key=lambda event: (event[0], event[1], event[2] * (1 - 2 * event[1])))


class Request(NamedTuple):
    """One request at `start` seconds; it stands for `weight` requests of the real load."""

    start: float
    plan: Plan
    weight: float = 1.0


class StatedLoad(NamedTuple):
    """`rps=50,operations=10,spans=8,errors=1%,slow=2%,minutes=60,skew=1`: requests at random times.

    `skew` says how unevenly they fall on the operations: the k-th is 1 / k ** skew as frequent as the first.
    """

    rps: float = 50.0
    operations: int = 10
    spans: int = 8
    errors: float = 0.01
    slow: float = 0.01
    minutes: float = 60.0
    skew: float = 1.0

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.minutes * 60.0

    @property
    def number(self) -> int:
        """How many requests to expect."""
        return round(self.rps * self.seconds)

    def requests(self, seed: int, slow: float) -> Iterator[Request]:
        """Its requests in order; a slow one takes twice `slow` seconds, another one a tenth."""
        chance = random.Random(seed)
        weights = list(accumulate(1.0 / (k + 1) ** self.skew for k in range(self.operations)))
        plans: dict[tuple[int, bool, bool], Plan] = {}
        numbers = range(self.operations)
        now = chance.expovariate(self.rps)
        while now < self.seconds:
            number = chance.choices(numbers, cum_weights=weights)[0]
            key = number, chance.random() < self.errors, chance.random() < self.slow
            plan = plans.get(key)
            if plan is None:
                plan = plans[key] = Plan(self._spans(*key, slow), slow)
            yield Request(now, plan)
            now += chance.expovariate(self.rps)

    def _spans(self, number: int, error: bool, is_slow: bool, slow: float) -> list[PlannedSpan]:
        whole = slow * 2.0 if is_slow else slow / 10.0
        asked: dict[str, Any] = {"http.request.method": "GET", "url.path": f"/operation{number + 1}"}
        answered = {"http.response.status_code": 500 if error else 200}
        service: dict[str, Any] = {"service.name": "simulated"}
        name = f"GET /operation{number + 1}"
        spans = [PlannedSpan(0.0, whole, -1, name, "server", "simulated", asked, answered, error, service)]
        for index in range(1, self.spans):
            start = whole * (index - 1) / self.spans
            end = start + whole / self.spans
            spans.append(PlannedSpan(start, end, 0, f"step {index}", "internal", "simulated", {}, {}, False, service))
        return spans


def parse_load(text: str) -> StatedLoad:
    """A load as its text says it. Raises ValueError with one line that names the field, the value and the remedy."""
    values: dict[str, Any] = {}
    for part in filter(str.strip, text.split(",")):
        key, mark, raw = (piece.strip() for piece in part.partition("="))
        if not mark or key not in _FIELDS:
            raise ValueError(
                f"{part.strip()!r} is no part of a load; it has {', '.join(f'{key}=' for key in _FIELDS)}"
            )
        read, wanted = _FIELDS[key]
        try:
            values[key] = read(raw)
        except ValueError:
            raise ValueError(f"{key}={raw!r} is not {wanted}") from None
    load = StatedLoad(**values)
    if load.number > _MOST:
        raise ValueError(f"{load.number} requests are too many to simulate; lower rps= or minutes= ({_MOST} at most)")
    return load


def _positive(raw: str) -> float:
    value = float(raw)
    if not 0.0 < value <= 1e6:
        raise ValueError
    return value


def _skew(raw: str) -> float:
    value = float(raw)
    if not 0.0 <= value <= 10.0:
        raise ValueError
    return value


def _few(raw: str) -> int:
    if not raw.isascii() or not raw.isdecimal() or not 1 <= int(raw[:9]) <= 10_000 or len(raw) > 9:
        raise ValueError
    return int(raw)


def _share(raw: str) -> float:
    value = float(raw[:-1]) / 100.0 if raw.endswith("%") else float(raw)
    if not 0.0 <= value <= 1.0:
        raise ValueError
    return value


_FIELDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "rps": (_positive, "a number of requests a second over 0"),
    "operations": (_few, "a whole number from 1 to 10000"),
    "spans": (_few, "a whole number from 1 to 10000"),
    "errors": (_share, "a share such as 1% or 0.01"),
    "slow": (_share, "a share such as 1% or 0.01"),
    "minutes": (_positive, "a number of minutes over 0"),
    "skew": (_skew, "a number from 0 (all alike) to 10"),
}


class StoredLoad:
    """The traces of `store`, the oldest first. `seconds` and `headless` are known at the end.

    A stored trace stands for as many as its weight says, or for one. Its service boundaries stay; the part of a
    trace whose caller is not in the store is a request of its own.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._ids = store.ids()
        self.number = len(self._ids)
        self.seconds = 0.0
        self.headless = 0
        self._parts = 0

    def requests(self, slow: float) -> Iterator[Request]:
        """Its requests by start; whose root takes `slow` seconds is slow."""
        waiting: list[tuple[int, int, int, Trace]] = []  # two parts of a trace may begin far apart
        first = None
        for trace_id in self._ids:
            trace = self._store.get(trace_id)
            first = trace.start_ns if first is None else first
            while waiting and waiting[0][0] < trace.start_ns:
                yield self._request(*heappop(waiting)[2:], first, slow)
            for top, parent in enumerate(trace.parents):
                if parent is None:
                    self._parts += 1
                    heappush(waiting, (trace.spans[top].start_ns, self._parts, top, trace))
        while waiting:
            yield self._request(*heappop(waiting)[2:], first or 0, slow)

    def _request(self, top: int, trace: Trace, first: int, slow: float) -> Request:
        span = trace.spans[top]
        self.seconds = (span.start_ns - first) / 1e9
        self.headless += span.parent_id is not None
        return Request(self.seconds, Plan(_planned(trace, top), slow), _weight(span) or 1.0)


def _weight(span: SpanRecord) -> float | None:
    from opentelemetry.trace import TraceState

    return adjusted_count(TraceState.from_header([span.trace_state])) if span.trace_state else None


def _planned(trace: Trace, top: int) -> list[PlannedSpan]:
    """The span at `top` and all below it, parents before their children."""
    base = trace.spans[top].start_ns
    spans: list[PlannedSpan] = []
    waiting = [(top, -1)]
    while waiting:
        at, parent = waiting.pop()
        span = trace.spans[at]
        # Clocks of two machines differ; a child does not start before its parent.
        start = max((span.start_ns - base) / 1e9, spans[parent].start if parent >= 0 else 0.0)
        early, late = _attributes(span)
        spans.append(
            PlannedSpan(
                start,
                start + span.duration / 1e9,
                parent,
                span.name,
                span.kind,
                span.service,
                early,
                late,
                span.is_error,
                {"service.name": span.service, **span.resource},
            )
        )
        mine = len(spans) - 1
        waiting += [(child, mine) for child in reversed(trace.children.get(at, ()))]
    return spans


def _attributes(span: SpanRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """What it had at its start, as far as one can tell, and what came later; what samplers wrote is left out."""
    plain = {
        key: value
        for key, value in span.attributes.items()
        if isinstance(value, _PLAIN) and not key.startswith(_OURS)
    }
    late = {key: value for key, value in plain.items() if key.startswith(_LATE)}
    return {key: value for key, value in plain.items() if key not in late}, late
