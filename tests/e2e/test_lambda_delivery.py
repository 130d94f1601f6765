"""What a function records is out before its response is: nothing waits for a later invocation that may never come."""

from __future__ import annotations

import collections
import json
import time

import pytest

from support.lambda_api import Answer
from support.lambda_runtime import Runtime, trace_header, trace_id

pytestmark = pytest.mark.slow

CALLS = """
import boto3
dynamodb = boto3.client("dynamodb")

def handler(event, context):
    for number in range(event["calls"]):
        dynamodb.get_item(TableName="items", Key={"id": {"S": str(number)}})
    return {"calls": event["calls"]}
"""
ECHO = "def handler(event, context):\n    return event\n"


def test_every_span_of_a_thousand_invocations_is_out_before_its_response() -> None:
    answers: dict[str, Answer] = {}
    with Runtime({"app.py": CALLS}, layer="source", aws=True, freeze=True) as lam:
        for _ in range(1000):
            header = trace_header()
            answers[trace_id(header)] = lam.invoke({"calls": 1}, trace=header)
        spans = lam.spans(2000)
    late = [span.name for span in spans if span.received_ns >= answers[span.trace_id].posted_ns]
    assert late == []
    by_trace = collections.Counter(span.trace_id for span in spans)
    assert by_trace == dict.fromkeys(answers, 2)
    invocations = {span.attributes.get("faas.invocation_id") for span in spans if span.kind == "SERVER"}
    assert invocations == {answer.request_id for answer in answers.values()}


@pytest.mark.parametrize("calls", [200, 2000])
def test_all_aws_calls_of_one_invocation_arrive(calls: int) -> None:
    with Runtime({"app.py": CALLS}, layer="source", aws=True) as lam:
        answer = lam.invoke({"calls": calls}, timeout=60)
        assert answer.payload == {"calls": calls}
        spans = lam.spans(calls + 1)
        assert max(map(len, lam.daemon.datagrams)) < 65_507
    assert len({span.span_id for span in spans}) == len(spans) == calls + 1
    root = next(span for span in spans if span.kind == "SERVER")
    assert {span.parent_id for span in spans if span.kind == "CLIENT"} == {root.span_id}
    assert all(span.received_ns < answer.posted_ns for span in spans)


def test_what_was_recorded_before_a_freeze_is_neither_lost_nor_late_nor_out_of_its_time() -> None:
    with Runtime({"app.py": CALLS}, layer="source", aws=True, freeze=True) as lam:
        lam.invoke({"calls": 2})
        before = len(lam.spans(3))
        time.sleep(1.5)
        assert len(lam.spans()) == before == 3
        second = lam.invoke({"calls": 2})
        spans = lam.spans(6)[3:]
    assert len(spans) == 3
    # No clock of the first invocation is used for the second one.
    assert all(second.sent_ns - 50_000_000 < span.start_ns <= span.end_ns < second.posted_ns for span in spans)


def test_an_unsampled_invocation_sends_nothing() -> None:
    with Runtime({"app.py": CALLS}, layer="source", aws=True) as lam:
        assert lam.invoke({"calls": 1}, trace=trace_header(sampled=False)).payload == {"calls": 1}
        assert lam.invoke({"calls": 1}).payload == {"calls": 1}
        assert len(lam.spans(2)) == 2


def test_an_otlp_receiver_has_them_too_before_the_response() -> None:
    env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with Runtime({"app.py": CALLS}, layer="source", aws=True, otlp=True, env=env) as lam:
        answers = [lam.invoke({"calls": 3}, timeout=10) for _ in range(5)]
        spans = lam.spans(20)
    assert len(spans) == 20
    assert all(span.received_ns < answers[number // 4].posted_ns for number, span in enumerate(spans))


@pytest.mark.parametrize("trace", [True, False])
def test_payloads_as_large_as_lambda_takes_them_pass_unchanged(trace: bool) -> None:
    event = {"Records": [{"body": "ä" * 1000, "number": number} for number in range(900)]}
    event["rest"] = "x" * (6_000_000 - len(json.dumps(event)))
    with Runtime({"app.py": ECHO}, layer="source") as lam:
        answer = lam.invoke(event, trace=trace_header(sampled=trace), timeout=20)
        assert answer.payload == event
        assert len(lam.spans(int(trace))) == int(trace)
        assert lam.invoke("x" * 6_300_000, timeout=20).error == {"errorType": "Function.ResponseSizeTooLarge"}
        assert lam.invoke({}).payload == {}
