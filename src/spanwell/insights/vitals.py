"""How tracing itself is doing: numbers of the processor, the exporters and the buffer, as metrics and as `Health`."""

from __future__ import annotations

from math import ceil

from spanwell._guard import losses
from spanwell.insights.health import Health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Protocol

    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from spanwell.insights.buffer import Buffer
    from spanwell.insights.red import Red

    Observe = Callable[[CallbackOptions], Iterable[Observation]]

    class Processor(Protocol):
        """Counts spans and measures what they cost: `enrich.processor.MeasuredProcessor`."""

        started: int
        ended: int

        @property
        def seconds(self) -> float: ...

    class Destination(Protocol):
        """A queue in front of an exporter: `export.batch.Batch`."""

        exported: int
        exports: int

        @property
        def seconds(self) -> Sequence[float]: ...
        @property
        def name(self) -> str: ...
        @property
        def waiting(self) -> int: ...
        @property
        def waiting_bytes(self) -> int: ...
        @property
        def limit(self) -> int: ...


class Vitals:
    """Reads the numbers of what is there: nothing is measured here."""

    def __init__(
        self,
        processor: Processor | None = None,
        destinations: Iterable[Destination] = (),
        fragments: Buffer | None = None,
        red: Red | None = None,
    ) -> None:
        self._processor = processor
        self._destinations = tuple(destinations)
        self._fragments = fragments
        self._red = red
        self._seen_exports = [0] * len(self._destinations)
        self._seen_losses = 0

    def look(self) -> Health:
        """What tracing is like since the last look. For one caller."""
        lost = losses.total("spans")
        dropped, self._seen_losses = lost - self._seen_losses, lost
        fullest = max(self._destinations, key=lambda each: each.waiting / max(each.limit, 1), default=None)
        slowest = 0.0
        for position, each in enumerate(self._destinations):
            new = each.exports - self._seen_exports[position]
            self._seen_exports[position] = each.exports
            slowest = max(slowest, p99(_last(each.seconds, new)))
        return Health(
            0 if fullest is None else fullest.waiting,
            0 if fullest is None else fullest.limit,
            max(0, dropped),  # after a fork they begin anew
            slowest,
            0.0 if self._processor is None else self._processor.seconds,
        )

    def register(self, meter: Meter) -> None:
        """Instruments for all of it, read whenever the meter collects."""
        for name, unit, description, observe in self._counters():
            meter.create_observable_counter(name, [_callback(self._in_use(observe))], unit, description)
        for name, unit, description, observe in self._gauges():
            meter.create_observable_gauge(name, [_callback(self._in_use(observe))], unit, description)

    def _in_use(self, observe: Observed) -> Observed:
        """Nothing before the first span: a process that traces nothing would import an exporter to say so."""
        return lambda: observe() if self._processor is None or self._processor.started else []

    def _counters(self) -> Iterator[tuple[str, str, str, Observed]]:
        yield "spanwell.spans.started", "{span}", "Recorded spans that started", lambda: self._of_processor("started")
        yield "spanwell.spans.ended", "{span}", "Recorded spans that ended", lambda: self._of_processor("ended")
        yield (
            *("spanwell.spans.exported", "{span}", "Spans that arrived at an exporter's destination"),
            lambda: [(each.exported, {"spanwell.exporter": each.name}) for each in self._destinations],
        )
        yield "spanwell.spans.dropped", "{span}", "Spans that were lost, by reason", _lost
        yield (
            *("spanwell.spans.unfinished", "{span}", "Spans that had not ended when their local root did"),
            lambda: self._of_buffer("unfinished"),
        )
        yield (
            *("spanwell.spans.late", "{span}", "Spans that ended after their local root, or have none"),
            lambda: self._of_buffer("late"),
        )
        yield (
            *("spanwell.insights.evictions", "{eviction}", "Local roots and spans that insights had no room for"),
            self._evicted,
        )

    def _gauges(self) -> Iterator[tuple[str, str, str, Observed]]:
        yield (
            *("spanwell.queue.size", "{span}", "Spans that wait for export"),
            lambda: [(each.waiting, {"spanwell.exporter": each.name}) for each in self._destinations],
        )
        yield (
            *("spanwell.queue.capacity", "{span}", "Spans that may wait for export"),
            lambda: [(each.limit, {"spanwell.exporter": each.name}) for each in self._destinations],
        )
        yield (
            *("spanwell.queue.bytes", "By", "What the waiting spans take: encoded, or estimated"),
            lambda: [(each.waiting_bytes, {"spanwell.exporter": each.name}) for each in self._destinations],
        )
        yield (
            *("spanwell.export.p99", "s", "99th percentile of the last 256 exports' time"),
            lambda: [
                (p99(list(each.seconds)), {"spanwell.exporter": each.name})
                for each in self._destinations
                if each.exports
            ],
        )
        yield "spanwell.span.overhead", "s", "What one span costs the application, on a sample", self._overhead
        yield (
            "spanwell.metrics.series",
            "{series}",
            "Label sets in use",
            lambda: [(0 if self._red is None else self._red.series, {})],
        )

    def _of_processor(self, name: str) -> list[tuple[int, dict[str, str]]]:
        return [] if self._processor is None else [(getattr(self._processor, name), {})]

    def _of_buffer(self, name: str) -> list[tuple[int, dict[str, str]]]:
        return [] if self._fragments is None else [(getattr(self._fragments, name), {})]

    def _evicted(self) -> list[tuple[int, dict[str, str]]]:
        found = {} if self._fragments is None else self._fragments.evictions.copy()
        return [(number, {"spanwell.cause": cause}) for cause, number in found.items()]

    def _overhead(self) -> list[tuple[float, dict[str, str]]]:
        seconds = 0.0 if self._processor is None else self._processor.seconds
        return [(seconds, {})] if seconds else []


if TYPE_CHECKING:
    Observed = Callable[[], Iterable[tuple[int | float, dict[str, str]]]]


def _callback(observe: Observed) -> Observe:
    def callback(_options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        for value, attributes in observe():
            yield Observation(value, attributes)

    return callback


def _lost() -> list[tuple[int | float, dict[str, str]]]:
    return [
        (number, {"spanwell.reason": reason})
        for (signal, reason), number in losses.snapshot().items()
        if signal == "spans"
    ]


def _last(seconds: Sequence[float], number: int) -> list[float]:
    return list(seconds)[-number:] if number > 0 else []


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile by nearest rank; 0.0 of none."""
    return sorted(seconds)[ceil(0.99 * len(seconds)) - 1] if seconds else 0.0
