"""The API's global providers, bound late, and imports that a start can do without."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


def bind_late(module: ModuleType, getter: str, current: str, ensure: Callable[[], None]) -> None:
    """Make `module.<getter>()` call `ensure` first, for as long as the global `module.<current>` is unset.

    The sanctioned way, OTEL_PYTHON_TRACER_PROVIDER, needs a variable in os.environ that child processes in other
    environments inherit and fail on, an entry-point scan, and builds one provider a thread in a race
    (RATIONALE.md, "Late binding without an environment variable").
    """
    original = getattr(module, getter)

    def late() -> Any:
        if getattr(module, current, None) is None:
            ensure()
        return original()

    late.__name__ = late.__qualname__ = getter
    late.__doc__ = original.__doc__
    setattr(module, getter, late)


def watch_setter(module: ModuleType, setter: str, was_set: Callable[[Any], None]) -> None:
    """Call `was_set(provider)` after `module.<setter>(provider)`: the application may set its own provider."""
    original = getattr(module, setter)

    def watched(provider: Any) -> None:
        original(provider)
        was_set(provider)

    watched.__name__ = watched.__qualname__ = setter
    watched.__doc__ = original.__doc__
    setattr(module, setter, watched)


def current_provider(signal: str) -> Any:
    """The global provider of "traces", "metrics" or "logs" if one has been set: the public getters would set ours
    up, or hand out a proxy."""
    import sys

    module, name = {
        "traces": ("opentelemetry.trace", "_TRACER_PROVIDER"),
        "metrics": ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
        "logs": ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
    }[signal]
    return getattr(sys.modules.get(module), name, None)


class _Packaging:
    """Stand-ins for the two names that `opentelemetry.instrumentation.dependencies` takes from packaging."""

    class Requirement:
        pass

    class InvalidRequirement(Exception):
        pass


class _Later:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import importlib

        return getattr(importlib.import_module(self._name), attribute)


# module -> {what its import statements name: what they get instead}. packaging costs 12 ms of CPU and is needed for
# odd requirements only; asyncio 7 ms, needed by wrapt when a coroutine is synchronised.
STAND_INS: dict[str, dict[str, Any]] = {
    "opentelemetry.instrumentation.dependencies": {"packaging.requirements": _Packaging},
    "wrapt.synchronization": {"asyncio": _Later("asyncio")},
}


def begin_stand_ins(module: ModuleType) -> None:
    """Before the code of a module in STAND_INS runs.

    Only that module's own import statements see the stand-ins, through its own `__builtins__`: no other import,
    in no thread, is touched.
    """
    import builtins
    import sys

    instead = {name: value for name, value in STAND_INS[module.__name__].items() if name not in sys.modules}

    def own_import(name: str, *args: Any, **kwargs: Any) -> Any:
        return instead[name] if name in instead else builtins.__import__(name, *args, **kwargs)

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": own_import}


def end_stand_ins(module: Any) -> None:
    """After it: the module gets its builtins back, and packaging as soon as one of its checks is called."""
    import builtins

    module.__dict__["__builtins__"] = vars(builtins)
    if getattr(module, "Requirement", None) is not _Packaging.Requirement:
        return
    for name in ("get_dependency_conflicts", "get_dist_dependency_conflicts"):
        original = getattr(module, name, None)
        if original is not None:
            setattr(module, name, _with_packaging(module, original))


def _with_packaging(module: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    from functools import wraps

    @wraps(original)
    def check(*args: Any, **kwargs: Any) -> Any:
        from packaging import requirements

        module.Requirement = requirements.Requirement
        module.InvalidRequirement = requirements.InvalidRequirement
        return original(*args, **kwargs)

    return check
