"""Which invocations of a Lambda function need the SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spanwell.aws_lambda import choice
from spanwell.settings import Settings

ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"
PARENT = ";Parent=53995c3f42cd8ad8"
SAMPLED, UNSAMPLED = f"{ROOT}{PARENT};Sampled=1", f"{ROOT}{PARENT};Sampled=0"
PASSED_THROUGH = ROOT, f"{ROOT};Lineage=a87bd80c:0|68fd508a:5", f"{ROOT};Sampled=?", f"{ROOT}{PARENT}"
NONE = "", "nonsense", "Root=1-00000000-000000000000000000000000;Sampled=0"


def choose(**variables: str) -> choice.Choice:
    return choice.choose(Settings.from_env({"OTEL_TRACES_EXPORTER": "xray_otlp_udp", **variables}))


def test_where_spans_go_to_x_ray_its_decision_holds() -> None:
    made = choose()
    assert made.needs_sdk(SAMPLED)
    assert made.needs_sdk(f"self=1-x; sampled=1 ;{ROOT} ;Lineage=1:2")
    assert not made.needs_sdk(UNSAMPLED)
    assert [made.needs_sdk(header) for header in PASSED_THROUGH] == [False] * 4


@pytest.mark.parametrize("header", NONE)
def test_without_a_header_the_sampler_is_asked(header: str) -> None:
    assert choose().needs_sdk(header)
    assert choose().why_nothing(header) == ""


@pytest.mark.parametrize("exporter", ["otlp", "console", "sqlite"])
@pytest.mark.parametrize("header", [SAMPLED, UNSAMPLED, *PASSED_THROUGH, *NONE])
def test_no_header_silences_another_exporter(exporter: str, header: str) -> None:
    made = choose(OTEL_TRACES_EXPORTER=exporter)
    assert made.needs_sdk(header)
    assert made.why_nothing(header) == ""


@pytest.mark.parametrize(
    ("variables", "needed"),
    [
        ({"OTEL_LOGS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "cloudwatch"}, True),
        ({"OTEL_CONFIG_FILE": "otel.yaml"}, True),
        ({"OTEL_METRICS_EXPORTER": "emf", "SPANWELL_CLOUDWATCH_METRICS": "entry.duration"}, True),
        ({"OTEL_METRICS_EXPORTER": "emf", "SPANWELL_CLOUDWATCH_METRICS": "*"}, True),
        ({"OTEL_METRICS_EXPORTER": "emf", "SPANWELL_CLOUDWATCH_METRICS": "cold_start"}, False),
        ({"OTEL_METRICS_EXPORTER": "emf"}, False),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, False),
        ({"OTEL_PROPAGATORS": "xray-lambda", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://xray.eu-west-1.amazonaws.com/v1/traces",
            },
            False,
        ),
    ],
)
def test_an_unsampled_invocation_needs_the_sdk_for_other_signals(variables: dict[str, str], needed: bool) -> None:
    assert choose(**variables).needs_sdk(UNSAMPLED) is needed
    assert choose(**variables).needs_sdk(SAMPLED)


def test_without_any_exporter_nothing_is_needed() -> None:
    made = choose(OTEL_TRACES_EXPORTER="none")
    assert not any(made.needs_sdk(header) for header in (SAMPLED, UNSAMPLED, *PASSED_THROUGH, *NONE))
    assert made.why_nothing(UNSAMPLED) == ""
    assert choose(OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="otlp").needs_sdk(UNSAMPLED)


def test_why_nothing_is_exported_names_the_fix() -> None:
    made = choose()
    assert made.why_nothing(SAMPLED) == ""
    assert "Sampled=0" in made.why_nothing(UNSAMPLED)
    for header in PASSED_THROUGH:
        assert "PassThrough" in made.why_nothing(header)
    for header in (UNSAMPLED, *PASSED_THROUGH):
        assert "Tracing: Active" in made.why_nothing(header)
        assert "\n" not in made.why_nothing(header)


def test_nothing_of_opentelemetry_nor_typing_is_imported_for_it() -> None:
    code = (
        "import sys; before = 'typing' in sys.modules\n"
        "from spanwell.aws_lambda import invocation, bootstrap\n"
        "assert before or 'typing' not in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "for name in ('argparse', 'dataclasses', 'inspect', 'asyncio', 'random', 'urllib.parse', 'http.client'):\n"
        "    assert name not in sys.modules, name"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        text=True,
        capture_output=True,
    )
    assert done.stderr == ""
