"""aiobotocore against a real moto server: the same context as with botocore, and one trace over SNS, SQS and back."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest
from opentelemetry import propagate
from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor, BotocoreInstrumentor
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanwell import _guard
from spanwell.propagation import botocore_hooks
from spanwell.propagation.xray import XRayPropagator, parse
from support.servers import moto

pytestmark = pytest.mark.slow

KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
LAMBDAS = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=25:3d5c8a4c:7"


@pytest.fixture(scope="module")
def endpoint():
    with moto() as url:
        yield url


@pytest.fixture
def exporter(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", LAMBDAS)
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([TraceContextTextMapPropagator(), XRayPropagator()]))
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # Both, as an application that uses both has them: each wraps the endpoint of the other too.
    BotocoreInstrumentor().instrument(tracer_provider=provider)
    botocore_hooks.install(send=True, process=True, tracer_provider=provider)
    AiobotocoreInstrumentor().instrument(tracer_provider=provider)
    botocore_hooks.install(send=True, process=True, tracer_provider=provider)
    yield exporter
    botocore_hooks.uninstall()
    AiobotocoreInstrumentor().uninstrument()
    BotocoreInstrumentor().uninstrument()
    propagate.set_global_textmap(before)


async def _hop(endpoint, requests):
    from aiobotocore.session import get_session

    session = get_session()

    def client(service):
        return session.create_client(service, endpoint_url=endpoint, **KEYS)

    async with client("sns") as sns, client("sqs") as sqs:
        topic = (await sns.create_topic(Name="orders"))["TopicArn"]
        queue = (await sqs.create_queue(QueueName="orders"))["QueueUrl"]
        arn = "arn:aws:sqs:eu-west-1:123456789012:orders"
        await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        for each in (sns, sqs):
            each.meta.events.register("before-send.*.*", lambda request, **_: requests.append(request))
        params = {"TopicArn": topic, "Message": "1", "MessageAttributes": {}}
        before = copy.deepcopy(params)
        await sns.publish(**params)
        assert params == before
        messages = (await sqs.receive_message(QueueUrl=queue))["Messages"]
        assert "traceparent" in json.loads(messages[0]["Body"])["MessageAttributes"]
        for message in messages:
            await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def test_sns_to_sqs_is_one_trace_and_every_call_names_its_own_span(endpoint, exporter):
    requests = []
    asyncio.run(_hop(endpoint, requests))
    spans = exporter.get_finished_spans()
    publish, receive, delete, process = (
        next(span for span in reversed(spans) if span.name.startswith(name))
        for name in ("orders send", "SQS.Receive", "SQS.Delete", "process")
    )
    assert publish.kind is SpanKind.PRODUCER
    assert process.parent.span_id == publish.context.span_id
    assert process.context.trace_id == publish.context.trace_id
    assert delete.parent.span_id == process.context.span_id
    for span, request in zip((publish, receive, delete), requests, strict=True):
        found = [value for key, value in request.headers.items() if key.lower() == "x-amzn-trace-id"]
        text = found[0].decode() if isinstance(found[0], bytes) else found[0]
        assert len(found) == 1
        assert parse(text).parent == span.context.span_id
        assert text.endswith(";Lineage=25:3d5c8a4c:7")
