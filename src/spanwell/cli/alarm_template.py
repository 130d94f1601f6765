"""CloudWatch alarms and a dashboard for the insights of one service, as a CloudFormation template. Pure."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from spanwell.analysis.names import ENTRY
from spanwell.export.cloudwatch_names import NAMESPACE
from spanwell.insights.model import ERROR, INFO, WARNING

if TYPE_CHECKING:
    from typing import Any

    Resource = dict[str, Any]

_SEVERITIES = {"slow_trace": WARNING, "trace_errors": ERROR, "high_service_count": INFO}
_COUNTED = {
    "slow_trace": ("SlowTrace", "Slow traces", "`spanwell insights --type slow_trace` shows where the time goes."),
    "trace_errors": (
        "TraceErrors",
        "Traces with errors",
        "`spanwell insights --type trace_errors` names the causes.",
    ),
    "high_service_count": (
        "HighServiceCount",
        "Traces over many services",
        "`spanwell insights --type high_service_count` lists them.",
    ),
}
_PERIOD = 300
# The SRE workbook's windows: 2 % of a month's error budget in one hour, 5 % in six. The short window of each pair
# lets the alarm end soon after the problem does.
_BURNS = (("Fast", 14.4, (("1h", 3600), ("5m", 300))), ("Slow", 6.0, (("6h", 21600), ("30m", 1800))))
FASTEST = Decimal("14.4")
_BUCKETS_WIDE = 12


class Wanted(NamedTuple):
    """What to watch. Counts are per five minutes, 0 for no such alarm.

    latency_band: how many standard deviations wide the expected band is, 0 for no such alarm. slo: percent of
    requests without an error, None for no such alarms. topic: ARN of an SNS topic, "" for none. namespace: where the
    exporter puts all four metrics.
    """

    service: str
    slow_trace: int = 5
    trace_errors: int = 5
    high_service_count: int = 20
    latency_band: float = 2.0
    slo: Decimal | None = None
    topic: str = ""
    dashboard: bool = True
    namespace: str = NAMESPACE


def template(wanted: Wanted) -> dict[str, Any]:
    """The template as a tree for JSON."""
    resources: dict[str, Resource] = {}
    for name in _COUNTED:
        if getattr(wanted, name):
            resources[_COUNTED[name][0]] = _counted(wanted, name)
    if wanted.latency_band:
        resources["Latency"] = _latency(wanted)
    if wanted.slo is not None:
        resources.update(_burns(wanted, wanted.slo))
    if wanted.dashboard:
        resources["Dashboard"] = _dashboard(wanted, resources)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Alarms and a dashboard for the insights of {wanted.service}, made by `spanwell alarms`",
        "Resources": resources,
    }


def budget(slo: Decimal) -> Decimal:
    """The share of requests that may fail: 0.001 for 99.9 percent."""
    return (100 - slo) / 100


# --- alarms -----------------------------------------------------------------------------------------------------


def _alarm(wanted: Wanted, what: str, description: str, **properties: Any) -> Resource:
    """An alarm that says something to the topic; the parts of a composite alarm are made without."""
    said: Resource = {"AlarmName": _name(wanted, what), "AlarmDescription": description}
    if wanted.topic:
        said |= {"AlarmActions": [wanted.topic], "OKActions": [wanted.topic]}
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": {**said, **properties}}


def _name(wanted: Wanted, what: str) -> str:
    # CloudWatch replaces an alarm of the same name without a word: the name must not be anybody else's.
    return f"spanwell {wanted.service} {what}"


def _counted(wanted: Wanted, name: str) -> Resource:
    _, title, advice = _COUNTED[name]
    limit = getattr(wanted, name)
    return _alarm(
        wanted,
        name,
        f"{title}: {limit} or more in 5 minutes, in 2 of 3 such periods. {advice}",
        Namespace=wanted.namespace,
        MetricName=name,
        Dimensions=_dimensions(wanted, _SEVERITIES[name]),
        Statistic="Sum",
        Period=_PERIOD,
        EvaluationPeriods=3,
        DatapointsToAlarm=2,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Threshold=limit,
        TreatMissingData="notBreaching",
    )


def _latency(wanted: Wanted) -> Resource:
    band = f"ANOMALY_DETECTION_BAND(latency, {wanted.latency_band:g})"
    return _alarm(
        wanted,
        "latency",
        "The 95th percentile of the time a request takes is above what this hour of the week lets expect, in 3 of 3"
        " periods of 5 minutes. `spanwell insights --type latency_degradation,bottleneck` shows what changed.",
        Metrics=[
            _stat(wanted, "latency", ENTRY, "p95", _PERIOD, shown=True),
            {"Id": "band", "Expression": band, "Label": "expected", "ReturnData": True},
        ],
        ThresholdMetricId="band",
        EvaluationPeriods=3,
        DatapointsToAlarm=3,
        ComparisonOperator="GreaterThanUpperThreshold",
        TreatMissingData="notBreaching",
    )


def _burns(wanted: Wanted, slo: Decimal) -> dict[str, Resource]:
    """For each speed an alarm over two windows: both must burn, so it starts for good cause and ends soon."""
    resources: dict[str, Resource] = {}
    for speed, rate, windows in _BURNS:
        parts = []
        for label, seconds in windows:
            part = f"Burn{label}"
            resources[part] = _window(wanted._replace(topic=""), slo, rate, label, seconds)
            parts.append(part)
        names = [resources[part]["Properties"]["AlarmName"] for part in parts]
        said = _alarm(
            wanted,
            f"error budget {speed.lower()}",
            f"Errors use up the error budget of {slo}% at {rate:g} times the rate it allows, over {windows[0][0]} and"
            f" over {windows[1][0]}. `spanwell insights --type trace_errors` names the causes.",
            AlarmRule=" AND ".join(f'ALARM("{name}")' for name in names),
        )
        # CloudWatch refuses a rule that names an alarm it does not know yet.
        resources[f"Burn{speed}"] = {**said, "Type": "AWS::CloudWatch::CompositeAlarm", "DependsOn": parts}
    return resources


def _window(wanted: Wanted, slo: Decimal, rate: float, label: str, seconds: int) -> Resource:
    return _alarm(
        wanted,
        f"error budget {label}",
        f"Part of the error budget alarms: the rate over {label}, as a multiple of what {slo}% allows.",
        Metrics=[*_burn(wanted, slo, seconds)],
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Threshold=rate,
        TreatMissingData="notBreaching",
    )


def _burn(wanted: Wanted, slo: Decimal, seconds: int) -> list[Resource]:
    # Without an error the counter of errors has no data points at all.
    return [
        {
            "Id": "burn",
            "Expression": f"FILL(errors, 0) / requests / {budget(slo).normalize():f}",
            "Label": "error budget burn rate",
            "ReturnData": True,
        },
        _stat(wanted, "errors", "trace_errors", "Sum", seconds, severity=ERROR),
        _stat(wanted, "requests", ENTRY, "SampleCount", seconds),
    ]


def _stat(
    wanted: Wanted, identity: str, metric: str, stat: str, seconds: int, *, severity: str = "", shown: bool = False
) -> Resource:
    measured = {
        "Namespace": wanted.namespace,
        "MetricName": metric,
        "Dimensions": _dimensions(wanted, severity),
    }
    return {
        "Id": identity,
        "MetricStat": {"Metric": measured, "Stat": stat, "Period": seconds},
        "ReturnData": shown,
    }


def _dimensions(wanted: Wanted, severity: str = "") -> list[dict[str, str]]:
    found = [{"Name": "ServiceName", "Value": wanted.service}]
    return [{"Name": "Severity", "Value": severity}, *found] if severity else found


# --- dashboard --------------------------------------------------------------------------------------------------


def _dashboard(wanted: Wanted, alarms: dict[str, Resource]) -> Resource:
    widgets = [_alarms_widget(alarms)] if alarms else []
    top = 3 if alarms else 0
    widgets += [
        _widget("Insights", [_line(wanted, name) for name in _COUNTED], 0, top),
        _widget("Time a request takes", _latency_lines(wanted), _BUCKETS_WIDE, top, unit="seconds"),
        _widget("Requests", [[*_plain(wanted, ENTRY), {"stat": "SampleCount", "label": "requests"}]], 0, top + 6),
        _widget("Share of requests with an error", _error_lines(wanted), _BUCKETS_WIDE, top + 6, unit="%"),
    ]
    if wanted.slo is not None:
        marks = [{"label": f"{speed.lower()} burn", "value": rate} for speed, rate, _ in _BURNS]
        widgets.append(
            _widget(f"Error budget of {wanted.slo}%: burn rate", _burn_lines(wanted), 0, top + 12, marks=marks)
        )
    # CloudWatch takes a name of these characters only.
    name = re.sub(r"[^A-Za-z0-9_-]", "-", wanted.service)
    body = json.dumps({"widgets": widgets}, separators=(",", ":"), ensure_ascii=True)
    return {
        "Type": "AWS::CloudWatch::Dashboard",
        "Properties": {"DashboardName": f"spanwell-{name}-insights", "DashboardBody": {"Fn::Sub": body}},
    }


def _literal(text: str) -> str:
    """`text` as Fn::Sub leaves it: `${` begins a reference there, `${!` none."""
    return text.replace("${", "${!")


def _alarms_widget(alarms: dict[str, Resource]) -> Resource:
    # The windows of the burn rates are parts of the composite alarms, and would only repeat them.
    names = [
        alarm["Properties"]["AlarmName"]
        for alarm in alarms.values()
        if "error budget" not in alarm["Properties"]["AlarmName"] or "AlarmRule" in alarm["Properties"]
    ]
    prefix = "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:"
    return {
        "type": "alarm",
        "x": 0,
        "y": 0,
        "width": 24,
        "height": 3,
        "properties": {"title": "Alarms", "alarms": [prefix + _literal(name) for name in names]},
    }


def _widget(
    title: str, lines: list[Any], x: int, y: int, *, unit: str = "", marks: list[Resource] | None = None
) -> Resource:
    properties: Resource = {
        "title": title,
        "region": "${AWS::Region}",
        "view": "timeSeries",
        "stat": "Sum",
        "period": _PERIOD,
        "metrics": lines,
    }
    if unit:
        properties["yAxis"] = {"left": {"min": 0, "label": unit, "showUnits": False}}
    if marks:
        properties["annotations"] = {"horizontal": marks}
    return {"type": "metric", "x": x, "y": y, "width": 12, "height": 6, "properties": properties}


def _plain(wanted: Wanted, metric: str, severity: str = "") -> list[str]:
    """A metric as a dashboard names it: namespace, name, then each dimension and its value."""
    parts = [part for each in _dimensions(wanted, severity) for part in (each["Name"], each["Value"])]
    return [_literal(part) for part in (wanted.namespace, metric, *parts)]


def _line(wanted: Wanted, name: str) -> list[Any]:
    return [*_plain(wanted, name, _SEVERITIES[name]), {"label": name}]


def _latency_lines(wanted: Wanted) -> list[Any]:
    metric = _plain(wanted, ENTRY)
    lines: list[Any] = [
        [*metric, {"stat": stat, "label": stat, "id": "latency"} if stat == "p95" else {"stat": stat, "label": stat}]
        for stat in ("p50", "p95", "p99")
    ]
    if wanted.latency_band:
        band = f"ANOMALY_DETECTION_BAND(latency, {wanted.latency_band:g})"
        lines.append([{"expression": band, "label": "expected (p95)"}])
    return lines


def _error_lines(wanted: Wanted, expression: str = "100 * FILL(errors, 0) / requests", label: str = "%") -> list[Any]:
    return [
        [{"expression": expression, "label": label}],
        [*_plain(wanted, "trace_errors", ERROR), {"id": "errors", "visible": False}],
        [*_plain(wanted, ENTRY), {"id": "requests", "stat": "SampleCount", "visible": False}],
    ]


def _burn_lines(wanted: Wanted) -> list[Any]:
    share = budget(wanted.slo or Decimal(0)).normalize()
    return _error_lines(wanted, f"FILL(errors, 0) / requests / {share:f}", "burn rate")
