"""What `spanwell alarms` prints: checked by cfn-lint, and made on a simulated AWS."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.validate import ParamValidator

from support.servers import moto
from support.started import python, traced

ROOT = Path(__file__).parents[2]
STORED = ROOT / "configs/alarms.json"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"

pytestmark = [pytest.mark.slow, pytest.mark.full]


def alarms(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "spanwell", "alarms", *arguments], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_file_in_configs_is_what_the_command_prints() -> None:
    assert STORED.read_text() == alarms("--service", "my-service", "--slo", "99.9")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--slo", "99.9", "--topic", TOPIC),
        ("--slo", "99.99", "--no-dashboard", "--latency-band", "3.5"),
        ("--slow-trace", "0", "--trace-errors", "0", "--high-service-count", "0", "--latency-band", "0"),
    ],
)
def test_cfn_lint_finds_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    template = tmp_path / "alarms.json"
    template.write_text(alarms("--service", "a ${service}/1", *arguments))
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, template], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")


def test_cfn_lint_would_find_something(tmp_path: Path) -> None:
    template = json.loads(STORED.read_text())
    template["Resources"]["SlowTrace"]["Properties"]["ComparisonOperator"] = "AboveAll"
    (tmp_path / "alarms.json").write_text(json.dumps(template))
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, tmp_path / "alarms.json"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "AboveAll" in done.stdout


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as url:
        yield url


def client(service: str, endpoint: str) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )


def test_the_stack_is_made_with_its_dashboard(endpoint: str) -> None:
    cloudformation, cloudwatch = client("cloudformation", endpoint), client("cloudwatch", endpoint)
    cloudformation.create_stack(StackName="insights", TemplateBody=STORED.read_text())
    (stack,) = cloudformation.describe_stacks(StackName="insights")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    body = json.loads(cloudwatch.get_dashboard(DashboardName="spanwell-my-service-insights")["DashboardBody"])
    regions = {widget["properties"].get("region", "eu-west-1") for widget in body["widgets"]}
    assert regions == {"eu-west-1"}
    assert body["widgets"][0]["properties"]["alarms"][0].startswith(
        "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:"
    )


def test_a_dollar_in_a_service_name_survives_substitution(endpoint: str) -> None:
    cloudformation, cloudwatch = client("cloudformation", endpoint), client("cloudwatch", endpoint)
    cloudformation.create_stack(StackName="dollar", TemplateBody=alarms("--service", "a ${x}"))
    body = cloudwatch.get_dashboard(DashboardName="spanwell-a---x--insights")["DashboardBody"]
    assert '"ServiceName","a ${x}"' in body


def test_the_alarms_are_made_and_read_back(endpoint: str) -> None:
    """The simulated CloudFormation makes no alarms: their properties, which are the parameters of PutMetricAlarm, go
    to the simulated CloudWatch. It has no composite alarms: botocore checks those against the service's model.
    """
    cloudwatch = client("cloudwatch", endpoint)
    resources = json.loads(alarms("--service", "shop", "--slo", "99.9", "--topic", TOPIC, "--slow-trace", "7"))
    by_type: dict[str, list[dict[str, Any]]] = {}
    for resource in resources["Resources"].values():
        by_type.setdefault(resource["Type"].rpartition("::")[2], []).append(resource["Properties"])
    for properties in by_type["Alarm"]:
        cloudwatch.put_metric_alarm(**properties)
    made = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert len(made) == len(by_type["Alarm"]) == 8
    for properties in by_type["Alarm"]:
        alarm = made[properties["AlarmName"]]
        assert {key: alarm.get(key) for key in properties} == properties
    assert made["spanwell shop slow_trace"]["Threshold"] == 7

    shape = cloudwatch.meta.service_model.operation_model("PutCompositeAlarm").input_shape
    assert len(by_type["CompositeAlarm"]) == 2
    for properties in by_type["CompositeAlarm"]:
        assert ParamValidator().validate(properties, shape).generate_report() == ""
        assert set(re.findall(r'ALARM\("([^"]+)"\)', properties["AlarmRule"])) <= set(made)
        assert properties["AlarmActions"] == [TOPIC]
    for window in ("1h", "5m", "6h", "30m"):  # only the composite alarms wake anybody
        assert made[f"spanwell shop error budget {window}"]["AlarmActions"] == []


SHOP = """
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

tracer = trace.get_tracer("shop")
with tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER) as request:
    for peer in ("bank", "stock", "post"):
        with tracer.start_as_current_span("POST", kind=SpanKind.CLIENT, attributes={"peer.service": peer}):
            pass
    request.set_status(Status(StatusCode.ERROR))
"""


def test_every_metric_that_is_watched_is_sent(endpoint: str, tmp_path: Path) -> None:
    aws = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "x"}
    environ = traced(
        tmp_path / "traces.db",
        OTEL_SERVICE_NAME="my-service",
        OTEL_METRICS_EXPORTER="cloudwatch",
        SPANWELL_INSIGHTS="true",
        SPANWELL_CLOUDWATCH_METRICS="entry.duration",
        SPANWELL_INSIGHT_THRESHOLDS="slow_trace.duration_ms=0,high_service_count.count=2",
        AWS_SECRET_ACCESS_KEY="x",
        **aws,
    )
    done = python(SHOP, environ)
    assert done.code == 0, done.err
    found = client("cloudwatch", endpoint).list_metrics(Namespace="DistributedTracing/Insights")["Metrics"]
    sent = {_key(metric) for metric in found}
    watched = set()
    for resource in json.loads(STORED.read_text())["Resources"].values():
        properties = resource["Properties"]
        if "MetricName" in properties:
            watched.add(_key(properties))
        watched |= {
            _key(each["MetricStat"]["Metric"]) for each in properties.get("Metrics", ()) if "MetricStat" in each
        }
    assert len(watched) == 4
    assert watched <= sent


def _key(metric: dict[str, Any]) -> tuple[str, frozenset[tuple[str, str]]]:
    return metric["MetricName"], frozenset((each["Name"], each["Value"]) for each in metric["Dimensions"])
