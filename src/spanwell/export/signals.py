"""Sends the metrics of Application Signals to a CloudWatch agent, once a minute and at the end.

What does not arrive is merged into the next export, so nothing is lost while the agent is away.
"""

from __future__ import annotations

import threading
import time

from spanwell import exchange
from spanwell._children import in_child
from spanwell._forks import whole
from spanwell._guard import failed, logger, losses, warn_once
from spanwell._otel.exporting import root_cause, suppressed, without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    Labels: TypeAlias = "tuple[tuple[str, str], ...]"

_METRICS = 3  # of each set of attributes
_MAX_ANSWER = 64 * 1024
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
_NAME = "application signals"


class Refused(Exception):
    """The endpoint does not take it, and would not the next time."""


class SignalsExporter:
    """Posts what `drain` gives to `url`, in a thread that `begin` starts.

    drain: sets of attributes with what they saw since the last call. resource: the attributes of the resource.
    interval: seconds between two exports. seconds: of one request.
    """

    def __init__(
        self,
        url: str,
        drain: Callable[[], Iterable[tuple[Labels, Any]]],
        resource: Callable[[], Mapping[str, Any]],
        *,
        interval: float = 60.0,
        seconds: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._url = url
        self._drain = drain
        self._resource = resource
        self._interval = interval
        self._seconds = seconds
        self._clock_ns = clock_ns
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        """At the start, and in a forked child: thread and waiting sums are the parent's."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._waiting: dict[Labels, Any] = {}
        self._why = "no answer in time"
        self._since = self._clock_ns()

    def begin(self) -> None:
        """Start the thread, if it does not run. Called with the first span of a process."""
        with self._lock:
            if self._thread is None and not self._ending.is_set():
                thread = threading.Thread(target=self._run, name="spanwell-signals", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the process ends: `finish` exports
                    return
                self._thread = thread

    def _run(self) -> None:
        ending = self._ending
        while not ending.wait(self._interval):
            self.export()
        self.export()

    def export(self) -> bool:
        """Send what was counted since the last time, and what did not arrive then. True if nothing waits. Never
        raises."""
        try:
            for labels, totals in self._drain():
                known = self._waiting.setdefault(labels, totals)
                if known is not totals:
                    known.merge(totals)
            now = max(self._clock_ns(), self._since)
            items = list(self._waiting.items())
            if items:
                with whole:
                    from spanwell.export.signals_otlp import requests
                for body, number in requests(self._resource(), items, self._since, now):
                    self._deliver(body, number)
                    for labels, _ in items[:number]:
                        self._waiting.pop(labels, None)
                    items = items[number:]
            self._since = now
        except (OSError, ValueError) as error:
            self._say(root_cause(error))
            return False
        except Exception as error:
            failed(f"the metrics of {_NAME}", error)
            return False
        return True

    def _deliver(self, body: bytes, number: int) -> None:
        try:
            self._post(body)
        except Refused as error:
            losses.add("metrics", f"refused ({_NAME})", number * _METRICS)
            warn_once(
                f"{_NAME}:{error}",
                "spanwell: %s does not take the metrics of Application Signals: %s (is it a CloudWatch agent?)",
                without_credentials(self._url),
                error,
            )

    def _post(self, body: bytes) -> None:
        with suppressed():
            answer = exchange.send(
                "POST",
                self._url,
                body,
                {"Content-Type": "application/x-protobuf", "User-Agent": "spanwell"},
                seconds=self._seconds,
                max_bytes=_MAX_ANSWER,
            )
        if answer.status in _AGAIN:
            raise OSError(f"it answers {answer.status}")
        if not 200 <= answer.status < 300:
            raise Refused(f"it answers {answer.status}")

    def _say(self, why: str) -> None:
        self._why = why
        if self._ending.is_set():  # `finish` says it
            return
        warn_once(
            f"{_NAME}:lost",
            "spanwell: %d metrics of Application Signals did not reach %s: %s; they go with the next export"
            " (a CloudWatch agent with Application Signals has to listen there)",
            len(self._waiting) * _METRICS,
            without_credentials(self._url),
            why,
        )

    def begin_shutdown(self) -> None:
        """Let the thread export for the last time."""
        self._ending.set()

    def finish(self, seconds: float) -> None:
        """Wait for that, at most `seconds`; count what did not arrive."""
        self._ending.set()
        thread = self._thread
        if thread is not None:
            thread.join(max(seconds, 0.01))
        else:
            self._seconds = max(min(seconds, self._seconds), 0.01)
            self.export()
        number = len(self._waiting) * _METRICS
        if number:
            losses.add("metrics", f"exit ({_NAME})", number)
            logger.warning(
                "spanwell: %d metrics of Application Signals did not reach %s before the process ended: %s"
                " (a CloudWatch agent with Application Signals has to listen there)",
                number,
                without_credentials(self._url),
                self._why,
            )
            losses.tell(number)
