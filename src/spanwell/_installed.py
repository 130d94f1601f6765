"""What is installed, read from the names and entry points of `*.dist-info` folders alone.

importlib.metadata reads and parses every package's files: 3 ms for the entry points and 0.7 ms for each version, in
every start. The folder's name holds the version, and few packages register an instrumentor (RATIONALE.md, "Reading
the installed packages ourselves"). What is not found here (a zip on the path, an old egg) is left to it.
"""

from __future__ import annotations

import os
import sys

GROUP = "[opentelemetry_instrumentor]"
DETECTORS = "[spanwell_insight_detector]"


class Instrumentor:
    """An entry point: its `name` and its `value`, "module:object" or "module". Mostly a registered instrumentor."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def load(self) -> object:
        """Import the module and return what is named in it."""
        from importlib import import_module

        module, _, attribute = self.value.partition(":")
        found: object = import_module(module)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
        return found


class Installed:
    """The packages below `paths`, which default to sys.path and what the Lambda layer keeps beside it; the first of a
    name counts.

    `instrumentors` and `detectors` (users' insight detectors) are what they register. `complete` is false where a
    path is no folder, so that packages may have been missed.
    """

    def __init__(self, paths: list[str] | None = None) -> None:
        self.versions: dict[str, str] = {}
        self.instrumentors: list[Instrumentor] = []
        self.detectors: list[Instrumentor] = []
        self.complete = True
        for path in dict.fromkeys(_paths() if paths is None else paths):
            self._read(path or ".")

    def _read(self, path: str) -> None:
        try:
            names = os.listdir(path)
        except NotADirectoryError:
            self.complete = False
            return
        except OSError:
            return
        for name in names:
            if name.endswith(".dist-info"):
                self._add(path, name)
            elif name.endswith(".egg-info"):
                self.complete = False

    def _add(self, path: str, folder: str) -> None:
        package, _, version = folder[: -len(".dist-info")].rpartition("-")
        package = normalised(package)
        if not package or package in self.versions:
            return
        self.versions[package] = version
        try:
            with open(os.path.join(path, folder, "entry_points.txt"), encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            return
        if GROUP in text:
            self.instrumentors.extend(_entries(text, GROUP))
        if DETECTORS in text:
            self.detectors.extend(_entries(text, DETECTORS))

    def version(self, package: str) -> str:
        """The version of `package`; raises LookupError if it was not found."""
        return self.versions[normalised(package)]


def _paths() -> list[str]:
    found = list(sys.path)
    for finder in sys.meta_path:
        found += getattr(finder, "folders_beside_the_path", ())
    return found


_latest: Installed | None = None


def scanned() -> Installed:
    """What is below sys.path, read once in a process."""
    global _latest
    if _latest is None:
        _latest = Installed()
    return _latest


def normalised(package: str) -> str:
    """The name as it stands in folder names: lower case, `_` for every separator."""
    return package.lower().replace("-", "_").replace(".", "_")


def _entries(text: str, group: str) -> list[Instrumentor]:
    found = []
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.append(Instrumentor(name.strip(), value.partition("[")[0].replace(" ", "")))
    return found
