"""The parts of the demo that need no processes, and its process block with small ones."""

from __future__ import annotations

import argparse
import io
import os
import sys

import pytest

from spanwell.cli import demo
from spanwell.cli.demo_result import missing
from spanwell.cli.processes import Children, ProcessError, isolated


def span(span_id, parent_id, service, kind, name):
    return {"span_id": span_id, "parent_id": parent_id, "service": service, "kind": kind, "name": name}


WHOLE = [
    span("1", None, "shop-web", "server", "POST /orders"),
    span("2", "1", "shop-web", "client", "POST"),
    span("3", "2", "shop-orders", "server", "POST /orders"),
    span("4", "3", "shop-orders", "client", "DynamoDB.PutItem"),
    span("5", "3", "shop-orders", "client", "SQS.SendMessage"),
    span("6", "5", "shop-worker", "consumer", "process orders"),
    span("7", "6", "shop-worker", "client", "DynamoDB.UpdateItem"),
]


def test_a_whole_trace_lacks_nothing():
    assert missing(WHOLE) == ""


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("2", "shop-orders is not called by shop-web"),
        ("4", "shop-orders has no span DynamoDB."),
        ("5", "shop-orders has no span SQS.SendMessage"),
        ("6", "shop-worker does not continue the message of shop-orders"),
        ("7", "shop-worker has no span DynamoDB."),
    ],
)
def test_a_trace_with_a_hole_is_not_whole(lost, says):
    assert missing([each for each in WHOLE if each["span_id"] != lost]) == says


def test_a_trace_without_the_worker_names_it():
    assert missing(WHOLE[:5]) == "shop-worker is not in it"


def test_missing_packages_are_named_with_the_pip_command(monkeypatch, capsys):
    monkeypatch.setattr(demo, "_NEEDED", {"no_such_module_here": "flask", "os": "python"})
    arguments = argparse.Namespace(requests=1, keep=False, json=False)
    assert demo.run(arguments, {}, io.StringIO()) == 1
    assert capsys.readouterr().err == "spanwell demo needs flask: pip install 'spanwell[demo]'\n"


@pytest.mark.parametrize("number", ["0", "-1", "x", "10001", "9" * 5000, "٣"])
def test_a_wrong_number_of_requests_is_refused(number, capsys):
    parser = argparse.ArgumentParser()
    demo.register(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["demo", "--requests", number])
    assert "is not a whole number from 1 to 10000" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_for_terminals():
    terminal, file, silent = Terminal(), io.StringIO(), Terminal()
    for out, quiet in ((terminal, False), (file, False), (silent, True)):
        demo._Stage(out, quiet=quiet).progress("sending", 5, 10)
    assert terminal.getvalue() == "\rsending [" + "#" * 15 + "." * 15 + "] 5/10"
    assert file.getvalue() == silent.getvalue() == ""


def test_real_accounts_exporters_and_proxies_stay_out():
    environ = {
        "PATH": "/bin",
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "t",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example",
        "SPANWELL_SQLITE_PATH": "/elsewhere",
        "https_proxy": "http://proxy.example",
        "HTTP_PROXY": "http://proxy.example",
    }
    found = isolated(environ)
    assert found["PATH"] == "/bin"
    assert found["AWS_ACCESS_KEY_ID"] == "demo"
    assert not set(found) & {*environ} - {"PATH"}


def test_the_shop_has_no_tracing_code():
    files = sorted(demo.shop_folder().glob("*.py"))
    assert [file.name for file in files] == ["orders.py", "web.py", "worker.py"]
    for file in files:
        text = file.read_text().lower()
        assert not [word for word in ("opentelemetry", "spanwell", "span", "trace", "xray") if word in text]


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


@pytest.mark.slow
def test_children_are_stopped_also_when_they_refuse_and_the_block_fails(tmp_path):
    children = Children(tmp_path, patience=0.2)

    def play():
        with children:
            polite = children.start("polite", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
            stubborn = children.start("stubborn", [sys.executable, "-c", STUBBORN], os.environ)
            stubborn.line("up", 20)
            assert polite.process.poll() is None
            raise LookupError

    with pytest.raises(LookupError):
        play()
    assert [child.process.poll() for child in children.all] == [-15, -9]


@pytest.mark.slow
def test_a_child_that_ends_or_hangs_at_its_start_is_an_error(tmp_path):
    with Children(tmp_path) as children:
        ended = children.start("ended", [sys.executable, "-c", "print('no'); raise SystemExit(3)"], os.environ)
        with pytest.raises(ProcessError, match="ended ended with status 3"):
            ended.line("ready", 20)
        assert ended.tail() == "no"
        hangs = children.start("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
        with pytest.raises(ProcessError, match=r"hangs was not ready after 0\.1 s"):
            hangs.line("ready", 0.1)
        with pytest.raises(ProcessError, match="ended ended"):
            children.check()
