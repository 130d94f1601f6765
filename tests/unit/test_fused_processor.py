from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanwell import _guard
from spanwell.enrich.processor import FusedProcessor


class Seen:
    def __init__(self, calls, name):
        self.calls, self.name = calls, name

    def on_start(self, span, parent_context):
        self.calls.append((self.name, "start", span.name, parent_context))

    def on_end(self, span):
        self.calls.append((self.name, "end", span.name))


class OnlyStart:
    def on_start(self, span, parent_context):
        span.set_attribute("stage", "here")


class FailsBothWays:
    def on_start(self, span, parent_context):
        raise ValueError("at start")

    def on_end(self, span):
        raise ValueError("at end")


def run(stages):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor(stages))
    with provider.get_tracer("t").start_as_current_span("s") as span:
        pass
    assert provider.force_flush()
    provider.shutdown()
    return span


def test_stages_run_in_order_and_may_lack_a_method():
    calls: list[tuple] = []
    span = run(iter([Seen(calls, "a"), OnlyStart(), object(), Seen(calls, "b")]))
    assert calls == [("a", "start", "s", None), ("b", "start", "s", None), ("a", "end", "s"), ("b", "end", "s")]
    assert span.attributes == {"stage": "here"}


def test_no_stages_is_fine():
    assert run([]).name == "s"


def test_a_failing_stage_is_said_once_and_the_others_go_on(monkeypatch, caplog):
    monkeypatch.setattr(_guard, "strict", False)
    monkeypatch.setattr(_guard, "_warned", set())
    calls: list[tuple] = []
    before = _guard.losses.total("errors")
    with caplog.at_level(logging.WARNING, "spanwell"):
        for _ in range(3):
            run([FailsBothWays(), Seen(calls, "b")])
    assert len(calls) == 6
    assert _guard.losses.total("errors") - before == 6
    assert [record.getMessage().split(" failed")[0] for record in caplog.records] == [
        "spanwell: span stage FailsBothWays.on_start",
        "spanwell: span stage FailsBothWays.on_end",
    ]


def test_under_test_a_failing_stage_is_heard(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    with pytest.raises(ValueError, match="at start"):
        run([FailsBothWays()])
