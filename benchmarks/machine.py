"""What it was measured on: enough to judge the figures, nothing that identifies the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.envs import Environment

COMPARED = (
    "spanwell",
    "aws-opentelemetry-distro",
    "aws-xray-sdk",
    "opentelemetry-distro",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation",
    "opentelemetry-instrumentation-botocore",
    "flask",
    "requests",
    "boto3",
)


def describe(python: str) -> list[str]:
    """Processor, cores, system and interpreter, a line each."""
    version = subprocess.run(
        [python, "-c", "import platform as p; print(p.python_implementation(), p.python_version())"],
        capture_output=True,
        text=True,
    ).stdout.strip()
    return [
        f"Processor: {_processor()}, {_cores()} cores usable",
        f"System: {_system()}",
        f"Python: {version}",
        f"Load average when it began: {os.getloadavg()[0]:.2f}",
    ]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}, {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({kernel})"
    except (OSError, KeyError):
        return kernel


def versions(environments: Mapping[str, Environment | str]) -> str:
    """The versions of all compared packages, a column for each environment."""
    built = {name: env.packages for name, env in environments.items() if not isinstance(env, str)}
    rows = [
        (package, *(packages.get(package, "") for packages in built.values()))
        for package in COMPARED
        if any(package in packages for packages in built.values())
    ]
    return table(("", *built), rows)
