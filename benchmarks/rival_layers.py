"""Layers like those of other vendors, as folders, built from their packages on PyPI and compiled as they ship them.

Their layers are more than their packages: a wrapper script that sets variables and starts Python a second time, and a
handler that imports the function's. Both are written anew here, doing the same steps. In doubt they have it easier
than the originals: fewer instrumentors are loaded, and all is compiled for the Python that runs it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.envs import CACHE, BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

# What its layer brings instrumentors for; each looks for its library at every start.
LIBRARIES = (
    "aiohttp-client", "asgi", "asyncpg", "botocore", "celery", "dbapi", "django", "elasticsearch", "falcon",
    "fastapi", "flask", "grpc", "jinja2", "mysql", "psycopg2", "pymemcache", "pymongo", "pymysql", "pyramid",
    "redis", "requests", "sqlalchemy", "sqlite3", "starlette", "tornado", "wsgi",
)  # fmt: skip

WRAPPER = """#!/bin/sh
export PYTHONPATH="$LAMBDA_RUNTIME_DIR:/opt/python:$PYTHONPATH"
export OTEL_SERVICE_NAME="$AWS_LAMBDA_FUNCTION_NAME"
export ORIG_HANDLER="$_HANDLER" _HANDLER=otel_wrapper.lambda_handler
{variables}
[ "$AWS_LAMBDA_LITE_MODE" = true ] && exec "$@"
exec python3 /opt/python/bin/opentelemetry-instrument "$@"
"""
HANDLER = """
import importlib
import os

if os.environ.get("AWS_LAMBDA_LITE_MODE") == "true":
    from amazon.opentelemetry.distro.opentelemetry_lite_sdk import configure_lite_mode

    configure_lite_mode()
from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor

AwsLambdaInstrumentor().instrument()
module, _, name = os.environ["ORIG_HANDLER"].rpartition(".")
lambda_handler = getattr(importlib.import_module(module.replace("/", ".")), name)
"""


@dataclass(frozen=True)
class Rival:
    """`packages` go into the layer, `removed` are taken out again, `kept` are the instrumentors that stay on."""

    packages: tuple[str, ...]
    variables: tuple[str, ...]
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


RIVALS = {
    "adot": Rival(
        ("aws-opentelemetry-distro", "opentelemetry-instrumentation-aws-lambda"),
        (
            "OTEL_PYTHON_DISTRO=aws_distro",
            "OTEL_PYTHON_CONFIGURATOR=aws_configurator",
            "OTEL_PROPAGATORS=baggage,xray,tracecontext",
            "OTEL_METRICS_EXPORTER=none",
            "OTEL_LOGS_EXPORTER=none",
            "OTEL_AWS_APPLICATION_SIGNALS_ENABLED=true",
            "OTEL_AWS_APPLICATION_SIGNALS_RUNTIME_ENABLED=false",
            "OTEL_RESOURCE_ATTRIBUTES=cloud.provider=aws,cloud.platform=aws_lambda,faas.name=$AWS_LAMBDA_FUNCTION_NAME",
        ),
        removed=("urllib3", "grpc"),
        kept=("botocore", "urllib", "urllib3"),
    ),
    "upstream": Rival(
        (
            "opentelemetry-distro",
            "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-instrumentation-aws-lambda",
            "opentelemetry-propagator-aws-xray",
            "opentelemetry-sdk-extension-aws",
            *(f"opentelemetry-instrumentation-{name}" for name in LIBRARIES),
        ),
        ("OTEL_PROPAGATORS=tracecontext,baggage,xray", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        removed=("urllib3",),
    ),
}


def build(name: str, python: str, version: str) -> Path:
    """The folder of the layer `name` for the interpreter `python` of `version`; made once. Raises BuildError."""
    rival, target = RIVALS[name], CACHE / f"rival-{name}-{version}"
    stamp = json.dumps([rival.packages, rival.variables, rival.removed, WRAPPER, HANDLER])
    if (target / "stamp").exists() and (target / "stamp").read_text() == stamp:
        return target
    shutil.rmtree(target, ignore_errors=True)
    uv = shutil.which("uv")
    if uv is None:
        raise BuildError("uv is needed to put packages into a folder for another Python")
    packages = target / "python"
    _run([uv, "pip", "install", "-q", "-p", python, "--target", str(packages), *rival.packages])
    for each in rival.removed:
        for path in packages.glob(f"{each}*"):
            shutil.rmtree(path)
    (packages / "otel_wrapper.py").write_text(HANDLER)
    _run([python, "-m", "compileall", "-q", str(packages)], check=False)
    variables = [
        *rival.variables,
        f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={','.join(_disabled(packages, rival.kept))}",
    ]
    script = target / "otel-instrument"
    script.write_text(WRAPPER.format(variables="\n".join(f'export "{each}"' for each in variables)))
    script.chmod(0o755)
    (target / "stamp").write_text(stamp)
    return target


def _disabled(packages: Path, kept: tuple[str, ...]) -> list[str]:
    """The handler instruments itself; of the rest, all but `kept`, if a layer disables any."""
    names = {"aws-lambda"}
    for file in packages.glob("*.dist-info/entry_points.txt") if kept else ():
        _, _, section = file.read_text().partition("[opentelemetry_instrumentor]")
        lines = section.partition("\n[")[0].splitlines()
        names |= {line.partition("=")[0].strip() for line in lines if "=" in line}
    return sorted(names - set(kept))


def _run(command: list[str], *, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise BuildError(done.stderr.strip()[-300:])
