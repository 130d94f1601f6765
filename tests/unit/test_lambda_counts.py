"""What invocations add up to without the SDK, and that it is what the detectors and the exporter would say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanwell.aws_lambda import counts
from spanwell.aws_lambda.counts import Counts, Seen
from spanwell.export.cloudwatch_points import Point
from spanwell.export.emf_documents import documents
from spanwell.insights.detectors import cold_start, slow_trace, timeout_near, trace_errors
from spanwell.settings import Settings


def made(**variables: str) -> Counts:
    return counts.from_settings(Settings.from_env(variables), {"AWS_LAMBDA_FUNCTION_NAME": "shop", **variables})


def test_the_limits_are_those_of_the_detectors() -> None:
    assert counts.LIMITS == {**slow_trace.DEFAULTS, **timeout_near.DEFAULTS, **cold_start.DEFAULTS}
    assert counts.TYPES == (slow_trace.NAME, trace_errors.NAME, cold_start.NAME, timeout_near.NAME)


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (Seen(5000.0), []),
        (Seen(5000.1), [("slow_trace", "warning")]),
        (Seen(1.0, failed=True), [("trace_errors", "error")]),
        (Seen(1.0, cold=True, init_ms=120.0), [("cold_start", "info")]),
        (Seen(1.0, cold=True), []),
        (Seen(90.0, remaining_ms=10.1), []),
        (Seen(90.0, remaining_ms=10.0), [("timeout_near", "warning")]),
        (Seen(90.0, remaining_ms=0.0), [("timeout_near", "error")]),
        (Seen(90.0, remaining_ms=-3.0), [("timeout_near", "error")]),
        (
            Seen(9000.0, failed=True, remaining_ms=1.0),
            [("slow_trace", "warning"), ("trace_errors", "error"), ("timeout_near", "warning")],
        ),
    ],
)
def test_what_is_found_in_an_invocation(seen: Seen, found: list[tuple[str, str]]) -> None:
    every = Counts("shop")
    assert every.add(seen) == found
    assert every.invocations == 1
    assert every.found == {kind: int(kind in dict(found)) for kind in counts.TYPES}


def test_thresholds_and_what_is_not_looked_for_are_the_users() -> None:
    own = made(
        SPANWELL_INSIGHT_THRESHOLDS="slow_trace.duration_ms = 10,slow_trace.duration_ms@GET /x=1,"
        "cold_start.init_ms=nan,timeout_near.ratio=many,other=1",
        SPANWELL_INSIGHTS_DISABLED="trace_errors",
    )
    assert own.add(Seen(9.0, failed=True, remaining_ms=100.0)) == []
    assert own.add(Seen(11.0, remaining_ms=1.0)) == [("slow_trace", "warning"), ("timeout_near", "warning")]


def test_nothing_becomes_a_metric_unasked() -> None:
    for variables in ({}, {"SPANWELL_INSIGHTS": "true"}, {"OTEL_METRICS_EXPORTER": "emf"}):
        own = made(**variables)
        assert not own.prints
        assert own.lines(own.add(Seen(1.0, failed=True)), 1) == []


EVERYTHING = Seen(9000.0, failed=True, cold=True, init_ms=5.0, remaining_ms=0.0)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"SPANWELL_LAMBDA_METRICS": "emf"}, {"slow_trace", "trace_errors"}),
        ({"SPANWELL_INSIGHTS": "true", "OTEL_METRICS_EXPORTER": "otlp,emf"}, {"slow_trace", "trace_errors"}),
        (
            {"SPANWELL_LAMBDA_METRICS": "emf", "SPANWELL_CLOUDWATCH_METRICS": "timeout_near,entry.duration"},
            {"slow_trace", "trace_errors", "timeout_near"},
        ),
        ({"SPANWELL_LAMBDA_METRICS": "emf", "SPANWELL_CLOUDWATCH_METRICS": "insights"}, set(counts.TYPES)),
    ],
)
def test_which_become_metrics(variables: dict[str, str], names: set[str]) -> None:
    own = made(**variables)
    assert own.prints
    lines = [json.loads(line) for line in own.lines(own.add(EVERYTHING), 1)]
    assert {each["Name"] for line in lines for each in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]} == names


@pytest.mark.parametrize("service", ["shop", 'sh"op\\', "größe", ":x", "   ", "a" * 2000])
def test_a_line_is_what_the_exporter_would_write(service: str) -> None:
    """Of the same points, in documents of one severity."""
    own = made(SPANWELL_LAMBDA_METRICS="emf", OTEL_SERVICE_NAME=service)
    lines = own.lines([("slow_trace", "warning"), ("trace_errors", "error")], 1_700_000_000_123)
    name = json.loads(lines[0])["ServiceName"]
    expected: list[Any] = []
    for kind, severity in (("slow_trace", "warning"), ("trace_errors", "error")):
        dimensions = ("Severity", severity), ("ServiceName", name)
        point = Point(
            "DistributedTracing/Insights", kind, "Count", {1.0: 1}, 1_700_000_000_123_000_000, (dimensions,), {}
        )
        expected += documents([point], max_bytes=4000)
    assert [line.encode() for line in lines] == [document.line for document in expected]
    assert name.isascii()
    assert 0 < len(name) <= 1024
    assert not name.startswith(":")


def test_two_of_one_severity_share_a_line() -> None:
    own = made(SPANWELL_LAMBDA_METRICS="emf", SPANWELL_CLOUDWATCH_METRICS="timeout_near")
    (line,) = own.lines([("slow_trace", "warning"), ("timeout_near", "warning")], 1)
    found = json.loads(line)
    assert (found["slow_trace"], found["timeout_near"]) == (1, 1)
