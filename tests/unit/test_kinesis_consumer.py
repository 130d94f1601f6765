"""The example of a consumer reads what the exporter makes, and its document knows every setting."""

from __future__ import annotations

import base64
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from spanwell.settings import Settings
from support.kinesis import Stream, items, made
from support.spans import START, make_span

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def consumer() -> Any:
    found = importlib.util.spec_from_file_location("kinesis_consumer", ROOT / "examples" / "kinesis_consumer.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("format", ["protobuf", "json"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_decoder_reads_every_form(consumer: Any, format: str, compression: str) -> None:
    stream = Stream()
    exporter = made(stream, format=format, compression=compression)
    spans = [make_span(trace_id=3, span_id=4), make_span(trace_id=3, span_id=5, parent=4, name="äh", error="no")]
    exporter.send(items(exporter, *spans))
    ((_, data),) = stream.taken
    trace = f"{3:032x}"
    assert list(consumer.spans_of(data)) == [
        (trace, f"{4:016x}", "", "shop", "work", START, START + 1_000_000, 0),
        (trace, f"{5:016x}", f"{4:016x}", "shop", "äh", START, START + 1_000_000, 2),
    ]


def event(*payloads: bytes) -> dict[str, Any]:
    return {
        "Records": [
            {"kinesis": {"data": base64.b64encode(data).decode(), "sequenceNumber": str(number)}}
            for number, data in enumerate(payloads, 1)
        ]
    }


def test_the_handler_uses_a_span_once_and_names_the_first_record_that_fails(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream()
    exporter = made(stream)
    exporter.send(items(exporter, make_span(trace_id=1), make_span(trace_id=2)))
    one, two = (data for _, data in stream.taken)
    used: list[Any] = []
    monkeypatch.setattr(consumer, "use", used.append)
    assert consumer.handler(event(one, one, two), None) == {"batchItemFailures": []}
    assert [int(span.trace_id, 16) for span in used] == [1, 2]
    assert consumer.handler(event(one, b"\xff", two), None) == {"batchItemFailures": [{"itemIdentifier": "2"}]}


def test_the_document_names_every_setting() -> None:
    ours = {row.variable for row in Settings.rows() if row.variable.startswith("SPANWELL_KINESIS_")}
    assert set(re.findall(r"SPANWELL_KINESIS_\w+", (ROOT / "docs" / "kinesis.md").read_text())) == ours
