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
    """`row`'s median of `metric` in `section` stays within `limit`; with a `base`, its ratio to that row's, or, with
    `added`, what it has more."""

    title: str
    section: str
    row: str
    metric: str
    base: str
    limit: float
    scale: float = 1
    unit: str = "x"
    added: bool = False


TARGETS = (
    Target("`spanwell run python -c pass`, CPU x bare", "pass", "run", "cpu", "bare", 2.0),
    Target("import application, `spanwell run`, traces, CPU x bare", "import", "run", "cpu", "bare", 1.35),
    Target("the same with metrics", "import", "run-metrics", "cpu", "bare", 1.45),
    Target("the same under `opentelemetry-instrument`, traces", "import", "instrument", "cpu", "bare", 1.80),
    Target("SERVER+CLIENT pair, CPU x SDK with BatchSpanProcessor", "span", "spanwell", "pair", "batch", 1.15),
    Target("the same, redaction and quiet off", "span", "spanwell-plain", "pair", "batch", 1.15),
    Target("request, CPU x upstream's", "request", "run", "cpu", "upstream", 1.0),
    Target("root decision, 25 rules with prefix globs", "decision", "xray", "prefix", "", 4.0, 1e6, " us"),
    Target("root decision, 25 rules with several globs each", "decision", "xray", "varied", "", 15.0, 1e6, " us"),
    Target("sampled parent, x SDK's ParentBased", "decision", "xray", "sampled", "sdk", 1.1),
    Target("unsampled parent, x SDK's ParentBased", "decision", "xray", "unsampled", "sdk", 1.1),
    Target("glob of 4 stars on 10,000 characters", "glob", "spanwell", "long", "", 0.2, 1e3, " ms"),
    Target("any glob of 128 characters on 10,000", "glob", "spanwell", "worst", "", 3.0, 1e3, " ms"),
    Target("`tail`, its defaults, added to a span", "tail", "tail", "span", "always", 3.0, 1e6, " us", added=True),
    Target("memory of `tail` under 1,000 endless traces", "tail", "tail", "held", "", 64.0, 1e-6, " MB"),
    Target("context of a message: inject", "headers", "spanwell", "inject", "", 3.0, 1e6, " us"),
    Target("context of a message: extract", "headers", "spanwell", "extract", "", 5.0, 1e6, " us"),
    Target("all span stages, repeated values", "enrichment", "repeated", "span", "", 4.0, 1e6, " us"),
    Target("all span stages, varied values", "enrichment", "varied", "span", "", 8.0, 1e6, " us"),
    Target("insights and RED metrics, SERVER+CLIENT pair x SDK", "insights", "insights", "pair", "batch", 1.4),
    Target("the same, added to a span", "insights", "insights", "span", "batch", 8.0, 1e6, " us", True),
    Target("pair, insights on, sampling off, x ADOT's", "span", "insights-unsampled", "pair", "adot-unsampled", 0.35),
    Target("the same, redaction and quiet off", "span", "insights-unsampled-plain", "pair", "adot-unsampled", 0.35),
    Target("encode and send, repeated values", "export", "spanwell", "repeated", "", 4.0, 1e6, " us"),
    Target("encode and send, varied values", "export", "spanwell", "varied", "", 7.0, 1e6, " us"),
    Target("burst of 200,000 spans, lost", "burst", "spanwell", "lost", "", 0.0, 1, ""),
    Target("20,000 spans a second for a minute, lost", "steady", "spanwell", "lost", "", 0.0, 1, ""),
    Target("exit, nothing listens", "exit", "run", "dead", "", 1.2, 1, " s"),
    Target("exit, collector hangs", "exit", "run", "hanging", "", 1.2, 1, " s"),
    Target("installed size over the application's packages", "size", "spanwell", "size", "", 9.0, 1e-6, " MB"),
)


def measured(target: Target, results: Mapping[str, Result]) -> float | None:
    """The figure that `target` limits; None where it was not measured."""
    result = results.get(target.section)
    own = _median(result, target.row, target.metric)
    if own is None or not target.base:
        return own if own is None else own * target.scale
    other = _median(result, target.base, target.metric)
    if other is None:
        return None
    return (own - other) * target.scale if target.added else ratio(own, other)


def _median(result: Result | None, key: str, metric: str) -> float | None:
    row = result.row(key) if result else None
    return row.median(metric) if row else None


def verdict(value: float | None, limit: float) -> str:
    """`met`, or by how much it is missed."""
    if value is None:
        return "not measured"
    if value > limit == 0:
        return "**missed**"
    return "met" if value <= limit else f"**missed by {(value / limit - 1) * 100:.1f} %**"


def markdown(results: Mapping[str, Result]) -> str:
    """Targets, limits, figures and verdicts as a table."""
    rows = []
    for target in TARGETS:
        value = measured(target, results)
        shown = "-" if value is None else f"{value:.2f}{target.unit}"
        rows.append((target.title, f"{target.limit:g}{target.unit}", shown, verdict(value, target.limit)))
    return "\n".join(("## Targets", "", table(("", "at most", "measured", ""), rows), ""))
