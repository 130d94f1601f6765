"""`spanwell doctor --send`: the test span, and what is said of each destination."""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from spanwell.cli import delivery, doctor
from spanwell.cli.delivery import ARRIVED, FAILED, SENT, Delivery, Destinations, make_span, send
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.settings import Settings
from support.collector import collector, deaf_listener, drip, hang, reset, status
from support.exporters import FAILURE, HangingExporter, ListExporter

DEAD = "http://127.0.0.1:1"


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("SPANWELL_RESOURCE_TIMEOUT", "0")
    return monkeypatch


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, **variables: str) -> tuple[int, dict[str, Any]]:
    """Exit status and the JSON of `spanwell doctor --send`."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    doctor.register(parser.add_subparsers())
    args = parser.parse_args(["doctor", "--send", "--json", *arguments])
    out = io.StringIO()
    return args.run(args, dict(os.environ), out), json.loads(out.getvalue())


def outcome(exporter: SpanExporter, name: str = "mine", seconds: float = 30.0) -> Delivery:
    """What becomes of a span that `exporter` is given."""
    settings = Settings.from_env({})
    found = Destinations(Settings.from_env({"OTEL_TRACES_EXPORTER": "none"}), {})
    found.exporters = [(name, "", lambda: exporter)]
    [one] = send(found, make_span(settings, {"SPANWELL_RESOURCE_TIMEOUT": "0"}), seconds=seconds)
    return one


# --- real destinations ------------------------------------------------------------------------------------------


def test_the_span_arrives_at_a_collector(env: pytest.MonkeyPatch) -> None:
    with collector() as otlp:
        code, tree = run(
            env,
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
            OTEL_SERVICE_NAME="shop",
            OTEL_TRACES_SAMPLER="always_off",
            SPANWELL_REDACT_KEYS="*",
            OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="0",
        )
        [span] = otlp.span_messages()
        [post] = otlp.posts
    [one] = tree["deliveries"]
    assert code == 0
    assert (one["exporter"], one["outcome"], one["reason"]) == ("otlp", ARRIVED, "")
    assert one["where"] == f"{otlp.url}/v1/traces"
    assert span.name == "spanwell doctor"
    assert [(item.key, item.value.bool_value) for item in span.attributes] == [("spanwell.doctor", True)]
    resource = {item.key: item.value.string_value for item in post.message.resource_spans[0].resource.attributes}
    assert resource["service.name"] == "shop"
    [said] = [finding["text"] for finding in tree["findings"] if "test span" in finding["text"]]
    assert span.trace_id.hex() in said


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (status(401), "401"),
        (status(404), "404"),
        (status(503), "503"),
        (reset, ""),
    ],
    ids=["401", "404", "503", "reset"],
)
def test_a_refusal_is_told_with_its_reason(env: pytest.MonkeyPatch, behaviour: Any, reason: str) -> None:
    with collector(behaviour) as otlp:
        code, tree = run(env, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_SERVICE_NAME="shop")
        [one] = tree["deliveries"]
        assert len(otlp.posts) <= (2 if behaviour is reset else 1), (
            "one attempt, and a new connection for a broken one"
        )
    assert code == 1
    assert one["outcome"] == FAILED
    assert reason in one["reason"]
    assert one["reason"]
    assert [f["text"] for f in tree["findings"] if f["level"] == "problem" and one["reason"] in f["text"]]


def test_a_dead_port(env: pytest.MonkeyPatch) -> None:
    code, tree = run(env, OTEL_EXPORTER_OTLP_ENDPOINT=DEAD)
    [one] = tree["deliveries"]
    assert (code, one["outcome"]) == (1, FAILED)
    assert "refused" in one["reason"].lower()
    assert "start a collector" in one["reason"]


@pytest.mark.parametrize("behaviour", [hang, drip], ids=["hang", "drip"])
def test_a_server_that_never_answers_costs_its_seconds_only(env: pytest.MonkeyPatch, behaviour: Any) -> None:
    env.setattr(delivery.send, "__kwdefaults__", {"seconds": 0.3})
    with collector(behaviour) as otlp, collector() as well:
        code, tree = run(
            env,
            OTEL_TRACES_EXPORTER="otlp,console",
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        )
        assert well.posts == []
    assert code == 1
    assert [(one["exporter"], one["outcome"]) for one in tree["deliveries"]] == [
        ("otlp", FAILED),
        ("console", ARRIVED),
    ]
    assert "no answer within 0.3 s" in tree["deliveries"][0]["reason"]


def test_a_port_that_accepts_and_says_nothing(env: pytest.MonkeyPatch) -> None:
    env.setattr(delivery.send, "__kwdefaults__", {"seconds": 0.3})
    with deaf_listener() as url:
        code, tree = run(env, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert (code, tree["deliveries"][0]["outcome"]) == (1, FAILED)


def test_several_destinations_each_have_their_line(
    env: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.db"
    with collector() as otlp:
        code, tree = run(
            env,
            OTEL_TRACES_EXPORTER="otlp,sqlite,console,zipkin_of_old,otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
            SPANWELL_SQLITE_PATH=str(path),
        )
        assert otlp.spans() == ["spanwell doctor"]
    assert code == 1
    assert {one["exporter"]: one["outcome"] for one in tree["deliveries"]} == {
        "zipkin_of_old": FAILED,
        "otlp": ARRIVED,
        "sqlite": ARRIVED,
        "console": ARRIVED,
    }
    assert "'zipkin_of_old'" in tree["deliveries"][0]["reason"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM span").fetchall() == [("spanwell doctor",)]
    shown = capsys.readouterr()
    assert '"name": "spanwell doctor"' in shown.err  # the console exporter leaves the report alone
    assert shown.out == ""


def test_a_file_that_cannot_be_written(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, tree = run(env, OTEL_TRACES_EXPORTER="sqlite", SPANWELL_SQLITE_PATH=str(tmp_path))
    [one] = tree["deliveries"]
    assert (code, one["outcome"], one["where"]) == (1, FAILED, str(tmp_path))
    assert "cannot write spans" in one["reason"]


def test_without_a_destination(env: pytest.MonkeyPatch) -> None:
    code, tree = run(env, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="otlp", OTEL_LOGS_EXPORTER="otlp")
    texts = [finding["text"] for finding in tree["findings"] if finding["topic"] == "delivery"]
    assert (code, tree["deliveries"]) == (0, [])
    assert "there is no destination to send it to" in texts
    assert [text.partition(":")[0] for text in texts if "not tested" in text] == [
        "metrics (otlp) are not tested",
        "logs (otlp) are not tested",
    ]


def test_nothing_is_sent_where_telemetry_is_off(env: pytest.MonkeyPatch) -> None:
    with collector() as otlp:
        code, tree = run(env, OTEL_SDK_DISABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
        assert otlp.connections == 0
    assert (code, tree["deliveries"]) == (0, [])


def test_offline_and_send_exclude_each_other(env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(env, "--offline")
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


# --- any exporter -----------------------------------------------------------------------------------------------


class Encoding(EncodingExporter):
    """Sends into a list, and says what it is told to say."""

    name = "mine"

    def __init__(self, said: Sent | Exception) -> None:
        self.said = said
        self.calls: list[Any] = []

    def encode(self, span: ReadableSpan) -> tuple[Any, int]:
        return span.name, 1

    def last_attempt(self) -> None:
        self.calls.append("last_attempt")

    def send(self, items: list[Any]) -> Sent:
        self.calls.append(items)
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_an_exporter_that_encodes_says_the_reason_itself() -> None:
    reason = "AccessDenied: the role may not kinesis:PutRecords on shop; see `spanwell iam kinesis`"
    exporter = Encoding(Sent(1, reason, False))
    one = outcome(exporter)
    assert (one.outcome, one.reason) == (FAILED, reason)
    assert exporter.calls == ["last_attempt", ["spanwell doctor"], "shutdown"]
    assert outcome(Encoding(Sent())).outcome == ARRIVED
    assert outcome(Encoding(Sent(0, "", False))).outcome == FAILED
    assert outcome(Encoding(ValueError("no\nstream"))).reason == "no stream"


@pytest.mark.parametrize("name", ["xray", "xray_otlp_udp"])
def test_udp_gives_no_answer(env: pytest.MonkeyPatch, name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(30)
        address = f"127.0.0.1:{daemon.getsockname()[1]}"
        code, tree = run(env, OTEL_TRACES_EXPORTER=name, AWS_XRAY_DAEMON_ADDRESS=address)
        datagram = daemon.recv(65_536)
    [one] = tree["deliveries"]
    assert datagram.startswith(b'{"format":"json","version":1}')
    assert (code, one["exporter"], one["outcome"], one["where"]) == (0, name, SENT, f"udp {address}")
    [said] = [finding["text"] for finding in tree["findings"] if finding["text"].startswith(f"{name} (")]
    assert said == f"{name} (udp {address}): sent, no answer is given"


def test_an_exporter_that_fails_raises_or_hangs() -> None:
    assert outcome(ListExporter(lambda _: FAILURE)).reason == "the exporter reported a failure"

    def broken(_: int) -> Any:
        raise RuntimeError("out of order")

    assert outcome(ListExporter(broken)).reason == "out of order"
    hanging = HangingExporter()
    one = outcome(hanging, seconds=0.05)
    hanging.release.set()
    assert (one.outcome, "no answer within 0.05 s" in one.reason) == (FAILED, True)


def test_an_answer_counts_before_a_shutdown_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Stubborn(ListExporter):
        def shutdown(self) -> None:
            release.wait(60)

    monkeypatch.setattr(delivery, "CLOSING", 0.05)
    try:
        assert outcome(Stubborn()).outcome == ARRIVED
    finally:
        release.set()


def test_an_exporter_that_cannot_be_made() -> None:
    found = Destinations(Settings.from_env({"OTEL_TRACES_EXPORTER": "none"}), {})

    def build() -> Any:
        raise RuntimeError("needs boto3: pip install 'spanwell[aws]'")

    found.exporters = [("kinesis", "", build)]
    [one] = send(found, make_span(Settings.from_env({}), {}))
    assert one.finding() == (
        "problem",
        f"kinesis: did not arrive ({one.seconds * 1000:.0f} ms): cannot be set up: needs boto3: pip install"
        " 'spanwell[aws]'",
    )


def test_a_span_has_ids_for_xray_and_no_parent() -> None:
    span = make_span(Settings.from_env({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "0"}), {})
    context = span.get_span_context()
    assert context is not None
    assert context.trace_flags.sampled
    assert span.parent is None
    assert abs((context.trace_id >> 96) - (span.start_time or 0) // 10**9) <= 1


@pytest.mark.slow
def test_the_process_ends_though_a_destination_hangs() -> None:
    with collector(hang) as otlp:
        done = subprocess.run(
            [sys.executable, "-m", "spanwell", "doctor", "--send", "--json"],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        [one] = json.loads(done.stdout)["deliveries"]
    assert (done.returncode, one["outcome"], done.stderr) == (1, FAILED, "")
    assert "no answer within 5 s" in one["reason"]


# --- declarative configuration ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["batch", "simple"])
def test_the_exporters_of_a_configuration_file(tmp_path: Path, kind: str) -> None:
    """In a process of its own: the file sets the global provider."""
    with collector() as otlp:
        path = tmp_path / "otel.yaml"
        path.write_text(
            f"""file_format: "1.0"
tracer_provider:
  processors:
    - {kind}:
        exporter:
          otlp_http:
            endpoint: {otlp.url}/v1/traces
"""
        )
        done = subprocess.run(
            [sys.executable, "-m", "spanwell", "doctor", "--send", "--json"],
            env={**os.environ, "OTEL_CONFIG_FILE": str(path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        [one] = json.loads(done.stdout)["deliveries"]
        assert (one["outcome"], one["where"]) == (ARRIVED, f"{otlp.url}/v1/traces")
        assert otlp.spans() == ["spanwell doctor"]
    assert done.stderr == ""
