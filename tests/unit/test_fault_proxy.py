"""The fault proxy of the tests does what its plan says, and what it reports as failed was not passed on."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.faults import PASS, RESET_AFTER, RESET_BEFORE, TRUNCATE, delay, error, fault_proxy, partial, seeded
from support.faults import status as http_status
from support.faults import throttle as throttled
from support.servers import http_stub

Answer = tuple[int, dict[str, str], bytes]


class Upstream:
    """Keeps the bodies that came, and answers as the AWS services do to a batch that is fine."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []

    def answer(self, path: str, body: bytes) -> bytes:
        self.bodies.append(body)
        if path == "/v1/traces" or not body:
            return b""
        document = json.loads(body)
        records = [{"ShardId": "0", "SequenceNumber": "1"} for _ in document.get("Records", [])]
        return json.dumps({"Records": records} if records else {}).encode()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    found = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = found.answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_stub(Handler) as url:
        found.url = url
        yield found


def post(url: str, body: bytes | dict[str, Any], path: str = "/", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request("POST", path, raw, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
    finally:
        connection.close()


RECORDS = {"StreamName": "s", "Records": [{"Data": "eA==", "PartitionKey": str(at)} for at in range(4)]}
KINESIS = {"X_Amz_Target": "Kinesis_20131202.PutRecords", "Content_Type": "application/x-amz-json-1.1"}


def test_a_list_is_used_up_and_then_everything_passes(upstream: Upstream) -> None:
    with fault_proxy(upstream.url, [http_status(503, Retry_After="1"), delay(0.001)]) as proxy:
        status, headers, _ = post(proxy.url, RECORDS, **KINESIS)
        assert (status, headers["retry-after"]) == (503, "1")
        assert post(proxy.url, RECORDS, **KINESIS)[0] == 200
        assert post(proxy.url, RECORDS, **KINESIS)[0] == 200
        assert proxy.did == {"status": 1, "delay": 1, "pass": 1}
    assert (proxy.passed, proxy.withheld, len(upstream.bodies)) == (8, 4, 2)


def test_throttling_has_the_form_of_the_protocol(upstream: Upstream) -> None:
    with fault_proxy(upstream.url, lambda _: throttled()) as proxy:
        status, _, body = post(proxy.url, RECORDS, **KINESIS)
        assert status == 400
        assert json.loads(body)["__type"].endswith("#ProvisionedThroughputExceededException")
        form = post(
            proxy.url, b"Action=PutMetricData", Content_Type="application/x-www-form-urlencoded; charset=utf-8"
        )
        assert b"<Code>Throttling</Code>" in form[2]
        status, headers, _ = post(proxy.url, {"TraceSegmentDocuments": ["{}"]}, "/TraceSegments")
        assert (status, headers["x-amzn-errortype"]) == (429, "ThrottledException")
        cbor = post(proxy.url, b"", "/service/X/operation/PutMetricData", smithy_protocol="rpc-v2-cbor")
        assert cbor[2].startswith(b"\xa2\x66__type\x78")
        assert post(proxy.url, b"", "/v1/traces", Content_Type="application/x-protobuf")[0] == 429
        proxy.plan = [error("AccessDeniedException")]
        assert b"AccessDeniedException" in post(proxy.url, RECORDS, **KINESIS)[2]
    assert upstream.bodies == []


def test_botocore_understands_it(upstream: Upstream) -> None:
    import botocore.session
    from botocore.config import Config

    with fault_proxy(upstream.url, [throttled(), partial(1, 3)]) as proxy:
        client = botocore.session.Session().create_client(
            "kinesis", "eu-west-1", endpoint_url=proxy.url, config=Config(retries={"total_max_attempts": 1})
        )
        records = [{"Data": b"x", "PartitionKey": str(at)} for at in range(4)]
        with pytest.raises(client.exceptions.ProvisionedThroughputExceededException):
            client.put_records(StreamName="s", Records=records)
        answer = client.put_records(StreamName="s", Records=records)
    assert ["ErrorCode" in record for record in answer["Records"]] == [False, True, False, True]
    assert answer["FailedRecordCount"] == 2
    assert [record["PartitionKey"] for record in json.loads(upstream.bodies[0])["Records"]] == ["0", "2"]
    assert (proxy.passed, proxy.withheld) == (2, 6)


def test_resets_and_truncation_before_and_after(upstream: Upstream) -> None:
    with fault_proxy(upstream.url, [RESET_BEFORE, RESET_AFTER, TRUNCATE]) as proxy:
        with pytest.raises(ConnectionError):
            post(proxy.url, RECORDS, **KINESIS)
        assert upstream.bodies == []
        with pytest.raises(ConnectionError):
            post(proxy.url, RECORDS, **KINESIS)
        assert len(upstream.bodies) == 1
        with pytest.raises(http.client.IncompleteRead):
            post(proxy.url, RECORDS, **KINESIS)
        assert len(upstream.bodies) == 2
        assert post(proxy.url, RECORDS, **KINESIS)[0] == 200
    assert proxy.passed == 12


def test_unprocessed_items_and_segments_were_not_passed_on(upstream: Upstream) -> None:
    items = {"a": [{"PutRequest": {"Item": {"k": {"S": str(at)}}}} for at in range(3)], "b": [{"PutRequest": {}}]}
    dynamodb = {"X_Amz_Target": "DynamoDB_20120810.BatchWriteItem", "Content_Type": "application/x-amz-json-1.0"}
    with fault_proxy(upstream.url, [partial(0, 3), partial(share=1.0), partial(1)]) as proxy:
        answer = json.loads(post(proxy.url, {"RequestItems": items}, **dynamodb)[2])
        assert answer["UnprocessedItems"] == {"a": items["a"][:1], "b": items["b"]}
        assert json.loads(upstream.bodies[-1])["RequestItems"] == {"a": items["a"][1:]}
        answer = json.loads(post(proxy.url, {"RequestItems": items}, **dynamodb)[2])
        assert answer["UnprocessedItems"] == items
        segments = [json.dumps({"id": f"{at:016x}"}) for at in range(3)]
        answer = json.loads(post(proxy.url, {"TraceSegmentDocuments": segments}, "/TraceSegments")[2])
        assert [each["Id"] for each in answer["UnprocessedTraceSegments"]] == [f"{1:016x}"]
    assert json.loads(upstream.bodies[-1]) == {"TraceSegmentDocuments": [segments[0], segments[2]]}
    assert len(upstream.bodies) == 2


def request_of(*names: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for name in names:
        request.resource_spans.add().scope_spans.add().spans.add(name=name)
    return request


def test_partial_success_of_otlp(upstream: Upstream) -> None:
    body = gzip.compress(request_of("a", "b", "c").SerializeToString())
    with fault_proxy(upstream.url, [partial(0, 2), partial(1)]) as proxy:
        answer = post(proxy.url, body, "/v1/traces", Content_Type="application/x-protobuf", Content_Encoding="gzip")
        assert ExportTraceServiceResponse.FromString(answer[2]).partial_success.rejected_spans == 2
        spans = [{"name": name} for name in "xyz"]
        document = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
        answer = post(proxy.url, document, "/v1/traces", Content_Type="application/json")
        assert json.loads(answer[2])["partialSuccess"]["rejectedSpans"] == "1"
    passed = ExportTraceServiceRequest.FromString(gzip.decompress(upstream.bodies[0]))
    assert [span.name for each in passed.resource_spans for scope in each.scope_spans for span in scope.spans] == [
        "b"
    ]
    assert json.loads(upstream.bodies[1])["resourceSpans"][0]["scopeSpans"][0]["spans"] == [spans[0], spans[2]]
    assert (proxy.passed, proxy.withheld) == (3, 3)


def test_a_seeded_plan_is_repeatable() -> None:
    rates = {"throttle": 0.3, "partial": 0.3}
    request: Any = None
    first, second = seeded(3, rates), seeded(3, rates)
    kinds = [first(request) for _ in range(50)]
    assert kinds == [second(request) for _ in range(50)]
    assert {fault.kind for fault in kinds} == {"throttle", "partial", "pass"}
    assert PASS in kinds
