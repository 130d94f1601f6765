"""Reading and writing files of other programs' traces, in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spanwell.explore.formats.files import WRITERS, Source, Tally
from spanwell.explore.formats.json_values import Found, values
from spanwell.record import SpanRecord


def read(path: Path, content: object) -> tuple[list[SpanRecord], Tally]:
    """The spans of a file at `path` with `content` (bytes, text, or a tree to be written as JSON)."""
    if not isinstance(content, (bytes, str)):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    tally = Tally()
    return list(Source(str(path), tally).records()), tally


def found(content: str | bytes, piece: int = 0) -> list[Found]:
    """The top-level values of a file that is read `piece` bytes at a time."""
    file = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    return list(values((lambda _size: file.read(piece)) if piece else file.read))


def written(format_name: str, traces: Iterable[list[SpanRecord]]) -> str:
    """The file that an export writes."""
    return "".join(WRITERS[format_name](traces))


def reasons(tally: Tally) -> list[str]:
    """What was refused, without the name of the file."""
    return [f"{problem.place.rpartition(': ')[2]}: {problem.reason}" for problem in tally.problems]


OTLP: dict[str, Any] = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "my.library", "version": "1.0.0", "attributes": []},
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "parentSpanId": "EEE19B7EC3C1B173",
                            "name": "I'm a server span",
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "kind": 2,
                            "status": {"code": 2, "message": "no"},
                            "flags": 257,
                            "droppedAttributesCount": 3,
                            "attributes": [
                                {"key": "my.span.attr", "value": {"stringValue": "some value"}},
                                {"key": "n", "value": {"intValue": "12"}},
                                {"key": "m", "value": {"intValue": -3}},
                                {"key": "f", "value": {"doubleValue": 0.5}},
                                {"key": "inf", "value": {"doubleValue": "-Infinity"}},
                                {"key": "b", "value": {"boolValue": True}},
                                {"key": "raw", "value": {"bytesValue": "AAE="}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {}]}}},
                                {
                                    "key": "map",
                                    "value": {
                                        "kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}
                                    },
                                },
                                {"key": "none"},
                            ],
                            "events": [{"timeUnixNano": "1544712660000000001", "name": "e", "attributes": []}],
                            "links": [{"traceId": "01" * 16, "spanId": "02" * 8, "traceState": "a=b"}],
                        }
                    ],
                }
            ],
        }
    ]
}
"""One request, every kind of value; after the example of the OTLP specification."""

JAEGER: dict[str, Any] = {
    "data": [
        {
            "traceID": "ab9cd45f9ab2ab9c",
            "spans": [
                {
                    "traceID": "ab9cd45f9ab2ab9c",
                    "spanID": "1",
                    "flags": 1,
                    "operationName": "GET /dispatch",
                    "references": [],
                    "startTime": 1600000000000001,
                    "duration": 700,
                    "tags": [
                        {"key": "span.kind", "type": "string", "value": "server"},
                        {"key": "http.status_code", "type": "int64", "value": 500},
                        {"key": "error", "type": "bool", "value": True},
                        {"key": "ratio", "type": "float64", "value": 0.25},
                        {"key": "raw", "type": "binary", "value": "AAE="},
                        {"key": "text.number", "type": "int64", "value": "7"},
                        {"key": "otel.scope.name", "type": "string", "value": "lib"},
                        {"key": "otel.status_description", "type": "string", "value": "boom"},
                    ],
                    "logs": [
                        {
                            "timestamp": 1600000000000100,
                            "fields": [
                                {"key": "event", "type": "string", "value": "retry"},
                                {"key": "left", "type": "int64", "value": 2},
                            ],
                        }
                    ],
                    "processID": "p1",
                    "warnings": None,
                },
                {
                    "traceID": "ab9cd45f9ab2ab9c",
                    "spanID": "00000000000000A2",
                    "operationName": "driver",
                    "references": [
                        {"refType": "FOLLOWS_FROM", "traceID": "ff", "spanID": "f"},
                        {"refType": "CHILD_OF", "traceID": "ab9cd45f9ab2ab9c", "spanID": "1"},
                    ],
                    "startTime": 1600000000000101,
                    "duration": 5,
                    "tags": [],
                    "logs": [],
                    "processID": "p2",
                },
            ],
            "processes": {
                "p1": {"serviceName": "frontend", "tags": [{"key": "hostname", "type": "string", "value": "h1"}]},
                "p2": {"serviceName": "driver", "tags": []},
            },
            "warnings": None,
        }
    ],
    "total": 0,
    "errors": None,
}

ZIPKIN: list[dict[str, Any]] = [
    {
        "traceId": "5af7183fb1d4cf5f",
        "id": "352bff9a74ca9ad2",
        "parentId": "6b221d5bc9e6496c",
        "kind": "CLIENT",
        "name": "get /api",
        "timestamp": 1556604172355737,
        "duration": 1431,
        "localEndpoint": {"serviceName": "frontend", "ipv4": "192.0.2.1", "port": 3306},
        "remoteEndpoint": {"serviceName": "backend", "ipv4": "192.0.2.2", "port": 58648},
        "annotations": [{"timestamp": 1556604172355800, "value": "ws"}],
        "tags": {"http.method": "GET", "http.path": "/api"},
    },
    {
        "traceId": "5af7183fb1d4cf5f",
        "id": "352bff9a74ca9ad2",
        "parentId": "6b221d5bc9e6496c",
        "kind": "SERVER",
        "name": "get /api",
        "timestamp": 1556604172355900,
        "duration": 1000,
        "localEndpoint": {"serviceName": "backend", "ipv4": "192.0.2.2"},
        "tags": {"error": "no such thing"},
        "shared": True,
    },
    {
        "traceId": "5af7183fb1d4cf5f",
        "id": "352bff9a74ca9ad3",
        "parentId": "352bff9a74ca9ad2",
        "localEndpoint": {"serviceName": "backend"},
    },
]

SEGMENT: dict[str, Any] = {
    "name": "example.com",
    "id": "70de5b6f19ff9a0a",
    "start_time": 1478293361.271,
    "end_time": 1478293361.449,
    "trace_id": "1-581cf771-a006649127e371903a2de979",
    "origin": "AWS::EC2::Instance",
    "user": "ann",
    "http": {
        "request": {
            "method": "POST",
            "client_ip": "78.255.233.48",
            "url": "http://www.example.com/api/user?x=1",
            "user_agent": "Mozilla/5.0",
        },
        "response": {"status": 200, "content_length": 12},
    },
    "aws": {"ec2": {"instance_id": "i-0b5a4678fc325bg98"}, "xray": {"sdk": "X-Ray for Java", "sdk_version": "2"}},
    "service": {"version": "7"},
    "annotations": {"customer_category": 124, "zip_code": "98101"},
    "metadata": {"default": {"cart": {"n": 0}}, "debug": {"test": "t"}},
    "subsegments": [
        {
            "id": "53995c3f42cd8ad8",
            "name": "dynamodb",
            "start_time": 1478293361.3,
            "end_time": 1478293361.4,
            "namespace": "aws",
            "http": {"response": {"status": 400}},
            "aws": {
                "table_name": "scorekeep-user",
                "operation": "UpdateItem",
                "request_id": "UBQNSO5AEM8T4FDA4RQDEB94OVTDRVV4K4HIRGVJF66Q9ASUAAJG",
                "resource_names": ["scorekeep-user"],
                "retries": 1,
            },
            "error": True,
            "throttle": True,
            "precursor_ids": ["1"],
            "cause": {
                "working_directory": "/app",
                "exceptions": [
                    {
                        "id": "1",
                        "type": "Slow",
                        "message": "down",
                        "stack": [{"path": "a.py", "line": 3, "label": "inner"}, {"path": "b.py", "line": 9}],
                    }
                ],
            },
        }
    ],
}
"""After the examples of the X-Ray Developer Guide."""
