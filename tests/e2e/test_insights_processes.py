"""Insights in real processes: on the stored root, as log events; thresholds, plug-ins, a detector that fails."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from spanwell.insights import written
from support import started
from support.collector import collector
from support.started import LAUNCHERS, clean, python, stored

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "insight-detector"

APP = """
import os, sys, time
from opentelemetry import trace
from opentelemetry.trace import SpanKind
tracer = trace.get_tracer("shop")
SELECT = {"db.system.name": "sqlite", "db.query.text": "SELECT * FROM items WHERE order_id = ?"}

def serve():
    now = time.time_ns()
    root = tracer.start_span("GET /orders/{id}", kind=SpanKind.SERVER, start_time=now, attributes={"shop.items": 500})
    with trace.use_span(root, end_on_exit=False):
        for number in range(8):
            at = now + number * 20_000_000
            tracer.start_span("SELECT items", kind=SpanKind.CLIENT, start_time=at, attributes=SELECT).end(
                end_time=at + 15_000_000)
    root.end(end_time=now + 200_000_000)

for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    serve()
"""


def traced(db: Path, **extra: str) -> dict[str, str]:
    """The usual environment with insights on."""
    return started.traced(db, **{"SPANWELL_INSIGHTS": "true", **extra})


def insights(db: Path) -> list[list[written.Written]]:
    """What each stored local root carries."""
    return [written.read(span.attributes) for span in stored(db) if span.parent_id is None]


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_the_stored_root_carries_them(launcher: str, tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    assert python(APP, traced(db), launcher=launcher) == (0, "", "")
    spans = stored(db)
    [(one,)] = [found for found in insights(db) if found]
    assert (one.type, one.severity, one.values["count"]) == ("n_plus_one", "warning", 8)
    assert set(one.evidence) <= {span.span_id for span in spans}
    assert [written.LIST in span.attributes for span in spans].count(True) == 1


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_a_configuration_file_turns_them_on(launcher: str, tmp_path: Path) -> None:
    db, config = tmp_path / "traces.db", tmp_path / "otel.yaml"
    config.write_text(
        """
file_format: "1.1"
tracer_provider:
  processors:
    - batch:
        exporter:
          sqlite: {}
distribution:
  spanwell:
    insights: true
    insight_thresholds: slow_trace.duration_ms=100
"""
    )
    env = clean(OTEL_CONFIG_FILE=str(config), SPANWELL_SQLITE_PATH=str(db))
    assert python(APP, env, launcher=launcher) == (0, "", "")
    [types] = [[one.type for one in found] for found in insights(db) if found]
    assert sorted(types) == ["n_plus_one", "slow_trace"]


def test_settings(tmp_path: Path) -> None:
    def types(**settings: str) -> tuple[list[str], str]:
        db = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        done = python(APP, traced(db, **settings))
        assert (done.code, done.out) == (0, "")
        return [one.type for found in insights(db) for one in found], done.err

    assert types(SPANWELL_INSIGHTS="false") == ([], "")
    assert types(SPANWELL_INSIGHTS_DISABLED="n_plus_one") == ([], "")
    assert types(SPANWELL_INSIGHT_THRESHOLDS="n_plus_one.count=9") == ([], "")
    of_one = "slow_trace.duration_ms=100,slow_trace.duration_ms@GET /orders/{id}=150,n_plus_one.count=9"
    assert types(SPANWELL_INSIGHT_THRESHOLDS=of_one) == (["slow_trace"], "")
    found, said = types(SPANWELL_INSIGHT_THRESHOLDS="n_plus_on.count=9,slow_trace.duration_ms=x")
    assert found == ["n_plus_one"]
    assert [line.partition(": insights: ")[2] for line in said.splitlines()] == [
        "'n_plus_on.count' is no threshold (did you mean n_plus_one.count?); it is left out",
        "'x' is not a number of 0 or more for slow_trace.duration_ms; its default stays",
    ]


@pytest.mark.parametrize("sampler", ["always_off", "traceidratio"])
def test_what_is_not_sampled_leaves_nothing(sampler: str, tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    env = traced(db, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0")
    assert python(APP, env) == (0, "", "")


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_with_metrics_sampling_does_not_bias_the_counts(launcher: str, tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    env = traced(db, OTEL_TRACES_SAMPLER="always_off", OTEL_METRICS_EXPORTER="console")
    done = python(APP.replace("if len(sys.argv) > 1 else 1", "if len(sys.argv) > 1 else 7"), env, launcher=launcher)
    assert (done.code, done.err) == (0, "")
    points = {
        metric["name"]: metric["data"]["data_points"]
        for line in done.out.split("\n{\n")
        for resource in json.loads(line if line.startswith("{") else "{" + line)["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert [point["count"] for point in points["spanwell.entry.duration"]] == [7]
    assert [point["count"] for point in points["spanwell.dependency.duration"]] == [56]
    assert [point["value"] for point in points["spanwell.insights"]] == [7]
    assert not db.exists() or stored(db) == []


def test_one_log_event_for_each_new_problem_where_logs_are_exported(tmp_path: Path) -> None:
    with collector() as otlp:
        db = tmp_path / "traces.db"
        env = traced(db, OTEL_LOGS_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
        done = python(APP.replace("if len(sys.argv) > 1 else 1", "if len(sys.argv) > 1 else 3"), env)
        assert (done.code, done.err) == (0, "")
        otlp.wait(lambda: bool(otlp.logs()))
        events: list[Any] = [
            record
            for post in otlp.taken("/v1/logs")
            for resource in post.message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
    [event] = events
    roots = [span for span in stored(db) if span.parent_id is None]
    first = next(span for span in roots if span.span_id == event.span_id.hex())
    [one] = written.read(first.attributes)
    assert len(roots) == 3
    assert event.trace_id.hex() == first.trace_id
    assert (event.event_name, event.severity_text, event.body.string_value) == (
        "spanwell.insight",
        "WARNING",
        one.sentence,
    )
    attributes = {item.key: item.value for item in event.attributes}
    assert attributes["spanwell.insight.type"].string_value == "n_plus_one"
    assert attributes["spanwell.insight.fingerprint"].string_value == one.fingerprint


def install(folder: Path, entry_points: str) -> None:
    """The example, as pip would leave it, under these entry points."""
    folder.mkdir()
    shutil.copy(EXAMPLE / "shop_insights.py", folder)
    info = folder / "shop_insights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-insights\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_the_example_of_a_plugin(launcher: str, tmp_path: Path) -> None:
    [(group, line)] = re.findall(
        r'\[project\.entry-points\.(\w+)\]\n(\w+ = "[\w:]+")', (EXAMPLE / "pyproject.toml").read_text()
    )
    install(tmp_path / "site", f"[{group}]\n" + line.replace('"', "") + "\n")
    db = tmp_path / "traces.db"
    assert python(APP, traced(db, PYTHONPATH=str(tmp_path / "site")), launcher=launcher) == (0, "", "")
    [(worse, own)] = [found for found in insights(db) if found]
    assert (worse.type, own.type) == ("n_plus_one", "big_order")
    assert own.sentence == "GET /orders/{id} ordered 500 items: offer the bulk API to this customer."
    assert own.values == {"items": 500}


def test_a_plugin_that_fails_or_is_missing_is_named(tmp_path: Path) -> None:
    lines = "fails = shop_insights:fails\ngone = acme_insights:gone\n"
    install(tmp_path / "site", "[spanwell_insight_detector]\n" + lines)
    with (tmp_path / "site" / "shop_insights.py").open("a") as file:
        file.write("\n\ndef fails(fragment):\n    raise RuntimeError('of the plug-in')\n")
    db = tmp_path / "traces.db"
    done = python(APP.replace("else 1", "else 3"), traced(db, PYTHONPATH=str(tmp_path / "site")))
    assert (done.code, done.out) == (0, "")
    assert [one.type for found in insights(db) for one in found] == ["n_plus_one"] * 3
    assert [line.partition("spanwell: ")[2] for line in done.err.splitlines()] == [
        "insights: the plug-in 'gone' of spanwell_insight_detector cannot be used: "
        "ModuleNotFoundError: No module named 'acme_insights'",
        "the insight detector fails failed (RuntimeError: of the plug-in); the application goes on without it",
    ]
