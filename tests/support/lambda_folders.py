"""Folders as in Lambda: /var/lang (an interpreter with the runtime client), /var/runtime (boto3), /opt (a layer).

Everything comes from an environment that has awslambdaric and boto3. The layer "source" is this repository's src
with the packages it needs, put where a layer's zip puts them.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / ".envs"
OWN = ROOT / "lambda_layer"
BESIDE = "_spanwell"  # what spanwell needs, off the path: see spanwell.aws_lambda.paths
CLIENT = ("awslambdaric", "snapshot-restore-py", "simplejson")
SDK = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")

# Runs in the environment's interpreter: where it is, and the files of each wanted distribution with what it requires.
_DESCRIBE = """
import importlib.metadata as metadata, json, sys, sysconfig
from packaging.requirements import Requirement
def closure(names, extras):
    found, left = {}, [(name, extras) for name in names]
    while left:
        name, extras = left.pop()
        try:
            one = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        key = one.metadata["Name"].lower().replace("_", "-")
        if key in found and not extras:
            continue
        found[key] = [str(path) for path in one.files or () if ".." not in path.parts and path.suffix != ".pyc"]
        for text in one.requires or ():
            wanted = Requirement(text)
            if not wanted.marker or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                left.append((wanted.name, tuple(wanted.extras)))
    return found
client, sdk = json.loads(sys.argv[1])
print(json.dumps({
    "base": getattr(sys, "_base_executable", sys.executable), "version": "%d.%d" % sys.version_info[:2],
    "site": sysconfig.get_paths()["purelib"], "client": closure(client, ()), "sdk": closure(sdk, ()),
    "layer": closure(["spanwell"], ("instruments",)),
}))
"""


class Missing(Exception):
    """The environment lacks something; the text names it."""


def interpreter(python: str | None) -> str:
    """The Python of an environment: a path, a version of which tests/run.py made an environment, or None for ours."""
    if python is None:
        return sys.executable
    if os.sep in python:
        return python
    if python == "{}.{}".format(*sys.version_info[:2]):
        return sys.executable
    found = ENVS / f"test-{python}-newest" / "bin" / "python"
    if not found.exists():
        raise Missing(f"an environment of Python {python}; `python tests/run.py --only {python}` makes it")
    return str(found)


@functools.cache
def describe(python: str) -> dict[str, Any]:
    """What `_DESCRIBE` finds out; raises Missing without the runtime client."""
    command = [python, "-c", _DESCRIBE, json.dumps([CLIENT, SDK])]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    if done.returncode:
        raise Missing(f"a working environment around {python}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if "awslambdaric" not in found["client"]:
        raise Missing(f"the package awslambdaric in the environment of {python}")
    return found


def make_language(folder: Path, facts: dict[str, Any]) -> Path:
    """/var/lang: the bare interpreter and the runtime client; returns the path of the interpreter."""
    version = facts["version"]
    packages = folder / "lib" / f"python{version}" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    base = Path(facts["base"]).resolve()
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    program = folder / "bin" / f"python{version}"
    program.symlink_to(base)
    (folder / "bin" / "python3").symlink_to(program.name)
    _link(packages, facts["client"], Path(facts["site"]))
    return program


def make_runtime(folder: Path, facts: dict[str, Any], program: Path, layers: Path) -> None:
    """/var/runtime: bootstrap, bootstrap.py and the AWS SDK."""
    folder.mkdir(parents=True)
    _link(folder, facts["sdk"], Path(facts["site"]))
    code = Path(__file__).with_name("lambda_bootstrap.py").read_text()
    (folder / "bootstrap.py").write_text(code.replace('"/opt/python"', repr(str(layers / "python"))))
    script = folder / "bootstrap"
    script.write_text(
        "#!/bin/sh\n"
        f"export AWS_EXECUTION_ENV=AWS_Lambda_python{facts['version']}\n"
        f'set -- "{program}" "{folder}/bootstrap.py"\n'
        'if [ -z "$AWS_LAMBDA_EXEC_WRAPPER" ]; then exec "$@"; fi\n'
        'if [ ! -f "$AWS_LAMBDA_EXEC_WRAPPER" ]; then echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist"; exit 127; fi\n'
        'exec "$AWS_LAMBDA_EXEC_WRAPPER" "$@"\n'
    )
    script.chmod(0o755)


def _link(folder: Path, packages: dict[str, list[str]], site: Path) -> None:
    for name in {file.split("/")[0] for files in packages.values() for file in files}:
        if not (folder / name).exists():
            (folder / name).symlink_to(site / name)


def source_layer(facts: dict[str, Any]) -> Path:
    """A folder like the unpacked zip, with src linked in; built once for each set of packages, below .envs."""
    # The packages' versions stand in the names of their dist-info folders.
    infos = sorted(
        {file.split("/")[0] for files in facts["layer"].values() for file in files if ".dist-info" in file}
    )
    own = [(Path(facts["site"]) / info / "RECORD").read_text() for info in infos if info.startswith("spanwell-")]
    key = hashlib.sha256(json.dumps([infos, own, BESIDE, facts["version"]]).encode()).hexdigest()[:12]
    ENVS.mkdir(exist_ok=True)
    target = ENVS / f"layer-source-{facts['version']}-{key}"
    with (ENVS / "layer-source.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _copy_layer(target, facts)
        os.utime(target)
        for old in ENVS.glob("layer-source-*-*"):
            if time.time() - old.stat().st_mtime > 86_400:  # nobody's any more
                shutil.rmtree(old)
    return target


def _copy_layer(target: Path, facts: dict[str, Any]) -> None:
    draft = target.with_name(target.name.replace("layer-source", "draft"))
    shutil.rmtree(draft, ignore_errors=True)
    python = draft / "python"
    python.mkdir(parents=True)
    site = Path(facts["site"])
    for file in (file for files in facts["layer"].values() for file in files):
        # As in the zip: no machine code, wrapt works without.
        if file.endswith((".pth", ".so")) or file.startswith("spanwell/") or not (site / file).exists():
            continue
        (python / BESIDE / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(site / file, python / BESIDE / file)
    compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(python)]
    subprocess.run([facts["base"], *compile_all], check=False, stdout=subprocess.DEVNULL)
    (python / "spanwell").symlink_to(ROOT / "src" / "spanwell")
    (python / "spanwell.pth").symlink_to(OWN / "spanwell.pth")
    (draft / "otel-instrument").symlink_to(OWN / "otel-instrument")
    draft.rename(target)
