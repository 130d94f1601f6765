"""The trigger table against the instrumentors and libraries that are installed here."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import spanwell._triggers as triggers
from spanwell._triggers import AFTER, EAGER, FIRST_CALL, LAST, TABLE

ENTRIES = {entry.name: entry.value for entry in importlib.metadata.entry_points(group="opentelemetry_instrumentor")}


def library_installed(name: str) -> bool:
    """Whether the library that starts instrumentor `name` can be imported."""
    return any(importlib.util.find_spec(trigger.partition(".")[0]) for trigger in TABLE[name][1])


INSTALLED = sorted(name for name in TABLE if name in ENTRIES and library_installed(name))


def test_the_module_is_data_alone() -> None:
    tree = ast.parse(Path(triggers.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports == []


def test_every_name_has_one_moment() -> None:
    assert not TABLE.keys() & (EAGER | LAST.keys())
    assert not EAGER & LAST.keys()
    assert AFTER.keys() | FIRST_CALL.keys() <= TABLE.keys()


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_every_installed_instrumentor_is_known(name: str) -> None:
    if name in TABLE:
        assert TABLE[name][0] == ENTRIES[name]
    else:
        assert name in EAGER | LAST.keys()


def test_the_libraries_of_the_promise_are_installed() -> None:
    promised = {"flask", "fastapi", "django", "starlette", "requests", "httpx", "urllib3", "aiohttp-client"}
    promised |= {"aiohttp-server", "botocore", "aiobotocore", "sqlalchemy", "psycopg2", "psycopg", "redis"}
    promised |= {"pymongo", "celery", "grpc_client", "grpc_aio_server", "jinja2", "sqlite3"}
    assert promised <= set(INSTALLED)


# Run in a fresh interpreter: import the trigger with the hook in place, then say what became of the instrumentor.
CHECK = """
import sys
from importlib import import_module
from importlib.metadata import entry_points

from spanwell._hook import Hook
from spanwell._triggers import FIRST_CALL, TABLE, watched_modules
from spanwell.lazy import Instrumentors

name = sys.argv[1]
target, triggers = TABLE[name]
instrumentors = Instrumentors()
Hook(instrumentors.imported, names=watched_modules()).install()
(entry,) = entry_points(group="opentelemetry_instrumentor", name=name)
instrumentors.add(entry)
assert target.partition(":")[0] not in sys.modules, "the instrumentor was imported too early"
import_module(triggers[-1])
if name in FIRST_CALL:
    assert instrumentors.states[name] == "deferred", instrumentors.states
    owner, attribute = FIRST_CALL[name].split(".")
    assert getattr(sys.modules[triggers[0]], owner).__dict__[attribute].__module__ == "spanwell.lazy"
else:
    assert instrumentors.states[name] == "active", instrumentors.states
    module, _, attribute = target.partition(":")
    instrumentor = getattr(sys.modules[module], attribute)()
    assert instrumentor.is_instrumented_by_opentelemetry
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTALLED)
def test_the_trigger_is_the_moment(name: str) -> None:
    """Importing the trigger, and nothing else, leads to an instrumentor that found everything it patches."""
    done = subprocess.run([sys.executable, "-c", CHECK, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr


ORDER = """
import sys
from spanwell._hook import Hook
from spanwell._triggers import watched_modules
from spanwell.lazy import Instrumentors
from importlib.metadata import entry_points

instrumentors = Instrumentors()
Hook(instrumentors.imported, names=watched_modules()).install()
for entry in entry_points(group="opentelemetry_instrumentor"):
    if entry.name in ("fastapi", "starlette", "click", "flask"):
        instrumentors.add(entry)
"""


@pytest.mark.slow
def test_starlette_waits_for_a_fastapi_that_is_being_imported() -> None:
    code = """
import fastapi
from starlette.applications import Starlette
assert instrumentors.states["starlette"] == instrumentors.states["fastapi"] == "active"
assert Starlette.__name__ == "_InstrumentedStarlette"
assert fastapi.FastAPI.__name__ == "_InstrumentedFastAPI"
assert Starlette not in fastapi.FastAPI.__mro__
"""
    done = subprocess.run([sys.executable, "-c", ORDER + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_fastapi_keeps_the_starlette_that_the_application_knows() -> None:
    """Starlette came first: FastAPI is its subclass, as `isinstance` in the application expects, and FastAPI's
    own `__init__` never calls Starlette's, so nothing is instrumented twice."""
    code = """
from starlette.applications import Starlette
from fastapi import FastAPI
app = FastAPI()
assert isinstance(app, Starlette)
assert len(app.user_middleware) == 0
"""
    done = subprocess.run([sys.executable, "-c", ORDER + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


DJANGO = """
import sys
from spanwell._hook import Hook
from spanwell._triggers import watched_modules
from spanwell.lazy import Instrumentors
from importlib.metadata import entry_points

instrumentors = Instrumentors()
Hook(instrumentors.imported, names=watched_modules()).install()
(entry,) = entry_points(group="opentelemetry_instrumentor", name="django")
instrumentors.add(entry)

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.handlers.base import BaseHandler

assert instrumentors.states["django"] == "deferred"
settings.configure(MIDDLEWARE=[], LOGGING_CONFIG=None)
"""


@pytest.mark.slow
def test_what_another_tool_put_around_the_function_stays() -> None:
    """Error reporters wrap BaseHandler.load_middleware too, between our waiting and its first call."""
    code = """
calls = []
theirs = BaseHandler.load_middleware

def wrapped(self, *args, **kwargs):
    calls.append(self)
    return theirs(self, *args, **kwargs)

BaseHandler.load_middleware = wrapped
WSGIHandler()
WSGIHandler()
assert len(calls) == 2, calls
assert instrumentors.states["django"] == "active"
assert len(settings.MIDDLEWARE) == 1, settings.MIDDLEWARE
"""
    done = subprocess.run([sys.executable, "-c", DJANGO + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_call_may_come_from_many_threads() -> None:
    code = """
import threading
sys.setswitchinterval(1e-6)
errors = []
gate = threading.Barrier(16)

def start():
    gate.wait()
    try:
        WSGIHandler()
    except Exception as error:
        errors.append(error)

threads = [threading.Thread(target=start) for _ in range(16)]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert not errors, errors
assert len(settings.MIDDLEWARE) == 1, settings.MIDDLEWARE
"""
    done = subprocess.run([sys.executable, "-c", DJANGO + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
