"""What spanwell promises, beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.stats import ratio
from benchmarks.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.table import Result


@dataclass(frozen=True)
class Target:
    """`row`'s median of `metric` in `section`, over `base`'s if that is named, stays within `limit`."""

    title: str
    section: str
    row: str
    metric: str
    base: str
    limit: float
    scale: float = 1
    unit: str = "x"


TARGETS = (
    Target("`spanwell run python -c pass`, CPU x bare", "pass", "run", "cpu", "bare", 2.0),
    Target("import application, `spanwell run`, traces, CPU x bare", "import", "run", "cpu", "bare", 1.35),
    Target("the same with metrics", "import", "run-metrics", "cpu", "bare", 1.45),
    Target("the same under `opentelemetry-instrument`, traces", "import", "instrument", "cpu", "bare", 1.80),
    Target("SERVER+CLIENT pair, CPU x SDK with BatchSpanProcessor", "span", "spanwell", "pair", "batch", 1.15),
    Target("request, CPU x upstream's", "request", "run", "cpu", "upstream", 1.0),
    Target("exit, nothing listens", "exit", "run", "dead", "", 1.2, 1, " s"),
    Target("exit, collector hangs", "exit", "run", "hanging", "", 1.2, 1, " s"),
    Target("installed size over the application's packages", "size", "spanwell", "size", "", 14.0, 1e-6, " MB"),
)


def measured(target: Target, results: Mapping[str, Result]) -> float | None:
    """The figure that `target` limits; None where it was not measured."""
    result = results.get(target.section)
    own = _median(result, target.row, target.metric)
    if own is None or not target.base:
        return own if own is None else own * target.scale
    other = _median(result, target.base, target.metric)
    return ratio(own, other) if other is not None else None


def _median(result: Result | None, key: str, metric: str) -> float | None:
    row = result.row(key) if result else None
    return row.median(metric) if row else None


def verdict(value: float | None, limit: float) -> str:
    """`met`, or by how much it is missed."""
    if value is None:
        return "not measured"
    return "met" if value <= limit else f"**missed by {(value / limit - 1) * 100:.1f} %**"


def markdown(results: Mapping[str, Result]) -> str:
    """Targets, limits, figures and verdicts as a table."""
    rows = []
    for target in TARGETS:
        value = measured(target, results)
        shown = "-" if value is None else f"{value:.2f}{target.unit}"
        rows.append((target.title, f"{target.limit:g}{target.unit}", shown, verdict(value, target.limit)))
    return "\n".join(("## Targets", "", table(("", "at most", "measured", ""), rows), ""))
