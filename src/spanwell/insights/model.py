"""What detectors get and give. Pure: no OpenTelemetry, no clock, no environment."""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from spanwell.analysis.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from spanwell.record import SpanRecord

INFO, WARNING, ERROR = "info", "warning", "error"


class Insight(NamedTuple):
    """One finding about one trace, or about an operation over time.

    type: the detector's name, e.g. `n_plus_one`. severity: info, warning or error. sentence: one plain sentence that
    says what happens and what to do. subject: what makes the same problem the same insight, without ids, times or
    counts, e.g. ("GET /orders/{id}", "SELECT items"). evidence: span ids, the most telling first, at most ten.
    values: numbers and words for attributes, e.g. {"count": 12, "duration_ms": 340.0}.
    """

    type: str
    severity: str
    sentence: str
    subject: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    values: Mapping[str, Any] = {}

    def fingerprint(self, service: str) -> str:
        """16 hexadecimal digits that stay the same while the problem does."""
        text = "\x1f".join((self.type, service, *self.subject))
        return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


class Fragment:
    """The ended spans of one trace as one place sees them: below a local root, or of all processes.

    spans: in the order of their end, the local root among them if it has ended. root: that local root, or None.
    dropped: how many more there were than the buffer holds. whole: whether all processes' spans are here.
    """

    def __init__(
        self, spans: Sequence[SpanRecord], root: SpanRecord | None, *, dropped: int = 0, whole: bool = False
    ) -> None:
        self.spans = spans
        self.root = root
        self.dropped = dropped
        self.whole = whole

    @cached_property
    def tree(self) -> Tree:
        """Who is whose child, however odd the spans are."""
        return Tree(self.spans)

    @property
    def operation(self) -> str:
        """What the service was asked for: the local root's name."""
        return self.root.name if self.root is not None else ""


class Thresholds:
    """The numbers detectors compare with: `defaults`, and what the user set for all operations or for one.

    chosen: "slow_trace.duration_ms" or "slow_trace.duration_ms@GET /export" -> number.
    """

    def __init__(self, defaults: Mapping[str, float], chosen: Mapping[str, float] | None = None) -> None:
        self._values = {**defaults, **{key: value for key, value in (chosen or {}).items() if "@" not in key}}
        self._own = {key: value for key, value in (chosen or {}).items() if "@" in key}

    def get(self, name: str, operation: str = "") -> float:
        """The threshold `name`, as set for `operation` if it was."""
        if self._own:
            found = self._own.get(f"{name}@{operation}")
            if found is not None:
                return found
        return self._values[name]

    def least(self, names: Iterable[str]) -> float:
        """The smallest of the thresholds `names`, for whichever operation; 0.0 without any."""
        wanted = frozenset(names)
        every = (*self._values.items(), *self._own.items())
        return min((value for key, value in every if key.partition("@")[0] in wanted), default=0.0)


if TYPE_CHECKING:
    from spanwell.insights.hints import Hints

    class Detector(Protocol):
        """A module of `detectors`, or a user's. `NAME` is the type of its insights."""

        NAME: str
        DEFAULTS: Mapping[str, float]

        def may(self, fragment_hints: Hints, /) -> bool:
            """Whether it could find something: cheap, True if unsure. `hints.threshold(name)` gives a threshold."""

        def detect(self, fragment: Fragment, thresholds: Thresholds, /) -> Iterable[Insight]:
            """What it finds."""

    class OverTime(Protocol):
        """What judges an operation over time, such as latency_degradation. Called from every thread."""

        def observe(self, operation: str, seconds: Sequence[float], now: float) -> object:
            """Local roots that did not fail have ended, and took so long; `now`: monotonic seconds."""

        def due(self, now: float) -> Iterable[Insight]:
            """What has been found since the last call; called at most once a second."""
