"""OTEL_CONFIG_FILE: OpenTelemetry's declarative configuration, with our settings, ids and enrichment added."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.started import LAUNCHERS, Done, clean, python, stored

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("launcher", sorted(LAUNCHERS))]

APP = """
from opentelemetry import propagate, trace
with trace.get_tracer("app").start_as_current_span("work"):
    carrier = {}
    propagate.inject(carrier)
print(sorted(carrier))
"""

CONFIG = """
file_format: "1.1"
resource:
  attributes:
    - {name: service.name, value: from-the-file}
tracer_provider:
  processors:
    - batch:
        exporter:
          sqlite: {}
"""

PROPAGATOR = "propagator:\n  composite:\n    - tracecontext: {}\n"


def _run(text: str, tmp_path: Path, launcher: str, code: str = APP, **extra: str) -> Done:
    (tmp_path / "otel.yaml").write_text(text)
    env = clean(OTEL_CONFIG_FILE=str(tmp_path / "otel.yaml"), SPANWELL_SQLITE_PATH=str(tmp_path / "t.db"), **extra)
    return python(code, env, launcher=launcher)


def test_spans_are_exported_with_our_ids(launcher: str, tmp_path: Path) -> None:
    before = int(time.time())
    assert _run(CONFIG + PROPAGATOR, tmp_path, launcher) == (0, "['traceparent']\n", "")
    [span] = stored(tmp_path / "t.db")
    assert (span.name, span.service) == ("work", "from-the-file")
    assert before <= int(span.trace_id[:8], 16) <= time.time()


def test_no_propagator_in_the_file_means_none(launcher: str, tmp_path: Path) -> None:
    assert _run(CONFIG, tmp_path, launcher) == (0, "[]\n", "")
    assert [span.name for span in stored(tmp_path / "t.db")] == ["work"]


TIMEOUT = "from spanwell import configurator\nprint(configurator.current.exit.timeout)\n"


def test_our_settings_in_the_file_and_the_environment_wins(launcher: str, tmp_path: Path) -> None:
    text = CONFIG + "distribution:\n  spanwell:\n    shutdown_timeout: 7\n"
    assert _run(text, tmp_path, launcher, APP + TIMEOUT).out == "[]\n7.0\n"
    assert _run(text, tmp_path, launcher, APP + TIMEOUT, SPANWELL_SHUTDOWN_TIMEOUT="8").out == "[]\n8.0\n"


@pytest.mark.parametrize(
    ("section", "named"),
    [("spanwell: {shutdown_timout: 7}", "shutdown_timout"), ("spanwell: {shutdown_timeout: soon}", "'soon'")],
)
def test_a_mistake_in_our_settings_is_one_line(section: str, named: str, launcher: str, tmp_path: Path) -> None:
    done = _run(f"{CONFIG}distribution:\n  {section}\n", tmp_path, launcher)
    assert done[:2] == (0, "[]\n")
    assert done.err.count("\n") == 1, done.err
    assert named in done.err
    assert [span.name for span in stored(tmp_path / "t.db")] == ["work"]


@pytest.mark.parametrize(
    "text",
    [
        "}{ no yaml",
        "",
        "just text",
        "file_format: '99'\n",
        "file_format: '1.1'\ntracer_provider: 7\n",
        CONFIG.replace("sqlite", "nowhere"),
    ],
    ids=["broken", "empty", "text", "format", "type", "exporter"],
)
def test_a_file_that_cannot_be_used_is_one_line_and_the_application_runs(
    text: str, launcher: str, tmp_path: Path
) -> None:
    done = _run(text, tmp_path, launcher, APP.replace("print(sorted(carrier))", "print('ran')"))
    assert done[:2] == (0, "ran\n")
    assert done.err.count("\n") == 1, done.err
    assert "OTEL_CONFIG_FILE" in done.err
    assert stored(tmp_path / "t.db") == []


def test_a_missing_file(launcher: str, tmp_path: Path) -> None:
    done = python("print('ran')\n" + APP, clean(OTEL_CONFIG_FILE=str(tmp_path / "none.yaml")), launcher=launcher)
    assert done.code == 0
    assert done.out.startswith("ran\n")
    assert done.err.count("\n") == 1, done.err
    assert "none.yaml" in done.err
