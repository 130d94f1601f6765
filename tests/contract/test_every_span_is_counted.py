"""Every destination behind a misbehaving network: each span is found once by its id, or it is in the loss count.

The batch processor, the guard and the exporter are the real ones, as an entry point makes them; the receiver is a
simulated AWS service or an OTLP receiver, and before it stands the fault proxy with a plan drawn from a seed. Where
an answer gets lost after its request was taken, a retry is legal and a span may be there twice.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from spanwell import plugins
from spanwell._guard import losses
from spanwell.export import xray_api
from spanwell.export.batch import BatchProcessor
from spanwell.export.guarded import GuardedExporter
from spanwell.export.udp_queue import queued
from support.destinations import DESTINATIONS, LossySink, Servers, Target, lossy_sink, servers, variables
from support.faults import FaultProxy, delay, error, fault_proxy, partial, seeded
from support.spans import make_span

pytestmark = pytest.mark.slow

NUMBER, TRACES, BATCH = 1_200, 8, 40
TRACE_IDS = [(0x6AFFFFA3 << 96) + each for each in range(1, TRACES + 1)]
SPAN_IDS = range(1, NUMBER + 1)

REFUSED = {"throttle": 0.12, "status": 0.08, "partial": 0.15, "delay": 0.1, "reset_before": 0.1}
"""What is not passed on and can be sent again."""
FOR_GOOD = {**REFUSED, "denied": 0.1, "invalid": 0.15}
"""And what is not to be sent again."""
UNANSWERED = {"reset_after": 0.15, "truncate": 0.15, "throttle": 0.1}
"""What is passed on, though the sender cannot know."""

FEW = [pytest.param(seed, id=f"seed {seed}") for seed in (1,)]
MANY = [pytest.param(seed, id=f"seed {seed}", marks=pytest.mark.full) for seed in (2, 3)]
SEEDS = pytest.mark.parametrize("seed", [*FEW, *MANY])
EVERY = pytest.mark.parametrize("destination", DESTINATIONS)

# The code by which a service refuses one entry of a batch, or all of it, for good.
INVALID = {
    "kinesis": partial(share=0.3, seed=5, code="AccessDeniedException"),
    "xray_api": partial(share=0.3, seed=5, code="ParseError"),
    "dynamodb": error("ValidationException"),
    "otlp_protobuf": error("", 413),
    "otlp_json": error("", 400),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    with servers() as made:
        yield made


def spans() -> list[Any]:
    """Local roots that serve and their calls: each is one segment document for X-Ray."""
    return [
        make_span(
            trace_id=TRACE_IDS[each % TRACES],
            span_id=each,
            kind=SpanKind.SERVER if each % 3 == 0 else SpanKind.CLIENT if each % 3 == 1 else SpanKind.INTERNAL,
            parent=None if each % 3 == 0 else 3,
            start=time.time_ns() - 2_000_000_000,
            attributes={"number": each, "text": "ü" * (each % 50)},
        )
        for each in SPAN_IDS
    ]


def exporter_of(target: Target) -> Any:
    """The exporter as its entry point makes it, with short pauses."""
    made: Any = {
        "otlp": plugins.OtlpSpanExporter,
        "xray_api": plugins.XRayApiSpanExporter,
        "kinesis": plugins.KinesisSpanExporter,
        "dynamodb": plugins.DynamoDbSpanExporter,
    }[target.exporter]()
    made._jitter = lambda: 0.01
    made._chance = lambda: 0.05
    made._sleep = lambda stop, seconds: stop.wait(min(seconds, 0.01))
    return made


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xray_api, "_FIRST_WAIT", 0.01)


def fast() -> float:
    """A breaker's rest of a minute is over in a few milliseconds."""
    return time.monotonic() * 10_000


class Rig:
    """A batch processor with the exporter of `target` behind `proxy`."""

    def __init__(self, target: Target, proxy: FaultProxy) -> None:
        with variables(target.environment(proxy.url)):
            made = exporter_of(target)
            guarded = GuardedExporter(target.exporter, lambda: made)
            self.processor = BatchProcessor(guarded, max_batch=BATCH, delay=0.01, clock=fast)
            # botocore reads the environment when the first export makes its client.
            guarded.prepare()
            if hasattr(made, "_make") and made._client is None:
                made._client = made._make()

    def send(self, ended: list[Any], *, flush_every: int = 300) -> None:
        for number, span in enumerate(ended, 1):
            self.processor.on_end(span)
            if number % flush_every == 0:
                self.processor.force_flush(10_000)

    def drain(self) -> None:
        """Until nothing waits: a breaker may rest in between."""
        for _ in range(2_000):
            if self.processor.force_flush(20_000) or not self.processor.waiting:
                return
            time.sleep(0.01)
        raise AssertionError("it never gets through")


def run(
    running: Servers, destination: str, plan: Any, drive: Callable[[Rig], None]
) -> tuple[Counter[int], int, FaultProxy]:
    """(what was found, what was counted, the proxy), with every span that was found one that was sent."""
    target = running.target(destination)
    before = target.found(TRACE_IDS)  # there is one X-Ray for all tests of this module
    with fault_proxy(target.url, plan) as proxy:
        rig = Rig(target, proxy)
        drive(rig)
        rig.processor.finish(30.0)
        found = target.found(TRACE_IDS)
    found.subtract(before)
    found = +found
    assert set(found) <= set(SPAN_IDS)
    return found, losses.total("spans"), proxy


def everything(rig: Rig) -> None:
    rig.send(spans())
    rig.drain()


@EVERY
@SEEDS
def test_what_is_refused_arrives_later_or_is_counted(running: Servers, destination: str, seed: int) -> None:
    found, lost, proxy = run(running, destination, seeded(seed, REFUSED), everything)
    assert len(found) + lost == NUMBER
    assert set(found.values()) == {1}
    # OTLP's partial success is final; all others take everything in the end.
    assert (lost > 0) == destination.startswith("otlp")
    assert set(proxy.did) >= {"pass", "throttle", "partial"}


@EVERY
@SEEDS
def test_what_is_refused_for_good_is_counted(running: Servers, destination: str, seed: int) -> None:
    plan = seeded(seed, FOR_GOOD, denied=error("AccessDeniedException", 403), invalid=INVALID[destination])
    found, lost, proxy = run(running, destination, plan, everything)
    assert len(found) + lost == NUMBER
    assert set(found.values()) == {1}
    assert lost > 0
    assert proxy.did["error"] > 0


@EVERY
@SEEDS
def test_what_is_not_answered_is_not_lost(running: Servers, destination: str, seed: int) -> None:
    found, lost, proxy = run(running, destination, seeded(seed, UNANSWERED), everything)
    assert (len(found), lost) == (NUMBER, 0), "each is there, once its duplicates are left out"
    assert proxy.did["reset_after"] + proxy.did["truncate"] > 0
    if destination == "dynamodb":  # the same key is the same item
        assert set(found.values()) == {1}


@EVERY
@SEEDS
def test_what_waits_at_the_end_is_sent_once_or_counted(running: Servers, destination: str, seed: int) -> None:
    """The end comes in a backlog; from then on each batch has one attempt."""
    chance = random.Random(seed)
    stop = chance.randrange(NUMBER // 4, NUMBER)

    def ends(rig: Rig) -> None:
        rig.send(spans()[:stop], flush_every=chance.randrange(100, NUMBER))
        rig.processor.begin_shutdown()
        rig.send(spans()[stop:], flush_every=NUMBER)

    found, lost, _ = run(running, destination, seeded(seed, {**REFUSED, "throttle": 0.3}), ends)
    assert len(found) + lost == NUMBER
    assert set(found.values()) <= {1}
    assert lost >= NUMBER - stop, "what ends after the shutdown has nobody to send it"


@EVERY
def test_what_is_under_way_when_the_time_is_over_is_counted(running: Servers, destination: str) -> None:
    """Nobody waits for the last answers: those spans are in the loss count, and none is in it twice.

    A batch of several requests, as DynamoDB's 25 items make them, counts as lost while its last has no answer.
    """

    def plan(request: Any) -> Any:
        return delay(60) if request.number > 3 else delay(0.01)

    def hangs(rig: Rig) -> None:
        rig.send(spans(), flush_every=NUMBER + 1)
        rig.processor.finish(1.0)

    found, lost, _ = run(running, destination, plan, hangs)
    assert 0 <= len(found) + lost - NUMBER <= (25 if destination == "dynamodb" else 0)
    assert set(found.values()) <= {1}
    assert lost > 0


# --- UDP: what is sent is all that can be known ---------------------------------------------------------------------

UDP = pytest.mark.parametrize("destination", ["xray", "xray_otlp_udp"])


class UdpRig(Rig):
    """The same, to a sink that takes datagrams and gives no answer."""

    def __init__(self, destination: str, sink: LossySink) -> None:
        make: Any = {"xray": plugins.XRaySpanExporter, "xray_otlp_udp": plugins.XRayOtlpUdpSpanExporter}[destination]
        with variables({"AWS_XRAY_DAEMON_ADDRESS": sink.address}):
            made = make()
        made._seconds = 0.3
        guarded = GuardedExporter(destination, lambda: made)
        self.processor = BatchProcessor(guarded, max_batch=BATCH, delay=0.01, clock=fast)


@UDP
@SEEDS
def test_what_was_sent_over_udp_and_what_was_lost_make_up_all(destination: str, seed: int) -> None:
    """A network that eats datagrams tells nobody; a port where nobody listens does."""
    chance = random.Random(seed)
    phases = [spans()[start : start + 150] for start in range(0, NUMBER, 150)]
    with lossy_sink(destination, seed) as sink:
        rig = UdpRig(destination, sink)
        for phase in phases:
            gone = chance.random() < 0.4
            if gone:
                sink.close()
            rig.send(phase)
            if gone:
                rig.processor.force_flush(5_000)
                sink.open()
            rig.drain()
            sink.settle()  # what a socket holds when it is closed, nobody counts
        rig.processor.finish(10.0)
        sink.settle()
        arrived, eaten, lost = sink.found(), sink.eaten(), losses.total("spans")
    assert not arrived & eaten
    assert len(arrived) + len(eaten) + lost == NUMBER
    assert set((arrived + eaten).values()) == {1}
    assert eaten


@UDP
def test_a_sink_that_never_reads_costs_what_does_not_fit(destination: str) -> None:
    """Its buffer is looked at, so that nothing is sent into a full one: what was sent is read in the end."""
    with lossy_sink(destination, 0, share=0.0) as sink:
        sink.pause()
        if queued(sink.port) is None:
            pytest.skip("only Linux tells how full a buffer is")
        rig = UdpRig(destination, sink)
        rig.send(spans(), flush_every=NUMBER + 1)
        rig.processor.finish(10.0)
        sink.go_on()
        sink.settle()
        arrived = sink.found()
    assert len(arrived) + losses.total("spans") == NUMBER
    assert set(arrived.values()) <= {1}
