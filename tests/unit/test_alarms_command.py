"""`spanwell alarms`: its options, and what they do to the template."""

from __future__ import annotations

import argparse
import io
import json
from typing import Any

import pytest

from spanwell.cli import alarms

TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"
NONE = ("--slow-trace", "0", "--trace-errors", "0", "--high-service-count", "0", "--latency-band", "0")


def run(*arguments: str) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    alarms.register(parser.add_subparsers())
    args = parser.parse_args(["alarms", *arguments])
    out = io.StringIO()
    return args.run(args, {}, out), out.getvalue()


def resources(*arguments: str) -> dict[str, Any]:
    code, out = run("--service", "shop", *arguments)
    assert code == 0
    return json.loads(out)["Resources"]


def test_what_there_is_by_default() -> None:
    found = resources()
    assert list(found) == ["SlowTrace", "TraceErrors", "HighServiceCount", "Latency", "Dashboard"]
    for key, metric, severity in (
        ("SlowTrace", "slow_trace", "warning"),
        ("TraceErrors", "trace_errors", "error"),
        ("HighServiceCount", "high_service_count", "info"),
    ):
        alarm = found[key]["Properties"]
        assert (alarm["Namespace"], alarm["MetricName"]) == ("DistributedTracing/Insights", metric)
        assert alarm["Dimensions"] == [
            {"Name": "Severity", "Value": severity},
            {"Name": "ServiceName", "Value": "shop"},
        ]
        assert "AlarmActions" not in alarm


def test_thresholds() -> None:
    found = resources("--slow-trace", "12", "--trace-errors", "1", "--high-service-count", "0", "--latency-band", "3")
    assert found["SlowTrace"]["Properties"]["Threshold"] == 12
    assert "12 or more" in found["SlowTrace"]["Properties"]["AlarmDescription"]
    assert found["TraceErrors"]["Properties"]["Threshold"] == 1
    assert "HighServiceCount" not in found
    assert found["Latency"]["Properties"]["Metrics"][1]["Expression"] == "ANOMALY_DETECTION_BAND(latency, 3)"


def test_an_error_budget_over_several_windows() -> None:
    found = resources("--slo", "99.95")
    windows = {
        key: (
            found[key]["Properties"]["Threshold"],
            {each["MetricStat"]["Period"] for each in found[key]["Properties"]["Metrics"] if "MetricStat" in each},
        )
        for key in ("Burn1h", "Burn5m", "Burn6h", "Burn30m")
    }
    assert windows == {
        "Burn1h": (14.4, {3600}),
        "Burn5m": (14.4, {300}),
        "Burn6h": (6, {21600}),
        "Burn30m": (6, {1800}),
    }
    burn = found["Burn1h"]["Properties"]["Metrics"][0]
    assert (burn["Expression"], burn["ReturnData"]) == ("FILL(errors, 0) / requests / 0.0005", True)
    rules = {key: found[key]["Properties"]["AlarmRule"] for key in ("BurnFast", "BurnSlow")}
    assert rules == {
        "BurnFast": 'ALARM("spanwell shop error budget 1h") AND ALARM("spanwell shop error budget 5m")',
        "BurnSlow": 'ALARM("spanwell shop error budget 6h") AND ALARM("spanwell shop error budget 30m")',
    }
    assert found["BurnFast"]["DependsOn"] == ["Burn1h", "Burn5m"]


def test_the_topic_hears_of_the_alarm_and_of_its_end() -> None:
    found = resources("--topic", TOPIC, "--slo", "99.9")
    told = {key for key, each in found.items() if each["Properties"].get("AlarmActions")}
    assert told == {"SlowTrace", "TraceErrors", "HighServiceCount", "Latency", "BurnFast", "BurnSlow"}
    assert all(found[key]["Properties"]["OKActions"] == [TOPIC] for key in told)


def test_the_dashboard_is_left_out() -> None:
    assert "Dashboard" not in resources("--no-dashboard")


def test_the_dashboard_shows_what_the_alarms_watch() -> None:
    properties = resources("--slo", "99.9", "--namespace", "Own/Space")["Dashboard"]["Properties"]
    assert properties["DashboardName"] == "spanwell-shop-insights"
    body = json.loads(properties["DashboardBody"]["Fn::Sub"])
    titles = [widget["properties"]["title"] for widget in body["widgets"]]
    assert titles == [
        "Alarms",
        "Insights",
        "Time a request takes",
        "Requests",
        "Share of requests with an error",
        "Error budget of 99.9%: burn rate",
    ]
    named = [arn.rpartition(":alarm:")[2] for arn in body["widgets"][0]["properties"]["alarms"]]
    assert named == [
        "spanwell shop slow_trace",
        "spanwell shop trace_errors",
        "spanwell shop high_service_count",
        "spanwell shop latency",
        "spanwell shop error budget fast",
        "spanwell shop error budget slow",
    ]
    lines = [line for widget in body["widgets"][1:] for line in widget["properties"]["metrics"]]
    assert {line[0] for line in lines if isinstance(line[0], str)} == {"Own/Space"}
    cells = [(each["x"], each["y"]) for each in body["widgets"]]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--slow-trace", "many"), "--slow-trace 'many' is not a whole number from 0"),
        (("--trace-errors", "-1"), "--trace-errors '-1' is not"),
        (("--high-service-count", "1e9"), "--high-service-count '1e9' is not"),
        (("--slow-trace", "9999999999999"), "--slow-trace '9999999999999' is not"),
        (("--latency-band", "nan"), "--latency-band 'nan' is not a number"),
        (("--latency-band", "-2"), "--latency-band '-2' is not a number"),
        (("--slo", "100"), "--slo '100' is not a percentage below 100"),
        (("--slo", "99.99999999"), "is not a percentage below 100"),
        (("--slo", "three nines"), "--slo 'three nines' is not a percentage"),
        (("--slo", "90"), "--slo '90' is too low"),
        (("--topic", "on-call"), "--topic 'on-call' is not the ARN of an SNS topic"),
        (("--namespace", ""), "--namespace '' is not a CloudWatch namespace"),
        (("--service", ""), "--service '' cannot be a CloudWatch dimension"),
        (("--service", 'a"b'), "cannot be a CloudWatch dimension"),
        (("--service", ":a"), "cannot be a CloudWatch dimension"),
        (("--service", "日本"), "cannot be a CloudWatch dimension"),
        ((*NONE, "--no-dashboard"), "nothing is left"),
    ],
)
def test_options_that_make_no_sense(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--service", "shop", *arguments) == (2, "")
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_service_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run()
    assert raised.value.code == 2
    assert "--service" in capsys.readouterr().err
