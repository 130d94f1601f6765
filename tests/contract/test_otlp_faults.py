"""Behind a proxy that throttles, breaks and cuts: every span arrives or is counted, and none of both."""

from __future__ import annotations

import pytest

from spanwell.export.otlp import OtlpSpanExporter
from support.collector import collector
from support.faults import FaultProxy, fault_proxy, seeded
from support.spans import make_span


def run(proxy: FaultProxy, encoding: str, rounds: int = 40) -> tuple[int, int]:
    """(spans handed over, spans lost)"""
    made = OtlpSpanExporter(
        f"{proxy.url}/v1/traces", encoding=encoding, jitter=lambda: 0.001, timeout=2.0, max_bytes=2000
    )
    sent = lost = 0
    for number in range(rounds):
        items = [made.encode(make_span(span_id=1000 * number + each + 1))[0] for each in range(20)]
        found = made.send(items)
        assert found.lost <= 20
        assert bool(found.reason) == bool(found.lost)
        sent, lost = sent + 20, lost + found.lost
    made.shutdown()
    return sent, lost


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_refused_or_not_passed_on_is_sent_again_or_counted(encoding: str, seed: int) -> None:
    rates = {"throttle": 0.15, "status": 0.1, "partial": 0.15, "delay": 0.05, "reset_before": 0.1}
    if encoding == "json":
        del rates["partial"]
    with collector() as otlp, fault_proxy(otlp.url, seeded(seed, rates)) as proxy:
        sent, lost = run(proxy, encoding)
        arrived = [span.span_id for span in otlp.span_messages()]
    assert len(arrived) == len(set(arrived))
    assert len(arrived) + lost == sent
    assert set(proxy.did) >= {"throttle", "status", "reset_before", "pass"}


@pytest.mark.parametrize("seed", [3, 4])
def test_what_was_passed_on_without_an_answer_may_come_twice_but_is_not_lost(seed: int) -> None:
    with collector() as otlp, fault_proxy(otlp.url, seeded(seed, {"reset_after": 0.15, "truncate": 0.15})) as proxy:
        sent, lost = run(proxy, "protobuf")
        arrived = {span.span_id for span in otlp.span_messages()}
    assert lost == 0
    assert len(arrived) == sent
