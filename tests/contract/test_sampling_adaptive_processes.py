"""Adaptive sampling in whole processes: under spanwell's launchers and under the SDK's own configurator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spanwell.testing import FakeSamplingService
from support.started import python, stored, traced

APPLICATION = """
import sys, time
if sys.argv[1:] == ["stock"]:
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator
    _OTelSDKConfigurator().configure()
from opentelemetry import context, trace
tracer = trace.get_tracer("app")
for _ in range(2000):
    with tracer.start_as_current_span("warm", context.Context()) as span:
        pass
    if getattr(span, "attributes", {}).get("aws.xray.sampling_rule") == "shop":
        break
    time.sleep(0.01)
with tracer.start_as_current_span("served", context.Context()) as span:
    with tracer.start_as_current_span("early"):
        pass
    with tracer.start_as_current_span("failing", attributes={"http.status_code": 503}):
        pass
    print(span.get_span_context().trace_flags.sampled)
with tracer.start_as_current_span("fine", context.Context(), attributes={"http.response.status_code": 200}):
    pass
"""
RULE = {
    "RuleName": "shop",
    "FixedRate": 0.0,
    "ReservoirSize": 0,
    "SamplingRateBoost": {"MaxRate": 0.5, "CooldownWindowMinutes": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["run", "instrument", "stock"])
def test_an_anomaly_is_stored_and_reported(how: str, tmp_path: Path) -> None:
    db = tmp_path / "t.db"
    with FakeSamplingService([RULE]) as service:
        env = traced(
            db,
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_TRACES_SAMPLER="xray",
            OTEL_TRACES_SAMPLER_ARG=f"endpoint={service.endpoint},polling_interval=10",
            AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG="version: 1.0\nanomalyConditions:\n- errorCodeRegex: '5\\d\\d'\n",
        )
        if how == "stock":
            done = subprocess.run(
                [sys.executable, "-c", APPLICATION, "stock"], env=env, capture_output=True, text=True, timeout=60
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            code, out, err = python(APPLICATION, env, launcher=how)
        assert (code, out) == (0, "False\n"), err
        assert service.until(lambda: service.boosts)
        assert service.violations == []
    found = [span for span in stored(db) if span.name != "warm"]
    assert [span.name for span in found] == ["failing", "served"]
    assert all(span.attributes["aws.trace.flag.sampled"] is False for span in found)
    assert found[1].attributes["spanwell.sampling.reason"] == "anomaly"
    assert found[1].attributes["aws.xray.sampling_rule"] == "shop"
    assert found[1].attributes["aws.xray.adaptive_sampling_configured"] is True
    counted = service.boosts[0]
    assert counted["ServiceName"] == "scenario"
    assert (counted["AnomalyCount"], counted["SampledAnomalyCount"]) == (1, 0)
    assert counted["TotalCount"] >= 3
