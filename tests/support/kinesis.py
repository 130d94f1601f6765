"""The `kinesis` exporter over a stand-in for botocore's client, and what it put into the stream."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from typing import Any

from botocore.exceptions import ClientError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanwell.export.kinesis import KinesisSpanExporter


class Stream:
    """Stands for botocore's client: `answer(entries)` gives an error code, or "", for each entry, or raises."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[list[dict[str, Any]]] = []
        self.taken: list[tuple[str, bytes]] = []
        self.to: dict[str, Any] = {}
        self.closed = False

    def __call__(self) -> Stream:
        return self

    def put_records(self, *, Records: list[dict[str, Any]], **to: Any) -> dict[str, Any]:
        self.to = to
        self.calls.append(Records)
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        codes = answer(Records) if callable(answer) else answer
        codes = codes if isinstance(codes, list) else [codes] * len(Records)
        made = []
        for entry, code in zip(Records, codes, strict=False):
            if code:
                made.append({"ErrorCode": code, "ErrorMessage": "Rate exceeded for shard"})
            else:
                self.taken.append((entry["PartitionKey"], bytes(entry["Data"])))
                made.append({"ShardId": "shardId-000000000000", "SequenceNumber": "1"})
        return {"FailedRecordCount": sum(map(bool, codes)), "Records": made}

    def close(self) -> None:
        self.closed = True


class Clock:
    """Time that only a wait moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


def made(stream: Stream, clock: Clock | None = None, **options: Any) -> KinesisSpanExporter:
    clock = clock or Clock()
    exporter = KinesisSpanExporter("spans", client=stream, clock=clock, chance=lambda: 1.0, **options)
    exporter._ending.wait = clock.wait  # type: ignore[method-assign,assignment]
    return exporter


def items(exporter: KinesisSpanExporter, *spans: Any) -> list[Any]:
    return [exporter.encode(span)[0] for span in spans]


def refusal(code: str, message: str = "no", status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutRecords"
    )


THROTTLE = "ProvisionedThroughputExceededException"


def span_ids(payloads: Iterable[bytes]) -> Counter[int]:
    """The span ids in protobuf records, gzip or not, and how often each is there."""
    found: Counter[int] = Counter()
    for data in payloads:
        request = ExportTraceServiceRequest.FromString(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        for each in request.resource_spans:
            found.update(int.from_bytes(span.span_id, "big") for scope in each.scope_spans for span in scope.spans)
    return found
