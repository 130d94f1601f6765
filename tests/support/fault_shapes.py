"""The protocols behind the fault proxy: names of operations, forms of errors, batches and their partial failures."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.faults import Fault, Request

_THROTTLED = {
    "Kinesis_20131202": "ProvisionedThroughputExceededException",
    "DynamoDB_20120810": "ProvisionedThroughputExceededException",
    "/TraceSegments": "ThrottledException",
}
_REST = {"/TraceSegments": "PutTraceSegments", "/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}


def operation(path: str, headers: Mapping[str, str], body: bytes) -> str:
    """The name of an AWS operation, the signal of an OTLP request, or ""."""
    target = headers.get("x-amz-target", "")
    if target:
        return target.rpartition(".")[2]
    if "/operation/" in path:
        return path.rpartition("/")[2]
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        from urllib.parse import parse_qs

        return parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
    return _REST.get(path.partition("?")[0], "")


# --- errors ---------------------------------------------------------------------------------------------------


def refusal(fault: Fault, request: Request) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a refused request, in the form that its protocol has for errors."""
    if fault.kind == "status":
        return fault.status, dict(fault.headers), b""
    target = request.headers.get("x-amz-target", "").partition(".")[0]
    code = fault.code or _THROTTLED.get(target or request.path, "ThrottlingException")
    status = fault.status or 400
    text = f"made by the fault proxy: {code}"
    if request.operation in ("traces", "logs", "metrics"):
        return (429 if fault.kind == "throttle" else status), dict(fault.headers), b""
    if "rpc-v2-cbor" in request.headers.get("smithy-protocol", ""):
        body = _cbor({"__type": f"com.amazonaws#{code}", "message": text})
        return status, {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor", **fault.headers}, body
    if target:
        kind = request.headers.get("content-type", "application/x-amz-json-1.1")
        body = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
        return status, {"Content-Type": kind, **fault.headers}, body
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        code = fault.code or "Throttling"
        body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
        return status, {"Content-Type": "text/xml", **fault.headers}, (body + "</ErrorResponse>").encode()
    status = 429 if fault.kind == "throttle" else status
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code, **fault.headers}
    return status, headers, json.dumps({"message": text}).encode()


def _cbor(texts: Mapping[str, str]) -> bytes:
    def text(value: str) -> bytes:
        raw = value.encode()
        assert len(raw) < 256
        return (bytes([0x60 + len(raw)]) if len(raw) < 24 else bytes([0x78, len(raw)])) + raw

    return bytes([0xA0 + len(texts)]) + b"".join(text(key) + text(value) for key, value in texts.items())


# --- batches --------------------------------------------------------------------------------------------------


def size(operation: str, headers: Mapping[str, str], body: bytes) -> int:
    """How many entries a request holds; 1 for what is no batch."""
    kind = _BATCHES.get(operation)
    return 1 if kind is None else kind(headers, body).size


def batch(request: Request) -> Batch | None:
    """The entries of `request`, or None for what is no batch."""
    kind = _BATCHES.get(request.operation)
    return None if kind is None else kind(request.headers, request.body)


class Batch:
    """The entries of one request. `without` makes the body that leaves some out, or None if nothing is left;
    `answer` the service's answer to the whole, from its answer to the rest."""

    size = 0

    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        raise NotImplementedError

    def without(self, failed: set[int]) -> bytes | None:
        raise NotImplementedError

    def answer(self, failed: set[int], code: str, body: bytes) -> tuple[dict[str, str], bytes]:
        raise NotImplementedError


class _Json(Batch):
    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        self.headers = headers
        self.document: dict[str, Any] = json.loads(body)
        self.entries = self.find()
        self.size = len(self.entries)

    def find(self) -> list[Any]:
        raise NotImplementedError

    def put(self, entries: list[Any]) -> dict[str, Any]:
        raise NotImplementedError

    def merge(self, failed: set[int], code: str, answer: dict[str, Any]) -> None:
        raise NotImplementedError

    def without(self, failed: set[int]) -> bytes | None:
        kept = [entry for at, entry in enumerate(self.entries) if at not in failed]
        return json.dumps(self.put(kept)).encode() if kept else None

    def answer(self, failed: set[int], code: str, body: bytes) -> tuple[dict[str, str], bytes]:
        answer = json.loads(body) if body else {}
        self.merge(failed, code, answer)
        kind = self.headers.get("content-type", "application/json")
        return {"Content-Type": kind}, json.dumps(answer).encode()


class _PutRecords(_Json):
    def find(self) -> list[Any]:
        return list(self.document["Records"])

    def put(self, entries: list[Any]) -> dict[str, Any]:
        return {**self.document, "Records": entries}

    def merge(self, failed: set[int], code: str, answer: dict[str, Any]) -> None:
        good = iter(answer.get("Records", []))
        why = {"ErrorCode": code or "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"}
        answer["Records"] = [why if at in failed else next(good) for at in range(self.size)]
        answer["FailedRecordCount"] = sum("ErrorCode" in record for record in answer["Records"])


class _BatchWriteItem(_Json):
    def find(self) -> list[Any]:
        return [(table, item) for table, items in self.document["RequestItems"].items() for item in items]

    def put(self, entries: list[Any]) -> dict[str, Any]:
        return {**self.document, "RequestItems": _by_table(entries, {})}

    def merge(self, failed: set[int], code: str, answer: dict[str, Any]) -> None:
        left = [entry for at, entry in enumerate(self.entries) if at in failed]
        answer["UnprocessedItems"] = _by_table(left, answer.get("UnprocessedItems") or {})


def _by_table(entries: list[Any], tables: dict[str, list[Any]]) -> dict[str, list[Any]]:
    for table, item in entries:
        tables.setdefault(table, []).append(item)
    return tables


class _PutTraceSegments(_Json):
    def find(self) -> list[Any]:
        return list(self.document["TraceSegmentDocuments"])

    def put(self, entries: list[Any]) -> dict[str, Any]:
        return {"TraceSegmentDocuments": entries}

    def merge(self, failed: set[int], code: str, answer: dict[str, Any]) -> None:
        left = answer.get("UnprocessedTraceSegments") or []
        for at in sorted(failed):
            found = json.loads(self.entries[at])
            left.append({"Id": found.get("id", ""), "ErrorCode": code or "ThrottledException", "Message": "proxy"})
        answer["UnprocessedTraceSegments"] = left


class _Traces(Batch):
    """OTLP spans, as protobuf or JSON: entries are counted over resources and scopes, in order."""

    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        self.json = "json" in headers.get("content-type", "")
        self.zipped = headers.get("content-encoding", "") == "gzip"
        body = gzip.decompress(body) if self.zipped else body
        if self.json:
            self.document = json.loads(body)
        else:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

            self.document = ExportTraceServiceRequest.FromString(body)
        self.size = sum(len(spans) for spans in self._lists())

    def _lists(self) -> list[Any]:
        if self.json:
            resources = self.document.get("resourceSpans", [])
            return [scope.get("spans", []) for each in resources for scope in each.get("scopeSpans", [])]
        return [scope.spans for each in self.document.resource_spans for scope in each.scope_spans]

    def without(self, failed: set[int]) -> bytes | None:
        at = 0
        for spans in self._lists():
            kept = [span for number, span in enumerate(spans, at) if number not in failed]
            at += len(spans)
            del spans[:]
            spans.extend(kept)
        if len(failed) >= self.size:
            return None
        body = json.dumps(self.document).encode() if self.json else self.document.SerializeToString()
        return gzip.compress(body) if self.zipped else body

    def answer(self, failed: set[int], code: str, body: bytes) -> tuple[dict[str, str], bytes]:
        text = code or "rejected by the fault proxy"
        if self.json:
            said = {"partialSuccess": {"rejectedSpans": str(len(failed)), "errorMessage": text}}
            return {"Content-Type": "application/json"}, json.dumps(said).encode()
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = len(failed)
        response.partial_success.error_message = text
        return {"Content-Type": "application/x-protobuf"}, response.SerializeToString()


_BATCHES: dict[str, type[Batch]] = {
    "PutRecords": _PutRecords,
    "BatchWriteItem": _BatchWriteItem,
    "PutTraceSegments": _PutTraceSegments,
    "traces": _Traces,
}
