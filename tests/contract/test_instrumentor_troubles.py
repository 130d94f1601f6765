"""Instrumentors that are unknown, broken, unwanted or too old for their library: the application never notices.

Each case is a small made-up distribution on PYTHONPATH, met by the real instrumentors of the real start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.receiver import Receiver, otlp_receiver
from support.runs import MODES, Run, finish, start
from support.servers import http_stub

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("mode", MODES)]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as running:
        yield running


def distribution(folder: Path, name: str, version: str, files: dict[str, str], entries: str = "") -> None:
    """Lay a distribution into `folder` as an installer would."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if entries:
        (info / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\n{entries}\n")


def run(mode: str, code: str, folder: Path | str, receiver: Receiver, name: str = "x", **extra: str) -> Run:
    """Run `code` in `mode` with `folder` on PYTHONPATH."""
    running = start(mode, ["-c", code], receiver.endpoint(name), {"PYTHONPATH": str(folder), **extra})
    return finish(running)


ACME = """
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

class AcmeInstrumentor(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return []

    def _instrument(self, **kwargs):
        import acme
        acme.hello = "instrumented"

    def _uninstrument(self, **kwargs):
        pass
"""


def test_an_unknown_instrumentor_is_applied_without_waiting(mode: str, receiver: Receiver, tmp_path: Path) -> None:
    files = {"acme_instrumentor.py": ACME, "acme.py": "hello = 'plain'"}
    distribution(tmp_path, "acme-instrumentor", "1.0", files, "acme = acme_instrumentor:AcmeInstrumentor")
    # Under `run` the SDK, and with it what is unknown, is set up when telemetry is first asked for.
    asked = "from opentelemetry import trace; trace.get_tracer('app')\n"
    code = "import sys; print('acme' in sys.modules and sys.modules['acme'].hello)"
    done = run(mode, asked + code, tmp_path, receiver)
    assert (done.code, done.stdout) == (0, "instrumented\n"), done.stderr


def test_another_vendors_instrumentor_of_a_known_name_is_not_taken_for_the_known_one(
    mode: str, receiver: Receiver, tmp_path: Path
) -> None:
    files = {"acme_instrumentor.py": ACME, "acme.py": "hello = 'plain'"}
    distribution(tmp_path, "acme-instrumentor", "1.0", files, "openai = acme_instrumentor:AcmeInstrumentor")
    asked = "from opentelemetry import trace; trace.get_tracer('app')\n"
    done = run(mode, f"{asked}import acme; print(acme.hello)", tmp_path, receiver)
    assert (done.code, done.stdout) == (0, "instrumented\n"), done.stderr


def test_an_unknown_instrumentor_that_raises_does_not_stop_the_others(
    mode: str, receiver: Receiver, tmp_path: Path
) -> None:
    broken = ACME.replace("import acme\n", "raise RuntimeError('acme is broken')\n")
    files = {"acme_instrumentor.py": broken}
    distribution(tmp_path, "acme-instrumentor", "1.0", files, "acme = acme_instrumentor:AcmeInstrumentor")
    code = "import sqlite3; sqlite3.connect(':memory:').cursor().execute('SELECT 1'); print('went on')"
    done = run(mode, code, tmp_path, receiver, f"broken-{mode}")
    assert (done.code, done.stdout) == (0, "went on\n"), done.stderr
    assert done.stderr.count("acme is broken") == 1, done.stderr
    assert len(receiver.spans(f"broken-{mode}")) == 1


def test_an_instrumentor_that_raises_in_instrument_is_reported_once(
    mode: str, receiver: Receiver, tmp_path: Path
) -> None:
    """The instrumentor of kafka-python finds a module without KafkaProducer."""
    files = {
        "kafka/__init__.py": "hello = 'kafka'",
        "kafka/record/__init__.py": "",
        "kafka/record/abc.py": "class ABCRecord: pass",
    }
    distribution(tmp_path, "kafka-python", "2.5", files)
    done = run(mode, "import kafka; import kafka.record; print(kafka.hello)", tmp_path, receiver)
    assert (done.code, done.stdout) == (0, "kafka\n"), done.stderr
    reports = [line for line in done.stderr.splitlines() if "kafka" in line.lower()]
    assert len(reports) == 1, done.stderr
    assert "KafkaProducer" in reports[0]


def test_an_instrumentor_that_cannot_be_imported_is_reported_once(
    mode: str, receiver: Receiver, tmp_path: Path
) -> None:
    """The instrumentor of pika imports a submodule that raises."""
    files = {"pika/__init__.py": "hello = 'pika'", "pika/adapters.py": "raise RuntimeError('no adapters')"}
    distribution(tmp_path, "pika", "1.3", files)
    done = run(mode, "from pika import hello; print(hello)", tmp_path, receiver)
    assert (done.code, done.stdout) == (0, "pika\n"), done.stderr
    assert done.stderr.count("no adapters") == 1, done.stderr


@pytest.mark.parametrize(("version", "wrapped"), [("1.1", True), ("99.0", False)])
def test_a_library_out_of_range_is_left_alone_and_named(
    mode: str, version: str, wrapped: bool, receiver: Receiver, tmp_path: Path
) -> None:
    distribution(tmp_path, "pymysql", version, {"pymysql/__init__.py": "def connect(): return 'plain'"})
    code = "import pymysql; print(hasattr(pymysql.connect, '__wrapped__'))"
    done = run(mode, code, tmp_path, receiver)
    assert (done.code, done.stdout) == (0, f"{wrapped}\n"), done.stderr
    said = [line for line in done.stderr.splitlines() if "pymysql" in line]
    assert len(said) == (0 if wrapped else 1), done.stderr
    assert wrapped or "99.0" in said[0]


LOGGING = """
import logging
import requests
import opentelemetry.trace
opentelemetry.trace.get_tracer("app")
logging.getLogger("app").warning("a warning of the application")
logging.error("an error of the application")
"""


def test_the_application_keeps_its_log_output(mode: str, receiver: Receiver) -> None:
    """A handler on the root logger would silence Python's handler of last resort and `basicConfig`."""
    done = run(mode, LOGGING, "", receiver)
    assert done.code == 0
    assert "a warning of the application" in done.stderr
    assert "ERROR:root:an error of the application" in done.stderr


# what is disabled -> scopes that remain
DISABLED = {
    "flask": {"requests"},
    " requests , flask ": set(),
    "nonsense": {"flask", "requests"},
    "*": set(),
}


@pytest.mark.parametrize("value", sorted(DISABLED))
def test_disabled_instrumentors(mode: str, value: str, receiver: Receiver) -> None:
    name = f"disabled-{sorted(DISABLED).index(value)}-{mode}"
    with http_stub() as url:
        extra = {"STUB_URL": url, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": value}
        done = finish(start(mode, ["ways.py", "function"], receiver.endpoint(name), extra))
    assert (done.code, done.stdout) == (0, "hello\n"), done.stderr
    scopes = {scope.rsplit(".", 1)[1] for scope, _ in receiver.spans(name)} - {"urllib3"}
    assert scopes == DISABLED[value], done.stderr
