"""Each plug-in of ours works alone, with the SDK's own configurator and with another distro installed."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import ResourceDetector
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from support.started import BIN, Stored, clean, names, python, register, run, stored, traced

STOCK = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind
with trace.get_tracer("app").start_as_current_span("work"):
    carrier = {}
    propagate.inject(carrier)
provider = trace.get_tracer_provider()
print(type(provider.id_generator).__module__, sorted(carrier))
"""


def _stock(tmp_path: Path, **extra: str) -> tuple[str, list[Stored]]:
    done = subprocess.run(
        [sys.executable, "-c", STOCK],
        env=traced(tmp_path / "t.db", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none", **extra),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, stored(tmp_path / "t.db")


@pytest.mark.slow
def test_the_sqlite_exporter_alone(tmp_path: Path) -> None:
    out, spans = _stock(tmp_path)
    assert out.startswith("opentelemetry.sdk.trace.id_generator")
    assert [span.name for span in spans] == ["work"]


@pytest.mark.slow
def test_the_id_generator_alone(tmp_path: Path) -> None:
    out, [span] = _stock(tmp_path, OTEL_PYTHON_ID_GENERATOR="spanwell_xray")
    assert out.startswith("spanwell.ids")
    assert abs(int(span.trace_id[:8], 16) - (tmp_path / "t.db").stat().st_mtime) < 3600


@pytest.mark.slow
def test_the_propagator_alone(tmp_path: Path) -> None:
    out, _ = _stock(tmp_path, OTEL_PROPAGATORS="tracecontext,spanwell_xray")
    assert out.lower().endswith("['x-amzn-trace-id', 'traceparent']\n")


@pytest.mark.slow
def test_the_resource_detector_alone(tmp_path: Path) -> None:
    lambda_ = {"AWS_LAMBDA_FUNCTION_NAME": "orders", "AWS_REGION": "eu-west-1"}
    _, [span] = _stock(tmp_path, OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="spanwell_aws", **lambda_)
    assert span.resource["cloud.platform"] == "aws_lambda"


BASES = {
    "opentelemetry_id_generator": IdGenerator,
    "opentelemetry_propagator": TextMapPropagator,
    "opentelemetry_traces_exporter": SpanExporter,
    "opentelemetry_metrics_exporter": MetricExporter,
    "opentelemetry_resource_detector": ResourceDetector,
}

OURS = [entry for entry in distribution("spanwell").entry_points if entry.group.startswith("opentelemetry_")]


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: f"{entry.group}:{entry.name}")
def test_every_entry_point_is_what_its_group_asks_for(entry: object) -> None:
    made = entry.load()  # type: ignore[attr-defined]
    group: str = entry.group  # type: ignore[attr-defined]
    base = BASES.get(group)
    if base is not None:
        assert inspect.isclass(made)
        assert issubclass(made, base)
        inspect.signature(made).bind()  # no argument is needed
        assert entry.name != "otlp"  # type: ignore[attr-defined]
    elif group in ("opentelemetry_traces_sampler", "opentelemetry_sampler"):
        assert isinstance(made(), Sampler)
        assert group == "opentelemetry_sampler" or isinstance(made(""), Sampler)
    elif group == "opentelemetry_post_instrument":
        assert callable(made)
    elif group in ("opentelemetry_distro", "opentelemetry_configurator"):
        inspect.signature(made).bind()
    else:
        assert group == "opentelemetry_environment_variables"
        assert any(name == "SPANWELL_SQLITE_PATH" for name in dir(made))


@pytest.mark.slow
def test_our_settings_are_options_of_opentelemetry_instrument(tmp_path: Path) -> None:
    done = run(["--help"], clean(), launcher="instrument")
    assert done.code == 0, done.err
    assert "--spanwell_sqlite_path" in done.out
    command = [str(BIN / "opentelemetry-instrument"), "--spanwell_sqlite_path=/here.db", sys.executable, "-c"]
    code = "import os; print(os.environ['SPANWELL_SQLITE_PATH'])"
    assert subprocess.run([*command, code], env=clean(), capture_output=True, text=True).stdout == "/here.db\n"


OTHER = """
from opentelemetry.instrumentation.distro import BaseDistro
class Distro(BaseDistro):
    def _configure(self, **kwargs):
        print("the other distro")
class Configurator:
    def configure(self, **kwargs):
        print("the other configurator")
"""


@pytest.mark.slow
def test_two_distros_and_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    register(tmp_path, "other", "opentelemetry_distro", "other = other:Distro")
    register(tmp_path, "other", "opentelemetry_configurator", "other = other:Configurator")
    code = "from opentelemetry import trace\ntrace.get_tracer('app').start_span('work').end()\nprint('ran')"
    env = traced(tmp_path / "t.db", PYTHONPATH=str(tmp_path), OTEL_PYTHON_DISTRO="spanwell")
    assert python(code, env, launcher="instrument")[:2] == (0, "ran\n")
    assert names(tmp_path / "t.db") == ["work"]
    assert python(code, env | {"OTEL_PYTHON_DISTRO": ""}) == (0, "ran\n", "")


@pytest.mark.slow
def test_doctor_reports_two_distros(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    register(tmp_path, "other", "opentelemetry_distro", "other = other:Distro")
    command = [sys.executable, "-m", "spanwell", "doctor", "--json", "--offline"]
    done = subprocess.run(
        command, env=traced(tmp_path / "t.db", PYTHONPATH=str(tmp_path)), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    found = [each for each in json.loads(done.stdout)["findings"] if each["topic"] == "distro"]
    assert [each["level"] for each in found] == ["problem"]
    assert "other" in found[0]["text"]
