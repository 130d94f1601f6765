"""What `tail` promotes, as it arrives: over OTLP, in the sqlite file, and under the SDK's own configurator."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.trace import Status, StatusCode

from spanwell.export.sqlite import SqliteSpanExporter
from support.receiver import otlp_receiver
from support.started import stored, traced
from support.tails import EVERYTHING, Tailed


def requests(tailed: Tailed) -> None:
    """One that is fine and one that fails, each with a child."""
    for name in ("fine", "failed"):
        with tailed.tracer.start_as_current_span(name) as root:
            tailed.tracer.start_span(f"child of {name}").end()
            if name == "failed":
                root.set_status(Status(StatusCode.ERROR, "no"))


def test_over_otlp() -> None:
    with otlp_receiver() as receiver:
        tailed = Tailed(exporter=OTLPSpanExporter(endpoint=receiver.endpoint("tail")))
        requests(tailed)
        assert tailed.batch.force_flush(10_000)
        found = [span for _, span in receiver.spans("tail")]
        tailed.batch.finish(1)
    assert [span.name for span in found] == ["child of failed", "failed"]
    child, root = ({item.key: item.value for item in span.attributes} for span in found)
    for attributes in (child, root):
        marker = attributes["aws.trace.flag.sampled"]
        assert (marker.WhichOneof("value"), marker.bool_value) == ("bool_value", False)
    assert root["spanwell.sampling.reason"].string_value == "error"
    assert not any(span.flags & 1 for span in found)
    assert found[0].parent_span_id == found[1].span_id


@pytest.mark.parametrize("sampled", [False, True])
def test_in_the_sqlite_file(tmp_path: Path, sampled: bool) -> None:
    path = tmp_path / "traces.db"
    head = {"head": EVERYTHING} if sampled else {}
    tailed = Tailed(exporter=SqliteSpanExporter(str(path)), **head)  # type: ignore[arg-type]
    requests(tailed)
    assert tailed.batch.force_flush(10_000)
    tailed.batch.finish(1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, flags, attributes FROM span ORDER BY start_ns").fetchall()
    found = {name: (flags & 1, json.loads(attributes or "{}")) for name, flags, attributes in rows}
    if sampled:
        assert found == {
            "fine": (1, {"spanwell.sampling.reason": "rate"}),
            "child of fine": (1, {}),
            "failed": (1, {"spanwell.sampling.reason": "error"}),
            "child of failed": (1, {}),
        }
    else:
        marker = {"aws.trace.flag.sampled": False}
        assert found == {
            "failed": (0, {**marker, "spanwell.sampling.reason": "error"}),
            "child of failed": (0, marker),
        }


STOCK = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
tracer = trace.get_tracer("app")
for name in ("fine", "failed"):
    with tracer.start_as_current_span(name) as root:
        tracer.start_span("child of " + name).end()
        if name == "failed":
            root.set_status(Status(StatusCode.ERROR, "no"))
"""


@pytest.mark.slow
def test_under_the_sdks_own_configurator(tmp_path: Path) -> None:
    env = traced(
        tmp_path / "t.db",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_TRACES_SAMPLER="tail",
        OTEL_TRACES_SAMPLER_ARG="head=(ratio;0)",
    )
    done = subprocess.run([sys.executable, "-c", STOCK], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    spans = {span.name: span.attributes for span in stored(tmp_path / "t.db")}
    marker = {"aws.trace.flag.sampled": False}
    assert spans == {"failed": {**marker, "spanwell.sampling.reason": "error"}, "child of failed": marker}
