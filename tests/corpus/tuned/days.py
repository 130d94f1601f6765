"""A service whose dependency gets slower over days, or at once, or not; and tracing that keeps up, or not."""

from __future__ import annotations

from collections.abc import Iterator

from corpus.harness import World, case
from corpus.over_time import MINUTE, Days, tell
from spanwell.insights.health import Health


@case("latency_degradation", positive=True, half="tuned")
def a_dependency_that_slows_down_over_days(world: World) -> Iterator[None]:
    for before, after in ((300, 900), (500, 1_500), (800, 2_000), (250, 900), (1_000, 2_000)):
        Days(world).pass_by(2, lambda share, b=before, a=after: b + (a - b) * share)
        yield


@case("latency_degradation", positive=True, half="tuned")
def a_release_that_is_slower(world: World) -> Iterator[None]:
    for before, after in ((300, 800), (1_000, 1_500), (400, 2_000)):
        Days(world).pass_by(1, lambda share, b=before, a=after: b if share < 0.6 else a)
        yield


@case("latency_degradation", positive=True, half="tuned")
def one_request_in_ten(world: World) -> Iterator[None]:
    for slow in (1_200, 3_000):
        days = Days(world)
        days.pass_by(1, lambda share, d=days, s=slow: s if share > 0.5 and d.random.random() < 0.2 else 200)
        yield


@case("latency_degradation", positive=False, half="tuned")
def as_ever(world: World) -> Iterator[None]:
    for seed, ms in enumerate((40, 300, 1_000, 4_000)):
        Days(world, seed).pass_by(2, lambda _, ms=ms: ms)
        yield


@case("latency_degradation", positive=False, half="tuned")
def slower_but_hardly(world: World) -> Iterator[None]:
    for before, after in ((100, 210), (3_000, 3_150), (20, 100)):
        Days(world).pass_by(2, lambda share, b=before, a=after: b + (a - b) * share)
        yield


@case("latency_degradation", positive=False, half="tuned")
def faster(world: World) -> Iterator[None]:
    Days(world).pass_by(1, lambda share: 1_500 if share < 0.5 else 600)
    yield


@case("latency_degradation", positive=False, half="tuned")
def failures_take_longer(world: World) -> Iterator[None]:
    days = Days(world)
    for window in range(90):
        for each in range(24):
            failed = window > 50 and each % 4 == 0
            days.request(window * MINUTE + each * 2, 9_000 if failed else days.noisy(300), failed=failed)
    yield


@case("latency_degradation", positive=False, half="tuned")
def too_little_to_know(world: World) -> Iterator[None]:
    Days(world).pass_by(2, lambda share: 300 if share < 0.5 else 900, requests=5)
    yield
    Days(world).pass_by(0.15, lambda share: 300 if share < 0.5 else 900)
    yield


FINE = Health(queue=12, queue_limit=2_048, dropped=0, export_seconds_p99=0.08, span_seconds=20e-6)


@case("tracing_overhead", positive=True, half="tuned")
def it_does_not_keep_up(world: World) -> Iterator[None]:
    for bad in (
        FINE._replace(queue=1_700),
        FINE._replace(queue=2_048),
        FINE._replace(dropped=1),
        FINE._replace(dropped=9_000, queue=2_048),
        FINE._replace(export_seconds_p99=5.2),
        FINE._replace(export_seconds_p99=30.0),
        FINE._replace(span_seconds=300e-6),
        FINE._replace(span_seconds=0.004),
        FINE._replace(queue=80, queue_limit=100),
        Health(dropped=3),
    ):
        tell(world, bad)
        yield


@case("tracing_overhead", positive=False, half="tuned")
def it_keeps_up(world: World) -> Iterator[None]:
    for fine in (
        FINE,
        Health(),
        FINE._replace(queue=1_600),
        FINE._replace(queue=0),
        FINE._replace(queue=79, queue_limit=100),
        FINE._replace(export_seconds_p99=4.9),
        FINE._replace(export_seconds_p99=0.0),
        FINE._replace(span_seconds=240e-6),
        FINE._replace(span_seconds=0.0),
        FINE._replace(queue_limit=0),
        FINE._replace(dropped=-1),
    ):
        tell(world, fine)
        yield
