"""Call back when a named module was imported. Uses sys and _thread alone: it runs in every start.

wrapt has the same idea, but importing wrapt pulls asyncio in (45 ms), more than all of `spanwell run` may cost.
"""

import _thread
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class Hook:
    """A meta path finder that finds nothing itself: it wraps the loader of the modules it watches.

    `before(module)` runs just before the module's code, at every attempt, `after(name)` once, just after it
    succeeded; both run in the importing thread. They must not raise: the import of the application is at stake.
    """

    def __init__(
        self,
        after: "Callable[[str], None]",
        before: "Callable[[ModuleType], None] | None" = None,
        names: "Iterable[str]" = (),
    ) -> None:
        self._after = after
        self._before = before
        self._names = set(names)
        self._looking: set[tuple[int, str]] = set()

    def watch(self, names: "Iterable[str]") -> None:
        """Watch more names. One that is imported already is reported at once."""
        for name in names:
            module = sys.modules.get(name)
            if module is None:
                self._names.add(name)
            else:
                self._names.discard(name)  # else a reload would report it again
                self._after(name)

    def install(self) -> None:
        """Stand first among the finders."""
        sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Watch nothing any more."""
        self._names.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: "Any" = None, target: "ModuleType | None" = None) -> "ModuleSpec | None":
        """Part of the import protocol: the spec that the other finders give, its loader wrapped."""
        if name not in self._names:
            return None
        key = (_thread.get_ident(), name)
        if key in self._looking:  # another finder asks on behalf of this very import
            return None
        self._looking.add(key)
        try:
            spec = self._others(name, path, target)
        finally:
            self._looking.discard(key)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def _others(self, name: str, path: "Any", target: "ModuleType | None") -> "ModuleSpec | None":
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                return spec  # type: ignore[no-any-return]
        return None

    def starting(self, module: "ModuleType") -> None:
        """The module's code is about to run."""
        if self._before is not None and module.__name__ in self._names:
            self._before(module)

    def finished(self, name: str) -> None:
        """The module's code ran to its end."""
        if name in self._names and name in sys.modules:
            self._names.discard(name)
            self._after(name)


class _Loader:
    """The module's own loader, which the module gets back before its code runs."""

    def __init__(self, loader: "Any", hook: Hook) -> None:
        self._loader = loader
        self._hook = hook

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: "ModuleType") -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._hook.starting(module)
        self._loader.exec_module(module)
        self._hook.finished(module.__name__)
