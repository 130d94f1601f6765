"""Examples of what no single trace shows: days of requests, and looks at tracing itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from opentelemetry.trace import SpanKind, StatusCode

from corpus.harness import JUDGES, START, World
from spanwell.insights.detectors import tracing_overhead
from spanwell.insights.drift import Drift
from spanwell.insights.health import Health
from spanwell.insights.model import Fragment, Insight, Thresholds

MINUTE = 60.0
QUARTER = 14 * MINUTE
SECOND = 1_000_000_000

Level = Callable[[float], float]


class Days:
    """Requests to one service at explicit times; each asks a dependency that takes nearly all of its time."""

    def __init__(self, world: World, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self._tracer = world.tracer()

    def request(self, at: float, ms: float, *, name: str = "GET /quote", failed: bool = False) -> None:
        """One request that begins `at` seconds after the start."""
        start = START + int(at * SECOND)
        end = start + int(ms * 1_000_000)
        span = self._tracer.start_span(name, kind=SpanKind.SERVER, start_time=start)
        if failed:
            span.set_status(StatusCode.ERROR, "no")
        span.end(end_time=end)

    def noisy(self, ms: float, spread: float = 0.15) -> float:
        """`ms`, more or less, and now and then much more."""
        return ms * math.exp(self.random.gauss(0, spread))

    def pass_by(self, days: float, level: Level, *, every: float = QUARTER, requests: int = 20) -> None:
        """Windows of so many requests; `level(share of the time)` is what they take in ms."""
        windows = int(days * 1_440 * MINUTE / every)
        for window in range(windows):
            for each in range(requests):
                at = window * every + each * every / requests
                self.request(at, self.noisy(level(at / (days * 1_440 * MINUTE))))


def watch(example: list[Fragment]) -> list[Insight]:
    """What `Drift` says of the local roots in the order of their ends."""
    drift, found = Drift(), []
    looked = 0.0
    for root in sorted((fragment.root for fragment in example if fragment.root), key=lambda span: span.end_ns):
        now = root.end_ns / SECOND
        if now - looked >= MINUTE:
            found += drift.due(now)
            looked = now
        if not root.is_error:
            drift.observe(root.name, (root.duration / SECOND,), now)
    return found + drift.due(looked + 10 * MINUTE)


def tell(world: World, health: Health) -> None:
    """A look at tracing, as a span that carries its numbers."""
    with world.tracer("tracing").start_as_current_span("look", attributes={**health._asdict()}):
        pass


def look(example: list[Fragment]) -> list[Insight]:
    """What is wrong by the numbers that were told."""
    thresholds = Thresholds(tracing_overhead.DEFAULTS)
    return [
        insight
        for fragment in example
        if fragment.root is not None and fragment.root.name == "look"
        for insight in tracing_overhead.judge(Health(**fragment.root.attributes), thresholds)
    ]


JUDGES["latency_degradation"] = watch
JUDGES["tracing_overhead"] = look
