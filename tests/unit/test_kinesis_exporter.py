"""The `kinesis` exporter with an injected client and clock: what is sent, what is sent again, what is given up."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from math import inf
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from spanwell._guard import losses
from spanwell.export import kinesis_records
from spanwell.export.dead_letter import DeadLetters, Letter, read
from spanwell.export.kinesis import KinesisSpanExporter
from spanwell.export.kinesis_pace import LEAST, Pace
from spanwell.export.kinesis_records import MAX_RECORD, Record, cost, cost_of, take
from spanwell.export.kinesis_replay import main, replay
from support.kinesis import THROTTLE, Clock, Stream, items, made, refusal
from support.spans import make_span

# --- records ------------------------------------------------------------------------------------------------------


def test_one_record_for_each_trace_keyed_by_its_id() -> None:
    stream = Stream()
    exporter = made(stream)
    spans = [make_span(trace_id=trace, name=f"{trace}-{at}") for at in range(3) for trace in (7, 2**127 + 5)]
    assert exporter.send(items(exporter, *spans)) == (0, "", True)
    assert stream.to == {"StreamName": "spans"}
    assert [key for key, _ in stream.taken] == [f"{7:032x}", f"{2**127 + 5:032x}"]
    for key, data in stream.taken:
        request = ExportTraceServiceRequest.FromString(data)
        found = [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]
        assert {span.trace_id.hex() for span in found} == {key}
        assert len(found) == 3
        assert request.resource_spans[0].resource.attributes[0].value.string_value == "shop"


def test_the_resource_is_read_when_it_is_sent() -> None:
    stream = Stream()
    exporter = made(stream)
    resource = Resource({"service.name": "early"})
    waiting = items(exporter, make_span(resource=resource))
    resource._attributes = {"service.name": "late"}  # type: ignore[assignment]
    exporter.send(waiting)
    assert b"late" in stream.taken[0][1]


def test_json_and_gzip() -> None:
    stream = Stream()
    exporter = made(stream, format="json", compression="gzip")
    exporter.send(items(exporter, make_span(trace_id=1, name="x" * 500)))
    document = json.loads(gzip.decompress(stream.taken[0][1]))
    (span,) = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["name"]) == (f"{1:032x}", "x" * 500)
    assert len(stream.taken[0][1]) < 400


def test_a_large_trace_is_split_and_a_huge_span_is_lost_with_a_reason() -> None:
    stream = Stream()
    exporter = made(stream)
    spans = [make_span(trace_id=1, attributes={"a": "x" * 400_000}) for _ in range(5)]
    huge = make_span(trace_id=2, name="huge", attributes={"a": "x" * 1_100_000})
    lost, reason, reached = exporter.send(items(exporter, *spans, huge))
    assert (lost, reached) == (1, True)
    assert "over Kinesis's limit of 1048576" in reason
    assert len(stream.taken) == 3
    assert max(len(data) for _, data in stream.taken) <= kinesis_records.MAX_PAYLOAD


def test_a_huge_span_does_not_pass_for_an_answer() -> None:
    huge = make_span(trace_id=2, attributes={"a": "x" * 1_100_000})
    exporter = made(Stream(refusal("AccessDeniedException")))
    assert exporter.send(items(exporter, huge))[::2] == (1, True)
    assert exporter.send(items(exporter, huge, make_span()))[::2] == (2, False)


def test_a_huge_span_that_compresses_arrives() -> None:
    stream = Stream()
    exporter = made(stream, compression="gzip")
    assert exporter.send(items(exporter, make_span(attributes={"a": "x" * 3_000_000}))).lost == 0
    assert len(stream.taken) == 1


def test_requests_keep_to_their_limits() -> None:
    pending = [Record(f"{at:032x}", b"x" * 20_000, 1) for at in range(1_200)]
    numbers, sizes = [], []
    while pending:
        request = take(pending, inf)
        numbers.append(len(request))
        sizes.append(sum(record.size for record in request))
    assert sum(numbers) == 1_200
    assert max(sizes) <= 5 * 2**20
    pending = [Record("k", b"", 1) for _ in range(1_200)]
    assert [len(take(pending, inf)) for _ in range(3)] == [500, 500, 200]
    pending = [Record("k" * 32, b"x" * (MAX_RECORD - 32), 1) for _ in range(6)]
    assert [len(take(pending, inf)) for _ in range(2)] == [5, 1]
    pending = [Record("k", b"x" * 99_999, 1) for _ in range(6)]
    assert [len(take(pending, 0.2)) for _ in range(3)] == [2, 2, 2]
    pending = [Record("k", b"x" * 99_999, 1)]
    assert len(take(pending, 0.0)) == 1


# --- what is sent again -------------------------------------------------------------------------------------------


def test_only_failed_entries_are_sent_again() -> None:
    stream = Stream(["", THROTTLE, "", "InternalFailure"], ["", THROTTLE])
    exporter = made(stream)
    assert exporter.send(items(exporter, *[make_span(trace_id=at) for at in range(1, 5)])).lost == 0
    keys = [[int(entry["PartitionKey"], 16) for entry in call] for call in stream.calls]
    assert sorted(keys[0]) == [1, 2, 3, 4]
    assert [key for call in keys[1:] for key in call] == [2, 4, 4] or set(keys[1]) == {2, 4}
    assert Counter(key for key, _ in stream.taken) == Counter(f"{at:032x}" for at in range(1, 5))


@pytest.mark.parametrize(
    "problem",
    [
        refusal(THROTTLE),
        refusal("InternalFailure", status=500),
        EndpointConnectionError(endpoint_url="http://x"),
        ConnectionResetError("reset"),
    ],
)
def test_whole_requests_are_sent_again_after_a_pause(problem: Exception) -> None:
    stream, clock = Stream(problem, problem), Clock()
    exporter = made(stream, clock)
    assert exporter.send(items(exporter, make_span(), make_span(trace_id=2))) == (0, "", True)
    assert len(stream.taken) == 2
    assert clock.waits[:2] == [0.2, 0.4]


def test_it_gives_up_in_time_and_says_why() -> None:
    stream, clock = Stream(*[EndpointConnectionError(endpoint_url="http://x")] * 100), Clock()
    exporter = made(stream, clock)
    begun = clock.now
    lost, reason, reached = exporter.send(items(exporter, make_span(), make_span(trace_id=2)))
    assert (lost, reached) == (2, False)
    assert "check the region" in reason
    assert 5 < clock.now - begun <= 10
    assert len(stream.calls) < 20


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (refusal("AccessDeniedException", "User: u is not authorized"), "allow kinesis:PutRecords"),
        (refusal("ResourceNotFoundException", "Stream spans not found."), "spanwell creates none"),
        (refusal("ExpiredTokenException"), "have expired"),
        (NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_would_fail_again_is_not_sent_again(problem: Exception, words: str) -> None:
    stream, clock = Stream(problem), Clock()
    exporter = made(stream, clock)
    many = [make_span(trace_id=at) for at in range(1, 701)]
    lost, reason, reached = exporter.send(items(exporter, *many))
    assert (lost, reached, len(stream.calls), clock.waits) == (700, False, 1, [])
    assert words in reason
    assert exporter.send(items(exporter, make_span())) == (0, "", True)


def test_a_refused_request_takes_no_other_with_it() -> None:
    stream = Stream(refusal("ValidationException"))
    exporter = made(stream)
    lost, reason, reached = exporter.send(items(exporter, *[make_span(trace_id=at) for at in range(1, 701)]))
    assert (lost, reached, len(stream.taken)) == (500, True, 200)
    assert "ValidationException" in reason


def test_an_entry_that_is_refused_for_good_is_lost_alone() -> None:
    stream = Stream(["", "AccessDeniedException", THROTTLE])
    exporter = made(stream)
    lost, reason, reached = exporter.send(items(exporter, *[make_span(trace_id=at) for at in range(1, 4)]))
    assert (lost, reached, len(stream.taken)) == (1, True, 2)
    assert "AccessDeniedException" in reason


def test_an_answer_that_is_too_short_leaves_the_rest_to_be_sent_again() -> None:
    stream = Stream(lambda entries: [""] * (len(entries) - 1))
    exporter = made(stream)
    assert exporter.send(items(exporter, *[make_span(trace_id=at) for at in range(1, 4)])).lost == 0
    assert [len(call) for call in stream.calls] == [3, 1]


def test_the_last_attempt_waits_for_nothing_and_goes_on_while_something_is_taken() -> None:
    stream, clock = Stream(THROTTLE, ["", THROTTLE, THROTTLE], ["", THROTTLE], THROTTLE), Clock()
    exporter = made(stream, clock)
    exporter.last_attempt()
    many = [make_span(trace_id=at) for at in range(1, 701)]
    assert exporter.send(items(exporter, *many))[::2] == (700, False)
    assert exporter.send(items(exporter, *[make_span(trace_id=at) for at in range(1, 4)]))[::2] == (1, True)
    assert (len(stream.calls), clock.waits) == (4, [])


# --- how fast -----------------------------------------------------------------------------------------------------


def test_the_pace_is_unlimited_until_it_is_throttled_and_recovers() -> None:
    pace = Pace()
    for at in range(5):
        pace.sent(at * 0.1, 5.0, 5.0)
        assert (pace.rate, pace.wait(at * 0.1)) == (inf, 0.0)
    pace.sent(0.5, 5.0, 1.0)
    assert pace.rate == pytest.approx(0.7 * 26)
    first = pace.rate
    pace.sent(0.6, 5.0, 1.0)
    assert pace.rate == first, "one stretch of throttling counts once"
    pace.sent(2.0, 1.0, 0.0)
    assert pace.rate == pytest.approx(0.7 * first)
    lower = pace.rate
    pace.sent(4.0, 1.0, 1.0)
    assert pace.rate == pytest.approx(lower + 0.4)
    pace.sent(63.0, 1.0, 1.0)
    assert pace.rate == inf


def test_the_pace_has_a_floor_and_its_pauses_a_ceiling() -> None:
    pace = Pace()
    now = 0.0
    for _ in range(100):
        now += 1
        pace.sent(now, 1.0, 0.001)
    assert pace.rate == LEAST
    pace.sent(now, 1.0, 1.0)
    assert 0 < pace.wait(now) <= 2.0


def test_a_throttling_stream_gets_what_it_takes_and_no_more() -> None:
    """A model of two shards: what is beyond 2 shard-seconds a second is throttled."""
    clock = Clock()
    state = {"tokens": 2.0, "at": clock.now}

    def answer(entries: list[dict[str, Any]]) -> list[str]:
        state["tokens"] = min(2.0, state["tokens"] + 2.0 * (clock.now - state["at"]))
        state["at"] = clock.now
        codes = []
        for entry in entries:
            need = cost(1, len(entry["Data"]) + 32)
            codes.append("" if state["tokens"] >= need else THROTTLE)
            state["tokens"] -= need if state["tokens"] >= need else 0
        clock.now += 0.01
        return codes

    stream = Stream(*[answer] * 100_000)
    exporter = made(stream, clock)
    tried = taken = 0
    begun = clock.now
    for _ in range(30):  # 0.9 shard-seconds each second
        batch = [Record(f"{at:032x}", b"x" * 9_000, 1) for at in range(100)]
        assert exporter.put(batch).lost == 0
        clock.now += 1.0
    tried, taken = sum(len(call) for call in stream.calls), len(stream.taken)
    assert (taken, tried) == (3_000, 3_000), "within the limit nothing is throttled"
    begun = clock.now
    lost = 0
    for _ in range(20):  # as fast as it can
        lost += exporter.put([Record(f"{at:032x}", b"x" * 9_000, 1) for at in range(1_000)]).lost
    spent = clock.now - begun
    taken = len(stream.taken) - taken
    tried = sum(len(call) for call in stream.calls) - tried
    assert taken + lost == 20_000
    assert taken * 0.009 / spent > 1.0, "half of the stream is used at least"
    assert tried < 2 * taken, "most of what is tried is taken"


# --- what is given up ---------------------------------------------------------------------------------------------


def test_dead_letters_hold_what_was_lost_and_can_be_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "letters"
    broken = Stream(refusal("AccessDeniedException", "no"))
    exporter = made(broken, dead_letters=str(path))
    spans = [make_span(trace_id=at % 3 + 1) for at in range(9)]
    lost, reason, _ = exporter.send(items(exporter, *spans))
    assert lost == 9
    assert f"they are kept in {path}" in reason
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(letter.stream, letter.key, letter.spans) for letter in read(str(path)) if letter] == [
        ("spans", f"{at:032x}", 3) for at in (1, 2, 3)
    ]
    stream = Stream(["", refusal_code := "AccessDeniedException", ""])
    assert replay(str(path), client=stream)[:3] == (6, 3, 0)
    assert refusal_code in (next(read(str(path))) or Letter("", "", b"", 0, "")).reason
    assert replay(str(path), stream="other", client=stream)[:3] == (3, 0, 0)
    assert stream.to == {"StreamName": "other"}
    assert sorted(path.parent.iterdir()) == []
    assert sorted(stream.taken) == sorted((entry["PartitionKey"], entry["Data"]) for entry in broken.calls[0])


def test_dead_letters_are_bounded_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    letters = DeadLetters(str(tmp_path / "letters"), max_bytes=3_000)
    exporter = made(Stream(refusal("AccessDeniedException")), dead_letters=letters)
    lost, reason, _ = exporter.send(items(exporter, *[make_span(trace_id=at) for at in range(1, 40)]))
    kept = letters.kept
    assert lost == 39
    assert 0 < kept < 39
    assert f"{kept} of them are kept in" in reason
    assert "is full (3000 bytes)" in caplog.text
    assert (tmp_path / "letters").stat().st_size <= 3_000


def test_a_dead_letter_file_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    exporter = made(Stream(refusal("AccessDeniedException")), dead_letters=str(tmp_path / "file" / "letters"))
    lost, reason, _ = exporter.send(items(exporter, make_span()))
    assert lost == 1
    assert "kept" not in reason
    assert "cannot be written" in caplog.text


def test_damaged_letters_are_told_of_and_a_cut_replay_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "letters"
    DeadLetters(str(path)).write([Letter("spans", "k", b"x", 2, "why")])
    with path.open("ab") as file:
        file.write(b'{"stream": "spans", "key"\n[]\n')
    path.rename(f"{path}.replaying")  # as a replay leaves it that was killed
    stream = Stream()
    assert replay(str(path), client=stream) == (2, 0, 2, "")
    assert stream.taken == [("k", b"x")]
    assert main([str(path)]) == 2
    assert "No such file" in capsys.readouterr().err


# --- the rest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "words"), [("", "set SPANWELL_KINESIS_STREAM"), ("a b", "'a b' is no name"), ("arn:x", "'arn:x'")]
)
def test_a_stream_must_be_named(stream: str, words: str) -> None:
    with pytest.raises(ValueError, match="SPANWELL_KINESIS_STREAM") as raised:
        KinesisSpanExporter(stream)
    assert words in str(raised.value)


def test_an_arn_is_used_with_its_region() -> None:
    arn = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/my.stream-1"
    stream = Stream()
    exporter = KinesisSpanExporter(arn, client=stream)
    exporter.export([make_span()])
    assert stream.to == {"StreamARN": arn}
    assert KinesisSpanExporter(arn)._make_client().meta.region_name == "cn-north-1"


def test_used_alone_it_counts_and_reports(caplog: pytest.LogCaptureFixture) -> None:
    exporter = made(Stream(refusal("AccessDeniedException", "no")))
    assert exporter.export([make_span(), make_span()]) is SpanExportResult.FAILURE
    assert losses.snapshot() == {("spans", "export failed (kinesis)"): 2}
    assert caplog.text.count("did not reach exporter kinesis: AccessDeniedException: no (allow kinesis:Put") == 1


def test_costs_and_close() -> None:
    assert cost_of([Record("k", b"x" * 499_999, 1)]) == 0.5
    assert cost_of([Record("k", b"", 1)] * 500) == 0.5
    stream = Stream()
    exporter = made(stream)
    exporter.export([make_span()])
    exporter.shutdown()
    exporter.shutdown()
    assert stream.closed


def test_odd_spans_are_lost_alone() -> None:
    stream = Stream()
    exporter = made(stream)
    odd = make_span(name="odd \ud800", attributes={"a": float("nan"), "b": object(), "c": None, "d": "\udfff"})
    bare = make_span()
    bare._context = None  # type: ignore[assignment]
    exporter.export([odd, bare, make_span(trace_id=9)])
    assert len(stream.taken) == 2
    assert losses.total("spans") == 1
