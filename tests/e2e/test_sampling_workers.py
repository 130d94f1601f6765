"""A service with four workers, under load, while its sampling rules change: no statistics are lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spanwell.testing import FakeSamplingService
from support.servers import free_port
from support.started import LAUNCHERS, end, stored, traced

pytestmark = [pytest.mark.slow, pytest.mark.full]

SHOP = """
import os
from flask import Flask
from opentelemetry import trace
app = Flask(__name__)
@app.get("/warm")
def warm():
    rule = getattr(trace.get_current_span(), "attributes", None) or {}
    return f"{os.getpid()} {rule.get('aws.xray.sampling_rule')}"
@app.get("/work")
def work():
    return "done"
"""

WORKERS = 4


def rules(rate: float, size: int) -> list[dict[str, Any]]:
    return [
        {"RuleName": "warm", "Priority": 1, "URLPath": "/warm", "FixedRate": 1.0, "ReservoirSize": 0},
        {"RuleName": "work", "Priority": 2, "URLPath": "/WORK*", "FixedRate": rate, "ReservoirSize": size},
        {"RuleName": "Default", "FixedRate": 0.0, "ReservoirSize": 0},
    ]


def ask(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return str(answer.read().decode())


@contextmanager
def serving(launcher: str, service: FakeSamplingService, folder: Path) -> Iterator[int]:
    """The shop under gunicorn; it has ended, with its last reports, when the block has."""
    (folder / "shop.py").write_text(SHOP)
    port = free_port()
    environment = traced(
        folder / "t.db",
        OTEL_TRACES_SAMPLER="xray",
        OTEL_TRACES_SAMPLER_ARG=f"endpoint={service.endpoint},polling_interval=10,fallback=always_off",
    )
    command = [sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", "shop:app"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*LAUNCHERS[launcher], *command], env=environment, cwd=folder, stdout=log, stderr=log
        )
        try:
            yield port
        finally:
            end(process)


def warm_up(port: int) -> None:
    """Until every worker decides by the service's rules."""
    ready: set[str] = set()
    for _ in range(1500):
        try:
            pid, rule = ask(port, "/warm").split()
            if rule == "warm":
                ready.add(pid)
        except OSError:
            time.sleep(0.05)
        if len(ready) == WORKERS:
            return
    pytest.fail(f"only {ready} have rules")


def load(port: int, service: FakeSamplingService) -> int:
    """Requests from four threads while the rules change, until every worker has reported often; how many."""
    running, served = threading.Event(), [0] * 4

    def client(number: int) -> None:
        while not running.is_set():
            assert ask(port, "/work?secret=1") == "done"
            served[number] += 1
            time.sleep(0.01)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(served))]
    for each in threads:
        each.start()
    try:
        for turn in range(60):
            service.set_rules(rules((turn % 5) / 10, turn % 7))
            if service.until(
                lambda: len(service.totals()) >= 2 * WORKERS and service.asked("SamplingTargets") > 16, 1
            ):
                break
    finally:
        running.set()
        for each in threads:
            each.join()
    return sum(served)


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_statistics_are_what_was_served_and_what_was_exported(launcher: str, tmp_path: Path) -> None:
    with FakeSamplingService(rules(0.5, 2), interval=1) as service:
        with serving(launcher, service, tmp_path) as port:
            warm_up(port)
            served = load(port, service)
        said = (tmp_path / "log").read_text()
        total = service.total("work")
        exported = [
            span for span in stored(tmp_path / "t.db") if span.attributes.get("aws.xray.sampling_rule") == "work"
        ]
        assert total.requests == served > 100, said
        assert total.sampled == len(exported) > 10, said
        reasons = [span.attributes["spanwell.sampling.reason"] for span in exported]
        assert total.borrowed == reasons.count("borrowed")
        assert len({client for _, client in service.totals()}) == WORKERS
        assert service.violations == []
        assert "Traceback" not in said
