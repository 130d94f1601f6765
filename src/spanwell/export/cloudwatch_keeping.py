"""Metrics exporters to CloudWatch: each observation is sent once, what does not arrive waits for the next export."""

from __future__ import annotations

import threading

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

from spanwell._children import in_child
from spanwell._guard import logger, losses, warn_once
from spanwell._otel.exporting import suppressed
from spanwell.export.aws_client import explain
from spanwell.export.cloudwatch_points import points, preferences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from opentelemetry.sdk.metrics.export import MetricsData

    from spanwell.export.cloudwatch_names import Chosen
    from spanwell.export.cloudwatch_points import Point

_LAST_SECONDS = 0.1


class KeepingExporter(MetricExporter):
    """Base: implement `begin`, `take`, `send`, `waiting`, `shorten`; set `name`, `destination`, `missing`, `denied`.

    `keeps_failures`: it wants every collection, also while its destination is down. `counts_losses`: it does.
    """

    keeps_failures = True
    counts_losses = True
    name = ""
    destination = ""
    missing = denied = ""

    def __init__(self, chosen: Chosen) -> None:
        super().__init__(**preferences())
        self._chosen = chosen
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        """At the start, and in a forked child: connections and what waits are the parent's."""
        self._lock = threading.Lock()
        self.begin()

    # --- what a destination does ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start with nothing waiting and no connection."""
        raise NotImplementedError

    def take(self, found: Iterable[Point]) -> None:
        """Add `found` to what waits."""
        raise NotImplementedError

    def send(self) -> None:
        """Send what waits within seconds, and forget what arrived or was refused for good. Raises for the rest."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """How many metrics wait."""
        raise NotImplementedError

    def shorten(self) -> int:
        """Let the oldest go beyond the bound; how many metrics that were."""
        raise NotImplementedError

    # --- the SDK's side ---------------------------------------------------------------------------------------------

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send what is chosen of `metrics_data`, and what waits. Never raises."""
        with self._lock, suppressed():
            try:
                self.take(points(metrics_data, self._chosen))
                sent = not self.waiting or self._send()
            finally:
                excess = self.shorten()
                if excess:
                    losses.add("metrics", f"too many wait ({self.name})", excess)
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    def _send(self) -> bool:
        try:
            self.send()
        except Exception as error:
            logger.debug("spanwell: export to %s failed", self.destination, exc_info=error)
            warn_once(
                f"{self.name}:{type(error).__name__}",
                "spanwell: %s did not take %d metrics: %s; they go with the next export",
                self.destination,
                self.waiting,
                explain(error, missing=self.missing, denied=self.denied),
            )
            return False
        return True

    def refused(self, number: int, why: object, reason: str = "refused") -> None:
        """Count `number` metrics that will never arrive, and say so once."""
        losses.add("metrics", f"{reason} ({self.name})", number)
        warn_once(f"{self.name}:{why}"[:200], "spanwell: %s refused %d metrics: %s", self.destination, number, why)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Every export sends what waits."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Count what still waits as lost. Never raises."""
        # An export that hangs, whatever its limits, does not hold up the end.
        mine = self._lock.acquire(timeout=_LAST_SECONDS)
        try:
            number = self.waiting
            self.begin()
        finally:
            if mine:
                self._lock.release()
        if number:
            losses.add("metrics", f"exit ({self.name})", number)
            logger.warning("spanwell: %d metrics did not reach %s before the process ended", number, self.destination)
            losses.tell(number)
