"""The context follows work into pools of real processes, into asyncio and into a Celery worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.started import LAUNCHERS, names, python, run, stored, traced

pytestmark = [pytest.mark.slow, pytest.mark.full]

POOLS = """
import asyncio, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from opentelemetry import trace

tracer = trace.get_tracer("scenario")

def work(name, *_):
    with tracer.start_as_current_span(name):
        return name

async def main():
    loop = asyncio.get_running_loop()
    await asyncio.create_task(asyncio.to_thread(work, "to_thread"))
    await loop.run_in_executor(None, work, "run_in_executor")
    async def task():
        work("task")
    await asyncio.gather(task())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with tracer.start_as_current_span("root"):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(work, "submit").result() == "submit"
            assert list(pool.map(work, ["process map"])) == ["process map"]
        pool = context.Pool(1)
        assert pool.apply(work, ("apply",)) == "apply"
        assert pool.map(work, ["pool map"]) == ["pool map"]
        assert pool.starmap(work, [("starmap", 1)]) == ["starmap"]
        assert list(pool.imap_unordered(work, ["imap"])) == ["imap"]
        pool.close()
        pool.join()
        with ThreadPoolExecutor(1) as threads:
            threads.submit(work, "thread").result()
        asyncio.run(main())
"""

IN_POOLS = ["apply", "imap", "pool map", "process map", "starmap", "submit"]
IN_THREADS = ["run_in_executor", "task", "thread", "to_thread"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_work_in_pools_belongs_to_its_trace(tmp_path: Path, launcher: str, method: str) -> None:
    script, db = tmp_path / "pools.py", tmp_path / "traces.db"
    script.write_text(POOLS)
    done = run(["python", str(script), method], traced(db), launcher=launcher, timeout=90)
    assert done.code == 0, done.err
    assert names(db) == sorted([*IN_POOLS, *IN_THREADS, "root"])
    root = next(span for span in stored(db) if span.name == "root")
    assert {(span.trace_id, span.parent_id) for span in stored(db) if span is not root and span.name != "root"} == {
        (root.trace_id, root.span_id)
    }


def test_switched_off_nothing_is_carried(tmp_path: Path) -> None:
    script, db = tmp_path / "pools.py", tmp_path / "traces.db"
    script.write_text(POOLS)
    env = traced(db, SPANWELL_EXECUTORS="false", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="threading")
    done = run(["python", str(script), "spawn"], env, timeout=90)
    assert done.code == 0, done.err
    followed = {span.name for span in stored(db) if span.parent_id is not None}
    assert followed == {"to_thread", "task"}  # asyncio's own


CELERY = """
from celery import Celery
from celery.contrib.testing.worker import start_worker
from opentelemetry import trace

app = Celery("scenario", broker="memory://", backend="cache+memory://")

@app.task
def add(a, b):
    with trace.get_tracer("scenario").start_as_current_span("in the task"):
        return a + b

app.loader.import_default_modules = lambda: None
with start_worker(app, perform_ping_check=False, shutdown_timeout=20):
    with trace.get_tracer("scenario").start_as_current_span("root"):
        assert add.delay(1, 2).get(timeout=20) == 3
"""


def test_a_celery_task_belongs_to_the_trace_of_its_sender(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    done = python(CELERY, traced(db), timeout=90)
    assert done.code == 0, done.err
    spans = {span.name: span for span in stored(db)}
    assert len({span.trace_id for span in spans.values()}) == 1, names(db)
    inner = spans["in the task"]
    runs = next(span for span in spans.values() if span.span_id == inner.parent_id)
    sends = next(span for span in spans.values() if span.span_id == runs.parent_id)
    assert sends.parent_id == spans["root"].span_id
