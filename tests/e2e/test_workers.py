"""Servers and pools of several processes: every worker exports, and no id comes twice."""

from __future__ import annotations

import collections
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.servers import free_port
from support.started import LAUNCHERS, Stored, end, python, stored, traced

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("launcher", sorted(LAUNCHERS))]

WSGI = """
import os
from opentelemetry import trace
tracer = trace.get_tracer("app")
def app(environ, start_response):
    with tracer.start_as_current_span("work", attributes={"worker": os.getpid()}):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
        return [str(os.getpid()).encode()]
async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    with tracer.start_as_current_span("work", attributes={"worker": os.getpid()}):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

WORKERS = 3
REQUESTS = 60


def _different_ids(spans: list[Stored]) -> None:
    assert len({span.span_id for span in spans}) == len(spans)
    assert len({span.trace_id for span in spans}) == len({span.trace_id for span in spans if not span.parent_id})


def _answers(port: int, process: subprocess.Popen[str]) -> collections.Counter[int]:
    """Ask until every worker has answered, at least REQUESTS times; how often each did."""
    seen: collections.Counter[int] = collections.Counter()
    for _ in range(3000):
        if sum(seen.values()) >= REQUESTS and len(seen) == WORKERS:
            return seen
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                seen[int(answer.read())] += 1
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"not every worker answered: {seen}")


def _serve(launcher: str, module: Sequence[str], port: int, tmp_path: Path, **extra: str) -> collections.Counter[int]:
    (tmp_path / "shop.py").write_text(WSGI)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*LAUNCHERS[launcher], sys.executable, "-m", *module],
            env=traced(tmp_path / "t.db", **extra),
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            text=True,
        )
        try:
            seen = _answers(port, process)
            for _ in range(200):
                if not extra or sum(span.name == "work" for span in stored(tmp_path / "t.db")) >= sum(seen.values()):
                    break
                time.sleep(0.05)
        finally:
            end(process)
    return seen


def _every_worker_exported(seen: collections.Counter[int], tmp_path: Path) -> None:
    spans = [span for span in stored(tmp_path / "t.db") if span.name == "work"]
    assert collections.Counter(span.attributes["worker"] for span in spans) == seen, (tmp_path / "log").read_text()
    _different_ids(spans)
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn(launcher: str, preload: list[str], tmp_path: Path) -> None:
    port = free_port()
    module = ["gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", *preload, "shop:app"]
    _every_worker_exported(_serve(launcher, module, port, tmp_path), tmp_path)


def test_uvicorn(launcher: str, tmp_path: Path) -> None:
    """Its workers end by the signal itself, without exit handlers: what is not exported by then is lost."""
    port = free_port()
    module = ["uvicorn", "--workers", str(WORKERS), "--port", str(port), "--log-level", "warning", "shop:asgi"]
    seen = _serve(launcher, module, port, tmp_path, OTEL_BSP_SCHEDULE_DELAY="100")
    _every_worker_exported(seen, tmp_path)


QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}

PREFORK = """
import os, sys
from opentelemetry import trace
tracer = trace.get_tracer("app")
with tracer.start_as_current_span("master"): pass
children = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        for turn in range(25):
            with tracer.start_as_current_span(f"{number}.{turn}"): pass
        sys.exit(0)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
"""


def test_prefork(launcher: str, tmp_path: Path) -> None:
    """As uWSGI does: the application is loaded once, then the workers are forked."""
    assert python(PREFORK, traced(tmp_path / "t.db", **QUIET), launcher=launcher) == (0, "[0, 0, 0, 0]\n", "")
    spans = stored(tmp_path / "t.db")
    wanted = ["master", *(f"{number}.{turn}" for number in range(4) for turn in range(25))]
    assert sorted(span.name for span in spans) == sorted(wanted)
    _different_ids(spans)


POOL = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from opentelemetry import trace
def work(number):
    with trace.get_tracer("app").start_as_current_span(f"work {number}", attributes={"worker": os.getpid()}):
        return number
if __name__ == "__main__":
    method, kind = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with trace.get_tracer("app").start_as_current_span("main"): pass
    if kind == "process":
        children = [context.Process(target=work, args=(number,)) for number in range(3)]
        for each in children: each.start()
        for each in children: each.join()
    else:
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(work, range(3)))
"""


@pytest.mark.parametrize("kind", ["process", "executor"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(launcher: str, method: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    environment = traced(tmp_path / "t.db", **QUIET, OTEL_SERVICE_NAME="")  # guessed, in the children too
    command = [*LAUNCHERS[launcher], sys.executable, "pool.py", method, kind]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    spans = stored(tmp_path / "t.db")
    assert sorted(span.name for span in spans) == ["main", "work 0", "work 1", "work 2"]
    # opentelemetry-instrument sets the SDK up before multiprocessing tells a new interpreter what it is.
    if launcher == "run" or method == "fork":
        assert {span.service for span in spans} == {"pool"}
    _different_ids(spans)
