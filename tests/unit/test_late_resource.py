"""A resource that completes itself: never waits, never overwrites, survives forks and the encoder."""

from __future__ import annotations

import os
import threading

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanwell.enrich.late import Detection, LateResource

BASE = Resource({"service.name": "shop", "cloud.region": "mine"}, "https://example/schema")


def gated():
    """A detection that stays open until the event is set."""
    gate = threading.Event()

    def work():
        assert gate.wait(10)
        return {"host.id": "i-1", "cloud.region": "theirs"}

    return gate, Detection({"cloud.provider": "aws"}, work)


def test_known_at_once_and_whole_later():
    gate, detection = gated()
    resource = LateResource(BASE, detection)
    early = resource.attributes
    assert dict(early) == {"cloud.provider": "aws", "service.name": "shop", "cloud.region": "mine"}
    assert not resource.complete(0)
    gate.set()
    assert resource.complete(10)
    assert resource.attributes == {**early, "host.id": "i-1"}
    assert "host.id" not in early
    assert resource.schema_url == "https://example/schema"
    assert '"host.id": "i-1"' in resource.to_json()


def test_hash_and_equality_do_not_change_on_completion():
    gate, detection = gated()
    resource, other = LateResource(BASE, detection), LateResource(BASE, detection)
    seen = {resource: "spans"}
    gate.set()
    assert resource.complete(10)
    assert resource.attributes["host.id"] == "i-1"
    assert seen[resource] == "spans"
    assert resource != other


def test_merging_keeps_the_late_attributes_coming():
    gate, detection = gated()
    merged = LateResource(BASE, detection).merge(Resource({"service.instance.id": "2", "service.name": "other"}))
    gate.set()
    assert detection.wait(10)
    assert merged.attributes["host.id"] == "i-1"
    assert merged.attributes["service.name"] == "other"
    assert merged.attributes["service.instance.id"] == "2"
    assert merged.schema_url == "https://example/schema"


def test_a_span_made_before_is_exported_with_everything():
    gate, detection = gated()
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=LateResource(BASE, detection))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("t")
    tracer.start_span("early").end()
    gate.set()
    assert provider.resource.complete(10)
    tracer.start_span("late").end()
    request = encode_spans(exporter.get_finished_spans())
    (group,) = request.resource_spans
    assert {pair.key: pair.value.string_value for pair in group.resource.attributes} == {
        "service.name": "shop",
        "cloud.region": "mine",
        "cloud.provider": "aws",
        "host.id": "i-1",
    }
    provider.shutdown()


def test_failing_work_leaves_what_is_known():
    def work():
        raise RuntimeError("no")

    ready = []
    detection = Detection({"cloud.provider": "aws"}, work, ready.append)
    assert detection.wait(10)
    assert detection.attributes == {"cloud.provider": "aws"}
    assert LateResource(BASE, detection).attributes["cloud.provider"] == "aws"


def test_without_work_there_is_no_thread():
    before = set(threading.enumerate())
    ready = []
    detection = Detection({"a": 1}, None, ready.append)
    assert detection.done
    assert ready == [{"a": 1}]
    assert set(threading.enumerate()) == before


def test_on_ready_gets_everything_and_may_fail():
    ready = threading.Event()
    seen = []

    def on_ready(attributes):
        seen.append(dict(attributes))
        ready.set()
        raise RuntimeError("theirs")

    detection = Detection({"a": 1}, lambda: {"b": 2}, on_ready)
    assert ready.wait(10)
    assert detection.done
    assert seen == [{"a": 1, "b": 2}]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_in_the_middle_starts_the_work_again():
    entered, gate = threading.Event(), threading.Event()
    parent = os.getpid()

    def work():
        entered.set()
        if os.getpid() == parent:
            assert gate.wait(10)
        return {"host.id": "i-1"}

    resource = LateResource(BASE, Detection({}, work))
    assert entered.wait(10)
    child = os.fork()
    if child == 0:
        whole = resource.complete(10) and resource.attributes.get("host.id") == "i-1"
        os._exit(0 if whole else 1)
    _, status = os.waitpid(child, 0)
    gate.set()
    assert os.waitstatus_to_exitcode(status) == 0
    assert resource.complete(10)
