"""Through a real OTLP collector (rotel, in Rust) and out at its other side, over HTTP and over gRPC."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.receiver import Receiver, otlp_receiver
from support.servers import free_port

pytestmark = pytest.mark.slow

APPLICATION = """
from opentelemetry import trace
with trace.get_tracer("shop").start_as_current_span("order", attributes={"shop.items": 3}):
    with trace.get_tracer("shop").start_as_current_span("pay"):
        pass
"""


def _agent() -> Path:
    spec = importlib.util.find_spec("rotel")
    if spec is None or not spec.submodule_search_locations:
        what = (
            "rotel has a wheel for CPython 3.11 on x86-64 alone; not proved here: a real collector takes what we send"
        )
        if os.environ.get("SPANWELL_STRICT") == "1" and sys.version_info[:2] == (3, 11):
            pytest.fail(what)
        pytest.skip(what)
    return Path(spec.submodule_search_locations[0]) / "rotel-agent"


@contextmanager
def _collector(target: str) -> Iterator[tuple[int, int]]:
    grpc, http = free_port(), free_port()
    command = [str(_agent()), "start", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint"]
    command += [f"127.0.0.1:{http}", "--exporter", "otlp", "--otlp-exporter-protocol", "http"]
    command += ["--otlp-exporter-endpoint", target, "--batch-timeout", "100ms"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield grpc, http
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_trace_goes_through_a_collector(protocol: str, tmp_path: Path) -> None:
    script = tmp_path / "order.py"
    script.write_text(APPLICATION)
    with otlp_receiver() as sink, _collector(f"{sink.url}/through") as (grpc, http):
        port = grpc if protocol == "grpc" else http
        environ = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": "shop",
        }
        _until_it_listens(port)
        command = [sys.executable, "-m", "spanwell", "run", "--", sys.executable, str(script)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(_names(sink)) == ["order", "pay"]


def _until_it_listens(port: int) -> None:
    import socket

    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the collector does not listen")


def _names(sink: Receiver) -> list[str]:
    for _ in range(100):
        spans = sink.spans("through")
        if len(spans) == 2:
            break
        time.sleep(0.1)
    return [span.name for _, span in spans]
