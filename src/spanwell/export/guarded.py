"""The exporter as a batch sees it: built at the first export, never raising, its losses counted once."""

from __future__ import annotations

import threading
from logging import getLogger

from spanwell._children import in_child
from spanwell._forks import whole
from spanwell._guard import failed, losses, warn_once
from spanwell._otel.exporting import endpoint_of, keep_cause, quiet_exporters, stop_retries, suppressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

logger = getLogger("spanwell")


class GuardedExporter:
    """Exports through the exporter that `build` returns, calling `build` at the first export only.

    `name` is the exporter's name as the user wrote it, `signal` what it exports ("spans", "metrics", "log
    records"), `where` its endpoint or file, for the report. What does not arrive is counted exactly once, as it
    fails or at `shutdown`. The first loss is reported with its cause; what is lost while the process ends is
    reported by `shutdown`, in one line. An exporter with `counts_losses` counts and reports its failures itself,
    so that it can be used alone; of an `EncodingExporter` what `send` tells is counted.

    encode: how an `EncodingExporter` encodes an item; None for others, and before the exporter is built. With `once`
    every export is a single attempt.
    """

    def __init__(
        self, name: str, build: Callable[[], Any], signal: str = "spans", where: str = "", *, once: bool = False
    ) -> None:
        self.name = name
        self.where = where
        self.signal = signal
        self._build = build
        self._exporter: Any = None
        self.encode: Callable[[Any], tuple[Any, int]] | None = None
        self._broken = ""
        self._once = once
        self._last = False
        self._closed = False
        self._cause = ""
        self._unsaid = 0
        self._why = ""
        self._in_flight = 0
        self._lock = threading.RLock()  # a finalizer that ends a span may come at any moment
        in_child(self._after_fork)

    def _after_fork(self) -> None:
        """In the child: connections and losses are the parent's, and a lock may be held by a thread that is gone.

        The parent's exporter stays referenced: to finalise it here could end the parent's TLS or gRPC session.
        """
        self._lock = threading.RLock()
        self._in_flight = self._unsaid = 0
        self.renew()

    def renew(self) -> None:
        """Let go of the exporter: its connections are another process's or machine's. The next export builds one."""
        self.encode = None
        if self._exporter is not None:
            _inherited.append(self._exporter)
            self._exporter = None

    def prepare(self) -> None:
        """Build the exporter, if that has not been done. Never raises: `deliver` tells of what is wrong."""
        if self._closed:
            return
        with suppressed():
            try:
                self._built()
            except Exception as error:
                logger.debug("spanwell: exporter %s cannot be set up", self.name, exc_info=error)

    def deliver(self, batch: Any, number: int) -> bool:
        """Export `batch`, which holds `number` items; True if all of it arrived. Never raises."""
        return self.hand_over(batch, number)[0] == number

    def hand_over(self, batch: Any, number: int) -> tuple[int, bool]:
        """Export `batch`: how many of its `number` items arrived, and whether the destination was reached.

        For an `EncodingExporter`, `batch` holds spans and `(item, bytes)` tuples, which are encoded already. Never
        raises.
        """
        with self._lock:
            if self._closed:
                losses.add(self.signal, f"after shutdown ({self.name})", number)
                return 0, False
            self._in_flight = number
        result = _Result(number, "", False)
        try:
            result = self._attempt(batch, number)
        finally:
            with self._lock:
                self._in_flight, mine = 0, not self._closed
            if mine and result.lost and not result.counted:
                self.lost(result.lost, "export failed", result.reason)
        # After a shutdown in the meantime the batch is counted as lost already: nobody waited for this answer.
        return (number - result.lost - result.refused if mine else 0), result.reached

    def _attempt(self, batch: Any, number: int) -> _Result:
        self._cause = ""
        with suppressed():
            try:
                exporter = self._built()
            except Exception as error:
                return _Result(number, f"cannot be set up: {error}", False)
            if self.encode is not None:  # ours, which log nothing
                return self._send(exporter, self.encode, batch)
            with quiet_exporters() as said:
                try:
                    if exporter.export(batch).name == "SUCCESS":
                        self._complain(said.last)
                        return _Result(0, "", True)
                    reason = self._cause or said.last or "the exporter reported a failure"
                except Exception as error:
                    reason = self._raised(error)
        return _Result(number, reason, False, counted=getattr(exporter, "counts_losses", False))

    def _send(self, exporter: Any, encode: Callable[[Any], tuple[Any, int]], batch: list[Any]) -> _Result:
        items, why = [], ""
        for entry in batch:
            try:
                items.append(entry[0] if type(entry) is tuple else encode(entry)[0])
            except Exception as error:
                why = why or f"{type(error).__name__}: {error}"
        refused = len(batch) - len(items)
        if refused:
            with self._lock:
                counted, self._in_flight = self._closed, len(items)
            if not counted:
                self.refused(refused, why)
        if not items:
            return _Result(0, "", True, refused=refused)
        try:
            lost, reason, reached = exporter.send(items)
        except Exception as error:
            lost, reason, reached = len(items), self._raised(error), False
        return _Result(max(0, min(lost, len(items))), reason, reached, refused=refused)

    def refused(self, number: int, reason: str) -> None:
        """Count `number` items that the exporter could not encode."""
        self.lost(number, "cannot be encoded", f"cannot be encoded: {reason}", about="refused")

    def _raised(self, error: Exception) -> str:
        logger.debug("spanwell: export to %s failed", self.name, exc_info=error)
        return f"{type(error).__name__}: {error}"

    def _built(self) -> Any:
        if self._broken:
            raise RuntimeError(self._broken)
        if self._exporter is None:
            with whole, quiet_exporters() as said:
                try:
                    exporter = self._build()
                except Exception as error:
                    self._broken = str(error) or type(error).__name__
                    raise
            self._complain(said.last)
            keep_cause(exporter, self._keep)
            self.where = self.where or endpoint_of(exporter)
            self._exporter = exporter
            self.encode = exporter.encode if _encodes(exporter) else None
            if self._last or self._once:
                self._stop_retries()
        return self._exporter

    def _complain(self, said: str) -> None:
        """Pass on, once, what the exporter found fault with but could work around."""
        if said:
            warn_once(f"said:{self.name}:{said[:40]}", "spanwell: exporter %s: %s", self.name, said)

    def _keep(self, cause: str) -> None:
        self._cause = cause

    def lost(
        self, number: int, kind: str, reason: str = "not delivered before the process ended", *, about: str = "lost"
    ) -> None:
        """Count `number` items as lost; the first time, say so with `reason`, once for each `about`."""
        losses.add(self.signal, f"{kind} ({self.name})", number)
        self._why = self._why or reason
        if not self._last and warn_once(
            f"{about}:{self.signal}:{self.name}",
            "spanwell: %d %s did not reach exporter %s: %s; further losses are counted and said at exit"
            " (try `spanwell doctor`)",
            number,
            self.signal,
            self._shown(),
            reason.rstrip("."),
        ):
            losses.tell(number)
            self._why = ""
        else:
            with self._lock:
                self._unsaid += number

    def _shown(self) -> str:
        return self.name + (f" ({self.where})" if self.where else "")

    def last_attempt(self) -> None:
        """The process ends: from now on an export is tried once, and losses are said together by `shutdown`."""
        self._last = True
        if self._exporter is not None:
            self._stop_retries()

    def limit(self, seconds: float) -> None:
        """Let the next export of an `EncodingExporter` take `seconds` at most, where it heeds that."""
        if self.encode is not None:
            self._exporter.time_left = seconds

    def _stop_retries(self) -> None:
        stop_retries(self._exporter)
        if self.encode is not None:
            try:
                self._exporter.last_attempt()
            except Exception as error:
                failed(f"the last attempt of exporter {self.name}", error)

    def shutdown(self, timeout: float = 2.0) -> None:
        """Count what is under way as lost, say what was not said, shut the exporter down. Never raises.

        `timeout` is how long, in seconds, an exporter may wait that has a `busy_timeout`.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = self._last = True
            under_way = self._in_flight
        if under_way:
            self.lost(under_way, "exit", "no answer in time")
        if self._unsaid:
            self._say()
        if self._exporter is not None:
            try:
                _limit(self._exporter, timeout)
                with quiet_exporters():
                    self._exporter.shutdown()
            except Exception as error:
                failed(f"shutdown of exporter {self.name}", error)

    def _say(self) -> None:
        logger.warning(
            "spanwell: %d %s did not reach exporter %s: %s (try `spanwell doctor`)",
            self._unsaid,
            self.signal,
            self._shown(),
            self._why.rstrip("."),
        )
        losses.tell(self._unsaid)
        self._unsaid = 0

    def record_losses(self, timeout: float) -> None:
        """Hand every loss of this process to an exporter that keeps a record of them, within `timeout` seconds."""
        record = getattr(self._exporter, "record_losses", None)
        if record is None:
            return
        try:
            _limit(self._exporter, timeout)
            record(losses.snapshot())
        except Exception as error:
            failed(f"the record of losses in {self.name}", error)


class _Result:
    """What became of a batch: `lost` of it and `refused` because it has no encoding, which is counted as it happens.

    `counted` is for an exporter that counts what is lost itself.
    """

    __slots__ = ("counted", "lost", "reached", "reason", "refused")

    def __init__(self, lost: int, reason: str, reached: bool, *, refused: int = 0, counted: bool = False) -> None:
        self.lost = lost
        self.reason = reason
        self.reached = reached
        self.refused = refused
        self.counted = counted


def _encodes(exporter: Any) -> bool:
    from spanwell.export.encoding import EncodingExporter  # the SDK's exporters: not at every start

    return isinstance(exporter, EncodingExporter)


def _limit(exporter: Any, timeout: float) -> None:
    waits = getattr(exporter, "busy_timeout", None)
    if waits is not None:
        exporter.busy_timeout = min(waits, max(timeout, 0.05))


_inherited: list[Any] = []
