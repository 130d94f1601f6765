"""The layer's own OpenTelemetry and what that needs: found after everything that the function and the runtime bring.

In a Lambda function the layers' folder comes before the runtime's packages, and functions add folders to `sys.path`
when they like. So the layer keeps these packages beside the path, and a finder that is asked last finds them: nothing
of ours can hide a package of the function, of its other layers or of the runtime. Uses os and sys alone.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution, DistributionFinder
    from types import ModuleType

#: The oldest OpenTelemetry API and SDK that spanwell works with.
OLDEST = (1, 44)

#: The folders of the layer that hold what is found last.
FOLDER = "_spanwell"

_API = "opentelemetry"
_SDK = "opentelemetry/sdk"


class Beside:
    """A meta path finder that stands last: it finds what nobody else has found, in `folders`.

    `folders_beside_the_path` tells `spanwell._installed` where else there are packages.
    """

    def __init__(self, folders: "Sequence[str]") -> None:
        self.folders_beside_the_path = list(folders)
        self._names: frozenset[str] | None = None
        self._seen: tuple[str, ...] | None = None
        self._conflict = ""

    def install(self) -> None:
        """Stand last among the finders."""
        sys.meta_path.append(self)

    def conflict(self) -> str:
        """Why the OpenTelemetry that the function brings cannot be used, with the remedy; "" if it can be, or if it
        brings none. What `sys.path` leads to now counts."""
        path = tuple(sys.path)
        if path != self._seen:
            self._seen, self._conflict = path, conflict(path, self.folders_beside_the_path)
        return self._conflict

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Part of the import protocol."""
        parent, _, _ = name.rpartition(".")
        top = name.partition(".")[0]
        if top not in self._tops() or (top == _API and self.conflict()):
            return None
        from importlib.machinery import PathFinder

        inside = parent.replace(".", "/")
        folders = (
            [f"{folder}/{inside}" for folder in self.folders_beside_the_path]
            if inside
            else self.folders_beside_the_path
        )
        return PathFinder.find_spec(name, folders, target)

    def find_distributions(self, context: "DistributionFinder.Context") -> "Iterable[Distribution]":
        """Part of the protocol of importlib.metadata, which keeps the first of a name: here, too, ours come last."""
        if "path" in vars(context):  # somebody asks for a folder, not for what can be imported
            return ()
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        here = DistributionFinder.Context(name=context.name, path=self.folders_beside_the_path)
        return MetadataPathFinder.find_distributions(here)

    def _tops(self) -> "frozenset[str]":
        if self._names is None:
            names = (name for folder in self.folders_beside_the_path for name in _listed(folder))
            self._names = frozenset(name.partition(".")[0] for name in names if not name.endswith(".dist-info"))
        return self._names


_finder: "Beside | None" = None
_told = False


def begin() -> "Beside | None":
    """Install the finder of the layer that this package is part of, once; None where it is in no layer."""
    global _finder
    if _finder is not None:
        return _finder
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shared = f"{root}/{FOLDER}"
    if not os.path.isdir(shared):
        return None
    finder = Beside([f"{root}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/{FOLDER}", shared])
    finder.install()
    _finder = finder
    return finder


def usable() -> bool:
    """Whether the OpenTelemetry that would be imported now is one that spanwell works with; if not, says so once."""
    global _told
    reason = "" if _finder is None else _finder.conflict()
    if reason and not _told:
        _told = True
        sys.stderr.write(f"spanwell: nothing is traced: {reason}\n")
    return not reason


def conflict(path: "Iterable[str]", folders: "Iterable[str]") -> str:
    """Why the OpenTelemetry below `path` cannot be used, with the remedy; "" if it can be, or if there is none.

    `folders` are the layer's: its SDK completes an API that comes without one.
    """
    path = list(path)
    for entry in path:
        for own in (f"{entry}/{_API}/__init__.py", f"{entry}/{_API}.py"):
            if os.path.isfile(own):
                return f"{own} takes the place of OpenTelemetry: rename that module"
    api = _brought(path, _API)
    sdk = _brought(path, _SDK)
    for package, found in (("opentelemetry-api", api), ("opentelemetry-sdk", sdk)):
        if found is not None and not OLDEST <= _release(found[0]) < (2,):
            return _misfit(package, *found, f"spanwell needs {_text(OLDEST)} or newer, below 2")
    ours = None if api is None or sdk is not None else _brought(folders, _SDK)
    if api is not None and ours is not None and _release(api[0]) < _release(ours[0]):
        wanted = f"with the layer's SDK it has to be {_text(_release(ours[0]))} or newer"
        return _misfit("opentelemetry-api", *api, wanted)
    return ""


def _misfit(package: str, version: str, place: str, wanted: str) -> str:
    return f"{place} has {package} {version or 'of unknown version'}, {wanted}: update it, or leave it to the layer"


def _brought(path: "Iterable[str]", part: str) -> "tuple[str, str] | None":
    """The version of the API or the SDK and the folder it is in; the version is "" where it says none."""
    for entry in path:
        for file in (f"{entry}/{part}/version/__init__.py", f"{entry}/{part}/version.py"):
            try:
                with open(file, encoding="utf-8", errors="replace") as stream:
                    return next(_versions(stream.read(4096)), ""), entry
            except OSError:
                pass
        if os.path.isfile(f"{entry}/{part}/trace/__init__.py"):
            return "", entry
    return None


def _versions(text: str) -> "Iterator[str]":
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "__version__":
            yield value.strip().strip("'\"")


def _release(version: str) -> "tuple[int, ...]":
    """Major and minor number; () where there are none."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else ()


def _text(release: "tuple[int, ...]") -> str:
    return ".".join(map(str, release))


def _listed(folder: str) -> "list[str]":
    try:
        return os.listdir(folder)
    except OSError:
        return []
