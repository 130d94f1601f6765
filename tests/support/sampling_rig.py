"""An `xray` sampler, its service on loopback, and the clocks that a test moves."""

from __future__ import annotations

import random
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, SamplingResult

from spanwell.sampling.outcome import REASON
from spanwell.sampling.remote import XRaySampler
from spanwell.testing import FakeClock, FakeSamplingService

KEPT, LOST = (1 << 127) | (1 << 56) - 1, 1 << 127  # trace ids that any rate keeps, and that none keeps
ORDERS = {"RuleName": "orders", "Priority": 1, "URLPath": "/orders/*", "FixedRate": 0.5, "ReservoirSize": 0}
DEFAULT = {"RuleName": "Default", "FixedRate": 0.0, "ReservoirSize": 1}


class Rig:
    """A sampler, its service, and the two clocks."""

    def __init__(self, rules: list[Any], fallback: Sampler = ALWAYS_OFF, **options: Any) -> None:
        self.clock, self.wall = FakeClock(5000.0), FakeClock(1_750_000_000.0)
        self.service = FakeSamplingService(rules, clock=self.wall)
        self._fallback, self._options = fallback, options

    def __enter__(self) -> Rig:
        self.service.start()
        self.sampler = XRaySampler(
            self._fallback,
            self.service.endpoint,
            clock=self.clock,
            wall=self.wall,
            random=random.Random(1).random,
            **self._options,
        )
        self.sampler.poller.idle = False  # turns are the test's
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()

    def run(self, seconds: float) -> None:
        """Let time pass, with every poll that is due."""
        end = self.clock() + seconds
        while True:
            wait = self.sampler.poller.turn()
            if self.clock() + wait > end:
                break
            self.advance(wait)
        self.advance(end - self.clock())

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def ask(self, path: str = "/orders/1", trace_id: int = KEPT, **more: Any) -> SamplingResult:
        return self.sampler.should_sample(Context(), trace_id, "GET", None, {"url.path": path}, **more)

    def reason(self, path: str = "/orders/1", trace_id: int = KEPT) -> object:
        return (self.ask(path, trace_id).attributes or {}).get(REASON)
