"""The API's global providers, bound late, and its current context."""

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


def leave(token: Any) -> None:
    """Go back to the context that was current before `attach` gave `token`.

    `detach` logs an error with a traceback where another context is current by now, as after a change of task: there
    is nothing to go back to then, and nobody to be told.
    """
    from opentelemetry import context

    try:
        context._RUNTIME_CONTEXT.detach(token)
    except Exception:
        pass
