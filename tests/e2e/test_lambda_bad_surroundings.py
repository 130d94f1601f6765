"""The function works whatever is missing or odd around it, and one line says what was lost."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from support.lambda_runtime import Runtime, trace_header
from support.servers import free_port, missing

pytestmark = pytest.mark.slow

CALL = """
import boto3
dynamodb = boto3.client("dynamodb")

def handler(event, context):
    dynamodb.get_item(TableName="items", Key={"id": {"S": "7"}})
    return {"done": True}
"""
OTLP = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def said(lam: Runtime) -> list[str]:
    """What spanwell logged at WARNING or worse."""
    return [line for line in lam.log.splitlines() if "spanwell" in line and ("WARN" in line or "ERROR" in line)]


def test_nothing_listens_at_the_daemons_address() -> None:
    with Runtime({"app.py": CALL}, layer="source", aws=True, xray=f"127.0.0.1:{free_port()}") as lam:
        for _ in range(5):
            assert lam.invoke({}).payload == {"done": True}
        lines = said(lam)
    assert len(lines) == 1
    assert "spans did not reach" in lines[0]


def test_nothing_listens_at_the_otlp_endpoint() -> None:
    env = {**OTLP, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with Runtime({"app.py": CALL}, layer="source", aws=True, env=env) as lam:
        for _ in range(5):
            assert lam.invoke({}).payload == {"done": True}
        lines = said(lam)
    assert len(lines) == 1
    assert "spans did not reach" in lines[0]


def test_an_otlp_endpoint_that_never_answers_does_not_hold_the_response_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {**OTLP, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with Runtime({"app.py": CALL}, layer="source", aws=True, env=env) as lam:
            # Three seconds are Lambda's default: a function that takes none of them itself must stay within.
            answers = [lam.invoke({}, timeout=3.0) for _ in range(5)]
            assert [answer.payload for answer in answers] == [{"done": True}] * 5
            assert lam.starts == 1
            lines = said(lam)
    assert len(lines) == 1


def test_a_read_only_tmp() -> None:
    if os.geteuid() or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"]).returncode:
        missing("a mount namespace (root)", "a function whose /tmp cannot be written to is traced")
    code = CALL.replace("return", "import tempfile; return", 1) + '\nopen("/tmp/spanwell-no", "w")\n'
    code = code.replace(
        'open("/tmp/spanwell-no", "w")', 'try: open("/tmp/spanwell-no", "w"); 1/0\nexcept OSError: pass'
    )
    with Runtime({"app.py": code}, layer="source", aws=True, read_only_tmp=True) as lam:
        assert lam.invoke({}).payload == {"done": True}
        assert len(lam.spans(2)) == 2
        assert said(lam) == []


def test_a_handler_that_forks_and_starts_processes() -> None:
    code = """
import multiprocessing, os, subprocess, sys

def work(number):
    return number * 2

def handler(event, context):
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    _, status = os.waitpid(pid, 0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        doubled = pool.map(work, [1, 2, 3])
    child = subprocess.run([sys.executable, "-c", "import sys; print('opentelemetry' in sys.modules)"],
                           capture_output=True, text=True)
    return [os.waitstatus_to_exitcode(status), doubled, child.stdout.strip(), child.stderr]
"""
    with Runtime({"app.py": code}, layer="source") as lam:
        for _ in range(3):
            assert lam.invoke({}, timeout=20).payload == [5, [2, 4, 6], "False", ""]
        spans = lam.spans(3)
    assert len(spans) == len({span.span_id for span in spans}) == 3


def test_a_forked_child_that_returns_into_the_runtime_client_does_not_repeat_spans() -> None:
    code = """
import os, sys
def handler(event, context):
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    os.waitpid(pid, 0)
    return "parent"
"""
    with Runtime({"app.py": code}, layer="source") as lam:
        answer = lam.invoke({}, timeout=20)
        assert answer.payload == "parent"
        spans = lam.spans(1)
    own = [span for span in spans if span.attributes.get("faas.invocation_id") == answer.request_id]
    assert len(own) == 1
    assert own[0].status != "ERROR"


def test_signals_belong_to_the_function() -> None:
    code = """
import signal
seen = []
before = {name: repr(signal.getsignal(getattr(signal, name))) for name in ("SIGTERM", "SIGINT", "SIGALRM", "SIGUSR1")}
def handler(event, context):
    if event == "before":
        return before
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    return len(seen)
"""
    with Runtime({"app.py": code}) as lam:
        bare = lam.invoke("before").payload
    with Runtime({"app.py": code}, layer="source") as lam:
        assert lam.invoke("before").payload == bare
        assert [lam.invoke("signal").payload for _ in range(3)] == [1, 2, 3]
        assert len(lam.spans(4)) == 4


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        {"opentelemetry/__init__.py": "", "opentelemetry/trace.py": ""},
        {"opentelemetry/__init__.py": "raise RuntimeError('an old copy')"},
        {"opentelemetry/trace/__init__.py": "", "opentelemetry/version/__init__.py": "__version__ = '1.2.0'"},
        {"opentelemetry.py": "tracer = None"},
    ],
    ids=["empty", "raises", "old", "module"],
)
def test_a_function_that_brings_an_opentelemetry_that_does_not_fit(files: dict[str, str], sampled: bool) -> None:
    with Runtime({"app.py": CALL, **files}, layer="source", aws=True) as lam:
        for _ in range(3):
            assert lam.invoke({}, trace=trace_header(sampled=sampled)).payload == {"done": True}
        lines = [line for line in lam.log.splitlines() if "spanwell" in line]
    assert len(lines) == (1 if sampled else len(lines))
    assert len(lines) <= 1
    assert "Traceback" not in lam.log


def test_a_layer_below_ours_that_brings_the_same_packages_is_left_alone(tmp_path: Path) -> None:
    packages = tmp_path / "python" / "typing_extensions.py"
    packages.parent.mkdir()
    packages.write_text("mine = 1\n")
    code = "import typing_extensions\ndef handler(event, context):\n    return typing_extensions.mine\n"
    with Runtime({"app.py": code}, layer=["source", tmp_path]) as lam:
        assert lam.invoke({}).payload == 1
