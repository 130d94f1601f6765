"""Files of other programs' traces: each format as its documentation shows it, and odd ones."""

from __future__ import annotations

import copy
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from spanwell.analysis.tree import Tree
from spanwell.explore.formats import json_values
from spanwell.explore.formats.files import Source, Tally
from spanwell.explore.model import ExploreError
from support.formats import JAEGER, OTLP, SEGMENT, ZIPKIN, found, read, reasons
from support.real_traces import DATA


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.json"


def changed(tree: Any, *keys: Any, to: Any) -> Any:
    made = copy.deepcopy(tree)
    inner = made
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return made


SPAN = ("resourceSpans", 0, "scopeSpans", 0, "spans", 0)


def test_otlp(path: Path) -> None:
    (span,), tally = read(path, OTLP)
    assert (span.trace_id, span.span_id, span.parent_id) == (
        "5b8efff798038103d269b633813fc60c",
        "eee19b7ec3c1b174",
        "eee19b7ec3c1b173",
    )
    assert (span.kind, span.service, span.status, span.status_message) == ("server", "my.service", "error", "no")
    assert (span.start_ns, span.duration) == (1544712660000000000, 10**9)
    assert (span.scope, span.scope_version, span.flags, span.dropped_attributes) == ("my.library", "1.0.0", 257, 3)
    assert span.attributes == {
        "my.span.attr": "some value",
        "n": 12,
        "m": -3,
        "f": 0.5,
        "inf": -math.inf,
        "b": True,
        "raw": b"\x00\x01",
        "list": [1, None],
        "map": {"k": "v"},
        "none": None,
    }
    assert span.events[0].name == "e"
    assert span.links[0] == ("01" * 16, "02" * 8, {}, "a=b")
    assert dict(tally.formats) == {"otlp": 1}


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (json.dumps(OTLP) + "\n" + json.dumps(OTLP) + "\n", 2),
        (json.dumps([OTLP, OTLP, OTLP]), 3),
        (json.dumps(OTLP, indent=2), 1),
        (json.dumps({"result": OTLP}), 1),
        (json.dumps({"batches": OTLP["resourceSpans"]}), 1),
        ("\ufeff" + json.dumps(OTLP), 1),
        (json.dumps(OTLP) + "\n\n" + '{"resourceLogs": []}\n{}\n', 1),
        ("", 0),
        ("[]", 0),
    ],
)
def test_otlp_in_all_shapes(path: Path, content: str, number: int) -> None:
    spans, tally = read(path, content)
    assert len(spans) == number
    assert tally.refused == 0


def test_names_of_enums(path: Path) -> None:
    request = changed(
        changed(OTLP, *SPAN, "kind", to="SPAN_KIND_CLIENT"), *SPAN, "status", to={"code": "STATUS_CODE_OK"}
    )
    (span,), _ = read(path, request)
    assert (span.kind, span.status) == ("client", "ok")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("traceId", "xyz", "the trace id 'xyz' is not 1 to 32 hexadecimal digits, one of them not 0"),
        ("traceId", "0" * 32, "is not 1 to 32 hexadecimal digits"),
        ("traceId", None, "the trace id is missing"),
        ("traceId", 7, "the trace id 7 is no text"),
        ("spanId", "1" * 17, "is not 1 to 16 hexadecimal digits"),
        ("spanId", "11 22 33 44 55 6", "is not 1 to 16 hexadecimal digits"),
        ("parentSpanId", "zz", "the parent id 'zz'"),
        ("startTimeUnixNano", "soon", "startTimeUnixNano 'soon' is no whole number"),
        ("startTimeUnixNano", str(2**70), "out of range"),
        ("startTimeUnixNano", "-1", "out of range"),
        ("startTimeUnixNano", None, "startTimeUnixNano None is no whole number"),
        ("startTimeUnixNano", 0, "startTimeUnixNano is missing"),
        ("attributes", 3, "wrong type"),
        ("attributes", [{"value": {"stringValue": "x"}}], "the field 'key' is missing"),
        ("attributes", [{"key": "a", "value": {"strange": 1}}], "a value has the unknown type 'strange'"),
        ("events", {}, ""),
        ("events", {"a": 1}, "events is no list but an object"),
        ("links", [{"traceId": "1"}], "the span id is missing"),
        ("kind", 77, "77"),
        ("status", "bad", "wrong type"),
    ],
)
def test_a_bad_span_is_counted_and_the_others_are_there(path: Path, field: str, value: Any, reason: str) -> None:
    bad = changed(OTLP, *SPAN, field, to=value)
    spans, tally = read(path, "\n".join(map(json.dumps, [OTLP, bad, OTLP])))
    if not reason:
        assert len(spans) == 3
        return
    assert len(spans) == 2
    assert tally.refused == 1
    assert reasons(tally)[0].startswith("line 2, scopeSpans[0].spans[0]: ")
    assert reason in reasons(tally)[0]


def test_short_and_padded_ids(path: Path) -> None:
    request = changed(changed(OTLP, *SPAN, "traceId", to="AB"), *SPAN, "parentSpanId", to="0" * 16)
    (span,), _ = read(path, request)
    assert span.trace_id == "ab".zfill(32)
    assert span.parent_id is None


def test_jaeger(path: Path) -> None:
    (first, second), tally = read(path, JAEGER)
    assert first.trace_id == "0" * 16 + "ab9cd45f9ab2ab9c"
    assert (first.span_id, first.parent_id, second.parent_id) == ("1".zfill(16), None, "1".zfill(16))
    assert (first.kind, first.service, first.status, first.status_message) == ("server", "frontend", "error", "boom")
    assert (first.start_ns, first.duration, first.scope) == (1600000000000001000, 700_000, "lib")
    assert first.attributes == {"http.status_code": 500, "ratio": 0.25, "raw": b"\x00\x01", "text.number": 7}
    assert first.resource == {"service.name": "frontend", "hostname": "h1"}
    assert first.events == (("retry", 1600000000000100000, {"left": 2}),)
    assert second.links[0][:2] == ("ff".zfill(32), "f".zfill(16))
    assert tally.refused == 0


def test_jaeger_bare_traces_and_bad_spans(path: Path) -> None:
    trace = JAEGER["data"][0]
    spans, _ = read(path, trace)
    assert len(spans) == 2
    spans, tally = read(path, changed(JAEGER, "data", 0, "spans", 1, "duration", to=-5))
    assert (len(spans), reasons(tally)) == (1, ["data 0, spans[1]: duration -5 is negative"])
    spans, tally = read(path, changed(JAEGER, "data", 0, "spans", 0, "processID", to="p9"))
    assert [span.service for span in spans] == ["unknown_service", "driver"]


def test_zipkin(path: Path) -> None:
    (client, server, late), tally = read(path, ZIPKIN)
    assert client.span_id == server.span_id
    assert (client.kind, server.kind, late.kind) == ("client", "server", "internal")
    assert client.attributes["peer.service"] == "backend"
    assert client.attributes["network.peer.address"] == "192.0.2.2"
    assert client.attributes["network.local.port"] == 3306
    assert client.resource == {"service.name": "frontend", "host.ip": ["192.0.2.1"]}
    assert client.events[0][:2] == ("ws", 1556604172355800000)
    assert (server.status, server.status_message) == ("error", "no such thing")
    assert late.start_ns == client.start_ns
    assert late.attributes["spanwell.time_unknown"] is True
    assert tally.refused == 0


def test_zipkin_lists_of_lists_and_no_time_at_all(path: Path) -> None:
    spans, _ = read(path, [ZIPKIN[:2], ZIPKIN[2:]])
    assert len(spans) == 3
    spans, tally = read(path, [ZIPKIN[2], changed(ZIPKIN[0], "traceId", to="aa")])
    assert (len(spans), reasons(tally)) == (1, ["item 0: no span of its trace has a timestamp"])


def test_xray(path: Path) -> None:
    (segment, call), tally = read(path, SEGMENT)
    assert segment.trace_id == "581cf771a006649127e371903a2de979"
    assert (segment.name, segment.kind, segment.service) == ("POST /api/user", "server", "example.com")
    assert (segment.start_ns, segment.duration) == (1478293361271000000, 178_000_000)
    assert segment.attributes["http.request.method"] == "POST"
    assert segment.attributes["url.path"] == "/api/user"
    assert segment.attributes["http.response.status_code"] == 200
    assert segment.attributes["customer_category"] == 124
    assert segment.attributes["aws.xray.annotations"] == ["customer_category", "zip_code"]
    assert segment.attributes["cart"] == {"n": 0}
    assert segment.attributes["user.id"] == "ann"
    assert segment.attributes["aws.xray.metadata.debug"] == '{"test":"t"}'
    assert segment.resource["host.id"] == "i-0b5a4678fc325bg98"
    assert segment.resource["cloud.platform"] == "aws_ec2"
    assert segment.resource["service.version"] == "7"
    assert (call.name, call.kind, call.service) == ("dynamodb.UpdateItem", "client", "example.com")
    assert (call.parent_id, call.status, call.status_message) == (segment.span_id, "error", "down")
    assert call.attributes["rpc.method"] == "UpdateItem"
    assert call.attributes["aws.dynamodb.table_names"] == ["scorekeep-user"]
    assert call.attributes["spanwell.throttled"] is True
    assert call.attributes["retry_attempts"] == 1
    assert 'File "a.py", line 3, in inner\nSlow: down' in call.events[0].attributes["exception.stacktrace"]
    assert tally.refused == 0


def test_xray_documents_of_the_interface(path: Path) -> None:
    below = {**SEGMENT["subsegments"][0], "trace_id": SEGMENT["trace_id"], "type": "subsegment"}
    below["parent_id"] = SEGMENT["id"]
    alone = {key: value for key, value in SEGMENT.items() if key != "subsegments"}
    inferred = {**alone, "id": "00000000000000aa", "inferred": True, "parent_id": below["id"]}
    segments = [{"Id": each["id"], "Document": json.dumps(each)} for each in (below, alone, inferred)]
    segments.append({"Id": "x", "Document": "{"})
    answer = {"Traces": [{"Id": SEGMENT["trace_id"], "Segments": segments}], "UnprocessedTraceIds": []}
    spans, tally = read(path, answer)
    assert {span.service for span in spans} == {"example.com"}
    assert len(Tree(spans).roots) == 1
    assert len(spans) == 2
    assert tally.left_out == 1
    assert reasons(tally)[0].startswith("Traces 0, Traces[0].Segments[3]: its Document cannot be read")


def test_xray_in_progress_is_replaced_or_kept_open(path: Path) -> None:
    open_one = {**SEGMENT, "in_progress": True, "subsegments": []}
    del open_one["end_time"]
    header = '{"format":"json","version":1}'
    spans, tally = read(path, "\n".join([header, json.dumps(open_one), json.dumps(SEGMENT)]))
    assert (len(spans), tally.left_out) == (2, 1)
    assert spans[0].duration > 0
    (span,), _ = read(path, "\n".join([header, json.dumps(open_one)]))
    assert span.attributes["aws.xray.inprogress"] is True
    assert span.duration == 0


def test_a_subsegment_without_its_segment(path: Path) -> None:
    below = {
        **SEGMENT["subsegments"][0],
        "trace_id": SEGMENT["trace_id"],
        "type": "subsegment",
        "parent_id": "a" * 16,
    }
    (span,), _ = read(path, below)
    assert (span.service, span.parent_id) == ("unknown_service", "a" * 16)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("trace_id", "1-5-1", "is not 1-8 digits-24 digits"),
        ("trace_id", ["a"], "is no text"),
        ("start_time", "now", "start_time 'now' is no time in seconds"),
        ("start_time", None, "no start_time"),
        ("id", 5, "the span id 5 is no text"),
        ("http", [], "http is no object but a list"),
        ("cause", {"exceptions": 5}, "exceptions is no list but a number"),
    ],
)
def test_bad_segments(path: Path, field: str, value: Any, reason: str) -> None:
    bad = {**SEGMENT, field: value, "subsegments": []}
    spans, tally = read(
        path, "\n".join([json.dumps(bad), json.dumps({**SEGMENT, "trace_id": "1-581cf771-" + "b" * 24})])
    )
    assert len(spans) == 2
    assert reasons(tally)[0].startswith("line 1: ")
    assert reason in reasons(tally)[0]


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_truncated_document_gives_what_is_whole(path: Path) -> None:
    request = copy.deepcopy(OTLP)
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans += [{**spans[0], "spanId": f"{number:016x}"} for number in range(1, 4)]
    content = json.dumps(request)
    read_spans, tally = read(path, content[: content.index('"0000000000000003"')])
    assert len(read_spans) == 3
    assert tally.refused >= 1
    assert "the file ends in the middle of it" in reasons(tally)[-1]


def test_truncated_lines_lists_and_packed_files(path: Path) -> None:
    line = json.dumps(OTLP)
    spans, tally = read(path, f"{line}\n{line[:100]}\n{line}\n")
    assert (len(spans), tally.refused) == (2, 1)
    assert reasons(tally)[0].startswith("line 2: it is no JSON")
    spans, tally = read(path, json.dumps(ZIPKIN)[:-40])
    assert (len(spans), tally.refused) == (2, 1)
    assert reasons(tally)[0].startswith("item 2: no JSON from character")
    packed = gzip.compress((line + "\n").encode() * 2000 + bytes(range(256)) * 50)
    spans, tally = read(path, packed[: len(packed) * 3 // 4])
    assert len(spans) > 100
    assert any("cannot be read" in reason for reason in reasons(tally))


def test_packed_whatever_it_is_called(path: Path) -> None:
    spans, tally = read(path, gzip.compress(json.dumps(JAEGER).encode()))
    assert (len(spans), tally.refused) == (2, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("hello", "character 0: it is no JSON: 'h' is no start of a list or object"),
        ("\x00\x01", "is no start of a list or object"),
        ('{"a": 1, "b": 2}', "no OTLP, Jaeger, Zipkin or X-Ray JSON: an object with a, b"),
        ("[1, 2]", "item 0: it is no object"),
        ('{"resourceSpans": 5}', "resourceSpans is no list but a number"),
        ("[" * 100_000, "nested too deep"),
        ('{"traceID": ' + "[" * 100_000, "nested too deep"),
    ],
)
def test_files_of_something_else(path: Path, content: str, reason: str) -> None:
    spans, tally = read(path, content)
    assert spans == []
    assert reason in reasons(tally)[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExploreError, match=r"cannot read .*missing.json: No such file"):
        Source(str(tmp_path / "missing.json"), Tally())
    with pytest.raises(ExploreError, match="cannot read"):
        Source(str(tmp_path), Tally())


@pytest.mark.parametrize("piece", [1, 2, 7, 4096])
def test_values_do_not_depend_on_how_the_file_is_read(piece: int) -> None:
    trees = [
        json.dumps([1, -2.5e3, 'é\\"]', {"a": [None, True]}, []], ensure_ascii=False),
        json.dumps({"data": [{"x": 1}, {"y": [2]}], "total": 12, "errors": None}, indent=1),
        '{"a": 1}\n{"b": "é"}\n\n  {"c": 3}',
        '{"a": 1}{"b": 2}',
    ]
    for tree in trees:
        assert found(tree, piece) == found(tree)
    assert [each.value for each in found(trees[1], piece)] == [{"data": [{"x": 1}]}, {"data": [{"y": [2]}]}]
    assert [each.where for each in found(trees[2], piece)] == ["line 1", "line 2", "line 4"]


def test_more_than_can_be_parsed_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "MAX_ITEM", 2**20)
    monkeypatch.setattr(json_values, "_CHUNK", 2**16)
    long = json.dumps({"resourceSpans": ["x" * 2**21]})
    (only,) = found(long)
    assert only.problem.startswith("it is longer than 1 MiB, which is parsed at once: write one request")
    lines = found('{"a": 1}\n' + long + '\n{"b": 2}\n')
    assert [(each.where, bool(each.problem)) for each in lines] == [
        ("line 1", False),
        ("line 2", True),
        ("line 3", False),
    ]


def test_real_files() -> None:
    for name, number in (("zipkin_smartthings_call.json", 21), ("xray_sdk_python_capture.jsonl", 18)):
        tally = Tally()
        assert len(list(Source(str(DATA / name), tally).records())) == number
        assert tally.refused == 0
