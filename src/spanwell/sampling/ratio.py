"""`ratio`: a fixed probability, decided so that services with other probabilities agree on the same traces."""

from __future__ import annotations

from spanwell.sampling.arguments import number
from spanwell.sampling.outcome import DROP, dropped, kept
from spanwell.sampling.parentbased import RootSampler
from spanwell.sampling.probability import randomness, threshold, with_threshold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.sdk.trace.sampling import SamplingResult
    from opentelemetry.trace import SpanKind, TraceState

    from spanwell.sampling.build import Making


class RatioSampler(RootSampler):
    """Keeps a root with `probability` (0 to 1) and writes it into the tracestate as `ot=th`."""

    kind = "ratio"

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"a probability from 0 to 1, not {probability!r}")
        self._probability = probability
        self._threshold = threshold(probability)
        self._state = with_threshold(None, self._threshold)

    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """Kept if the trace's randomness reaches the threshold."""
        if randomness(trace_id, state) < self._threshold:
            self.decisions.add("", "dropped")
            return dropped(with_threshold(state, None)) if state else DROP
        self.decisions.add("", "rate")
        return kept(attributes, "rate", state=with_threshold(state, self._threshold) if state else self._state)

    def get_description(self) -> str:
        """Name and probability."""
        return f"ratio{{{self._probability:g}}}"


def from_argument(argument: str, making: Making) -> RatioSampler:
    """`(ratio;0.1)`: the argument is the probability. Raises ValueError for anything else."""
    return RatioSampler(number(0.0, 1.0, "a probability from 0 to 1")(argument))
