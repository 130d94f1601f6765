"""What is read from the answers of OTLP receivers, whatever they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanwell.export import otlp_answers as answers

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


@given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=100))
def test_a_partial_success_reads_as_protobuf_says_it(number: int, said: str) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = number
    answer.partial_success.error_message = said
    assert answers.partial_success(PROTOBUF, answer.SerializeToString()) == (number, answers.clean(said))
    tree = {"partialSuccess": {"rejectedSpans": str(number), "errorMessage": said}}
    assert answers.partial_success(JSON, json.dumps(tree).encode()) == (number, answers.clean(said))


@given(st.binary(max_size=200))
def test_no_answer_is_too_odd_to_read(body: bytes) -> None:
    for headers in (PROTOBUF, JSON, {}, {"content-type": "text/html"}):
        number, said = answers.partial_success(headers, body)
        assert isinstance(number, int)
        for text in (said, answers.message(headers, body), answers.error_type(headers, body)):
            assert "\n" not in text
            assert len(text) <= 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"partialSuccess": null}',
        b'{"partialSuccess": 7}',
        b'{"partialSuccess": {"rejectedSpans": null}}',
        b'{"partialSuccess": {"rejectedSpans": "many"}}',
        b'{"partialSuccess": {"rejectedSpans": NaN}}',
        b'{"partialSuccess": {"rejectedSpans": 1e999}}',
        b'{"partialSuccess": {"rejectedSpans": ' + b"9" * 10_000 + b"}}",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_json_without_a_number_rejects_nothing(body: bytes) -> None:
    assert answers.partial_success(JSON, body)[0] == 0


def test_the_code_of_an_aws_error() -> None:
    assert answers.error_type({"x-amzn-errortype": "ExpiredTokenException:http://x/"}, b"") == "ExpiredTokenException"
    assert answers.error_type({}, b'{"__type": "com.amazon#AccessDeniedException"}') == "AccessDeniedException"
    assert answers.error_type({}, b"\x0a\x00") == ""


def test_an_http_date() -> None:
    assert answers.http_date("Thu, 01 Jan 1970 00:00:10 GMT") == 10.0
    for text in ("", "soon", "Thu, 99 Foo 1970", "1"):
        assert answers.http_date(text) is None
