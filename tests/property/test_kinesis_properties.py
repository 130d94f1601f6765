"""Every span is in an acknowledged record exactly once, or in the loss count and in the dead letters, once too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanwell.export.dead_letter import read
from spanwell.export.kinesis_pace import LEAST, Pace
from spanwell.export.kinesis_records import MAX_PAYLOAD, MAX_RECORD, MAX_RECORDS, MAX_REQUEST
from support.kinesis import THROTTLE, Stream, items, made, refusal, span_ids
from support.spans import make_span

CODES = st.sampled_from(["", "", "", THROTTLE, "InternalFailure", "AccessDeniedException"])
WHOLE = st.sampled_from(["throttle", "reset", "denied", "invalid", "short"])
SIZES = st.sampled_from([0, 10, 2_000, 90_000, 400_000, 1_100_000])


def answer_of(drawn: Any) -> Any:
    if isinstance(drawn, list):
        return lambda entries: [drawn[at % len(drawn)] for at in range(len(entries))]
    return {
        "throttle": refusal(THROTTLE),
        "reset": ConnectionResetError("reset"),
        "denied": refusal("AccessDeniedException"),
        "invalid": refusal("ValidationException"),
        "short": lambda entries: [""] * (len(entries) // 2),
    }[drawn]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(st.one_of(st.lists(CODES, min_size=1, max_size=7), WHOLE), max_size=12),
    spans=st.lists(st.tuples(st.integers(1, 9), SIZES), max_size=30),
    compression=st.sampled_from(["none", "gzip"]),
    last=st.booleans(),
)
def test_every_span_is_taken_once_or_counted_once(
    tmp_path: Path, answers: list[Any], spans: list[tuple[int, int]], compression: str, last: bool
) -> None:
    path = tmp_path / "letters"
    path.unlink(missing_ok=True)
    stream = Stream(*map(answer_of, answers))
    exporter = made(stream, dead_letters=str(path), compression=compression)
    if last:
        exporter.last_attempt()
    sent = [
        make_span(trace_id=trace, span_id=number, attributes={"a": "x" * size})
        for number, (trace, size) in enumerate(spans, 1)
    ]
    lost, reason, _ = exporter.send(items(exporter, *sent))
    taken = span_ids(data for _, data in stream.taken)
    letters = [letter for letter in (read(str(path)) if path.exists() else ()) if letter is not None]
    given_up = span_ids(letter.data for letter in letters)
    assert taken + given_up == dict.fromkeys(range(1, len(spans) + 1), 1)
    assert sum(given_up.values()) == sum(letter.spans for letter in letters) == lost
    assert bool(reason) == bool(lost)
    for call in stream.calls:
        sizes = [len(entry["Data"]) + len(entry["PartitionKey"]) for entry in call]
        assert len(sizes) <= MAX_RECORDS
        assert sum(sizes) <= MAX_REQUEST
        assert max(sizes) <= MAX_RECORD
    for key, data in stream.taken:
        assert len(span_ids([data])) == 1 or compression == "gzip" or len(data) <= MAX_PAYLOAD
        assert {f"{spans[number - 1][0]:032x}" for number in span_ids([data])} == {key}


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.001, 10), st.floats(0, 1))))
def test_the_pace_never_stops_a_stream(steps: list[tuple[float, float, float]]) -> None:
    pace, now = Pace(), 0.0
    for pause, tried, share in steps:
        now += pause
        before = pace.rate
        pace.sent(now, tried, tried * share)
        assert pace.rate >= LEAST
        assert 0 <= pace.wait(now) <= 2.0 + 1e-9
        if share < 1:
            assert pace.rate <= before


@pytest.mark.parametrize("number", [0, 1])
def test_nothing_to_send_is_sent_nowhere(number: int) -> None:
    stream = Stream()
    exporter = made(stream)
    exporter.send(items(exporter, *[make_span() for _ in range(number)]))
    assert len(stream.calls) == number
