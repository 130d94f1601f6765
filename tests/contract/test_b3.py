"""B3 headers of Envoy, Istio and App Mesh, through upstream's propagator where it is installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from support.started import python, traced

pytestmark = pytest.mark.slow

TRACE, SPAN = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
MULTI = {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}
SINGLE = {"b3": f"{TRACE}-{SPAN}-1"}

CODE = """
import sys
from opentelemetry import propagate, trace
came = eval(sys.argv[1])
with trace.get_tracer("x").start_as_current_span("work", propagate.extract(came)) as span:
    context = span.get_span_context()
    carrier = {}
    propagate.inject(carrier)
print(f"{context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else "-", sorted(carrier))
"""


@pytest.mark.parametrize(
    ("propagators", "came", "sent"),
    [
        ("b3,tracecontext,xray", SINGLE, ["X-Amzn-Trace-Id", "b3", "traceparent"]),
        ("b3multi", MULTI, ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]),
        ("b3", MULTI, ["b3"]),
    ],
)
def test_b3_is_read_and_written_when_configured(
    tmp_path: Path, propagators: str, came: dict[str, str], sent: list[str]
) -> None:
    b3 = import_module("opentelemetry.propagators.b3")
    env = traced(tmp_path / "t.db", OTEL_PROPAGATORS=propagators, PYTHONPATH=str(Path(b3.__file__).parents[3]))
    done = python(CODE, env, repr(came))
    assert done.code == 0, done.err
    assert done.out.rstrip() == f"{TRACE} {SPAN} {sent}"


def test_a_propagator_that_is_not_installed_is_said_and_left_out(tmp_path: Path) -> None:
    done = python(CODE, traced(tmp_path / "t.db", OTEL_PROPAGATORS="b4,tracecontext"), "{}")
    assert done.code == 0
    assert "'b4' is left out" in done.err
    assert done.out.endswith("['traceparent']\n")
