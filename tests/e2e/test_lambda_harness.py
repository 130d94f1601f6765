"""The Lambda harness behaves as Lambda: what the other Lambda tests build on."""

from __future__ import annotations

import signal
import time

import pytest

from support.lambda_runtime import Runtime, trace_header

pytestmark = pytest.mark.slow

CODE = """
import os, sys, time

def handler(event, context):
    if event == "raise":
        raise ValueError("no")
    if event == "sleep":
        time.sleep(30)
    if event == "exit":
        os._exit(7)
    return {
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "remaining": context.get_remaining_time_in_millis(),
        "path": sys.path,
        "own": os.environ.get("AWS_LAMBDA_FUNCTION_NAME"),
        "arn": context.invoked_function_arn,
    }
"""


def test_an_invocation_sees_what_lambda_sets() -> None:
    with Runtime({"app.py": CODE}) as lam:
        header = trace_header(sampled=False)
        found = lam.invoke({}, trace=header, timeout=2).payload
    assert found["trace"] == header
    assert 0 < found["remaining"] <= 2000
    assert found["own"] == "spanwell-test"
    assert found["arn"].endswith(":spanwell-test")


def test_the_order_of_the_folders_is_the_one_of_the_managed_runtime() -> None:
    with Runtime({"app.py": CODE}) as lam:
        task, versioned, layers = lam.invoke({}).payload["path"][:3]
    assert task.endswith("/var/task")
    assert versioned.endswith("/site-packages")
    assert layers.endswith("/opt/python")


def test_a_layers_pth_file_runs_before_the_handler_is_imported_unless_pythonpath_is_set(tmp_path) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "a.pth").write_text("import sys; print('pth', 'app' in sys.modules, flush=True)\n")
    with Runtime({"app.py": CODE}, layer=tmp_path) as lam:
        assert "pth False" in lam.stdout
    with Runtime({"app.py": CODE}, layer=tmp_path, env={"PYTHONPATH": "/nowhere"}) as lam:
        assert "pth" not in lam.stdout


def test_errors_exits_and_timeouts_end_as_in_lambda() -> None:
    with Runtime({"app.py": CODE}) as lam:
        raised = lam.invoke("raise")
        assert raised.error is not None
        assert raised.error["errorType"] == "ValueError"
        assert lam.invoke("exit").exit_code == 7
        late = lam.invoke("sleep", timeout=0.3)
        assert late.timed_out
        assert late.exit_code == -signal.SIGKILL
        assert lam.invoke({}).payload["own"]
        assert lam.starts == 3


def test_a_module_that_cannot_be_imported_is_an_init_error() -> None:
    with Runtime({"app.py": "import nowhere_to_be_found"}) as lam:
        assert lam.init_error is not None
        assert lam.init_error["errorType"] == "Runtime.ImportModuleError"


def test_a_wrapper_script_gets_the_command_line_of_the_runtime(tmp_path) -> None:
    script = tmp_path / "wrap"
    script.write_text('#!/bin/sh\nWRAPPED=yes; export WRAPPED; echo "$@"; exec "$@"\n')
    script.chmod(0o755)
    env = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}
    with Runtime({"app.py": "import os\nhandler = lambda *_: os.environ['WRAPPED']"}, layer=tmp_path, env=env) as lam:
        assert lam.invoke({}).payload == "yes"
        assert lam.stdout.splitlines()[0].endswith("/var/runtime/bootstrap.py")


def test_nothing_runs_while_frozen() -> None:
    code = """
import threading, time
ticks = 0
def run():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.005)
threading.Thread(target=run, daemon=True).start()
handler = lambda *_: ticks
"""
    with Runtime({"app.py": code}, freeze=True) as lam:
        before = lam.invoke({}).payload
        time.sleep(0.5)
        assert lam.invoke({}).payload - before < 50


def test_snap_start_waits_for_the_restore() -> None:
    with Runtime({"app.py": CODE}, snap_start=True) as lam:
        assert lam.api.restore_wanted_ns
        assert not lam.api.first_next_ns
        lam.restore()
        assert lam.invoke({}).payload["own"]


def test_workers_of_a_managed_instance_share_the_events() -> None:
    code = "import os, time\ndef handler(event, context):\n    time.sleep(0.2)\n    return os.getpid()\n"
    with Runtime({"app.py": code}, env={"AWS_LAMBDA_MAX_CONCURRENCY": "3"}) as lam:
        lam.api.wait_for_workers(3)
        calls = [lam.begin({}) for _ in range(3)]
        assert len({lam.finish(call).payload for call in calls}) == 3


def test_a_response_may_be_streamed_with_an_error_in_its_trailers() -> None:
    code = """
import os, socket, sys
def handler(event, context):
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    path = f"/2018-06-01/runtime/invocation/{context.aws_request_id}/response"
    with socket.create_connection((host, int(port))) as link:
        link.sendall(f"POST {path} HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n".encode())
        link.sendall(b"3\\r\\nabc\\r\\n3\\r\\ndef\\r\\n0\\r\\n")
        link.sendall(b"Lambda-Runtime-Function-Error-Type: Broken\\r\\n\\r\\n" if event else b"\\r\\n")
        link.recv(1000)
    os._exit(0)
"""
    with Runtime({"app.py": code}) as lam:
        assert lam.invoke(0).body == b"abcdef"
        failed = lam.invoke(1)
        assert failed.error == {"errorType": "Broken"}


def test_what_is_sent_after_the_response_is_seen_to_be_late() -> None:
    code = """
import os, socket, threading, time

def send():
    time.sleep(0.05)
    host, port = os.environ["AWS_XRAY_DAEMON_ADDRESS"].split(":")
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"late", (host, int(port)))

def handler(event, context):
    worker = threading.Thread(target=send)
    worker.start()
    if event:
        worker.join()
"""
    with Runtime({"app.py": code}) as lam:
        early, late = lam.invoke(1), lam.invoke(0)
        for _ in range(200):
            if len(lam.daemon.datagrams) == 2:
                break
            time.sleep(0.01)
        first, second = (received for received, _ in lam.daemon.arrived)
    assert first < early.posted_ns
    assert second > late.posted_ns
