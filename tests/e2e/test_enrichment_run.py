"""The enrichment as `spanwell run` wires it: settings, hooks and the order of the stages, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.servers import moto, redis_server
from support.started import python, stored, traced

pytestmark = pytest.mark.slow

CODE = """
import os, sqlite3
import boto3, redis, spanwell
from opentelemetry import baggage, context, trace
context.attach(baggage.set_baggage("customer", "7"))
with trace.get_tracer("app").start_as_current_span("GET /orders", kind=trace.SpanKind.SERVER):
    spanwell.annotate("vip", True)
    sqlite3.connect(":memory:").cursor().execute("SELECT 'a@b.c' FROM (SELECT 1) x")
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.get("absent")
    boto3.client("sqs", endpoint_url=os.environ["MOTO_URL"]).create_queue(QueueName="orders")
"""


def test_every_part_reaches_the_exporter(tmp_path: Path) -> None:
    with moto() as moto_url, redis_server("a read of Redis says whether it was a hit") as redis_url:
        env = traced(
            tmp_path / "t.db",
            MOTO_URL=moto_url,
            REDIS_URL=redis_url,
            AWS_ACCESS_KEY_ID="k",
            AWS_SECRET_ACCESS_KEY="s",
            AWS_DEFAULT_REGION="eu-west-1",
            OTEL_SERVICE_NAME="shop",
            SPANWELL_BAGGAGE_KEYS="customer",
            SPANWELL_SPAN_ATTRIBUTES="team=blue",
            SPANWELL_ANNOTATIONS="customer",
            SPANWELL_APPLICATION_SIGNALS="true",
            OTEL_AWS_APPLICATION_SIGNALS_EXPORTER_ENDPOINT="none",
        )
        assert python(CODE, env) == (0, "", "")
    spans = {span.name: span.attributes for span in stored(tmp_path / "t.db")}
    assert set(spans) == {"GET /orders", "SELECT SELECT", "GET", "SQS.CreateQueue"}
    for attributes in spans.values():
        assert attributes["customer"] == "7"
        assert attributes["team"] == "blue"
        assert attributes["aws.local.service"] == "shop"
        assert attributes["aws.local.operation"] == "GET /orders"
    assert spans["GET /orders"]["aws.xray.annotations"] == ["vip", "customer"]
    assert spans["GET"]["spanwell.cache.hit"] is False
    assert spans["SQS.CreateQueue"]["aws.remote.service"] == "AWS::SQS"
    assert spans["SQS.CreateQueue"]["aws.remote.resource.identifier"] == "orders"
