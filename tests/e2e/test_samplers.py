"""Our samplers as users choose them: by variable under every launcher, in a configuration file, seen by doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanwell.testing import FakeSamplingService
from support.started import LAUNCHERS, Done, Stored, clean, python, stored, traced

pytestmark = pytest.mark.slow

APP = """
import time
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
tracer = trace.get_tracer("app")
def request(path, failing=False):
    with tracer.start_as_current_span("GET", kind=SpanKind.SERVER, attributes={"url.path": path}):
        with tracer.start_as_current_span("inner") as inner:
            if failing:
                inner.set_status(Status(StatusCode.ERROR))
"""
STOCK = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()
"""
REASON, RULE, PROMOTED = "spanwell.sampling.reason", "aws.xray.sampling_rule", "aws.trace.flag.sampled"


def _run(launcher: str, code: str, db: Path, **env: str) -> Done:
    """Under spanwell by either launcher, or with the SDK's own configurator."""
    environ = traced(db, OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none", **env)
    if launcher != "stock":
        return python(code, environ, launcher=launcher)
    done = subprocess.run(
        [sys.executable, "-c", STOCK + code], env=environ, capture_output=True, text=True, timeout=60
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _roots(db: Path) -> list[Stored]:
    return [span for span in stored(db) if span.parent_id is None]


@pytest.fixture(params=[*sorted(LAUNCHERS), "stock"])
def launcher(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


def test_tail_keeps_what_fails(launcher: str, tmp_path: Path) -> None:
    code = APP + "request('/good')\nrequest('/bad', failing=True)\n"
    env = {"OTEL_TRACES_SAMPLER": "tail", "OTEL_TRACES_SAMPLER_ARG": "head=(ratio;0),slow_ms=60000"}
    assert _run(launcher, code, tmp_path / "t.db", **env) == (0, "", "")
    [root] = _roots(tmp_path / "t.db")
    assert (root.attributes["url.path"], root.attributes[REASON]) == ("/bad", "error")
    spans = stored(tmp_path / "t.db")
    assert sorted(span.name for span in spans) == ["GET", "inner"]
    assert [span.attributes[PROMOTED] for span in spans] == [False, False]


def test_tail_exports_what_its_head_keeps_once(launcher: str, tmp_path: Path) -> None:
    code = APP + "request('/good')\nrequest('/bad', failing=True)\n"
    env = {"OTEL_TRACES_SAMPLER": "tail", "OTEL_TRACES_SAMPLER_ARG": "head=(ratio;1),slow_ms=60000"}
    assert _run(launcher, code, tmp_path / "t.db", **env) == (0, "", "")
    found = {root.attributes["url.path"]: root.attributes.get(REASON) for root in _roots(tmp_path / "t.db")}
    assert found == {"/good": "rate", "/bad": "error"}
    assert len(stored(tmp_path / "t.db")) == 4
    assert not any(PROMOTED in span.attributes for span in stored(tmp_path / "t.db"))


def test_xray_asks_the_service(launcher: str, tmp_path: Path) -> None:
    rule = {
        "RuleName": "orders",
        "Priority": 1,
        "FixedRate": 1.0,
        "ReservoirSize": 0,
        "ServiceName": "scenario",
        "ServiceType": "*",
        "Host": "*",
        "HTTPMethod": "*",
        "URLPath": "/orders/*",
        "ResourceARN": "*",
        "Version": 1,
    }
    with FakeSamplingService() as service:
        service.set_rules([rule])
        wait = "for _ in range(200):\n    request('/orders/7')\n    time.sleep(0.01)\n"
        env = {
            "OTEL_TRACES_SAMPLER": "xray",
            "OTEL_TRACES_SAMPLER_ARG": f"endpoint={service.endpoint},polling_interval=10",
        }
        assert _run(launcher, APP + wait, tmp_path / "t.db", **env) == (0, "", "")
        decided = [root for root in _roots(tmp_path / "t.db") if root.attributes.get(RULE) == "orders"]
        assert decided
        assert {root.attributes[REASON] for root in decided} == {"rate"}
        # The end of the process reports what was not reported yet.
        assert service.total("orders").requests == len(decided)
        assert service.total("orders").sampled == len(decided)
        assert service.violations == []


def test_xray_local_follows_its_file(launcher: str, tmp_path: Path) -> None:
    rules = {
        "version": 2,
        "rules": [
            {"description": "no health", "host": "*", "http_method": "*", "url_path": "/health", "fixed_target": 0}
            | {"rate": 0}
        ],
        "default": {"fixed_target": 1, "rate": 1.0},
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    env = {"OTEL_TRACES_SAMPLER": "xray_local", "OTEL_TRACES_SAMPLER_ARG": f"rules_file={tmp_path / 'rules.json'}"}
    code = APP + "request('/health')\nrequest('/orders')\nrequest('/orders')\n"
    assert _run(launcher, code, tmp_path / "t.db", **env) == (0, "", "")
    roots = _roots(tmp_path / "t.db")
    assert [root.attributes["url.path"] for root in roots] == ["/orders", "/orders"]
    assert [root.attributes[REASON] for root in roots] == ["reservoir", "rate"]


def test_budget(launcher: str, tmp_path: Path) -> None:
    env = {"OTEL_TRACES_SAMPLER": "budget", "OTEL_TRACES_SAMPLER_ARG": "spans_per_second=0,floor=60"}
    code = APP + "for _ in range(50):\n    request('/orders')\n"
    assert _run(launcher, code, tmp_path / "t.db", **env) == (0, "", "")
    assert [root.attributes[REASON] for root in _roots(tmp_path / "t.db")] == ["floor"]


@pytest.mark.parametrize(
    ("sampler", "argument", "said"),
    [
        ("xray", "endpont=http://127.0.0.1:1", "endpoint="),
        ("xray", "polling_interval=soon", "polling_interval='soon'"),
        ("xray_local", "rules_file=/nowhere/rules.json", "/nowhere/rules.json"),
        ("tail", "head=(unheard;x=1),slow_ms=60000", "unheard"),
        ("tail", "slow_ms=-1", "slow_ms='-1'"),
        ("budget", "spans_per_second=lots", "spans_per_second='lots'"),
    ],
)
def test_a_bad_argument_is_one_line(sampler: str, argument: str, said: str, launcher: str, tmp_path: Path) -> None:
    env = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    done = _run(launcher, APP + "request('/x')\nprint('ran')\n", tmp_path / "t.db", **env)
    assert (done.code, done.out) == (0, "ran\n")
    [line] = [each for each in done.err.splitlines() if said in each]
    assert "spanwell" in line
    assert "Traceback" not in done.err


CONFIG = """
file_format: "1.1"
tracer_provider:
  sampler:
    tail:
      head: {ratio: 0}
      slow_ms: 60000
      errors: true
  processors:
    - batch:
        exporter:
          sqlite: {}
"""


@pytest.mark.parametrize("by", sorted(LAUNCHERS))
def test_a_configuration_file_gives_options(by: str, tmp_path: Path) -> None:
    (tmp_path / "otel.yaml").write_text(CONFIG)
    env = clean(OTEL_CONFIG_FILE=str(tmp_path / "otel.yaml"), SPANWELL_SQLITE_PATH=str(tmp_path / "t.db"))
    code = APP + "request('/good')\nrequest('/bad', failing=True)\n"
    assert python(code, env, launcher=by) == (0, "", "")
    [root] = _roots(tmp_path / "t.db")
    assert (root.attributes["url.path"], root.attributes[REASON]) == ("/bad", "error")


def test_the_samplers_own_metrics(tmp_path: Path) -> None:
    env = traced(
        tmp_path / "t.db",
        OTEL_TRACES_SAMPLER="tail",
        OTEL_TRACES_SAMPLER_ARG="head=(ratio;0),slow_ms=60000",
        OTEL_METRICS_EXPORTER="console",
    )
    done = python(APP + "request('/good')\nrequest('/bad', failing=True)\n", env)
    assert done.code == 0
    text = done.out[done.out.index("{") :]
    document, _ = json.JSONDecoder().raw_decode(text)
    metrics = {
        metric["name"]: metric["data"]["data_points"]
        for resource in document["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    decided = {
        (point["attributes"]["spanwell.sampler"], point["attributes"]["spanwell.sampling.reason"]): point["value"]
        for point in metrics["spanwell.sampling.decisions"]
    }
    assert decided["ratio", "dropped"] == 2
    assert decided["tail", "error"] == 1
    assert "spanwell.sampling.held" in metrics


def _doctor(**env: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "spanwell", "doctor", "--json"],
        env=clean(OTEL_TRACES_EXPORTER="none", **env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = json.loads(done.stdout)["findings"]
    return done.returncode, [f"{each['level']}: {each['text']}" for each in found]


def test_doctor_asks_for_the_rules() -> None:
    with FakeSamplingService() as service:
        argument = f"endpoint={service.endpoint}"
        code, found = _doctor(OTEL_TRACES_SAMPLER="xray", OTEL_TRACES_SAMPLER_ARG=argument)
        assert code == 0
        assert any(line.startswith("ok: X-Ray's sampling rules:") and service.endpoint in line for line in found)
        service.fail(503)
        code, found = _doctor(OTEL_TRACES_SAMPLER="xray", OTEL_TRACES_SAMPLER_ARG=argument)
        assert code == 1
        assert any(line.startswith("problem: X-Ray's sampling rules:") and "503" in line for line in found)


def test_doctor_names_a_bad_argument() -> None:
    code, found = _doctor(OTEL_TRACES_SAMPLER="tail", OTEL_TRACES_SAMPLER_ARG="slow_ms=soon")
    assert code == 1
    assert any("slow_ms='soon'" in line for line in found)
