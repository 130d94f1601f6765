"""The `opentelemetry_environment_variables` entry point: our settings as options of opentelemetry-instrument.

`opentelemetry-instrument --spanwell_sqlite_path=/tmp/t.db …` sets SPANWELL_SQLITE_PATH.
"""

from __future__ import annotations

from spanwell.settings import Settings


class _Listed(str):
    """opentelemetry-instrument lists the names in `dir(module)` that start with OTEL_; ours say they do."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:
        return True


def __dir__() -> list[str]:
    return [_Listed(row.variable) for row in Settings.rows() if row.variable.startswith("SPANWELL_")]
