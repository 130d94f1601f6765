"""The parent and the links of a Lambda invocation: OpenTelemetry's instrumentor with our extractor and stage."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanwell import _guard, incoming
from spanwell.enrich.links import InvocationLinks, OtherParentLink
from spanwell.enrich.processor import FusedProcessor
from spanwell.exporters import to_xray
from spanwell.ids import XRayIdGenerator
from spanwell.lazy import Instrumentors
from spanwell.legs import instrumentor_options
from spanwell.propagation import carriers
from spanwell.propagation.codec import TraceHeadersPropagator
from spanwell.propagation.lambda_events import EventContext
from spanwell.sampling.undecided import UndecidedSampler
from spanwell.settings import Settings

EVENTS = Path(__file__).parent.parent / "data" / "events"
CONTEXT = SimpleNamespace(
    aws_request_id="8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    function_name="resize",
    invoked_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:resize",
)
ROOT, PARENT = 0x5759E988BD862E3FE1BE46A994272793, 0x53995C3F42CD8AD8
HEADER = f"Root=1-5759e988-{ROOT & (1 << 96) - 1:024x};Parent={PARENT:016x}"
ACTIVE, PASSIVE, OPEN = HEADER + ";Sampled=1;Lineage=25:3d5c8a4c:7", HEADER + ";Sampled=0", HEADER + ";Sampled=?"
BARE = HEADER.partition(";")[0]


class Function:
    """A function whose handler is `handler`, its environment and the spans that it makes."""

    def __init__(self, monkeypatch, *propagators):
        self.environ = {}
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=UndecidedSampler(DEFAULT_ON), id_generator=XRayIdGenerator())
        self.provider.add_span_processor(FusedProcessor([OtherParentLink(), InvocationLinks()]))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.module = ModuleType("the_function")
        self.module.handler = lambda event, context: event
        monkeypatch.setitem(sys.modules, "the_function", self.module)
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "resize")
        monkeypatch.setenv("_HANDLER", "the_function.handler")
        propagate.set_global_textmap(CompositePropagator(list(propagators)))

    def instrument(self, *, to_xray=False):
        extractor = EventContext(to_xray=to_xray, environ=self.environ)
        AwsLambdaInstrumentor().instrument(
            tracer_provider=self.provider, event_context_extractor=extractor, skip_dep_check=True
        )

    def invoke(self, event, header=""):
        """Call the handler; the invocation's span, and the one below it that the instrumentor makes for SQS."""
        self.exporter.clear()
        self.environ.clear()
        if header:
            self.environ["_X_AMZN_TRACE_ID"] = header
        assert self.module.handler(event, CONTEXT) is event
        spans = self.exporter.get_finished_spans()
        (span,) = (each for each in spans if each.kind is SpanKind.SERVER)
        return span, [each for each in spans if each is not span]


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    before = propagate.get_global_textmap()

    def make(*propagators, **options):
        everything = W3CBaggagePropagator(), TraceHeadersPropagator(prefer_xray=True)
        function = Function(monkeypatch, *(propagators or everything))
        function.instrument(**options)
        return function

    yield make
    AwsLambdaInstrumentor().uninstrument()
    propagate.set_global_textmap(before)
    incoming.forget_root()


def read(name):
    return json.loads((EVENTS / f"{name}.json").read_text())


def traceparent(number):
    return f"00-{number:032x}-{number:016x}-01"


def queue(number, *, w3c=True):
    """An event of SQS with `number` messages, each with a context of its own."""
    records = []
    for each in range(1, number + 1):
        record = {"messageId": f"m{each}", "eventSource": "aws:sqs", "body": "1", "attributes": {}}
        record["eventSourceARN"] = "arn:aws:sqs:eu-west-1:123456789012:orders"
        if w3c:
            record["messageAttributes"] = {"traceparent": {"dataType": "String", "stringValue": traceparent(each)}}
        else:
            record["attributes"]["AWSTraceHeader"] = f"Root=1-00000000-{each:024x};Parent={each:016x};Sampled=1"
        records.append(record)
    return {"Records": records}


def linked(span):
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def where(span):
    return span.context.trace_id, span.parent.span_id if span.parent else None


# --- the parent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [queue(1), queue(3), read("sns"), read("kinesis"), read("s3"), {"a": 1}, None, 7])
@pytest.mark.parametrize("xray", [True, False])
def test_the_functions_segment_is_the_parent(make, event, xray):
    span, _ = make(to_xray=xray).invoke(event, ACTIVE)
    assert where(span) == (ROOT, PARENT)


@pytest.mark.parametrize("event", [queue(2), read("s3"), {}, None])
@pytest.mark.parametrize("header", [PASSIVE, BARE, BARE + ";Sampled=0", BARE + ";Lineage=a:0"])
def test_what_x_ray_does_not_record_is_no_parent_and_its_trace_id_stays(make, event, header):
    span, _ = make().invoke(event, header)
    assert where(span) == (ROOT, None)


def test_a_segment_without_a_decision_is_the_parent(make):
    span, _ = make().invoke({}, OPEN)
    assert where(span) == (ROOT, PARENT)


@pytest.mark.parametrize("header", [PASSIVE, BARE + ";Sampled=0"])
def test_x_rays_decision_holds_where_spans_go_there(make, header):
    function = make(to_xray=True)
    function.environ["_X_AMZN_TRACE_ID"] = header
    function.module.handler(queue(1), CONTEXT)
    assert function.exporter.get_finished_spans() == ()


@pytest.mark.parametrize("header", ["", PASSIVE, BARE, "Root=1-nonsense", "x" * 100_000])
def test_without_a_parent_a_single_message_is_it(make, header):
    span, _ = make().invoke(queue(1), header)
    assert where(span) == (1, 1)
    assert linked(span) == [(1, 1)]


@pytest.mark.parametrize("header", ["", "Root=1-nonsense", "\x00", "x" * 100_000])
@pytest.mark.parametrize("event", [queue(2), {}, None])
def test_nothing_at_all_gives_a_trace_of_its_own(make, event, header):
    span, _ = make().invoke(event, header)
    assert span.parent is None
    assert span.context.trace_id not in (ROOT, 1, 2)


def test_a_trace_id_that_was_expected_is_not_kept_for_later(make):
    function = make()
    function.invoke(queue(1), BARE)
    span, _ = function.invoke({})
    assert span.context.trace_id != ROOT


@pytest.mark.parametrize("header", [ACTIVE, PASSIVE, ""])
def test_w3c_in_a_request_goes_first(make, header):
    event = read("apigateway_v1")
    event["headers"] = {"Traceparent": traceparent(9), "Host": "x"}
    event["multiValueHeaders"] = None
    span, _ = make().invoke(event, header)
    assert where(span) == (9, 9)
    assert linked(span) == ([(ROOT, PARENT)] if header == ACTIVE else [])


def test_the_environment_is_later_than_the_x_ray_header_of_a_request(make):
    event = read("alb")
    event["headers"] = {
        "x-amzn-trace-id": "Root=1-00000000-000000000000000000000007;Parent=0000000000000007;Sampled=1"
    }
    assert where(make().invoke(event, ACTIVE)[0]) == (ROOT, PARENT)


def test_the_x_ray_header_of_a_request_counts_where_the_environment_says_nothing(make):
    event = read("alb")
    event["headers"] = {
        "x-amzn-trace-id": "Root=1-00000000-000000000000000000000007;Parent=0000000000000007;Sampled=1"
    }
    function = make()
    assert where(function.invoke(event, PASSIVE)[0]) == (7, 7)
    assert where(function.invoke(event)[0]) == (7, 7)


@pytest.mark.parametrize(("xray", "parent"), [(True, (ROOT, PARENT)), (False, (1, 1))])
def test_without_x_rays_propagator_its_header_counts_only_for_x_ray(make, xray, parent):
    function = make(TraceContextTextMapPropagator(), to_xray=xray)
    assert where(function.invoke(queue(1), ACTIVE)[0]) == parent


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 10])
@pytest.mark.parametrize("w3c", [True, False])
@pytest.mark.parametrize("header", [ACTIVE, PASSIVE, ""])
def test_every_message_is_linked(make, number, w3c, header):
    span, below = make().invoke(queue(number, w3c=w3c), header)
    assert linked(span) == [(each, each) for each in range(1, number + 1)]
    assert span.attributes["faas.trigger"] == "pubsub"
    for each in below:  # the instrumentor's own for a batch of SQS
        assert each.kind is SpanKind.CONSUMER
        assert each.parent.span_id == span.context.span_id
        assert sorted(linked(each)) == linked(span)


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_every_event_of_lambda(make, name):
    event = read(name)
    before = json.dumps(event)
    span, _ = make().invoke(event, ACTIVE)
    found = carriers.extract(event)
    creators = {(each.trace_id, each.span_id) for each in carriers.contexts(found)}
    assert creators <= set(linked(span))
    assert span.attributes["faas.trigger"] == found.trigger
    assert json.dumps(event) == before


def test_the_instrumentors_span_for_a_batch_does_not_link_to_its_parent(make):
    event = queue(2, w3c=False)
    for record in event["Records"]:
        record["messageAttributes"] = {"colour": {"dataType": "String", "stringValue": "red"}}
    span, (batch,) = make().invoke(event, ACTIVE)
    assert batch.parent.span_id == span.context.span_id
    assert linked(batch) == [(1, 1), (2, 2)]


def test_one_corrupt_message_costs_the_others_nothing(make):
    event = queue(3)
    event["Records"][1]["messageAttributes"]["traceparent"]["stringValue"] = "00-nonsense"
    function = make()
    span, _ = function.invoke(event, ACTIVE)
    assert linked(span) == [(1, 1), (3, 3)]
    assert span.attributes["spanwell.context.problem"] == "unreadable traceparent"
    event = read("sns")
    event["Records"] += ["no record"]  # in an event of SQS the instrumentor itself fails over it
    span, _ = function.invoke(event, ACTIVE)
    assert span.attributes["spanwell.context.problem"] == "not a record"


def test_spans_below_and_beside_get_no_links_of_the_event(make):
    function = make()
    tracer = function.provider.get_tracer("app")

    def handler(event, context):
        with tracer.start_as_current_span("inner"):
            pass
        return event

    AwsLambdaInstrumentor().uninstrument()
    function.module.handler = handler
    function.instrument()
    _, below = function.invoke(queue(2), ACTIVE)
    (inner,) = (span for span in below if span.name == "inner")
    assert linked(inner) == []


def test_a_failure_of_ours_reaches_no_handler(make, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)
    function = make()
    monkeypatch.setattr(carriers, "extract", lambda event: 1 / 0)
    span, _ = function.invoke(queue(1), ACTIVE)
    assert span.parent is None


# --- the settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://xray.eu-west-1.amazonaws.com/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://xray.cn-north-1.amazonaws.com.cn"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://xray.eu-west-1.api.aws"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://xray.example.com"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[bad"}, False),
        (
            {
                "OTEL_TRACES_EXPORTER": "sqlite",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "https://xray.eu-west-1.amazonaws.com",
            },
            False,
        ),
        ({"OTEL_TRACES_EXPORTER": "sqlite,xray"}, True),
        ({"OTEL_PROPAGATORS": "tracecontext,xray-lambda"}, True),
    ],
)
def test_when_spans_go_to_x_ray(environ, expected):
    settings = Settings.from_env(environ)
    assert to_xray(settings) is expected
    assert instrumentor_options(settings)["aws-lambda"]()["event_context_extractor"]._to_xray is expected


@pytest.mark.parametrize("lazy", [True, False])
def test_the_instrumentor_waits_for_the_handlers_module(lazy):
    loaded = []

    def load():
        loaded.append(1)
        return lambda: SimpleNamespace(is_instrumented_by_opentelemetry=True)

    instrumentors = Instrumentors(lazy=lazy, handler="json")
    entry = SimpleNamespace(name="aws-lambda", value="x:y", load=load)
    instrumentors.add(entry)
    instrumentors.finish()
    assert loaded == [1]
    later = Instrumentors(lazy=lazy, handler="not_imported_yet")
    later.add(entry)
    later.finish()
    assert loaded == ([1] if lazy else [1, 1])
