"""Simulated time and load for samplers: requests at random times with fixed seeds, no sleeping."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from spanwell.sampling.outcome import REASON
from spanwell.sampling.probability import adjusted_count

NOBODY = Context()


def parent(*, remote: bool, sampled: bool = True, trace_id: int = 1) -> Context:
    span = NonRecordingSpan(SpanContext(trace_id, 1, remote, TraceFlags(int(sampled))))
    return set_span_in_context(span, Context())


_LOCAL, _REMOTE = parent(remote=False), parent(remote=True)


class Clock:
    """Seconds that stand still until a test sets `now`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Load(NamedTuple):
    """`rate(t)` requests a second for `seconds`, over operations in proportion to `weights`.

    Each kept request has `spans` spans; a share `remote` comes with a sampled remote parent.
    """

    rate: Callable[[float], float]
    seconds: int = 60
    weights: Sequence[float] = (1.0,)
    spans: int = 1
    remote: float = 0.0


class Kept:
    """What a sampler kept: spans a second, traces by operation, reason and both, and what the weights tell."""

    def __init__(self, seconds: int) -> None:
        self.requests = 0
        self.spans = [0] * (seconds + 1)
        self.seen: Counter[str] = Counter()
        self.traces: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.estimate = 0.0
        self.variance = 0.0

    def a_second(self, start: int, end: int) -> float:
        return sum(self.spans[start:end]) / (end - start)

    def deviation(self) -> float:
        """How many sigma the number of requests told by the weights is off."""
        return (self.estimate - self.requests) / max(self.variance, 1.0) ** 0.5


def play(sampler: Sampler, clock: Clock, load: Load, seed: int) -> Kept:
    """Offer the load to `sampler` while `clock` runs.

    The variance is estimated without bias by w * (w - 1) for each kept trace of weight w: its inclusion has the
    variance (1 - p) / p = w - 1, and is seen once in w times.
    """
    chance, kept = random.Random(seed), Kept(load.seconds)
    names = [f"operation{index}" for index in range(len(load.weights))]
    start, now, waiting = clock.now, 0.0, []
    while True:
        now += chance.expovariate(load.rate(now))
        if now >= load.seconds:
            clock.now = start + load.seconds
            return kept
        while waiting and waiting[0] <= now:
            at = heapq.heappop(waiting)
            clock.now = start + at
            sampler.should_sample(_LOCAL, 1, "child")
            kept.spans[int(at)] += 1
        clock.now = start + now
        name = chance.choices(names, load.weights)[0]
        remote = chance.random() < load.remote
        attributes = {"http.request.method": "GET", "url.path": f"/{name}/17"}
        result = sampler.should_sample(_REMOTE if remote else NOBODY, chance.getrandbits(128), name, None, attributes)
        kept.requests += not remote
        kept.seen[name] += not remote
        if not result.decision.is_sampled():
            continue
        kept.spans[int(now)] += 1
        for _ in range(load.spans - 1):
            heapq.heappush(waiting, now + 0.2 * chance.random())
        if not remote:
            weight = adjusted_count(result.trace_state) or 1.0
            kept.estimate += weight
            kept.variance += weight * (weight - 1.0)
            kept.traces[name] += 1
            kept.reasons[str(result.attributes[REASON])] += 1
            kept.times.setdefault(name, []).append(now)


def steady(rate: float) -> Callable[[float], float]:
    return lambda _now: rate


def bursts(low: float, high: float, every: int) -> Callable[[float], float]:
    """`high` in one second of `every`."""
    return lambda now: high if int(now) % every == 0 else low


def step(low: float, high: float, at: float) -> Callable[[float], float]:
    return lambda now: high if now >= at else low


def nights(day: float, night: float, half: float) -> Callable[[float], float]:
    """Half of the time `night`, then half of it `day`, `half` seconds each."""
    return lambda now: day if int(now / half) % 2 else night


def skewed(number: int) -> list[float]:
    return [1.0 / (index + 1) for index in range(number)]
