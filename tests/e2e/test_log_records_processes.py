"""Ids on the log records of real applications, as spanwell starts them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.started import LAUNCHERS, clean, python, stored, traced

pytestmark = pytest.mark.slow

PLAIN = """
import logging, sys
out = logging.StreamHandler(sys.stdout)
out.setFormatter(logging.Formatter("%(message)s|%(trace_id)s|%(span_id)s|%(xray_trace_id)s|%(otelTraceID)s"))
from opentelemetry import trace
tracer = trace.get_tracer("scenario")
logging.basicConfig(handlers=[out], level="INFO")
logging.info("outside")
with tracer.start_as_current_span("work"):
    logging.info("inside", extra={"span_id": "mine"})
    logging.info("inside")
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_format_may_name_the_ids(tmp_path: Path, launcher: str) -> None:
    db = tmp_path / "traces.db"
    done = python(PLAIN, traced(db), launcher=launcher)
    assert done.code == 0, done.err
    (span,) = stored(db)
    trace_id = span.trace_id
    xray = f"1-{trace_id[:8]}-{trace_id[8:]}"
    own = [line for line in done.out.splitlines() if "side" in line]
    assert own == [
        "outside||||0",
        f"inside|{trace_id}|mine|{xray}|{trace_id}",
        f"inside|{trace_id}|{span.span_id}|{xray}|{trace_id}",
    ]


SEEN = """
import logging, sys
class Seen(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), sorted({"trace_id", "xray_trace_id", "otelTraceID"} & vars(record).keys()))
from opentelemetry import trace
logger = logging.getLogger("shop")
logger.addHandler(Seen())
with trace.get_tracer("scenario").start_as_current_span("work"):
    logger.warning("x")
"""


def test_the_setting_switches_it_off(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    assert python(SEEN, traced(db)).out == "x ['otelTraceID', 'trace_id', 'xray_trace_id']\n"
    assert python(SEEN, traced(db, SPANWELL_LOG_CORRELATION="false")).out == "x []\n"
    assert python(SEEN, clean(OTEL_SDK_DISABLED="true")).out == "x []\n"


def test_upstreams_correlation_goes_on_as_before(tmp_path: Path) -> None:
    code = 'import logging\nfrom opentelemetry import trace\ntrace.get_tracer("x")\nlogging.warning("hello")\n'
    done = python(code, traced(tmp_path / "traces.db", OTEL_PYTHON_LOG_CORRELATION="true"))
    lines = [line for line in done.err.splitlines() if "hello" in line]
    assert len(lines) == 1, done.err
    assert "trace_id=0 span_id=0 resource.service.name=scenario trace_sampled=False" in lines[0]


EXPORTED = """
import logging
from opentelemetry import trace
tracer = trace.get_tracer("scenario")
logger = logging.getLogger("shop")
with tracer.start_as_current_span("work"):
    logger.warning("x", extra={"order": 7})
"""


def test_an_exported_record_does_not_say_its_ids_twice(tmp_path: Path) -> None:
    done = python(EXPORTED, traced(tmp_path / "traces.db", OTEL_LOGS_EXPORTER="console"))
    assert done.code == 0, done.err
    start = done.out.index("{")
    record, _ = json.JSONDecoder().raw_decode(done.out[start:])
    assert record["attributes"] == {"order": 7}
    assert record["trace_id"].endswith(stored(tmp_path / "traces.db")[0].trace_id)


LATER = """
from opentelemetry import trace
tracer = trace.get_tracer("scenario")
import io, json, structlog
from loguru import logger
out = io.StringIO()
logger.remove()
logger.add(out, serialize=True)
structlog.configure(processors=[structlog.processors.JSONRenderer()])
with tracer.start_as_current_span("work") as span:
    structlog.get_logger().info("x")
    logger.info("x")
print(json.loads(out.getvalue())["record"]["extra"]["trace_id"])
"""
EARLIER = LATER.replace('tracer = trace.get_tracer("scenario")\n', "").replace(
    "with tracer", 'tracer = trace.get_tracer("scenario")\nwith tracer'
)


@pytest.mark.parametrize("code", [LATER, EARLIER], ids=["imported after the set-up", "imported before"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_structlog_and_loguru_whenever_they_are_imported(tmp_path: Path, launcher: str, code: str) -> None:
    import loguru

    db = tmp_path / "traces.db"
    env = traced(db, PYTHONPATH=str(Path(loguru.__file__).parents[1]))  # wherever it is installed
    done = python(code, env, launcher=launcher)
    assert done.code == 0, done.err
    (span,) = stored(db)
    lines = [line for line in done.out.splitlines() if span.trace_id in line]
    assert json.loads(lines[0])["trace_id"] == span.trace_id
    assert lines[1] == span.trace_id
