"""How the function's process is begun, by each of the ways, and what an invocation that is not sampled costs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon
from support.lambda_api import RuntimeApi, make_call
from support.lambda_runtime import ARN, FUNCTION, Runtime, trace_header

pytestmark = pytest.mark.slow

XRAY = {"OTEL_TRACES_EXPORTER": "xray_otlp_udp"}
LOOK = """
import os, subprocess, sys

def modules(name):
    return sorted(each for each in sys.modules if each.partition(".")[0] == name)

def handler(event, context):
    code = "import sys; print([each for each in sys.modules if 'spanwell' in each])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return {
        "opentelemetry": modules("opentelemetry"),
        "spanwell": modules("spanwell"),
        "child": done.stdout.strip() + done.stderr,
        "hooks": sum(type(each).__name__ == "Hook" for each in sys.meta_path),
        "pythonpath": os.environ.get("PYTHONPATH"),
        "pid": os.getpid(),
    }
"""
BOTO3 = """
import boto3
from app_look import handler as look

client = boto3.client("dynamodb")

def handler(event, context):
    client.list_tables()
    return look(event, context)
"""


def test_an_unsampled_invocation_that_calls_aws_imports_nothing_of_opentelemetry() -> None:
    header = trace_header(sampled=False)
    with Runtime({"app.py": BOTO3, "app_look.py": LOOK}, layer="source", env=XRAY, aws=True) as lam:
        found = lam.invoke({}, trace=header).payload
        sent = lam.aws.requests[0].headers if lam.aws else {}
        spans = lam.spans()
    assert found["opentelemetry"] == []
    assert "spanwell.late" not in found["spanwell"]
    assert sent["x-amzn-trace-id"] == header
    assert spans == []


def test_a_client_made_at_init_is_traced_from_the_first_sampled_invocation_on() -> None:
    headers = [trace_header(sampled=sampled) for sampled in (False, True, False, True)]
    with Runtime({"app.py": BOTO3, "app_look.py": LOOK}, layer="source", env=XRAY, aws=True) as lam:
        for header in headers:
            assert lam.invoke({}, trace=header).error is None
        spans = lam.spans(4)
        sent = [request.headers["x-amzn-trace-id"] for request in lam.aws.requests] if lam.aws else []
    roots = [header.split(";")[0] for header in headers]
    assert [text.split(";")[0] for text in sent] == roots
    assert [text.rpartition("Sampled=")[2][0] for text in sent] == list("0101")
    assert sorted((span.name, span.trace_id) for span in spans) == sorted(
        (name, root.removeprefix("Root=1-").replace("-", ""))
        for name in ("DynamoDB.ListTables", FUNCTION)
        for root in (roots[1], roots[3])
    )


IMPORTS_LATE = """
def handler(event, context):
    import sqlite3  # its instrumentor cannot wait, so the SDK comes in the middle of an invocation

    with sqlite3.connect(":memory:") as connection:
        return connection.cursor().execute("select 1").fetchone()[0]
"""


def test_an_sdk_that_comes_in_the_middle_of_an_unsampled_invocation_exports_nothing_of_it() -> None:
    with Runtime({"app.py": IMPORTS_LATE}, layer="source", env=XRAY) as lam:
        assert lam.invoke({}, trace=trace_header(sampled=False)).payload == 1
        assert lam.invoke({}, trace=trace_header(sampled=False)).payload == 1
        header = trace_header()
        assert lam.invoke({}, trace=header).payload == 1
        spans = lam.spans(2)
    assert len(spans) == 2
    assert {span.trace_id for span in spans} == {header[7:40].replace("-", "")}


@pytest.mark.parametrize("value", ["true", "1"])
def test_switched_off_nothing_is_imported_and_nothing_wrapped(value: str) -> None:
    with Runtime({"app.py": LOOK}, layer="source", env={**XRAY, "SPANWELL_DISABLED": value}) as lam:
        found = lam.invoke({}).payload
        assert lam.spans() == []
    assert found["hooks"] == 0
    assert found["opentelemetry"] == []
    assert found["spanwell"] == [
        "spanwell",
        "spanwell.aws_lambda",
        "spanwell.aws_lambda.pth",
        "spanwell.aws_lambda.start",
    ]


def test_one_hook_whatever_begins_and_no_child_is_traced(tmp_path: Path) -> None:
    """By `_boot/`, as `spanwell lambda` has it, and by the `.pth` file, one after the other."""
    script = tmp_path / "begin"
    script.write_text('#!/bin/sh\nPYTHONPATH="${0%/*}/python/spanwell/_boot" exec "$@"\n')
    script.chmod(0o755)
    env = {**XRAY, "AWS_LAMBDA_EXEC_WRAPPER": "/opt/begin"}
    with Runtime({"app.py": LOOK}, layer=["source", tmp_path], env=env) as lam:
        found = lam.invoke({}, trace=trace_header(sampled=False)).payload
    assert found["hooks"] == 1
    assert found["child"] == "[]"
    assert "_boot" not in found["pythonpath"]


def test_where_pythonpath_is_set_the_function_works_without_the_pth_file() -> None:
    with Runtime({"app.py": LOOK}, layer="source", env={**XRAY, "PYTHONPATH": "/nowhere"}) as lam:
        found = lam.invoke({}).payload
    assert found["spanwell"] == []
    assert found["pythonpath"] == "/nowhere"


@pytest.mark.parametrize("user", ["/nowhere", None], ids=["with PYTHONPATH", "without"])
def test_the_wrapper_begins_in_the_process_that_there_is(user: str | None) -> None:
    env = {**XRAY, "PYTHONPATH": user, "AWS_LAMBDA_EXEC_WRAPPER": "/opt/otel-instrument"}
    header = trace_header()
    with Runtime({"app.py": LOOK}, layer="source", env=env) as lam:
        found = lam.invoke({}, trace=header).payload
        (span,) = lam.spans(1)
        assert found["pid"] == lam.pid
    assert span.trace_id == header[7:40].replace("-", "")
    assert found["hooks"] == 1
    assert found["child"] == "[]"
    if user:
        assert found["pythonpath"] == user


def test_eager_the_sdk_is_there_before_the_handlers_module() -> None:
    code = "import sys\nhere = 'opentelemetry.sdk.trace' in sys.modules\ndef handler(e, c): return here"
    for value, expected in (("true", True), ("false", False)):
        with Runtime({"app.py": code}, layer="source", env={**XRAY, "SPANWELL_LAMBDA_EAGER": value}) as lam:
            assert lam.invoke({}).payload is expected
            assert len(lam.spans(1)) == 1


# --- spanwell lambda ----------------------------------------------------------------------------------------------


def in_container(folder: Path, api: RuntimeApi, daemon: Daemon, **env: str) -> subprocess.Popen[str]:
    """The ENTRYPOINT and CMD of a container image."""
    python = sys.executable
    command = [python, "-m", "spanwell", "lambda", "--", python, "-m", "awslambdaric", "app.handler"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OTEL", "SPANWELL"))}
    given = {
        **kept,
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
        "AWS_XRAY_DAEMON_ADDRESS": daemon.address,
        **XRAY,
        **env,
    }
    return subprocess.Popen(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def invoked(api: RuntimeApi, process: subprocess.Popen[str], trace: str) -> Any:
    call = make_call(b"{}", timeout=30, trace=trace, arn=ARN)
    api.begin(call)
    for _ in range(600):
        if call.done.wait(0.05):
            return call.answer.payload
        assert process.poll() is None, process.communicate()[0]
    raise AssertionError("no answer")


def test_as_the_entrypoint_of_a_container_image(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(LOOK)
    api, daemon = RuntimeApi(), Daemon()
    process = in_container(tmp_path, api, daemon)
    try:
        unsampled = invoked(api, process, trace_header(sampled=False))
        sampled = invoked(api, process, trace_header())
        datagrams = len(daemon.datagrams)
    finally:
        process.kill()
        process.communicate()
        api.close()
        daemon.close()
    assert unsampled["pid"] == process.pid  # it became the runtime
    assert unsampled["pythonpath"] is None
    assert unsampled["child"] == "[]"
    assert unsampled["opentelemetry"] == []
    assert "opentelemetry.sdk.trace" in sampled["opentelemetry"]
    assert datagrams == 1


def test_without_a_command_its_usage_is_said() -> None:
    done = subprocess.run([sys.executable, "-m", "spanwell", "lambda"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: spanwell lambda" in done.stderr


# --- a runtime client that is not known ---------------------------------------------------------------------------


def with_other_client(lam: Runtime, change: Any) -> None:
    """Give the function a runtime client whose bootstrap.py is changed by `change(text)`."""
    lam.stop()
    found = next((lam.folder / "var" / "lang").rglob("awslambdaric"))
    original = found.resolve()
    found.unlink()
    found.mkdir()
    for file in original.iterdir():
        if file.suffix in (".py", ".so"):
            text = file.read_bytes()
            (found / file.name).write_bytes(change(text) if file.name == "bootstrap.py" else text)


def renamed(text: bytes) -> bytes:
    return text.replace(b"_get_handler", b"_find_handler")


@pytest.mark.parametrize("handler", ["app.handler", "pkg/sub.handler"])
def test_a_client_whose_look_up_has_another_name_is_given_our_handler(handler: str) -> None:
    files = {"app.py": LOOK, "pkg/sub.py": LOOK}
    with Runtime(files, layer="source", env=XRAY, handler=handler) as lam:
        # lambda_bootstrap.py reads `_HANDLER` after the client's import, as the managed runtime does.
        with_other_client(lam, renamed)
        assert lam.invoke({}).error is None
        assert len(lam.spans(1)) == 1
        assert lam.stderr == ""


def test_its_init_errors_name_what_is_wrong() -> None:
    with Runtime({"app.py": "import nope"}, layer="source", env=XRAY) as lam:
        with_other_client(lam, renamed)
        lam.start()
        assert lam.init_error is not None
        assert "No module named 'nope'" in lam.init_error["errorMessage"]


# --- without the SDK ----------------------------------------------------------------------------------------------


def documents(lam: Runtime) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lam.stdout.splitlines() if line.startswith('{"_aws"')]


FAILS = """
def handler(event, context):
    if event == "raise":
        raise ValueError("no")
    return {"statusCode": event}
"""


def test_unsampled_invocations_are_counted_as_metrics_where_that_is_asked_for() -> None:
    env = {**XRAY, "SPANWELL_LAMBDA_METRICS": "emf", "SPANWELL_CLOUDWATCH_METRICS": "cold_start"}
    now = time.time() * 1000
    with Runtime({"app.py": FAILS}, layer="source", env=env) as lam:
        for event in (200, "raise", 503):
            lam.invoke(event, trace=trace_header(sampled=False))
        found = documents(lam)
    assert [
        (each["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], each["Severity"], each["ServiceName"])
        for each in found
    ] == [("cold_start", "info", FUNCTION), ("trace_errors", "error", FUNCTION), ("trace_errors", "error", FUNCTION)]
    assert all(now - 1000 < each["_aws"]["Timestamp"] < now + 60_000 for each in found)


def test_metrics_are_not_printed_unasked() -> None:
    with Runtime({"app.py": FAILS}, layer="source", env=XRAY) as lam:
        lam.invoke("raise", trace=trace_header(sampled=False))
        assert documents(lam) == []


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (trace_header(sampled=False), "Sampled=0"),
        (trace_header(parent=False), "PassThrough"),
    ],
    ids=["not sampled", "passed through"],  # the ids in the headers are new in every process
)
def test_one_line_a_cold_start_says_why_nothing_is_exported(trace: str, words: str) -> None:
    code = "import logging\nlogging.getLogger().setLevel('INFO')\ndef handler(e, c): return 1"
    with Runtime({"app.py": code}, layer="source", env=XRAY) as lam:
        lam.invoke({}, trace=trace)
        lam.invoke({}, trace=trace)
        said = [line for line in lam.log.splitlines() if "Active" in line]
    assert len(said) == 1
    assert words in said[0]
    assert said[0].startswith("[INFO]")


def test_a_passthrough_header_does_not_silence_other_exporters() -> None:
    env = {"OTEL_TRACES_EXPORTER": "otlp"}
    with Runtime({"app.py": "def handler(e, c): return 1"}, layer="source", env=env, otlp=True) as lam:
        for trace in (trace_header(sampled=False), trace_header(parent=False), None):
            lam.invoke({}, trace=trace)
        assert len(lam.spans(3)) == 3
        assert "Active" not in lam.log


def test_an_init_that_fails_is_a_span() -> None:
    with Runtime({"app.py": "import nope"}, layer="source", env=XRAY) as lam:
        assert lam.init_error is not None
        spans = lam.spans(1)
    assert [(span.name, span.status) for span in spans] == [(f"init {FUNCTION}", "ERROR")]
