"""The span of an invocation in the real runtime client: errors, batches, other signals, what else is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation import aws_lambda

from support.lambda_runtime import FUNCTION, Runtime, trace_header

pytestmark = pytest.mark.slow

CODE = """
import threading, time

def handler(event, context):
    if event.get("raise"):
        raise KeyError("no such order")
    return event.get("answer")
"""
OTLP = {"OTEL_TRACES_EXPORTER": "otlp"}


def queue(number: int) -> dict[str, Any]:
    records = [
        {
            "messageId": f"m{each}",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
            "body": "1",
            "messageAttributes": {"traceparent": {"stringValue": f"00-{each:032x}-{each:016x}-01"}},
        }
        for each in range(1, number + 1)
    ]
    return {"Records": records}


def test_errors_and_failed_answers() -> None:
    with Runtime({"app.py": CODE}, layer="source") as lam:
        assert lam.invoke({"raise": True}).error["errorType"] == "KeyError"
        request = {"requestContext": {"http": {"method": "GET"}}, "routeKey": "GET /orders/{id}"}
        lam.invoke({**request, "answer": {"statusCode": 503}})
        lam.invoke({**request, "answer": {"statusCode": 404}})
        lam.invoke({**queue(2), "answer": {"batchItemFailures": [{"itemIdentifier": "m1"}]}})
        raised, fault, error, batch = lam.spans(4)
    assert raised.status == "ERROR"
    assert raised.raw.status.message == "KeyError: 'no such order'"
    assert raised.attributes["error.type"] == "KeyError"
    [event] = raised.raw.events
    assert event.name == "exception"
    assert "no such order" in str(event.attributes)
    assert (fault.name, fault.status, fault.attributes["http.response.status_code"]) == (
        "GET /orders/{id}",
        "ERROR",
        503,
    )
    assert (error.status, error.attributes["http.response.status_code"]) == ("UNSET", 404)
    assert (batch.name, batch.kind, batch.status) == ("process orders", "CONSUMER", "UNSET")
    assert batch.attributes["spanwell.lambda.batch_item_failures"] == 1
    assert batch.attributes["messaging.batch.message_count"] == 2


def test_where_and_how_it_runs() -> None:
    with Runtime({"app.py": CODE}, layer="source", memory=256) as lam:
        lam.invoke({})
        lam.invoke({})
        first, second = lam.spans(2)
    assert first.attributes["faas.coldstart"] is True
    assert first.attributes["spanwell.lambda.init_ms"] > 0
    assert second.attributes["faas.coldstart"] is False
    assert "spanwell.lambda.init_ms" not in second.attributes
    assert 0 < second.attributes["spanwell.lambda.remaining_ms"] <= 3000
    assert first.resource["faas.name"] == first.resource["service.name"] == FUNCTION
    assert first.resource["faas.max_memory"] == 256 * 1024 * 1024
    assert first.resource["cloud.platform"] == "aws_lambda"
    assert first.scope == "spanwell.aws_lambda"


@pytest.mark.parametrize("number", [200, 3000])
def test_every_message_of_a_batch_is_linked(number: int) -> None:
    with Runtime({"app.py": CODE}, layer="source") as lam:
        lam.invoke(queue(number), timeout=30)
        *below, root = lam.spans(1 + (number - 1) // 800)  # it ends last
        assert max(map(len, lam.daemon.datagrams)) < 65_507
    assert root.name == "process orders"
    assert all((span.kind, span.parent_id) == ("CONSUMER", root.span_id) for span in below)
    linked = [link for span in (root, *below) for link in span.links]
    assert sorted(linked) == [(f"{each:032x}", f"{each:016x}") for each in range(1, number + 1)]


THREADS = """
import threading, time
from opentelemetry import trace
tracer = trace.get_tracer("app")
go = threading.Event()

def later():
    with tracer.start_as_current_span("later"):
        go.wait(30)

def handler(event, context):
    if event.get("start"):
        threading.Thread(target=later).start()
        return None
    go.set()
    while any(thread.name.startswith("Thread-") for thread in threading.enumerate()):
        time.sleep(0.001)
    return None
"""


def test_what_ends_after_the_response_goes_out_with_the_next_flush() -> None:
    with Runtime({"app.py": THREADS}, layer="source") as lam:
        lam.invoke({"start": True})
        assert [span.name for span in lam.spans()] == [FUNCTION]
        lam.invoke({}, timeout=30)
        assert "later" in [span.name for span in lam.spans(3)]


def test_also_with_an_invocation_that_is_not_sampled() -> None:
    with Runtime({"app.py": THREADS}, layer="source") as lam:
        lam.invoke({"start": True})
        lam.invoke({}, timeout=30, trace=trace_header(sampled=False))
        assert sorted(span.name for span in lam.spans(2)) == ["later", FUNCTION]


def test_the_applications_spans_are_below_the_invocations() -> None:
    code = THREADS.replace("    go.set()", '    with tracer.start_as_current_span("inner"): pass\n    go.set()')
    with Runtime({"app.py": code}, layer="source") as lam:
        lam.invoke({})
        inner, root = lam.spans(2)
    assert (inner.name, root.name) == ("inner", FUNCTION)
    assert (inner.parent_id, inner.trace_id) == (root.span_id, root.trace_id)


def test_an_init_error_is_traced_and_told_as_without_us() -> None:
    with Runtime({"app.py": "import nowhere\ndef handler(event, context): pass\n"}, layer="source") as lam:
        assert lam.init_error is not None
        assert lam.init_error["errorType"] == "Runtime.ImportModuleError"
        [span] = lam.spans(1)
    assert (span.name, span.status) == (f"init {FUNCTION}", "ERROR")
    assert "nowhere" in span.raw.status.message
    assert span.end_ns > span.start_ns


def test_a_function_cut_by_its_time_limit_says_so() -> None:
    code = "import time\ndef handler(event, context): time.sleep(20)\n"
    with Runtime({"app.py": code}, layer="source") as lam:
        assert lam.invoke({}, timeout=1.0).timed_out
        [span] = lam.spans(1)
    assert span.status == "ERROR"
    assert span.attributes["spanwell.lambda.timeout"] is True
    assert span.attributes["error.type"] == "timeout"
    assert 0 < span.attributes["spanwell.lambda.remaining_ms"] < 500


def test_insights_and_metrics_leave_with_the_invocation() -> None:
    env = {"SPANWELL_INSIGHTS": "true", "OTEL_METRICS_EXPORTER": "emf", "SPANWELL_CLOUDWATCH_METRICS": "*"}
    with Runtime({"app.py": CODE}, layer="source", env=env) as lam:
        lam.invoke({"raise": True}, timeout=20)
        # Nothing more comes before the next invocation: this was out before the response.
        documents = [json.loads(line) for line in lam.stdout.splitlines() if line.startswith('{"_aws"')]
        [span] = lam.spans(1)
    assert [each["trace_errors"] for each in documents if "trace_errors" in each] == [1]
    [counted] = [each for each in documents if "spanwell.entry.duration" in each]
    assert (counted["spanwell.outcome"], counted["error.type"]) == ("fault", "KeyError")
    assert any("insight" in key for key in span.attributes)


def test_our_wrapper_and_the_upstream_instrumentor_make_one_span() -> None:
    site = Path(aws_lambda.__file__).parents[3]
    code = f"import sys; sys.path.append({str(site)!r})\nimport opentelemetry.instrumentation.aws_lambda\n{CODE}"
    with Runtime({"app.py": code}, layer="source") as lam:
        lam.invoke({})
        lam.invoke({})
        spans = lam.spans(2, seconds=2)
    assert [span.kind for span in spans] == ["SERVER", "SERVER"]


@pytest.mark.parametrize("exporter", ["xray", "xray_otlp_udp"])
def test_both_forms_that_a_daemon_takes(exporter: str) -> None:
    with Runtime({"app.py": CODE}, layer="source", env={"OTEL_TRACES_EXPORTER": exporter}) as lam:
        lam.invoke({})
        [span] = lam.spans(1)
    assert span.attributes["faas.coldstart"] is True


def test_an_endpoint_of_otlp_is_used_without_naming_the_exporter() -> None:
    with Runtime({"app.py": CODE}, layer="source", otlp=True) as lam:
        lam.invoke({}, trace=trace_header(sampled=False))
        [span] = lam.spans(1)
        assert lam.daemon.datagrams == []
    assert (span.parent_id, span.links) == ("", [])


def test_the_users_sampler_is_asked() -> None:
    with Runtime({"app.py": CODE}, layer="source", otlp=True, env={"OTEL_TRACES_SAMPLER": "always_off"}) as lam:
        assert lam.invoke({"answer": 3}).payload == 3
        assert lam.invoke({"answer": 4}).payload == 4
        assert lam.spans() == []


POOL = """
import threading
from opentelemetry import trace
tracer = trace.get_tracer("app")

def work():
    with tracer.start_as_current_span("work"):
        pass

def handler(event, context):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return hasattr(threading.Thread.start, "__wrapped__")
"""


def test_the_context_follows_into_threads_from_the_first_one_on() -> None:
    with Runtime({"app.py": POOL}, layer="source") as lam:
        assert [lam.invoke({}, timeout=20).payload for _ in range(2)] == [True, True]
        spans = lam.spans(4)
    for work, root in (spans[:2], spans[2:]):
        assert (work.name, root.name) == ("work", FUNCTION)
        assert (work.trace_id, work.parent_id) == (root.trace_id, root.span_id)


def test_a_function_without_threads_does_not_import_their_instrumentor() -> None:
    code = "import sys\ndef handler(event, context):\n    return sorted(m for m in sys.modules if 'wrapt' in m)\n"
    with Runtime({"app.py": code}, layer="source") as lam:
        assert [lam.invoke({}).payload for _ in range(3)] == [[], [], []]


OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Printing(SpanExporter):
    def export(self, spans):
        for span in spans:
            print("own:", span.name, flush=True)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Printing(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)

def handler(event, context):
    with provider.get_tracer("app").start_as_current_span("inner"):
        return 1
"""


def test_a_provider_of_the_applications_own_is_joined_and_flushed_too() -> None:
    with Runtime({"app.py": OWN_PROVIDER}, layer="source") as lam:
        assert lam.invoke({}, timeout=20).payload == 1
        assert [line for line in lam.stdout.splitlines() if line.startswith("own:")] == [
            "own: inner",
            f"own: {FUNCTION}",
        ]
        inner, root = lam.spans(2)
    assert (inner.name, root.name, inner.parent_id) == ("inner", FUNCTION, root.span_id)


def test_a_destination_that_is_not_there_is_said_once_and_costs_little() -> None:
    with Runtime({"app.py": CODE}, layer="source", xray="127.0.0.1:9") as lam:
        answers = [lam.invoke({"answer": number}) for number in range(5)]
        assert [answer.payload for answer in answers] == list(range(5))
        said = [line for line in lam.log.splitlines() if "spanwell:" in line]
    assert len(said) == 1
    assert "nobody listens at udp 127.0.0.1:9" in said[0]
