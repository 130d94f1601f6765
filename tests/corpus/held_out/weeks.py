"""Other traffic: skewed durations, several operations, nights without requests; and an exporter that is slow."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from corpus.harness import World, case
from corpus.over_time import MINUTE, Days, tell
from spanwell.insights.health import Health
from spanwell.insights.vitals import p99


def traffic(
    days: Days, minutes: int, ms: dict[str, tuple[float, float]], *, since: float = 0.7, rate: int = 24
) -> None:
    """Every minute `rate` requests to each operation, gamma distributed about its first mean, later its second.

    By night, a third of the time, nobody comes.
    """
    for minute in range(minutes):
        if minute % 90 >= 60:
            continue
        for name, (before, after) in ms.items():
            mean = before if minute < since * minutes else after
            for each in range(rate):
                at = minute * MINUTE + each * MINUTE / rate
                days.request(at, days.random.gammavariate(4, mean / 4), name=name)


@case("latency_degradation", positive=True, half="held_out")
def one_of_several(world: World) -> Iterator[None]:
    for before, after in ((250, 600), (700, 1_100), (150, 2_000)):
        traffic(Days(world, 7), 240, {"list": (80, 80), "search": (before, after)})
        yield


@case("latency_degradation", positive=True, half="held_out")
def a_table_that_grows(world: World) -> Iterator[None]:
    for seed, (days, end) in enumerate(((2, 1_400), (3, 2_500), (1.5, 1_200), (2, 4_000))):
        Days(world, seed).pass_by(days, lambda share, end=end: 200 + end * share * share, every=10 * MINUTE)
        yield


@case("latency_degradation", positive=True, half="held_out")
def worse_and_then_repaired(world: World) -> Iterator[None]:
    for peak in (900, 1_500, 6_000):
        Days(world, 3).pass_by(
            1, lambda share, peak=peak: peak if 0.5 < share < 0.8 else 350, every=5 * MINUTE, requests=22
        )
        yield


@case("latency_degradation", positive=False, half="held_out")
def skewed_but_steady(world: World) -> Iterator[None]:
    for seed, mean in enumerate((120, 400, 900, 2_000)):
        traffic(Days(world, seed), 300, {"list": (mean, mean), "search": (mean / 3, mean / 3)}, rate=20)
        yield


@case("latency_degradation", positive=False, half="held_out")
def more_traffic_and_single_outliers(world: World) -> Iterator[None]:
    for outlier in (5_000, 60_000):
        days = Days(world, 5)
        for minute in range(150):
            for each in range(20 if minute < 80 else 50):
                rare = minute > 80 and each == 7
                days.request(minute * MINUTE + each, outlier if rare else days.noisy(320))
        yield


@case("latency_degradation", positive=False, half="held_out")
def a_little_rhythm(world: World) -> Iterator[None]:
    for base in (150, 400, 900, 60):
        Days(world, base).pass_by(
            2, lambda share, base=base: base + 0.08 * base * math.sin(share * 4 * math.pi), requests=24
        )
        yield


class Exporting(SpanProcessor):
    """A bounded queue with an exporter behind it that takes `ms` for so many `at_once`."""

    def __init__(self, world: World, *, limit: int, at_once: int, ms: float, cost_us: float) -> None:
        self._world, self._at_once, self._ms, self._cost = world, at_once, ms, cost_us
        self.limit, self.queue = limit, deque[ReadableSpan]()
        self.dropped = 0
        self.seconds: list[float] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._world.clock.advance(ms=self._cost / 1_000)
        if len(self.queue) >= self.limit:
            self.dropped += 1
            self.queue.popleft()
        self.queue.append(span)

    def export(self) -> None:
        before = self._world.clock.time_ns()
        for _ in range(min(self._at_once, len(self.queue))):
            self.queue.popleft()
        self._world.clock.advance(ms=self._ms)
        self.seconds.append((self._world.clock.time_ns() - before) / 1e9)


def run(world: World, *, spans: int, limit: int = 60, at_once: int = 50, ms: float = 30, cost_us: float = 15) -> None:
    """Two rounds of so many spans and an export, then a look."""
    exporting = Exporting(world, limit=limit, at_once=at_once, ms=ms, cost_us=cost_us)
    service = f"s{spans}-{limit}-{at_once}-{ms}-{cost_us}"
    world.provider(service).add_span_processor(exporting)
    for _ in range(2):
        for _ in range(spans):
            with world.tracer(service).start_as_current_span("work"):
                pass
        exporting.export()
    tell(
        world,
        Health(len(exporting.queue), limit, exporting.dropped, p99(exporting.seconds), cost_us / 1e6),
    )


@case("tracing_overhead", positive=True, half="held_out")
def more_than_it_can_export(world: World) -> Iterator[None]:
    run(world, spans=80)
    yield
    run(world, spans=200, at_once=100)
    yield
    run(world, spans=55, at_once=20)
    yield
    run(world, spans=54, at_once=30)
    yield
    for ms in (6_000, 9_500, 61_000):
        run(world, spans=5, ms=ms)
        yield
    for cost in (260, 900, 20_000):
        run(world, spans=3, cost_us=cost)
        yield


@case("tracing_overhead", positive=False, half="held_out")
def as_much_as_it_can_export(world: World) -> Iterator[None]:
    for spans, at_once in ((1, 50), (50, 50), (45, 40), (60, 60), (40, 20)):
        run(world, spans=spans, at_once=at_once)
        yield
    for ms in (1, 900, 4_500):
        run(world, spans=5, ms=ms)
        yield
    for cost in (2, 80, 230):
        run(world, spans=3, cost_us=cost)
        yield
