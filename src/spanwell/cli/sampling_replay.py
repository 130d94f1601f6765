"""Requests through the real SDK and the real sampler, in simulated time."""

from __future__ import annotations

import random
from collections import Counter, deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, set_span_in_context

from spanwell.sampling.outcome import REASON
from spanwell.sampling.parentbased import RootSampler, Surroundings
from spanwell.sampling.probability import adjusted_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Span, Tracer

    from spanwell.cli.sampling_loads import Request

WINDOW = 60.0
"""Seconds over which the share of the kept spans is taken."""

_LINGER = 300.0  # seconds after its end in which a trace may still be promoted
_BEGIN = 1_700_000_000  # any date will do


class Clock:
    """Seconds that stand still until somebody sets `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The simulated time."""
        return self.now


class Seen:
    """How much there was of something, and how much of it was kept."""

    __slots__ = ("kept", "seen")

    def __init__(self) -> None:
        self.seen = 0
        self.kept = 0

    @property
    def share(self) -> float:
        """Kept of seen, from 0 to 1."""
        return self.kept / self.seen if self.seen else 0.0


class Window:
    """The spans of one window, and how many spans of the real load they stand for."""

    __slots__ = ("load", "spans")

    def __init__(self) -> None:
        self.spans = Seen()
        self.load = 0.0


class Results:
    """What a simulation counted. `estimate`: how many requests one would guess from what was kept and its weights."""

    def __init__(self) -> None:
        self.traces = Seen()
        self.spans = Seen()
        self.errors = Seen()
        self.slow = Seen()
        self.operations: dict[str, Seen] = {}
        self.reasons: Counter[str] = Counter()
        self.windows: dict[int, Window] = {}
        self.estimate = 0.0

    def came(self, request: Request) -> None:
        """A request started."""
        plan = request.plan
        for each in self._kinds(request):
            each.seen += 1
        self.spans.seen += len(plan.spans)
        window = self._window(request)
        window.spans.seen += len(plan.spans)
        window.load += request.weight * len(plan.spans)

    def kept(self, request: Request, *, first: bool) -> None:
        """A span of it was exported, its `first` or a further one."""
        self.spans.kept += 1
        self._window(request).spans.kept += 1
        if first:
            for each in self._kinds(request):
                each.kept += 1

    def kept_root(self, span: ReadableSpan) -> None:
        """A local root was exported."""
        self.reasons[str((span.attributes or {}).get(REASON, "(none)"))] += 1
        if span.parent is None:
            self.estimate += adjusted_count(span.context.trace_state) or 1.0

    def spans_in(self, seconds: float, covered: float) -> float:
        """How many spans would be kept in `seconds` if the load went on as in the `covered` seconds."""
        total = sum(window.load * window.spans.share for window in self.windows.values())
        return total / max(covered, WINDOW) * seconds

    def _kinds(self, request: Request) -> Iterable[Seen]:
        yield self.traces
        yield self.operations.setdefault(request.plan.operation, Seen())
        if request.plan.error:
            yield self.errors
        if request.plan.slow:
            yield self.slow

    def _window(self, request: Request) -> Window:
        return self.windows.setdefault(int(request.start // WINDOW), Window())


class _Live:
    """A request under way."""

    __slots__ = ("exported", "next", "request", "spans")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.spans: list[Span | None] = [None] * len(request.plan.spans)
        self.next = 0
        self.exported = False


class _Ids(IdGenerator):
    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def generate_trace_id(self) -> int:
        return self._chance.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        return self._chance.getrandbits(64) or 1

    def is_trace_id_random(self) -> bool:
        return True


class Replay(SpanProcessor):
    """Plays requests through samplers of `make`, one for each service, and counts what would be exported.

    make: called once for each service, before its first span; `clock` is the time it should go by.
    """

    def __init__(self, make: Callable[[], Sampler], clock: Clock, seed: int = 0) -> None:
        self._make = make
        self._clock = clock
        self._ids = _Ids(seed)
        self._start = clock.now
        self._samplers: list[Sampler] = []
        self._tracers: dict[str, Tracer] = {}
        self._live: dict[int, _Live] = {}
        self._ended: deque[tuple[float, int]] = deque()
        self._events: list[tuple[float, int, _Live]] = []
        self._number = 0
        self.results = Results()

    def run(self, requests: Iterable[Request], progress: Callable[[int], object] = lambda _done: None) -> Results:
        """Play them all; `progress` is told how many have started."""
        for done, request in enumerate(requests):
            if done % 1000 == 0:
                progress(done)
            self._go_on(request.start)
            self._begin(request)
        self._go_on(float("inf"))
        for sampler in self._samplers:
            if isinstance(sampler, RootSampler):
                sampler.begin_shutdown()
                sampler.finish(0.0)
        return self.results

    # --- time -----------------------------------------------------------------------------------------------

    def _go_on(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            at, _, live = heappop(events)
            _, ends, position = live.request.plan.events[live.next]
            live.next += 1
            self._set(at)
            if ends:
                self._end(live, position, at)
            else:
                self._start_span(live, position, at)
            self._schedule(live)

    def _set(self, at: float) -> None:
        # Never back: this is a clock that runs steadily, and the caller's may start parts of a trace late.
        self._clock.now = max(self._clock.now, self._start + at)

    def _schedule(self, live: _Live) -> None:
        events = live.request.plan.events
        if live.next < len(events):
            self._number += 1
            heappush(self._events, (live.request.start + events[live.next][0], self._number, live))
        elif live.spans[0] is not None:
            self._ended.append((self._clock.now, live.spans[0].get_span_context().trace_id))
            while self._ended and self._ended[0][0] < self._clock.now - _LINGER:
                self._live.pop(self._ended.popleft()[1], None)

    def _begin(self, request: Request) -> None:
        live = _Live(request)
        self.results.came(request)
        self._set(request.start)
        root = self._start_span(live, 0, request.start)
        context = root.get_span_context()
        if root.is_recording():  # else nothing of it can be kept
            self._live[context.trace_id] = live
            self._schedule(live)

    # --- spans ----------------------------------------------------------------------------------------------

    def _start_span(self, live: _Live, position: int, at: float) -> Span:
        planned = live.request.plan.spans[position]
        parent = live.spans[planned.parent] if planned.parent >= 0 else None
        context = Context()
        if parent is not None:
            if live.request.plan.spans[planned.parent].service != planned.service:
                known = parent.get_span_context()
                parent = NonRecordingSpan(
                    SpanContext(known.trace_id, known.span_id, True, known.trace_flags, known.trace_state)
                )
            context = set_span_in_context(parent, context)
        tracer = self._tracers.get(planned.service) or self._tracer(planned.service, planned.resource)
        span = tracer.start_span(
            planned.name, context, SpanKind[planned.kind.upper()], planned.attributes, start_time=_nanoseconds(at)
        )
        live.spans[position] = span
        return span

    def _end(self, live: _Live, position: int, at: float) -> None:
        span = live.spans[position]
        if span is None:
            return
        planned = live.request.plan.spans[position]
        if span.is_recording():
            if planned.late:
                span.set_attributes(planned.late)
            if planned.error:
                span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(at))

    def _tracer(self, service: str, resource: Mapping[str, Any]) -> Tracer:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        from spanwell.enrich.processor import FusedProcessor

        sampler = self._make()
        self._samplers.append(sampler)
        provider = TracerProvider(sampler, Resource(resource), shutdown_on_exit=False, id_generator=self._ids)
        around = Surroundings(lambda: provider.resource.attributes, self._export)
        if isinstance(sampler, RootSampler):
            sampler.connect(around)
        if around.stages:
            provider.add_span_processor(FusedProcessor(around.stages))
        provider.add_span_processor(self)
        tracer = self._tracers[service] = provider.get_tracer("spanwell.simulation")
        return tracer

    def on_end(self, span: ReadableSpan) -> None:
        """As a batch processor: sampled spans are exported."""
        if span.context.trace_flags & 1:
            self._export(span)

    def _export(self, span: ReadableSpan) -> None:
        live = self._live.get(span.context.trace_id)
        if live is None:
            return
        self.results.kept(live.request, first=not live.exported)
        live.exported = True
        if span.parent is None or span.parent.is_remote:
            self.results.kept_root(span)


def _nanoseconds(at: float) -> int:
    return _BEGIN * 10**9 + int(at * 1e9)
