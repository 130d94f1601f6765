"""How tracing itself is doing, as numbers that whoever measures hands in. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Health(NamedTuple):
    """One look at the tracing of this process.

    queue, queue_limit: spans that wait for the exporter that is worst off, and how many may. dropped: spans lost
    since the last look, over all exporters. export_seconds_p99: seconds, of the exports since the last look; 0.0
    when there was none. span_seconds: what one span costs in on_start and on_end together, seconds, on a sample; 0.0
    when unknown.
    """

    queue: int = 0
    queue_limit: int = 0
    dropped: int = 0
    export_seconds_p99: float = 0.0
    span_seconds: float = 0.0
