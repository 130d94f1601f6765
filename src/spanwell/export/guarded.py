"""The exporter as the batch processor sees it: built at the first export, never raising, its losses counted."""

from __future__ import annotations

from logging import getLogger

from spanwell._guard import failed, losses, warn_once
from spanwell._otel import quiet_exporters, stop_retries, suppressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

logger = getLogger("spanwell")


class GuardedExporter:
    """Exports through the exporter that `build` returns, calling `build` at the first export only.

    `name` is the exporter's name as the user wrote it, `signal` what it exports ("spans", "metrics", "log
    records"), `where` its endpoint or file, for the report. A batch that does not arrive is counted as lost and
    reported once, with the reason that the exporter itself logged; an exporter with `counts_losses` does both
    itself, so that it can be used alone.
    """

    def __init__(self, name: str, build: Callable[[], Any], signal: str = "spans", where: str = "") -> None:
        self.name = name
        self.where = where
        self.signal = signal
        self._build = build
        self._exporter: Any = None
        self._broken = ""
        self._last = False

    def deliver(self, batch: Any, number: int) -> bool:
        """Export `batch`, which holds `number` items; True if it arrived. Never raises."""
        with suppressed(), quiet_exporters() as said:
            try:
                arrived = bool(self._built().export(batch).name == "SUCCESS")
                reason = said.last or "the exporter reported a failure"
            except Exception as error:
                arrived, reason = False, f"{type(error).__name__}: {error}"
                logger.debug("spanwell: export to %s failed", self.name, exc_info=error)
        if not arrived and not getattr(self._exporter, "counts_losses", False):
            self.lost(number, "export failed", reason)
        return arrived

    def _built(self) -> Any:
        if self._broken:
            raise RuntimeError(self._broken)
        if self._exporter is None:
            try:
                self._exporter = self._build()
            except Exception as error:
                self._broken = f"cannot be set up: {error}"
                raise
            if self._last:
                stop_retries(self._exporter)
        return self._exporter

    def lost(self, number: int, kind: str, reason: str = "not delivered before the process ended") -> None:
        """Count `number` items as lost; the first time, say so with `reason`."""
        losses.add(self.signal, f"{kind} ({self.name})", number)
        if warn_once(
            f"lost:{self.signal}:{self.name}",
            "spanwell: %d %s did not reach exporter %s: %s; further losses are counted and said at exit"
            " (try `spanwell doctor`)",
            number,
            self.signal,
            self.name + (f" ({self.where})" if self.where else ""),
            reason.rstrip("."),
        ):
            losses.said += number

    def last_attempt(self) -> None:
        """The process ends: from now on an export is tried once."""
        self._last = True
        if self._exporter is not None:
            stop_retries(self._exporter)

    def shutdown(self) -> None:
        """Shut the exporter down if it was ever built. Never raises."""
        exporter, self._exporter = self._exporter, None
        self._broken = self._broken or "shut down"
        if exporter is not None:
            try:
                record = getattr(exporter, "record_losses", None)
                if record is not None:
                    record(losses.snapshot())
                with quiet_exporters():
                    exporter.shutdown()
            except Exception as error:
                failed(f"shutdown of exporter {self.name}", error)
