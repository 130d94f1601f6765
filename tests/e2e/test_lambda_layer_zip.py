"""The built zip, unpacked as at /opt, in a function: it starts, traces, and stays out of the function's way."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from support import lambda_folders, lambda_layer, lambda_rie
from support.lambda_runtime import Runtime
from support.lambda_spans import from_receiver
from support.receiver import otlp_receiver

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lambda-layer")]

VERSION = "{}.{}".format(*sys.version_info[:2])
ALL = "spanwell-layer"
WRAPPED = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/otel-instrument"}

CODE = """
import json, os, subprocess, sys

def handler(event, context):
    layer = os.path.dirname(os.path.dirname(sys.modules["spanwell"].__file__)) if "spanwell" in sys.modules else "-"
    ours = [m for m in list(sys.modules.values()) if (getattr(m, "__file__", "") or "").startswith(layer)]
    child = "import json, os, sys; print(json.dumps([sys.path, dict(os.environ), sorted(sys.modules)]))"
    return {
        "path": sys.path,
        "main": [sys.modules["__main__"].__file__, sys.argv],
        "slow": sorted(m.__name__ for m in ours if not os.path.exists(m.__cached__ or "")),
        "ours": len(ours),
        "modules": sorted(m for m in sys.modules if m.startswith(("opentelemetry", "spanwell"))),
        "child": json.loads(subprocess.check_output([sys.executable, "-c", child])) if event == [] else None,
        "environ": dict(os.environ),
    }
"""


@pytest.fixture(scope="module")
def layer(tmp_path_factory) -> Path:
    return lambda_layer.unpacked(tmp_path_factory.mktemp("opt"))


# --- the zips -----------------------------------------------------------------------------------------------------


def test_the_build_is_reproducible_and_within_the_sizes(tmp_path):
    first = lambda_layer.zips()
    lambda_layer.build(tmp_path / "again")
    names = sorted(path.name for path in first.glob("*.zip"))
    assert len(names) == 6
    assert ALL + ".zip" in names
    for name in names:
        content = (first / name).read_bytes()
        assert content == (tmp_path / "again" / name).read_bytes(), name
        assert len(content) <= (7_000_000 if name == ALL + ".zip" else 3_000_000), name


@pytest.mark.parametrize("name", [ALL, f"{ALL}-{VERSION}"])
def test_nothing_in_it_hides_a_package_of_the_function_or_the_runtime(name):
    with zipfile.ZipFile(lambda_layer.zips() / f"{name}.zip") as archive:
        names = archive.namelist()
    assert {entry.partition("/")[0] for entry in names} == {"otel-instrument", "python"}
    importable = {entry.split("/")[1] for entry in names if entry.startswith("python/")}
    assert importable <= {"spanwell", "spanwell.pth", "_spanwell", "lib"}
    versioned = {entry.split("/")[4] for entry in names if entry.startswith("python/lib/")}
    assert versioned <= {"_spanwell"}
    beside = {entry.partition("_spanwell/")[2].partition("/")[0] for entry in names if "_spanwell/" in entry}
    assert not beside & {"boto3", "botocore", "urllib3", "requests", "google", "grpc", "certifi"}
    assert {"opentelemetry", "typing_extensions.py", "wrapt", "LICENSES"} <= beside
    assert not [entry for entry in names if entry.endswith((".so", ".pyi", ".c")) or "/cli/" in entry]


def test_only_the_layer_has_a_pth_file():
    for path in lambda_layer.zips().glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
        assert "spanwell/aws_lambda/start.py" in names
        assert not [name for name in names if name.endswith(".pth")]
        break
    else:
        pytest.fail("the build left no wheel to look at")


# --- in a function ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ALL, f"{ALL}-{VERSION}"])
def test_adding_the_layer_is_enough_and_what_starts_is_compiled(name, tmp_path):
    with Runtime({"app.py": CODE}, layer=lambda_layer.unpacked(tmp_path, name)) as lam:
        found = lam.invoke([]).payload
        assert [span.name for span in lam.spans(1)] == ["spanwell-test"]
    assert found["slow"] == []
    assert found["ours"] > 100
    assert not [entry for entry in found["path"] if "_spanwell" in entry]
    assert lam.log == ""


CALLING = CODE.replace("    layer =", "    client.list_tables()\n    layer =").replace(
    "def handler", "import boto3, sqlite3, urllib.request\nclient = boto3.client('dynamodb')\n\ndef handler"
)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "xray"},
        {"SPANWELL_INSIGHTS": "true", "OTEL_METRICS_EXPORTER": "emf"},
        {"OTEL_TRACES_SAMPLER": "budget", "OTEL_TRACES_SAMPLER_ARG": "spans_per_second=10"},
    ],
    ids=["defaults", "xray", "insights", "budget"],
)
def test_what_functions_usually_turn_on_is_compiled_in_the_zip_for_all_versions(env, layer):
    with Runtime({"app.py": CALLING}, layer=layer, env=env, aws=True) as lam:
        found = lam.invoke().payload
    assert found["slow"] == []
    assert "opentelemetry.instrumentation.botocore" in found["modules"]


def test_without_a_need_for_the_sdk_nothing_of_it_is_imported(layer):
    with Runtime({"app.py": CODE}, layer=layer) as lam:
        found = lam.invoke(None, trace="Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0").payload
    assert not [name for name in found["modules"] if name.startswith("opentelemetry")]


@pytest.mark.parametrize("env", [WRAPPED, {**WRAPPED, "PYTHONPATH": "/nowhere:/else"}], ids=["pth", "pythonpath"])
def test_the_wrapper_script_starts_it_too_once_and_leaves_no_variable(env, layer):
    with Runtime({"app.py": CODE}, layer=layer, env=env) as lam:
        found = lam.invoke([]).payload
        assert len(lam.spans(1)) == 1
        assert lam.starts == 1
    assert found["main"][0].endswith("/var/runtime/bootstrap.py")
    assert found["main"][1][0] == found["main"][0]
    expected = env.get("PYTHONPATH", found["environ"]["LAMBDA_RUNTIME_DIR"])
    assert found["environ"]["PYTHONPATH"] == expected
    path, environ, modules = found["child"]
    assert environ["PYTHONPATH"] == expected
    assert not [entry for entry in path if "/opt" in entry]
    assert not [name for name in modules if name.startswith("spanwell")]


def test_pythonpath_keeps_its_order_under_the_wrapper_script(layer):
    env = {"PYTHONPATH": "/nowhere:/else"}
    with Runtime({"app.py": CODE}, env=env) as lam:
        plain = lam.invoke().payload["path"]
        root = str(lam.folder)
    with Runtime({"app.py": CODE}, layer=layer, env={**env, **WRAPPED}) as lam:
        found = lam.invoke().payload["path"]
        assert [entry.replace(str(lam.folder), "") for entry in found] == [entry.replace(root, "") for entry in plain]


@pytest.mark.parametrize("pythonpath", [False, True])
def test_a_module_of_the_users_with_our_name_costs_the_traces_alone(pythonpath, layer, tmp_path):
    (tmp_path / "spanwell.py").write_text("raise RuntimeError('not yours')\n")
    env = {**WRAPPED, "PYTHONPATH": str(tmp_path)} if pythonpath else {}
    files = {"app.py": "def handler(event, context):\n    return 1\n"}
    if not pythonpath:
        files["spanwell.py"] = (tmp_path / "spanwell.py").read_text()
    with Runtime(files, layer=layer, env=env) as lam:
        assert lam.invoke().payload == 1
        assert "RuntimeError: not yours" in lam.stderr


def test_with_pythonpath_and_no_wrapper_script_the_function_works_untraced(layer):
    with Runtime({"app.py": CODE}, layer=layer, env={"PYTHONPATH": "/nowhere"}) as lam:
        assert lam.invoke().payload["modules"] == []


def test_switched_off_the_layer_imports_nothing_but_its_start(layer):
    for env in ({}, WRAPPED, {**WRAPPED, "PYTHONPATH": "/nowhere"}):
        with Runtime({"app.py": CODE}, layer=layer, env={**env, "SPANWELL_DISABLED": "true"}) as lam:
            found = lam.invoke().payload
        assert not [name for name in found["modules"] if name.startswith("opentelemetry")]
        assert len(found["modules"]) < 6


# --- what the function brings -------------------------------------------------------------------------------------

TELEMETRY = """
import sys
import wrapt, typing_extensions
from opentelemetry import trace

def handler(event, context):
    with trace.get_tracer("app").start_as_current_span("own") as span:
        return {
            "wrapt": wrapt.__file__, "extensions": typing_extensions.__file__, "api": trace.__file__,
            "span": type(span).__module__,
        }
"""


def stub(version: str) -> dict[str, str]:
    """An API so old, or so new, that nothing of spanwell's fits to it."""
    tracer = "class _T:\n    def start_as_current_span(self, name):\n        return _S()\n"
    span = "class _S:\n    def __enter__(self):\n        return self\n    def __exit__(self, *a):\n        pass\n"
    return {
        "opentelemetry/version/__init__.py": f'__version__ = "{version}"\n',
        "opentelemetry/trace/__init__.py": f"{span}{tracer}def get_tracer(name):\n    return _T()\n",
    }


def test_a_function_without_opentelemetry_may_use_the_layers(layer):
    with Runtime({"app.py": TELEMETRY}, layer=layer) as lam:
        found = lam.invoke().payload
        assert {span.name for span in lam.spans(2)} == {"spanwell-test", "own"}
    assert all("/_spanwell/" in found[name] for name in ("wrapt", "extensions", "api"))
    assert found["span"] == "opentelemetry.sdk.trace"


def test_packages_of_the_function_win_also_those_it_adds_to_the_path_itself(layer):
    code = "import sys, os\nsys.path.append(os.path.join(os.path.dirname(__file__), 'lib'))\n" + TELEMETRY
    real = lambda_folders.describe(sys.executable)["site"]
    files = {"app.py": code, "lib/wrapt.py": ""}
    files["lib/typing_extensions.py"] = Path(real, "typing_extensions.py").read_text()
    with Runtime(files, layer=layer, env={"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}) as lam:
        found = lam.invoke().payload
    assert found["wrapt"].endswith("/task/lib/wrapt.py")
    assert found["extensions"].endswith("/task/lib/typing_extensions.py")


@pytest.mark.parametrize("version", ["1.20.0", "2.0.0"])
def test_an_opentelemetry_that_does_not_fit_costs_the_traces_and_one_line(version, layer):
    with Runtime({"app.py": TELEMETRY, **stub(version)}, layer=layer) as lam:
        answers = [lam.invoke() for _ in range(2)]
        assert lam.spans(1, 0.3) == []
        lines = [line for line in lam.log.splitlines() if "spanwell" in line]
    assert [answer.error for answer in answers] == [None, None]
    assert answers[0].payload["api"].endswith("/task/opentelemetry/trace/__init__.py")
    assert len(lines) == 1
    assert f"has opentelemetry-api {version}, spanwell needs 1.44 or newer, below 2" in lines[0]


def test_a_dependency_that_does_not_fit_costs_the_instrumentors_that_need_it_and_one_line_each(layer):
    files = {
        "app.py": "import sqlite3\ndef handler(event, context):\n    return 1\n",
        "wrapt.py": "an_own = 'module'\n",
    }
    with Runtime(files, layer=layer) as lam:
        assert lam.invoke().payload == 1
        assert len(lam.spans(1)) == 1
        lines = [line for line in lam.log.splitlines() if "spanwell" in line]
    assert len(lines) == 1
    assert "instrumentor sqlite3 failed (ImportError" in lines[0]


def test_an_opentelemetry_that_fits_is_used(layer, tmp_path):
    site = Path(lambda_folders.describe(sys.executable)["site"])
    task = tmp_path / "task"
    task.mkdir()
    (task / "app.py").write_text(TELEMETRY)
    (task / "opentelemetry").mkdir()
    for name in ("_logs", "attributes", "baggage", "context", "environment_variables", "metrics", "propagate",
                 "propagators", "sdk", "semconv", "trace", "util", "version"):  # fmt: skip
        (task / "opentelemetry" / name).symlink_to(site / "opentelemetry" / name)
    with Runtime(task, layer=layer) as lam:
        found = lam.invoke().payload
        assert {span.name for span in lam.spans(2)} == {"spanwell-test", "own"}
    assert found["api"].endswith("/task/opentelemetry/trace/__init__.py")


# --- AWS's own emulator -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True], ids=["pth", "wrapper"])
def test_the_runtime_interface_emulator_runs_it(wrapped, layer, tmp_path):
    program = lambda_rie.emulator("AWS's Runtime Interface Emulator runs the built zip")
    facts = lambda_folders.describe(sys.executable)
    var = tmp_path / "var"
    python = lambda_folders.make_language(var / "lang", facts)
    lambda_folders.make_runtime(var / "runtime", facts, python, layer)
    (var / "task").mkdir()
    (var / "task" / "app.py").write_text("def handler(event, context):\n    return [event, 1]\n")
    with otlp_receiver() as receiver:
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LAMBDA_TASK_ROOT": str(var / "task"),
            "LAMBDA_RUNTIME_DIR": str(var / "runtime"),
            "AWS_LAMBDA_FUNCTION_NAME": "emulated",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint("rie"),
        }
        if wrapped:
            env["AWS_LAMBDA_EXEC_WRAPPER"] = str(layer / "otel-instrument")
        command = [str(var / "runtime" / "bootstrap"), "app.handler"]
        with lambda_rie.running(program, command, tmp_path, env) as function:
            assert [function.invoke(number) for number in range(3)] == [[0, 1], [1, 1], [2, 1]]
            spans = from_receiver(receiver, "rie")
    assert [span.attributes.get("faas.coldstart") for span in spans] == [True, False, False], function.log
    assert {span.kind for span in spans} == {"SERVER"}
