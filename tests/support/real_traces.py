"""Real traces that nobody here wrote, as records: see the notes beside the files in tests/data."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spanwell.record import SpanRecord

DATA = Path(__file__).parent.parent / "data"


def nezha(path: Path = DATA / "nezha_onlineboutique_traces.csv") -> dict[str, list[SpanRecord]]:
    """The traces of an OnlineBoutique; they have neither kinds nor attributes."""
    found: dict[str, list[SpanRecord]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            parent = None if row["ParentID"] == "root" else row["ParentID"]
            service = row["PodName"].rsplit("-", 2)[0]
            times = int(row["StartTimeUnixNano"]), int(row["EndTimeUnixNano"])
            span = SpanRecord(
                row["TraceID"], row["SpanID"], parent, row["OperationName"], "internal", service, *times
            )
            found.setdefault(span.trace_id, []).append(span)
    return found


def zipkin(path: Path = DATA / "zipkin_smartthings_call.json") -> dict[str, list[SpanRecord]]:
    """Zipkin v2 JSON."""
    found: dict[str, list[SpanRecord]] = {}
    for each in json.loads(path.read_text()):
        start = each.get("timestamp", 0) * 1_000
        span = SpanRecord(
            each["traceId"],
            each["id"],
            each.get("parentId"),
            each.get("name", ""),
            each.get("kind", "internal").lower(),
            each.get("localEndpoint", {}).get("serviceName", ""),
            start,
            start + each.get("duration", 0) * 1_000,
            "error" if "error" in each.get("tags", {}) else "unset",
            attributes=each.get("tags", {}),
        )
        found.setdefault(span.trace_id, []).append(span)
    return found


def xray(path: Path = DATA / "xray_sdk_python_capture.jsonl") -> dict[str, list[SpanRecord]]:
    """X-Ray segment documents, a line each; subsegments are spans too."""
    found: dict[str, list[SpanRecord]] = {}
    for line in path.read_text().splitlines():
        segment = json.loads(line)
        for span in _xray_spans(segment, None, segment["name"], segment["trace_id"].replace("-", "")[1:]):
            found.setdefault(span.trace_id, []).append(span)
    return found


def _xray_spans(part: dict[str, Any], parent: str | None, service: str, trace_id: str) -> Iterator[SpanRecord]:
    attributes: dict[str, Any] = {}
    if part.get("namespace") == "aws":
        attributes = {
            "rpc.system": "aws-api",
            "rpc.service": part["name"],
            "rpc.method": part.get("aws", {}).get("operation", ""),
        }
    request, response = (part.get("http", {}).get(each, {}) for each in ("request", "response"))
    attributes.update({"http.request.method": request["method"]} if "method" in request else {})
    attributes.update({"http.response.status_code": response["status"]} if "status" in response else {})
    for thrown in part.get("cause", {}).get("exceptions", ()):
        attributes["error.type"] = thrown.get("type", "")
    kind = "client" if part.get("namespace") in ("aws", "remote") else "internal" if parent else "server"
    failed = part.get("fault") or part.get("error") or part.get("throttle")
    yield SpanRecord(
        trace_id,
        part["id"],
        part.get("parent_id", parent),
        part["name"],
        kind,
        service,
        int(part["start_time"] * 1e9),
        int(part["end_time"] * 1e9),
        "error" if failed else "unset",
        attributes=attributes,
    )
    for child in part.get("subsegments", ()):
        yield from _xray_spans(child, part["id"], service, trace_id)
