"""Attributes that the user asks for: baggage, static, annotations, user id."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanwell
from spanwell import _guard
from spanwell.enrich.annotations import MAX_ANNOTATIONS, annotate
from spanwell.enrich.attributes import BaggageAttributes, Keys
from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.processor import FusedProcessor
from spanwell.settings import Settings
from support.spans import make_span


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)


def tracer_with(*stages):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor(stages))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("t"), exporter


def ended(attributes, **options):
    span = make_span(attributes=attributes)
    Ended(parts(**options)).on_end(span)
    return dict(span.attributes)


def test_only_listed_baggage_reaches_a_span():
    tracer, exporter = tracer_with(BaggageAttributes(Keys(["customer", "shop.*"])))
    context = None
    for key, value in {"customer": "7", "shop.id": 3, "secret": "x", "customer.more": "y"}.items():
        context = baggage.set_baggage(key, value, context)
    with tracer.start_as_current_span("s", context=context):
        pass
    with tracer.start_as_current_span("own", context=context, attributes={"customer": "mine"}):
        pass
    one, own = exporter.get_finished_spans()
    assert dict(one.attributes) == {"customer": "7", "shop.id": "3"}
    assert dict(own.attributes) == {"customer": "mine", "shop.id": "3"}


def test_a_caller_s_baggage_is_bounded():
    tracer, exporter = tracer_with(BaggageAttributes(Keys(["*"])))
    context = None
    for number in range(100):
        context = baggage.set_baggage(f"k{number}", "x" * 5000, context)
    tracer.start_span("s", context=context).end()
    (span,) = exporter.get_finished_spans()
    assert len(span.attributes) == 64
    assert {len(value) for value in span.attributes.values()} == {1024}


def test_static_attributes_give_way_to_a_span_s_own():
    assert ended({"team": "mine"}, fixed={"team": "shop", "tier": "gold"}) == {"team": "mine", "tier": "gold"}


@pytest.mark.parametrize(("key", "other"), [("user.id", "enduser.id"), ("enduser.id", "user.id")])
def test_the_user_has_both_names(key, other):
    assert ended({key: "7"}) == {key: "7", other: "7"}
    assert ended({key: "7", other: "8"}) == {key: "7", other: "8"}


def test_listed_attributes_are_indexed():
    own = {"customer": "7", "shop.id": 3, "shop.tags": ("a",), "other": 1}
    after = ended(own, annotations=["customer", "shop.*", "absent"])
    assert after["aws.xray.annotations"] == ("customer", "shop.id")
    assert ended({"other": 1}, annotations=["customer"]) == {"other": 1}


def test_an_index_of_the_application_is_extended_up_to_50():
    own = {"aws.xray.annotations": ("mine",), "mine": 1, **{f"k{number}": number for number in range(60)}}
    listed = ended(own, annotations=["k*", "mine"])["aws.xray.annotations"]
    assert listed[:3] == ("mine", "k0", "k1")
    assert len(listed) == MAX_ANNOTATIONS == len(set(listed))


def test_annotate_sets_and_indexes():
    tracer, exporter = tracer_with()
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("s"):
        spanwell.annotate("customer", "7")
        spanwell.annotate("customer", "8")
        spanwell.annotate("vip", True)
        spanwell.annotate("thing", ["a"])
    inner, outer = exporter.get_finished_spans()
    assert dict(inner.attributes) == {
        "customer": "8",
        "vip": True,
        "thing": "['a']",
        "aws.xray.annotations": ("customer", "vip", "thing"),
    }
    assert not outer.attributes


def test_annotate_keeps_to_50():
    tracer, exporter = tracer_with()
    with tracer.start_as_current_span("s"):
        for number in range(60):
            annotate(f"k{number}", number)
    (span,) = exporter.get_finished_spans()
    assert len(span.attributes["aws.xray.annotations"]) == 50
    assert span.attributes["k59"] == 59


def test_annotate_outside_a_span_does_nothing():
    annotate("customer", "7")
    with trace.use_span(trace.INVALID_SPAN):
        annotate("customer", "7")


@pytest.mark.parametrize("key", [None, "", 7, "x" * 251])
def test_a_bad_key_is_said_once(key, caplog):
    tracer, exporter = tracer_with()
    with caplog.at_level(logging.WARNING, "spanwell"), tracer.start_as_current_span("s"):
        annotate(key, 1)
        annotate(key, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"spanwell: annotate() needs a key of 1 to 250 characters, got {key!r:.60}; left out"
    ]
    assert not exporter.get_finished_spans()[0].attributes


def test_annotate_never_raises_for_a_value_that_cannot_be_shown(monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)

    class Hostile:
        def __str__(self):
            raise ValueError("no")

    tracer, _ = tracer_with()
    with tracer.start_as_current_span("s"):
        annotate("k", Hostile())
    assert _guard.losses.total("errors") == 1


def test_importing_spanwell_for_annotate_imports_nothing_until_it_is_used():
    code = (
        "import sys, spanwell; spanwell.annotate;"
        " print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_settings():
    settings = Settings.from_env(
        {
            "SPANWELL_BAGGAGE_KEYS": "customer, shop.*",
            "SPANWELL_SPAN_ATTRIBUTES": "team=shop, note=a%2Cb%20=c",
            "SPANWELL_ANNOTATIONS": "customer",
            "SPANWELL_APPLICATION_SIGNALS": "true",
        }
    )
    assert settings.problems == ()
    assert settings.baggage_keys == ("customer", "shop.*")
    assert dict(settings.span_attributes) == {"team": "shop", "note": "a,b =c"}
    assert settings.annotations == ("customer",)
    assert settings.application_signals is True


@pytest.mark.parametrize("raw", ["team", "=x", "a=1,b"])
def test_bad_static_attributes_are_said(raw):
    settings = Settings.from_env({"SPANWELL_SPAN_ATTRIBUTES": raw})
    assert settings.problems == (f"SPANWELL_SPAN_ATTRIBUTES={raw!r} is not `key=value,…`; using (none)",)
    assert settings.span_attributes == ()
