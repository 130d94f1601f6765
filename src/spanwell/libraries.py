"""What spanwell adds to libraries without an instrumentor, from the set-up of the SDK on: ids on log records, the
context in executors. A library that is imported later gets it then.
"""

from __future__ import annotations

import sys

from spanwell._guard import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwell.settings import Settings

_settings: Settings | None = None


def begin(settings: Settings, service: str) -> None:
    """Do what `settings` want with what is imported already; `service` is this service's name."""
    global _settings
    _settings = settings
    if settings.log_ids:
        with guard("ids on log records"):
            from spanwell.enrich import log_records

            log_records.set_service(service)
            log_records.install_logging()
    if settings.executors:
        with guard("context in thread pools"):
            from spanwell.propagation import executors

            executors.follow_threads()
    for name in LATER:
        if name in sys.modules and not _is_importing(name):
            imported(name)


def imported(name: str) -> None:
    """A module of LATER has been imported."""
    settings = _settings
    if settings is not None and name in LATER:
        with guard(f"what goes with {name}"):
            LATER[name](settings)


def _structlog(settings: Settings) -> None:
    if settings.log_ids:
        from spanwell.enrich import log_records

        log_records.install_structlog()


def _loguru(settings: Settings) -> None:
    if settings.log_ids:
        from spanwell.enrich import log_records

        log_records.install_loguru()


def _pools(settings: Settings) -> None:
    if settings.executors:
        from spanwell.propagation import executors

        executors.follow_pools()


def _processes(settings: Settings) -> None:
    if settings.executors:
        from spanwell.propagation import executors

        executors.follow_processes()


LATER: dict[str, Callable[[Settings], None]] = {
    "structlog": _structlog,
    "loguru": _loguru,
    "multiprocessing.pool": _pools,
    "concurrent.futures.process": _processes,
}
"""Module -> what to do once it has been imported; `_triggers.FOLLOWED` names the same modules."""


def _is_importing(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))
