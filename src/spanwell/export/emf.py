"""Metrics exporter `emf`: documents in CloudWatch's Embedded Metric Format, to stdout or to a log group.

What is sent, and by which dimensions, is what `cloudwatch` would send (see `cloudwatch_names`). A document that does
not arrive waits for the next export.
"""

from __future__ import annotations

from collections import deque

from spanwell.export.cloudwatch_keeping import KeepingExporter
from spanwell.export.cloudwatch_names import INSIGHTS_ONLY
from spanwell.export.emf_documents import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from spanwell.export.cloudwatch_names import Chosen
    from spanwell.export.cloudwatch_points import Point
    from spanwell.export.emf_documents import Document

    class Sink(Protocol):
        """Where documents go."""

        destination: str
        missing: str
        denied: str
        max_bytes: int
        """Of one document."""

        def begin(self) -> None:
            """At the start, and in a forked child."""

        def write(self, waiting: deque[Document], refused: Callable[[int, object], object]) -> None:
            """Take from the left of `waiting` what has arrived, and what never will, which is told to `refused`.

            Within seconds. Raises OSError, or what botocore raises, where the rest may be tried again.
            """


_MAX_BYTES = 4_000_000
_MAX_DOCUMENTS = 10_000


class EmfMetricExporter(KeepingExporter):
    """Writes what is `chosen` to `sink`. What waits is bounded to 4 MB and 10,000 documents, the oldest go."""

    name = "emf"

    def __init__(self, chosen: Chosen = INSIGHTS_ONLY, *, sink: Sink | None = None) -> None:
        if sink is None:
            from spanwell.export.emf_stdout import Stdout

            sink = Stdout()
        self._sink = sink
        self.destination, self.missing, self.denied = sink.destination, sink.missing, sink.denied
        super().__init__(chosen)

    def begin(self) -> None:
        """Start with nothing waiting and no connection."""
        self._waiting: deque[Document] = deque()
        self._sink.begin()

    def take(self, found: Iterable[Point]) -> None:
        """Add `found` to what waits."""
        self._waiting.extend(documents(found, max_bytes=self._sink.max_bytes))

    @property
    def waiting(self) -> int:
        """How many metrics wait."""
        return sum(document.metrics for document in self._waiting)

    def shorten(self) -> int:
        """Let the oldest go beyond 4 MB or 10,000 documents."""
        lost, size = 0, sum(len(document.line) for document in self._waiting)
        while size > _MAX_BYTES or len(self._waiting) > _MAX_DOCUMENTS:
            oldest = self._waiting.popleft()
            size -= len(oldest.line)
            lost += oldest.metrics
        return lost

    def send(self) -> None:
        """Write what waits."""
        self._sink.write(self._waiting, self.refused)
