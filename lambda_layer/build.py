"""`make layer`: the zips of the Lambda layer in dist/, one for all runtimes and one for each, with a report of sizes.

    python lambda_layer/build.py [--out FOLDER] [--only 3.13 ...]

Made from the wheel of this project and what it requires, at the versions of constraints/newest.txt, the same byte for
byte wherever the same interpreters are. README.md beside this file tells what is in it and why.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "lambda_layer"
sys.path[:0] = [str(ROOT / "tests"), str(HERE)]

import contents  # noqa: E402
import slim  # noqa: E402
import zips  # noqa: E402

from run import find_interpreters, find_uv  # noqa: E402

OWN = "spanwell"
SHARED = "python/_spanwell"
VERSIONED = "python/lib/python{}/site-packages/_spanwell"
LICENSES = f"{SHARED}/LICENSES"
WRAPPER = "otel-instrument"
NAME = "spanwell-layer"
MB = 1_000_000
LIMITS = {True: 7 * MB, False: 3 * MB}
"""What the zip for all versions, and one for a single version, may have."""


class BuildError(Exception):
    """The layer cannot be built; one line says why."""


@dataclass
class Package:
    """One distribution as it goes into the layer: `files` by their names below a site-packages folder."""

    name: str
    version: str
    files: dict[str, bytes] = field(default_factory=dict)
    licenses: list[bytes] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        made = hashlib.sha256()
        for name in sorted(self.files):
            made.update(f"{name}\0{len(self.files[name])}\0".encode() + self.files[name])
        return made.hexdigest()


def main() -> int:
    """Build; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder for the zips")
    parser.add_argument("--only", nargs="+", choices=contents.VERSIONS, default=contents.VERSIONS, metavar="VERSION")
    arguments = parser.parse_args()
    try:
        build(arguments.out, tuple(arguments.only))
    except BuildError as error:
        print(f"layer: {error}", file=sys.stderr)
        return 1
    return 0


def build(out: Path, versions: tuple[str, ...]) -> list[Path]:
    """The zips: for all `versions` (if there are several), then for each; raises BuildError (one too large, too)."""
    with contextlib.redirect_stdout(io.StringIO()):  # what it says is of tests; ours comes at the end
        found = find_interpreters()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spanwell-layer-") as folder:
        work = Path(folder)
        uv = find_uv(sys.executable)
        if uv is None:
            raise BuildError("uv is needed to fetch packages for other Pythons than this one: pip install uv")
        wheel = make_wheel(uv, work)
        packages = {version: fetch(uv, work / version, wheel, version) for version in versions}
        files = lay_out(packages)
        bytecode = {version: compiled(found[version], files, work) for version in versions if version in found}
        shutil.copy2(wheel, out)
    made: dict[Path, int] = {}
    if len(versions) > 1:
        used = contents.words((inside(name), data) for name, data in files.items())
        codes = {name: data for each in bytecode.values() for name, data in each.items()}
        common = {name: data for name, data in codes.items() if not contents.rare(inside(name), used)}
        path = out / f"{NAME}.zip"
        made[path] = write(path, files | common, " ".join(versions))
    for version in versions:
        own = {name: data for name, data in files.items() if belongs(name, version)} | bytecode.get(version, {})
        path = out / f"{NAME}-{version}.zip"
        made[path] = write(path, own, version)
    for version in versions:
        if version not in found:
            print(f"layer: NO BYTECODE: Python {version} is not on this machine; its cold starts compile all")
    large = [path.name for path, size in made.items() if size > LIMITS[path.stem == NAME]]
    if large:
        raise BuildError(f"{', '.join(large)}: too large, see LIMITS")
    return list(made)


# --- packages -----------------------------------------------------------------------------------------------------


def make_wheel(uv: str, work: Path) -> Path:
    """The project's own wheel."""
    run([uv, "build", "--quiet", "--wheel", "--out-dir", str(work / "wheel"), str(ROOT)])
    return next((work / "wheel").glob("*.whl"))


def fetch(uv: str, folder: Path, wheel: Path, version: str) -> list[Package]:
    """What the wheel requires on Python `version`, from wheels alone: no code of theirs runs here."""
    wanted = f"{wheel}[{','.join(contents.EXTRAS)}]"
    platform = ["--python-version", version, "--python-platform", "x86_64-manylinux2014", "--only-binary", ":all:"]
    pins = ["--constraint", str(ROOT / "constraints" / "newest.txt"), "--target", str(folder)]
    run([uv, "pip", "install", "--quiet", "--no-compile-bytecode", "--link-mode", "copy", *platform, *pins, wanted])
    packages = [read(info) for info in sorted(folder.glob("*.dist-info"))]
    strange = sorted({name.partition("/")[0] for package in packages for name in package.files} & contents.FORBIDDEN)
    if strange:
        raise BuildError(f"{', '.join(strange)} would be in the layer, which the function or the runtime brings")
    return packages


def read(info: Path) -> Package:
    """One installed package, without what stays out."""
    name, _, version = info.name[: -len(".dist-info")].rpartition("-")
    package = Package(name, version)
    for line in (info / "RECORD").read_text().splitlines():
        file = line.rsplit(",", 2)[0].strip('"')
        if file.startswith(("/", "..")):
            continue
        data = (info.parent / file).read_bytes()
        if file.endswith(".so") and package.name not in contents.WORKS_WITHOUT_MACHINE_CODE:
            raise BuildError(f"{package.name} has machine code, which would be for one architecture: {file}")
        if contents.is_license(file):
            package.licenses.append(data)
        elif contents.wanted(file):
            package.files[file] = prepared(file, data)
    return package


_slim = functools.cache(slim.slim)  # most versions get the same files


def prepared(name: str, data: bytes) -> bytes:
    """`data` as it stands in the layer."""
    if contents.slimmed(name):
        return _slim(data)
    if name.endswith(".dist-info/METADATA"):
        return contents.headers(data.decode()).encode()
    return data


# --- the layer ----------------------------------------------------------------------------------------------------


def lay_out(packages: dict[str, list[Package]]) -> dict[str, bytes]:
    """name in the zip -> content: what most versions have alike is shared, the rest stands in their own folders."""
    files = {WRAPPER: (HERE / WRAPPER).read_bytes(), "python/spanwell.pth": (HERE / "spanwell.pth").read_bytes()}
    texts: dict[bytes, set[str]] = {}
    by_name: dict[str, dict[str, Package]] = {}
    for version, found in packages.items():
        for package in found:
            by_name.setdefault(package.name, {})[version] = package
            for text in package.licenses:
                texts.setdefault(text.strip(), set()).add(f"{package.name} {package.version}")
    for variants in by_name.values():
        digests = {version: package.digest for version, package in variants.items()}
        most = Counter(digests.values()).most_common(1)[0][0]
        for version, package in variants.items():
            base = SHARED if digests[version] == most else VERSIONED.format(version)
            files.update({place(base, name): data for name, data in package.files.items()})
    files[LICENSES] = licenses(texts)
    return files


def place(base: str, name: str) -> str:
    """spanwell itself stands where the .pth file finds it, everything else (its metadata too) beside the path."""
    return f"python/{name}" if name.startswith(f"{OWN}/") else f"{base}/{name}"


def licenses(texts: dict[bytes, set[str]]) -> bytes:
    """Every licence once, with the packages that come under it."""
    notice = b"Comments and docstrings were taken out of the Python files of these packages.\n"
    parts = (", ".join(sorted(owners)).encode() + b"\n\n" + text for text, owners in sorted(texts.items()))
    return notice + b"".join(b"\n" + b"=" * 78 + b"\n" + part + b"\n" for part in parts)


def belongs(name: str, version: str) -> bool:
    """Whether the file goes into the zip of this version alone."""
    return not name.startswith("python/lib/") or name.startswith(VERSIONED.format(version) + "/")


def inside(name: str) -> str:
    """The module's file below its site-packages folder, of a source or of its bytecode."""
    folder, _, file = name.rpartition("__pycache__/")
    file = f"{folder}{file.partition('.')[0]}.py" if folder else name
    return file.partition("_spanwell/")[2] or file.removeprefix("python/")


def compiled(python: str, files: dict[str, bytes], work: Path) -> dict[str, bytes]:
    """The bytecode that the interpreter `python` makes of the modules among `files`."""
    folder = Path(tempfile.mkdtemp(dir=work))
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    names = sorted(name for name in files if name.endswith(".py") and belongs(name, version))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])
    # Without columns: the carets below a traceback's line are a tenth of the bytes. A fixed seed: sets keep an order.
    command = [python, "-X", "no_debug_ranges", str(HERE / "slim.py"), str(folder)]
    run(command, "\n".join(names), {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"})
    made = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.pyc")}
    shutil.rmtree(folder)
    return made


def write(path: Path, files: dict[str, bytes], what: str) -> int:
    """One zip, and its line of the report; its size in bytes."""
    size = zips.write(path, files, frozenset({WRAPPER}))
    code = sum(name.endswith(".pyc") for name in files)
    whole = sum(map(len, files.values()))
    print(
        f"layer: {path.name:26} {size / MB:5.2f} MB, {whole / MB:5.1f} MB unpacked, {code} modules compiled: {what}"
    )
    return size


def run(command: list[str], text: str = "", environ: dict[str, str] | None = None) -> None:
    """Run a program; raises BuildError with its last line."""
    environ = environ or {"UV_SYSTEM_CERTS": "1", **os.environ}
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BuildError(f"{Path(command[0]).name} {command[1]} failed: {last}")


if __name__ == "__main__":
    sys.exit(main())
