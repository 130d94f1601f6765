"""Deferred instrumentation: an instrumentor is applied when its library has been imported.

The rules and the moments stand in `_triggers.py`; this module keeps them. Nothing here holds a lock while an
instrumentor runs: it imports modules, and the importing thread may hold import locks already.
"""

from __future__ import annotations

import sys
from importlib import import_module

from spanwell import _guard
from spanwell._guard import failed, warn_once
from spanwell._installed import Installed, scanned
from spanwell._otel import registry
from spanwell._triggers import AFTER, EAGER, FIRST_CALL, LAST, TABLE, WHEN_IMPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Load = Callable[[], Any]


class Instrumentors:
    """The instrumentors of this process and what became of each.

    With `lazy` false everything is applied when it is added. `disabled` are the names of
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, `unneeded` maps names to the reason why they stay out, `after` maps a name
    to what is called once that instrumentor is active.
    `options` maps a name to what gives the arguments of its `instrument()`, asked just before it. `handler` is the
    module that a Lambda function's handler comes from: when it is imported, that is the moment of those in `LAST`.
    `later` maps a name that is not in the table to (module, function): the first call of that within a trace is its
    moment.
    `states` maps a name to ``deferred``, ``active``, ``disabled`` or a reason.
    """

    def __init__(
        self,
        *,
        lazy: bool = True,
        disabled: Iterable[str] = (),
        unneeded: Mapping[str, str] | None = None,
        after: Mapping[str, Callable[[], None]] | None = None,
        options: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
        handler: str = "",
        later: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self._lazy = lazy
        self._disabled = frozenset(disabled)
        self._unneeded = dict(unneeded or {})
        self._after = dict(after or {})
        self._options = dict(options or {})
        self._handler = handler if lazy else ""
        self._later = dict(later or {}) if lazy else {}
        self._waiting: dict[str, Load] = {}
        self._last: list[tuple[str, Load]] = []
        self._installed: Installed | None = None
        self.states: dict[str, str] = {}

    # --- where an instrumentor comes from ---------------------------------------------------------------------

    def add_known(self) -> None:
        """Defer everything in the table, installed or not: whether it is shows when its library is imported."""
        if not self._lazy:
            return
        targets = {name: target for name, (target, _) in TABLE.items()}
        if self._handler:
            targets.update(LAST)
        for name, target in targets.items():
            if not self._is_disabled(name):
                self._waiting[name] = _by_target(target)

    def add(self, entry: Any, *, skip_known: bool = False, check: bool = False) -> None:
        """Take an `opentelemetry_instrumentor` entry point: defer, keep for last or apply it now.

        With `skip_known` the table's own are left out (they wait already); with `check` the library's version
        is checked first, which opentelemetry-instrument has done by itself.
        """
        name, load = entry.name, entry.load
        if self._is_disabled(name):
            self.states[name] = "disabled"
        elif name in self._unneeded:
            self.states[name] = self._unneeded[name]
        elif self.defers(entry):
            if not skip_known:
                self._defer(name, load)
        elif name in LAST:
            self._add_last(name, load)
        elif name in self._later and self._later[name][0] in sys.modules:
            self.states[name] = "deferred"
            self._at_first_call(name, load, *self._later[name], when=_within_a_trace)
        elif self._lazy and name in WHEN_IMPORTED and WHEN_IMPORTED[name] not in sys.modules:
            self._waiting[name] = load
        elif name in EAGER or not check or self._fits(name, entry):
            self.apply(name, load)

    def _add_last(self, name: str, load: Load) -> None:
        if not self._handler:
            self._last.append((name, load))
        elif name not in self._waiting and name not in self.states:
            self._defer(name, load)

    def defers(self, entry: Any) -> bool:
        """Whether this entry point waits for its library."""
        return self._lazy and _in_table(entry)

    def checks(self, entry: Any) -> bool:
        """Whether the library's version is checked, and a misfit said, when this entry point is applied."""
        return _in_table(entry)

    def add_installed(self) -> None:
        """Take what is installed and not in the table, as `spanwell run` does at the SDK's set-up."""
        installed = self._read_installed()
        entries: list[Any] = list(installed.instrumentors)
        if not installed.complete or any(entry.name not in EAGER and not _in_table(entry) for entry in entries):
            entries = registry.instrumentor_entry_points()  # these know their distribution, and its requirements
        for entry in entries:
            self.add(entry, skip_known=True, check=True)
        self.finish()

    def _read_installed(self) -> Installed:
        if self._installed is None:
            self._installed = scanned()
        return self._installed

    def finish(self) -> None:
        """Apply what has to come after everything else."""
        last, self._last = self._last, []
        for name, load in last:
            self.apply(name, load)

    def _is_disabled(self, name: str) -> bool:
        return name in self._disabled or "*" in self._disabled

    def _fits(self, name: str, entry: Any) -> bool:
        try:
            conflict = registry.entry_point_conflict(entry)
        except Exception as error:
            failed(f"the version check of instrumentor {name}", error)
            return False
        if conflict is not None:
            self._conflict(name, conflict)
        return conflict is None

    # --- the moment -----------------------------------------------------------------------------------------------

    def _defer(self, name: str, load: Load) -> None:
        self._waiting[name] = load
        self.states[name] = "deferred"
        if any(_is_imported(trigger) for trigger in self._moment(name)[1]):
            self._try(name)

    @property
    def deferred(self) -> int:
        """How many wait for their library."""
        return len(self._waiting)

    def imported(self, module: str) -> None:
        """`module` has been imported: apply the instrumentors that waited for it."""
        for name in list(self._waiting):
            target, triggers = self._moment(name)
            if module in triggers or module in AFTER.get(name, ()) or target.startswith(module + ":"):
                self._try(name, module)

    def _try(self, name: str, finished: str = "") -> None:
        target, triggers = self._moment(name)
        trigger = next((each for each in triggers if each in sys.modules), None)
        if trigger is None:
            return
        needed = (target.partition(":")[0], *triggers, *AFTER.get(name, ()))
        if any(module and module != finished and _is_importing(module) for module in needed):
            return  # one of them reports again when it is whole
        load = self._waiting.pop(name, None)
        if load is None:  # another thread was first
            return
        _bind(trigger)
        if name in FIRST_CALL:
            self._at_first_call(name, load, trigger, FIRST_CALL[name])
        else:
            self.apply(name, load)

    def _at_first_call(
        self, name: str, load: Load, trigger: str, path: str, when: Callable[[], bool] = lambda: True
    ) -> None:
        """Apply the instrumentor when the function `path` of module `trigger` is called first while `when` holds."""
        *owners, attribute = path.split(".")
        owner: Any = sys.modules[trigger]
        for each in owners:
            owner = getattr(owner, each, None)
        original = getattr(owner, attribute, None)
        if original is None:
            self.apply(name, load)
            return
        pending = [load]

        def first(*args: Any, **kwargs: Any) -> Any:
            if not pending or not when():
                return original(*args, **kwargs)
            try:
                wanted = pending.pop()
            except IndexError:  # another thread was first
                return original(*args, **kwargs)
            ours = owner.__dict__.get(attribute) is first  # else another tool has wrapped us, and stays
            if ours:
                setattr(owner, attribute, original)
            self.apply(name, wanted)
            return (getattr(owner, attribute) if ours else original)(*args, **kwargs)

        setattr(owner, attribute, first)

    def _moment(self, name: str) -> tuple[str, tuple[str, ...]]:
        if name in TABLE:
            return TABLE[name]
        return "", (self._handler if name in LAST else WHEN_IMPORTED[name],)

    def apply(self, name: str, load: Load) -> None:
        """Load the instrumentor and call `instrument()`. What goes wrong is reported once and stays here."""
        try:
            self.states[name] = "active"
            instrumentor = load()()
            if not instrumentor.is_instrumented_by_opentelemetry:
                conflict = registry.dependency_conflict(instrumentor, self._read_installed().version)
                if conflict is not None:
                    self._conflict(name, conflict)
                    return
                instrumentor.instrument(skip_dep_check=True, **self._options_of(name))
            follow = self._after.get(name)
            if follow is not None:
                follow()
        except ModuleNotFoundError as error:
            # The instrumentor's package, or the library it is for, is not there.
            self.states[name] = f"not installed ({error.name})"
        except Exception as error:
            self.states[name] = f"failed: {type(error).__name__}: {error}"
            if _guard.strict:
                raise
            failed(f"instrumentor {name}", error)

    def _options_of(self, name: str) -> dict[str, Any]:
        with _guard.guard(f"options of instrumentor {name}"):
            if name in self._options:
                return self._options[name]()
        return {}

    def _conflict(self, name: str, conflict: registry.Conflict) -> None:
        self.states[name] = "library not installed" if conflict.missing else f"conflict: {conflict.text}"
        if not conflict.missing:
            warn_once(f"conflict:{name}", "spanwell: %s is not instrumented: %s", name, conflict.text)


def _within_a_trace() -> bool:
    """Whether there is a current span, sampled or not; never raises."""
    try:
        return bool(sys.modules["opentelemetry.trace"].get_current_span().get_span_context().is_valid)
    except Exception:
        return False


def _in_table(entry: Any) -> bool:
    return bool(TABLE.get(entry.name, ("",))[0] == entry.value)


def _by_target(target: str) -> Load:
    module, _, attribute = target.partition(":")
    return lambda: getattr(import_module(module), attribute)


def _is_imported(name: str) -> bool:
    return name in sys.modules and not _is_importing(name)


def _is_importing(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _bind(name: str) -> None:
    """The import system binds a submodule on its parent only after this moment, `import a.b` relies on it."""
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, sys.modules[name])
