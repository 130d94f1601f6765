"""The layer's zips, built once for each state of the sources, and unpacked."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / ".envs"
INPUTS = ("src/spanwell", "examples/shop", "lambda_layer", "constraints/newest.txt", "pyproject.toml")


@functools.cache
def zips() -> Path:
    """The folder of the zips, with the build's report in `report.txt`."""
    target = ENVS / f"layer-zips-{_key()}"
    ENVS.mkdir(exist_ok=True)
    with (ENVS / "layer-zips.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            for old in ENVS.glob("layer-zips-*/"):
                shutil.rmtree(old, ignore_errors=True)
            build(target)
    return target


def build(target: Path) -> None:
    """Run the build into `target`, which appears only when it is whole."""
    draft = target.with_name(f"draft-{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    command = [sys.executable, str(ROOT / "lambda_layer" / "build.py"), "--out", str(draft)]
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SOURCE_DATE_EPOCH")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    (draft / "report.txt").write_text(done.stdout)
    draft.rename(target)


def unpacked(folder: Path, name: str = "spanwell-layer") -> Path:
    """The zip `name` unpacked into `folder` with its permissions, as Lambda does at /opt."""
    with zipfile.ZipFile(zips() / f"{name}.zip") as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, folder))
            path.chmod(entry.external_attr >> 16 & 0o777)
    return folder


def _key() -> str:
    made = hashlib.sha256()
    for entry in INPUTS:
        path = ROOT / entry
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                made.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return made.hexdigest()[:12]
