"""`spanwell run` sets the SDK up when it is first needed: every way of being first, and of never needing it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.started import names, python, register, traced

pytestmark = pytest.mark.slow

SPAN = "from opentelemetry import trace\ntrace.get_tracer('app').start_span('work').end()\n"
LOGGED = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s %(message)s')\n"


# --- who is first ---------------------------------------------------------------------------------------------------


def test_eight_threads_at_once_share_one_provider_and_lose_nothing(tmp_path: Path) -> None:
    code = """
import threading
gate, providers = threading.Barrier(8), []
def main(number):
    gate.wait()
    from opentelemetry import trace
    tracer = trace.get_tracer("app")
    for turn in range(5):
        tracer.start_span(f"{number}.{turn}").end()
    providers.append(trace.get_tracer_provider())
threads = [threading.Thread(target=main, args=(number,)) for number in range(8)]
for each in threads: each.start()
for each in threads: each.join()
print(len(providers), len(set(map(id, providers))), type(providers[0]).__module__)
"""
    done = python(code, traced(tmp_path / "t.db"))
    assert done == (0, "8 1 opentelemetry.sdk.trace\n", "")
    assert names(tmp_path / "t.db") == sorted(f"{number}.{turn}" for number in range(8) for turn in range(5))


def test_asking_again_in_the_middle_of_the_set_up(tmp_path: Path) -> None:
    """A sampler of the user's own asks for a tracer while the set-up builds it."""
    (tmp_path / "asking.py").write_text(
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.trace.sampling import ALWAYS_ON\n"
        "def sampler(argument):\n"
        "    trace.get_tracer('sampler').start_span('lost')\n"
        "    metrics.get_meter('sampler')\n"
        "    return ALWAYS_ON\n"
    )
    register(tmp_path, "asking", "opentelemetry_traces_sampler", "asking = asking:sampler")
    env = traced(tmp_path / "t.db", PYTHONPATH=str(tmp_path), OTEL_TRACES_SAMPLER="asking")
    assert python(SPAN, env) == (0, "", "")
    assert names(tmp_path / "t.db") == ["work"]


OWN = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
own, memory = TracerProvider(), InMemorySpanExporter()
own.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(own)
trace.get_tracer("app").start_span("work").end()
print(trace.get_tracer_provider() is own, [span.name for span in memory.get_finished_spans()])
"""


def test_the_applications_own_tracer_provider_stays_and_ours_joins(tmp_path: Path) -> None:
    done = python(OWN, traced(tmp_path / "t.db"))
    assert done == (0, "True ['work']\n", "")
    assert names(tmp_path / "t.db") == ["work"]


def test_spans_of_instrumented_libraries_reach_both_too(tmp_path: Path) -> None:
    code = OWN.replace(
        "trace.get_tracer(",
        "import sqlite3; sqlite3.connect(':memory:').cursor().execute('SELECT 1')\ntrace.get_tracer(",
    )
    done = python(code, traced(tmp_path / "t.db"))
    assert done == (0, "True ['SELECT', 'work']\n", "")
    assert names(tmp_path / "t.db") == ["SELECT", "work"]


def test_a_tracer_provider_of_another_make_is_left_alone(tmp_path: Path) -> None:
    code = """
from opentelemetry import trace
class Mine(trace.NoOpTracerProvider): pass
mine = Mine()
trace.set_tracer_provider(mine)
trace.get_tracer("app").start_span("work").end()
print(trace.get_tracer_provider() is mine)
"""
    done = python(code, traced(tmp_path / "t.db"))
    assert done[:2] == (0, "True\n")
    assert done.err == "spanwell: the application's Mine takes no span processors\n"


@pytest.mark.parametrize("exporter", ["none", "console"])
def test_the_applications_own_meter_provider_stays(exporter: str, tmp_path: Path) -> None:
    code = f"""
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
own = MeterProvider([reader])
metrics.set_meter_provider(own)
{SPAN}
metrics.get_meter("app").create_counter("orders").add(3)
found = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(metrics.get_meter_provider() is own, [m.name for s in found for m in s.metrics if s.scope.name == "app"])
"""
    done = python(code, traced(tmp_path / "t.db", OTEL_METRICS_EXPORTER=exporter))
    assert done[:2] == (0, "True ['orders']\n")
    said = "spanwell: metrics go where the application's own MeterProvider sends them\n"
    assert done.err == ("" if exporter == "none" else said)
    assert names(tmp_path / "t.db") == ["work"]


@pytest.mark.parametrize("also", ["", SPAN])
def test_the_applications_own_logger_provider_stays_and_ours_joins(also: str, tmp_path: Path) -> None:
    code = f"""
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
own = LoggerProvider()
_logs.set_logger_provider(own)
{also}
print(_logs.get_logger_provider() is own)
_logs.get_logger("app").emit(_logs.LogRecord(body="ordered"))
"""
    done = python(code, traced(tmp_path / "t.db", OTEL_LOGS_EXPORTER="console"))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("True\n")
    assert done.out.count('"body": "ordered"') == 1


def test_a_provider_that_the_user_named_is_respected(tmp_path: Path) -> None:
    code = f"{SPAN}print(type(trace.get_tracer_provider()).__name__)"
    env = traced(tmp_path / "t.db", OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider")
    assert python(code, env) == (0, "TracerProvider\n", "")
    assert names(tmp_path / "t.db") == []


def test_a_tracer_taken_at_the_top_of_a_module_works(tmp_path: Path) -> None:
    (tmp_path / "top.py").write_text("from opentelemetry import trace\ntracer = trace.get_tracer(__name__)\n")
    code = "from top import tracer\nwith tracer.start_as_current_span('work'): pass\n"
    assert python(code, traced(tmp_path / "t.db", PYTHONPATH=str(tmp_path))) == (0, "", "")
    assert names(tmp_path / "t.db") == ["work"]


@pytest.mark.parametrize("ask", ["metrics.get_meter('app').create_counter('orders').add(3)"])
def test_a_meter_alone_sets_up_metrics(ask: str, tmp_path: Path) -> None:
    env = traced(tmp_path / "t.db", OTEL_METRICS_EXPORTER="console")
    done = python(f"from opentelemetry import metrics\n{ask}\n", env)
    assert (done.code, done.err) == (0, "")
    assert '"name": "orders"' in done.out
    assert '"value": 3' in done.out


def test_a_logger_alone_sets_up_logs(tmp_path: Path) -> None:
    code = """
from opentelemetry._logs import LogRecord, get_logger
get_logger("app").emit(LogRecord(body="ordered"))
"""
    done = python(code, traced(tmp_path / "t.db", OTEL_LOGS_EXPORTER="console"))
    assert (done.code, done.err) == (0, "")
    assert '"body": "ordered"' in done.out


# --- who never needs it -----------------------------------------------------------------------------------------

NOTHING = (
    "import sys\nprint(sorted(name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'wrapt')))\n"
)


def test_an_application_that_never_needs_it_imports_nothing_of_it(tmp_path: Path) -> None:
    code = "import json, logging, threading, subprocess, http.client\n"
    assert python(code + NOTHING, traced(tmp_path / "t.db")) == (0, "[]\n", "")
    assert not (tmp_path / "t.db").exists()


def test_nothing_of_ours_but_the_hook_is_imported_then(tmp_path: Path) -> None:
    code = "import sys\nprint(sorted(name for name in sys.modules if name.startswith('spanwell')))"
    done = python(code, traced(tmp_path / "t.db"))
    assert done == (0, "['spanwell', 'spanwell._hook', 'spanwell._triggers']\n", "")


@pytest.mark.parametrize("module", ["opentelemetry.metrics", "opentelemetry.context", "opentelemetry.trace"])
def test_importing_the_api_alone_sets_nothing_up(module: str, tmp_path: Path) -> None:
    """`import redis` does so: it is no sign that anybody wants telemetry."""
    code = f"import sys, {module}\nprint([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    assert python(code, traced(tmp_path / "t.db", OTEL_METRICS_EXPORTER="console")) == (0, "[]\n", "")


@pytest.mark.parametrize("launcher", ["run", "instrument"])
def test_a_disabled_sdk_does_nothing(launcher: str, tmp_path: Path) -> None:
    code = (
        f"import sqlite3, urllib.request\n{SPAN}print(type(trace.get_tracer_provider()).__name__,"
        " hasattr(sqlite3.connect, '__wrapped__'))"
    )
    env = traced(tmp_path / "t.db", OTEL_SDK_DISABLED="true")
    done = python(code, env, launcher=launcher)
    assert done == (0, "ProxyTracerProvider False\n", "")
    assert not (tmp_path / "t.db").exists()


def test_a_disabled_sdk_costs_nothing(tmp_path: Path) -> None:
    code = "import sys\nprint(sorted(name for name in sys.modules if name.startswith('spanwell')))"
    done = python(code, traced(tmp_path / "t.db", OTEL_SDK_DISABLED="TRUE"))
    assert done == (0, "[]\n", "")


def test_eager_on_demand(tmp_path: Path) -> None:
    code = "import sys\nprint('opentelemetry.sdk.trace' in sys.modules, 'flask' in sys.modules)"
    env = traced(tmp_path / "t.db", SPANWELL_LAZY_INSTRUMENTATION="false")
    done = python(code, env)
    assert done == (0, "True True\n", "")


# --- what is left behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", ["run", "instrument"])
def test_no_variable_of_ours_reaches_child_processes(launcher: str, tmp_path: Path) -> None:
    """Names that another environment does not know break the API there."""
    code = f"{SPAN}import os\nprint(sorted(name for name in os.environ if name.startswith('OTEL_')))"
    given = {"OTEL_SERVICE_NAME", "OTEL_TRACES_EXPORTER", "OTEL_PROPAGATORS", "OTEL_PYTHON_DISTRO"}
    env = traced(tmp_path / "t.db", OTEL_PROPAGATORS="xray,tracecontext", OTEL_PYTHON_DISTRO="spanwell")
    done = python(code, env, launcher=launcher)
    assert (done.code, done.err) == (0, "")
    # Instrumentors read this one from the environment, and it means the same everywhere.
    given.add("OTEL_SEMCONV_STABILITY_OPT_IN")
    assert done.out == f"{sorted(given)}\n"


@pytest.mark.parametrize("launcher", ["run", "instrument"])
def test_a_healthy_start_prints_nothing(launcher: str, tmp_path: Path) -> None:
    assert python(SPAN, traced(tmp_path / "t.db"), launcher=launcher) == (0, "", "")


@pytest.mark.parametrize("launcher", ["run", "instrument"])
def test_a_healthy_start_logs_one_info_line(launcher: str, tmp_path: Path) -> None:
    env = traced(tmp_path / "t.db")
    if launcher == "instrument":  # it sets everything up before the application can configure logging
        (tmp_path / "early.py").write_text(f"{LOGGED}\ndef begin():\n    pass\n")
        register(tmp_path, "early", "opentelemetry_pre_instrument", "early = early:begin")
        env["PYTHONPATH"] = str(tmp_path)
    done = python(LOGGED + SPAN, env, launcher=launcher)
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert re.fullmatch(
        r"INFO spanwell spanwell [\d.]+: service=scenario exporter=sqlite sampler=parentbased_always_on"
        r" propagators=baggage,tracecontext,xray instrumentors=\d+ active, \d+ deferred",
        lines[0],
    )


def test_the_line_holds_the_hint_when_the_services_name_is_a_guess(tmp_path: Path) -> None:
    done = python(LOGGED + SPAN, traced(tmp_path / "t.db", OTEL_SERVICE_NAME=""))
    assert done.err.count("\n") == 1, done.err
    assert "OTEL_SERVICE_NAME" in done.err


def test_the_line_can_be_switched_off(tmp_path: Path) -> None:
    done = python(LOGGED + SPAN, traced(tmp_path / "t.db", SPANWELL_STARTUP_SUMMARY="false", OTEL_SERVICE_NAME=""))
    assert done == (0, "", "")


# --- at the end ----------------------------------------------------------------------------------------------------


def test_first_use_in_an_exit_handler(tmp_path: Path) -> None:
    code = f"import atexit\n@atexit.register\ndef last():\n    exec({SPAN!r})\n    print('fine')\n"
    done = python(code, traced(tmp_path / "t.db"))
    assert (done.code, done.out) == (0, "fine\n")
    assert "Traceback" not in done.err


def test_first_use_in_a_finalizer_at_shutdown(tmp_path: Path) -> None:
    code = f"""
class Last:
    def __del__(self):
        try:
            exec({SPAN!r}, {{}})
        except ImportError:
            pass  # the interpreter imports nothing any more, with or without us
        print("fine")
last = Last()
last.itself = last
"""
    done = python(code, traced(tmp_path / "t.db"))
    assert (done.code, done.out, done.err) == (0, "fine\n", "")


def test_first_use_in_a_finalizer_when_the_api_is_there(tmp_path: Path) -> None:
    code = """
from opentelemetry import trace
class Last:
    def __del__(self, trace=trace):
        trace.get_tracer("app").start_span("work").end()
        print("fine")
trace.last = Last()
"""
    done = python(code, traced(tmp_path / "t.db"))
    assert (done.code, done.out, done.err) == (0, "fine\n", "")


# --- forks ----------------------------------------------------------------------------------------------------------


def test_set_up_after_a_fork(tmp_path: Path) -> None:
    code = """
import os, sys
from opentelemetry import trace
if os.fork() == 0:
    trace.get_tracer("app").start_span("child").end()
    sys.exit(0)
os.wait()
trace.get_tracer("app").start_span("parent").end()
"""
    done = python(code, traced(tmp_path / "t.db", PYTHONWARNINGS="ignore::DeprecationWarning"))
    assert done == (0, "", "")
    assert names(tmp_path / "t.db") == ["child", "parent"]


def test_a_fork_after_the_set_up(tmp_path: Path) -> None:
    code = f"""
import os, sys
{SPAN}
if os.fork() == 0:
    trace.get_tracer("app").start_span("child").end()
    sys.exit(0)
os.wait()
"""
    done = python(code, traced(tmp_path / "t.db", PYTHONWARNINGS="ignore::DeprecationWarning"))
    assert done == (0, "", "")
    assert names(tmp_path / "t.db") == ["child", "work"]


@pytest.mark.parametrize("milliseconds", [1, 5, 20, 50, 80, 120])
def test_a_fork_while_another_thread_sets_up(milliseconds: int, tmp_path: Path) -> None:
    """The child must neither wait for a thread it does not have nor go without telemetry."""
    code = f"""
import os, sys, threading, time
from opentelemetry import trace
begun = threading.Event()
def other():
    begun.set()
    trace.get_tracer("app").start_span("thread").end()
thread = threading.Thread(target=other)
thread.start()
begun.wait()
time.sleep({milliseconds / 1000})
if os.fork() == 0:
    trace.get_tracer("app").start_span("child").end()
    sys.exit(0)
_, status = os.wait()
thread.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = python(code, traced(tmp_path / "t.db", PYTHONWARNINGS="ignore::DeprecationWarning"))
    assert done == (0, "", "")
    assert names(tmp_path / "t.db") == ["child", "thread"]
