"""`spanwell run`: the SDK is set up when it is first needed, not before.

The import hook reports modules here. The OpenTelemetry API modules get their providers bound late: the first
get_tracer, get_meter or get_logger sets everything up. An instrumented library's import applies its instrumentor,
whose get_tracer does the same.
"""

from __future__ import annotations

import os
import sys
import threading

from spanwell import libraries
from spanwell._collector import without_gc
from spanwell._forks import whole
from spanwell._guard import failed, guard
from spanwell._otel import api, stand_ins
from spanwell.exit import follow_multiprocessing
from spanwell.legs import make_instrumentors
from spanwell.settings import Settings
from spanwell.where import lambda_defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# How long a thread waits for another thread's set-up. It may hold an import lock that the set-up needs, so it
# must not wait for ever: after this it gets the API's proxies, which find the real providers by themselves.
_PATIENCE = 5.0


class Late:
    """The set-up that waits, once a process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.instrumentors = make_instrumentors(settings)
        self.instrumentors.add_known()
        self._done = False
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A fork in the middle of another thread's set-up: in the child nobody finishes it, so it starts again.
        self._lock = threading.RLock()
        self._busy = False

    def ensure(self, provider: Any = None) -> None:
        """Set the SDK up unless that was done or is being done by this thread; never raises.

        With `provider` the application was first with a TracerProvider of its own, and ours join it.
        """
        if self._done or sys.is_finalizing():
            return
        if not self._lock.acquire(timeout=_PATIENCE):
            return
        try:
            if self._done or self._busy:
                return
            self._busy = True
            try:
                with whole:
                    self._set_up(provider)
                self._done = True
            finally:  # not on the way out of a re-entry: the outer call is still at it
                self._busy = False
        finally:
            self._lock.release()
        # Without the lock: these import modules of all kinds.
        with guard("instrumentors"), whole:
            self.instrumentors.add_installed()
        with guard("the start-up summary"):
            _summary(self)

    def _set_up(self, provider: Any) -> None:
        try:
            from spanwell.configurator import set_up

            set_up(self.settings, provider=provider)
        except Exception as error:
            failed("setting up the SDK", error)

    @property
    def done(self) -> bool:
        """Whether the SDK is set up."""
        return self._done

    def provider_was_set(self, provider: Any) -> None:
        """The application called set_tracer_provider."""
        if not (self._done or self._busy):
            self.ensure(provider)


_late: Late | None = None
_late_lock = threading.RLock()


def _renew() -> None:
    global _late_lock
    _late_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def get() -> Late:
    """The one Late of this process."""
    global _late
    with _late_lock:
        if _late is None:
            _late = Late(Settings.from_env(os.environ, layers=lambda_defaults(os.environ)))
        return _late


def everything() -> None:
    """SPANWELL_LAZY_INSTRUMENTATION=false: set up and instrument now, as opentelemetry-instrument would."""
    with guard("start"):
        get().ensure()


def importing(module: Any) -> None:
    """The import hook: the code of `module` is about to run."""
    name = module.__name__
    with guard(f"the import of {name}"):
        if name == "opentelemetry.propagate":
            _hide_propagators()
        elif name in stand_ins.STAND_INS:
            stand_ins.begin(module)


def imported(name: str) -> None:
    """The import hook: module `name` has been imported."""
    with guard(f"the import of {name}"), whole, without_gc():
        special = _SPECIAL.get(name)
        if name in stand_ins.STAND_INS:
            stand_ins.end(sys.modules[name])
        if special is not None:
            special(sys.modules[name])
        elif name not in stand_ins.STAND_INS:
            libraries.imported(name)
            get().instrumentors.imported(name)


# --- the API's modules --------------------------------------------------------------------------------------------


def _trace(module: Any) -> None:
    if os.environ.get("OTEL_PYTHON_TRACER_PROVIDER"):
        return  # the user named a provider
    late = get()
    api.bind_late(module, "get_tracer_provider", "_TRACER_PROVIDER", late.ensure)
    api.watch_setter(module, "set_tracer_provider", late.provider_was_set)


def _metrics(module: Any) -> None:
    late = get()
    if os.environ.get("OTEL_PYTHON_METER_PROVIDER") or late.settings.metrics_exporter == ("none",):
        return
    api.bind_late(module, "get_meter_provider", "_METER_PROVIDER", late.ensure)


def _logs(module: Any) -> None:
    late = get()
    if os.environ.get("OTEL_PYTHON_LOGGER_PROVIDER") or late.settings.logs_exporter == ("none",):
        return
    api.bind_late(module, "get_logger_provider", "_LOGGER_PROVIDER", late.ensure)
    api.watch_setter(module, "set_logger_provider", lambda _: late.ensure())


_hidden: list[str] = []


def _hide_propagators() -> None:
    """opentelemetry.propagate raises into the application for a name it does not know, and scans entry points.

    It reads the variable while it is imported and never again; spanwell sets the propagators itself.
    """
    get()  # before the variable goes: importing opentelemetry.propagate imports opentelemetry.trace, which reads it
    value = os.environ.pop("OTEL_PROPAGATORS", None)
    if value is not None:
        _hidden.append(value)


def _propagate(module: Any) -> None:
    if _hidden:
        os.environ["OTEL_PROPAGATORS"] = _hidden.pop()
    from spanwell.propagators import set_propagators

    set_propagators(get().settings)


def _multiprocessing(module: Any) -> None:
    follow_multiprocessing()


_SPECIAL: dict[str, Callable[[Any], None]] = {
    "opentelemetry.trace": _trace,
    "opentelemetry.metrics._internal": _metrics,
    "opentelemetry._logs._internal": _logs,
    "opentelemetry.propagate": _propagate,
    "multiprocessing.util": _multiprocessing,
}


def _summary(late: Late) -> None:
    from spanwell import configurator
    from spanwell.summary import log_summary

    if configurator.current is not None:
        log_summary(configurator.current, late.instrumentors)
