"""What AWS, a user or an application can get wrong, at each destination: one line with the remedy, then counted.

Which file proves which cell (this one proves those marked *, each through `spanwell run`):

| input               | otlp  | xray_api | kinesis | dynamodb | cloudwatch, emf | over UDP |
| ------------------- | ----- | -------- | ------- | -------- | --------------- | -------- |
| wrong or no region  | -     | X, *     | K, *    | *        | *               | -        |
| nobody is there     | O     | A, *     | K, *    | *        | *               | X, U     |
| missing credentials | OA    | X, *     | K, *    | *        | *               | -        |
| expired, unknown    | OA    | A, *     | KS, *   | DS, *    | *               | -        |
| access denied       | P, OA | A, *     | K, *    | DS, *    | *               | -        |
| clock skew          | OA    | A, *     | *       | *        | *               | -        |
| missing table, …    | OA    | -        | K, KS   | D, DS    | E               | -        |
| oversize span       | OA, * | *        | KS, *   | DS, *    | -               | U, *     |
| oversize attribute  | B, *  | *        | *       | DS, *    | E               | U, *     |
| lone surrogate      | *     | A, *     | *       | *        | E               | *        |
| NaN, infinity       | *     | *        | *       | *        | E, M            | *        |
| invalid certificate | T     | *        | *       | *        | *               | -        |
| plain text          | P, OA | *        | K, *    | *        | *               | -        |

A contract/test_xray_api, B e2e/test_bad_input, D e2e/test_dynamodb_commands, DS contract/test_dynamodb_stores,
E contract/test_emf_moto and property/test_emf_properties, K e2e/test_kinesis_processes, KS contract/
test_kinesis_services, M unit/test_cloudwatch_metrics, O unit/test_otlp_exporter, OA unit/test_otlp_aws, P e2e/
test_otlp_processes, T contract/test_otlp_tls, U contract/test_xray_udp, X e2e/test_xray_processes. What each error of
botocore becomes is in unit/test_aws_client; the forms of odd values in unit/test_otlp_encoding,
unit/test_dynamodb_layout and property/test_segment_properties.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from support.destinations import DESTINATIONS, Servers, lossy_sink, servers
from support.faults import error, fault_proxy
from support.started import Done, clean, python
from support.tls import Authority, https_server

pytestmark = [pytest.mark.slow, pytest.mark.services]

SPANS = ("xray_api", "kinesis", "dynamodb")
METRICS = ("cloudwatch", "emf")
EVERY = pytest.mark.parametrize("exporter", [*SPANS, *METRICS])

WORK = """
from opentelemetry import metrics, trace
metrics.get_meter("app").create_counter("orders.made").add(1)
for number in range(3):
    with trace.get_tracer("app").start_as_current_span("work"):
        pass
print("application output")
"""


def environment(exporter: str, url: str, **more: str) -> dict[str, str]:
    """A user's environment. `more` may take a variable away with an empty value."""
    signal = "METRICS" if exporter in METRICS else "TRACES"
    chosen = {
        "OTEL_SERVICE_NAME": "app",
        "OTEL_TRACES_EXPORTER": "none",
        f"OTEL_{signal}_EXPORTER": exporter,
        "SPANWELL_KINESIS_STREAM": "spans",
        "SPANWELL_DYNAMODB_TABLE": "spans",
        "SPANWELL_EMF_LOG_GROUP": "/spans",
        "SPANWELL_CLOUDWATCH_METRICS": "orders.made",
        "SPANWELL_SHUTDOWN_TIMEOUT": "8",
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "HOME": "/nonexistent",
        **more,
    }
    return clean(**{name: value for name, value in chosen.items() if value})


def said(exporter: str, done: Done) -> str:
    """The one line that says why, after the application ended well and everything that was lost was counted."""
    assert (done.code, done.out) == (0, "application output\n"), done.err
    assert "s3cret" not in done.err
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert all(line.startswith("spanwell: ") for line in lines), done.err
    if exporter in METRICS:
        # Metrics wait for the next export; that there was none is said at the end.
        (why, last) = lines
        assert re.search(r"did not take 1 metrics: ", why)
        assert re.search(r"1 metrics did not reach CloudWatch.* before the process ended", last)
        return why
    (why,) = lines
    assert f"3 spans did not reach exporter {exporter}" in why
    return why


# --- what is set wrong ----------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AWS_REGION": ""}, "needs a region: set AWS_REGION"),
        ({"AWS_REGION": "Frankfurt!"}, "needs a region such as eu-west-1"),
        ({"AWS_ACCESS_KEY_ID": ""}, "finds no AWS credentials"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "check the region, the network"),
        (
            {"AWS_ENDPOINT_URL": "http://10.0.0.1:4566"},
            "sends no credentials to 10.0.0.1 in plain text: use https://",
        ),
    ],
    ids=["no region", "wrong region", "no credentials", "no profile", "nobody there", "plain text"],
)
def test_what_is_set_wrong(exporter: str, change: dict[str, str], words: str) -> None:
    done = python(WORK, environment(exporter, "http://127.0.0.1:1", **change), timeout=60)
    assert words in said(exporter, done)


class Silent(BaseHTTPRequestHandler):
    """Nobody gets as far as asking it anything."""


@EVERY
def test_an_endpoint_whose_certificate_nobody_vouches_for(exporter: str, tmp_path: Path) -> None:
    with https_server(Silent, Authority(tmp_path).issue("127.0.0.1")) as url:
        done = python(WORK, environment(exporter, url), timeout=60)
    assert "check AWS_CA_BUNDLE and the certificate" in said(exporter, done)


# --- what AWS refuses -----------------------------------------------------------------------------------------------

PERMISSIONS = {
    "xray_api": "xray:PutTraceSegments",
    "kinesis": "kinesis:PutRecords",
    "dynamodb": "dynamodb:BatchWriteItem",
    "cloudwatch": "cloudwatch:PutMetricData",
    "emf": "logs:PutLogEvents",
}


@EVERY
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "allow {permission}"),
        ("ExpiredTokenException", "have expired: renew them"),
        ("UnrecognizedClientException", "AWS does not know these credentials"),
        ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
    ],
    ids=["denied", "expired", "unknown", "skew"],
)
def test_what_aws_refuses(exporter: str, code: str, words: str) -> None:
    with fault_proxy("http://127.0.0.1:1", lambda _: error(code, 403)) as proxy:
        done = python(WORK, environment(exporter, proxy.url), timeout=60)
        assert 1 <= sum(proxy.did.values()) <= 2, "it is not tried again and again"
    assert words.format(permission=PERMISSIONS[exporter]) in said(exporter, done)


# --- what an application puts into a span ---------------------------------------------------------------------------

# One span for each kind of value, and an ordinary one before and after them.
VALUES = """
import sys
from opentelemetry import trace
from opentelemetry.trace import SpanKind
million = 1_000_000
values = {
    "before": {"k": "v"},
    "oversize attribute": {"text": "ü" * million},
    "oversize span": {f"part{number}": chr(97 + number % 26) * 200_000 for number in range(120)},
    "surrogate": {"lone \\ud800": "\\udfff text \\ud800"},
    "nan": {"nan": float("nan"), "inf": float("inf"), "list": [1.0, float("-inf"), float("nan")]},
    "number": {"number": 10 ** 400},
    "control": {"\\x00": "\\x00\\x1b[31m"},
    "bytes": {"bytes": b"\\xff\\xfe", "mixed": [1, "a", None, True]},
    "after": {"k": "v"},
}
tracer = trace.get_tracer("app")
for name, attributes in values.items():
    with tracer.start_as_current_span(name, kind=SpanKind.SERVER) as span:
        for key, value in attributes.items():
            span.set_attribute(key, value)
        span.add_event(name + " \\ud800", {"why": "\\ud800", "nan": float("nan")})
        context = span.get_span_context()
        if name == "surrogate":
            span.update_name("name \\ud800")
    print(f"{context.trace_id:x} {context.span_id:x} {name}")
"""

# Two million bytes in one attribute, 24 million in a span: these two send a span whole or not at all, in a record of
# 1 MiB or a datagram of 64 kB. Segment documents and items are cut, and a request to a collector has no limit.
TOO_LARGE = {name: {"oversize attribute", "oversize span"} for name in ("kinesis", "xray_otlp_udp")}


def check_values(done: Done, found: Any, exporter: str) -> None:
    """Each span is there or counted; the ordinary ones are there."""
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    printed = [line.split(" ", 2) for line in done.out.splitlines()]
    assert len(printed) == 9
    arrived = found([int(trace_id, 16) for trace_id, _, _ in printed])
    names = {name: int(span_id, 16) in arrived for _, span_id, name in printed}
    lines = [line for line in done.err.splitlines() if "did not reach" in line]
    lost = sum(int(number) for line in lines for number in re.findall(r"(\d+) spans did not reach", line))
    assert sum(names.values()) + lost == len(names), (names, done.err)
    left_out = {name for name, there in names.items() if not there}
    assert left_out == TOO_LARGE.get(exporter, set()), done.err
    assert len(lines) == (1 if left_out else 0)


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    with servers() as made:
        yield made


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_odd_values_cost_at_most_themselves(running: Servers, destination: str) -> None:
    target = running.target(destination)
    chosen = clean(
        **target.environment(),
        OTEL_SERVICE_NAME="app",
        SPANWELL_SHUTDOWN_TIMEOUT="30",
        SPANWELL_INSIGHTS="false",
    )
    check_values(python(VALUES, chosen, timeout=60), target.found, destination)


@pytest.mark.parametrize("exporter", ["xray", "xray_otlp_udp"])
def test_odd_values_over_udp_cost_at_most_themselves(exporter: str) -> None:
    with lossy_sink(exporter, 1, share=0.0) as sink:
        chosen = clean(OTEL_TRACES_EXPORTER=exporter, AWS_XRAY_DAEMON_ADDRESS=sink.address, SPANWELL_INSIGHTS="false")
        done = python(VALUES, chosen, timeout=60)
        sink.settle()
        check_values(done, lambda _: sink.found(), exporter)
