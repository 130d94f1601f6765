"""Repeats, interleaved: A B C A B C …, so that whatever drifts on the machine hits all alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.children import ChildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Sample = dict[str, float]


@dataclass
class Samples:
    """What was measured of one contender: metric -> values, one a round; or why there is nothing."""

    values: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    """Metric -> why it is missing or not to be trusted, where the others are fine."""

    def add(self, sample: Sample) -> None:
        """Take in one round."""
        for metric, value in sample.items():
            self.values.setdefault(metric, []).append(value)


def interleave(
    jobs: Mapping[str, Callable[[], Sample]],
    *,
    repeats: int,
    warm: bool = True,
    budget: float = float("inf"),
    progress: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Samples]:
    """Run every job `repeats` times in rounds, after one round that does not count if `warm`.

    A job that fails is left out of the later rounds and keeps its error. Past `budget` seconds no further
    round begins once three have been counted.
    """
    found = {key: Samples() for key in jobs}
    begin = clock()
    for number in range(-1 if warm else 0, repeats):
        if number >= 3 and clock() - begin > budget:
            progress(f"stopped after {number} rounds: out of time")
            break
        for key, job in jobs.items():
            if found[key].error:
                continue
            progress(f"round {number + 1} of {repeats}: {key}")
            try:
                sample = job()
            except ChildError as failure:
                found[key] = Samples(error=str(failure))
                progress(f"{key} failed: {failure}")
            else:
                if number >= 0:
                    found[key].add(sample)
    return found
