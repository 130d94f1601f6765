"""Who is measured, and how each is started: its environment, its launcher, its variables."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.envs import Environment

TRACES = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
METRICS = {**TRACES, "OTEL_METRICS_EXPORTER": "otlp"}
HTTP = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:{collector}",
}
# As the documentation of the ADOT distro asks.
ADOT = {**HTTP, "OTEL_PYTHON_DISTRO": "aws_distro", "OTEL_PYTHON_CONFIGURATOR": "aws_configurator"}
SIGNALS = {
    **ADOT,
    **TRACES,
    "OTEL_AWS_APPLICATION_SIGNALS_ENABLED": "true",
    "OTEL_AWS_APPLICATION_SIGNALS_EXPORTER_ENDPOINT": "http://127.0.0.1:{collector}/v1/metrics",
    "OTEL_AWS_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:{collector}/v1/logs",
    "OTEL_AWS_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:{collector}/v1/metrics",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:{collector}/v1/traces",
}
INSTRUMENT = ("opentelemetry-instrument",)
RUN = ("spanwell", "run", "--")
SPANWELL = {**HTTP, "OTEL_PYTHON_DISTRO": "spanwell", "OTEL_PYTHON_CONFIGURATOR": "spanwell"}
PLAIN = {"SPANWELL_REDACTION": "false", "SPANWELL_QUIET": "none"}


@dataclass(frozen=True)
class Contender:
    """One row of a table. `variables` may name the ports `{collector}` and `{udp}`."""

    key: str
    title: str
    environment: str
    launcher: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


ALL = {
    contender.key: contender
    for contender in (
        Contender("bare", "bare", "bare"),
        Contender("upstream", "upstream, traces", "upstream", INSTRUMENT, {**HTTP, **TRACES}),
        Contender("upstream-metrics", "upstream, traces and metrics", "upstream", INSTRUMENT, {**HTTP, **METRICS}),
        Contender("upstream-default", "upstream, its defaults", "upstream", INSTRUMENT, HTTP),
        Contender("adot", "ADOT, traces", "adot", INSTRUMENT, {**ADOT, **TRACES}),
        Contender("adot-default", "ADOT, its defaults", "adot", INSTRUMENT, ADOT),
        Contender("adot-signals", "ADOT, Application Signals", "adot", INSTRUMENT, SIGNALS),
        Contender(
            "adot-signals-unsampled",
            "ADOT, Application Signals, sampling off",
            "adot",
            INSTRUMENT,
            {**SIGNALS, "OTEL_TRACES_SAMPLER": "always_off"},
        ),
        Contender(
            "xray",
            "X-Ray SDK",
            "xray",
            (),
            {"BENCH_XRAY": "1", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:{udp}"},
        ),
        Contender("run", "`spanwell run`, traces", "spanwell", RUN, {**HTTP, **TRACES}),
        Contender("run-metrics", "`spanwell run`, traces and metrics", "spanwell", RUN, {**HTTP, **METRICS}),
        Contender("run-default", "`spanwell run`, its defaults", "spanwell", RUN, HTTP),
        Contender(
            "instrument",
            "spanwell, `opentelemetry-instrument`",
            "spanwell",
            INSTRUMENT,
            {**SPANWELL, **TRACES},
        ),
        Contender(
            "instrument-plain",
            "spanwell, redaction and quiet off",
            "spanwell",
            INSTRUMENT,
            {**SPANWELL, **TRACES, **PLAIN},
        ),
        Contender(
            "instrument-insights-plain",
            "spanwell, redaction and quiet off, insights and metrics on",
            "spanwell",
            INSTRUMENT,
            {**SPANWELL, **METRICS, **PLAIN, "SPANWELL_INSIGHTS": "true"},
        ),
        Contender(
            "instrument-insights",
            "spanwell, insights and metrics on",
            "spanwell",
            INSTRUMENT,
            {**SPANWELL, **METRICS, "SPANWELL_INSIGHTS": "true"},
        ),
        Contender(
            "instrument-insights-unsampled",
            "the same, sampling off",
            "spanwell",
            INSTRUMENT,
            {**SPANWELL, **METRICS, "SPANWELL_INSIGHTS": "true", "OTEL_TRACES_SAMPLER": "always_off"},
        ),
        Contender(
            "instrument-insights-unsampled-plain",
            "the same, redaction and quiet off",
            "spanwell",
            INSTRUMENT,
            {**SPANWELL, **METRICS, **PLAIN, "SPANWELL_INSIGHTS": "true", "OTEL_TRACES_SAMPLER": "always_off"},
        ),
    )
}


def environ(
    contender: Contender,
    environment: Environment,
    ports: Mapping[str, int],
    home: Path,
    *,
    collector: str = "http",
) -> dict[str, str]:
    """The whole environment of a child; `collector` names the port that telemetry goes to.

    Nothing of the caller's environment but the search path of programs gets in.
    """
    given = {
        name: value.format(collector=ports[collector], udp=ports["udp"])
        for name, value in contender.variables.items()
    }
    return {
        "PATH": os.pathsep.join((str(environment.bin), os.defpath)),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OTEL_SERVICE_NAME": "bench",
        "BENCH_STUB": f"http://127.0.0.1:{ports['http']}",
        **given,
    }
