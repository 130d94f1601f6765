"""The distro: what happens when `opentelemetry-instrument` starts with spanwell, in order."""

from __future__ import annotations

import os

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined, unused-ignore]

from spanwell import libraries
from spanwell._collector import without_gc
from spanwell._guard import guard
from spanwell._hook import Hook
from spanwell._otel import registry
from spanwell._triggers import watched_modules
from spanwell.exit import follow_multiprocessing
from spanwell.lazy import Instrumentors
from spanwell.legs import make_instrumentors
from spanwell.settings import Settings
from spanwell.where import handler_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.util._importlib_metadata import EntryPoint


class SpanwellDistro(BaseDistro):  # type: ignore[misc, unused-ignore]
    """The `opentelemetry_distro` entry point."""

    instrumentors: Instrumentors | None = None

    def _configure(self, **kwargs: Any) -> None:
        settings = Settings.from_env(os.environ)
        choose_configurator()
        if settings.sdk_disabled:
            self.instrumentors = Instrumentors(disabled="*")
            return
        self.instrumentors = make_instrumentors(settings)
        watch_imports(self.instrumentors)
        registry.skip_checks(self.instrumentors.checks)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Defer the instrumentor until its library is imported; apply at once what is not known."""
        if self.instrumentors is None:
            super().load_instrumentor(entry_point, **kwargs)
        else:
            self.instrumentors.add(entry_point)


_ours: list[str] = []


def choose_configurator() -> None:
    """Our distro goes with our configurator, also when another one is installed."""
    if "OTEL_PYTHON_CONFIGURATOR" not in os.environ:
        os.environ["OTEL_PYTHON_CONFIGURATOR"] = "spanwell"
        _ours.append("OTEL_PYTHON_CONFIGURATOR")


def forget_configurator() -> None:
    """Take the choice out of the environment again: a child process elsewhere has no configurator of that name."""
    while _ours:
        os.environ.pop(_ours.pop(), None)


def watch_imports(instrumentors: Instrumentors) -> None:
    """Report the imports that matter to the instrumentors."""

    def imported(name: str) -> None:
        with guard(f"the import of {name}"), without_gc():
            if name == "multiprocessing.util":
                follow_multiprocessing()
            else:
                libraries.imported(name)
                instrumentors.imported(name)

    Hook(imported, names={*watched_modules(), handler_module(os.environ), "multiprocessing.util"}).install()


def post_instrument() -> None:
    """The `opentelemetry_post_instrument` entry point: what has to come last, then the start-up summary.

    It is called under any distro; without ours it does nothing.
    """
    forget_configurator()
    instrumentors = getattr(SpanwellDistro._instance, "instrumentors", None)
    if instrumentors is None:
        return
    with guard("the last instrumentors"):
        instrumentors.finish()
    with guard("the start-up summary"):
        from spanwell import configurator
        from spanwell.summary import log_summary

        if configurator.current is not None:
            log_summary(configurator.current, instrumentors)
