"""What `benchmarks.coldstart` measured, as Markdown; pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.stats import ratio
from benchmarks.table import MB, MS, plain, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.rounds import Samples

NONE = "none"
APPS = {
    "hello": "A handler that imports nothing",
    "client": "A handler that makes a boto3 client while it is imported, one AWS call in each invocation",
}
# metric -> (title, scale from seconds or bytes, digits)
METRICS = {
    "init": ("init ms", MS, 1),
    "first": ("first invocation ms", MS, 1),
    "first_billed": ("first, billed ms", MS, 1),
    "together": ("together ms", MS, 1),
    "warm": ("warm invocation ms", MS, 2),
    "warm_billed": ("warm, billed ms", MS, 2),
    "rss": ("memory MB", MB, 1),
    "init_cpu": ("init CPU ms", MS, 1),
    "first_cpu": ("first CPU ms", MS, 1),
}


@dataclass(frozen=True)
class Target:
    """`variant` may have `limit` more than no layer, in the unit of METRICS."""

    title: str
    app: str
    variant: str
    metric: str
    limit: float


TARGETS = (
    Target("init, nothing imported", "hello", "sampled", "init", 5.0),
    Target("init, a boto3 client", "client", "sampled", "init", 8.0),
    Target("first sampled invocation", "hello", "sampled", "first", 55.0),
    Target("first sampled invocation with one AWS call", "client", "sampled", "first", 80.0),
    Target("both together", "hello", "sampled", "together", 58.0),
    Target("both together, client and call", "client", "sampled", "together", 85.0),
    Target("warm sampled invocation with one AWS call", "client", "sampled", "warm", 0.4),
    Target("warm unsampled invocation", "hello", "unsampled", "warm", 0.1),
    Target("warm unsampled invocation with one AWS call", "client", "unsampled", "warm", 0.1),
    Target("memory, sampled", "hello", "sampled", "rss", 10.0),
    Target("memory, sampled, client and call", "client", "sampled", "rss", 10.0),
    Target("memory, unsampled", "hello", "unsampled", "rss", 1.0),
    Target("memory, unsampled, client and call", "client", "unsampled", "rss", 1.0),
)

# What of a target's time is the process's own CPU: it does not grow with what else runs on the machine.
CPU = {"init": ("init_cpu",), "first": ("first_cpu",), "together": ("init_cpu", "first_cpu")}

Found = dict[str, "Samples"]
"""Variant -> its samples, of one Python and one app."""


def added(found: Mapping[str, Samples], variant: str, metric: str) -> float | None:
    """The median over the rounds of what `variant` has more than no layer in the same round, in the metric's unit.

    Differences are taken within a round because the machine may be slower in the next one.
    """
    own, base = _values(found, variant, metric), _values(found, NONE, metric)
    pairs = list(zip(own, base, strict=False))
    return median(one - other for one, other in pairs) * METRICS[metric][1] if pairs else None


def _values(found: Mapping[str, Samples], variant: str, metric: str) -> list[float]:
    samples = found.get(variant)
    return samples.values.get(metric, []) if samples else []


def tables(found: Mapping[str, Samples], titles: Mapping[str, str]) -> str:
    """One row a variant: the medians with no layer, and what each layer adds to them, with the ratio."""
    heads = ["", *(title for title, _, _ in METRICS.values())]
    return table(heads, [[titles[variant], *_cells(found, variant)] for variant in found])


def _cells(found: Mapping[str, Samples], variant: str) -> list[str]:
    samples = found[variant]
    if samples.error:
        return [f"**failed**: {plain(samples.error)[:150]}", *[""] * (len(METRICS) - 1)]
    return [_cell(found, variant, metric) for metric in METRICS]


def _cell(found: Mapping[str, Samples], variant: str, metric: str) -> str:
    _, scale, digits = METRICS[metric]
    values, base = _values(found, variant, metric), _values(found, NONE, metric)
    if not values:
        return "-"
    own = median(values) * scale
    more = added(found, variant, metric)
    if variant == NONE or more is None:
        return f"{own:.{digits}f}"
    times = ratio(own, median(base) * scale)
    return f"{more:+.{digits}f}" + (f" ({times:.2f}x)" if times is not None else "")


def targets(results: Mapping[str, Mapping[str, Found]]) -> str:
    """Every target with what was measured on each Python. `results`: Python -> app -> Found."""
    rows = []
    for target in TARGETS:
        unit = "MB" if target.metric == "rss" else "ms"
        cells = [_verdict(target, apps.get(target.app, {})) for apps in results.values()]
        rows.append([target.title, f"{target.limit:g} {unit}", *cells])
    return table(["added to no layer", "at most", *(f"Python {python}" for python in results)], rows)


def _verdict(target: Target, found: Found) -> str:
    value = added(found, target.variant, target.metric)
    if value is None:
        return "not measured"
    cpu = [added(found, target.variant, metric) for metric in CPU.get(target.metric, ())]
    own = f", CPU {sum(each or 0.0 for each in cpu):.1f}" if cpu and None not in cpu else ""
    return f"{value:.2f}{own}: {'met' if value <= target.limit else '**missed**'}"


def document(
    lines: Sequence[str], results: Mapping[str, Mapping[str, Found]], titles: Mapping[str, str], command: str
) -> str:
    """The whole page."""
    counts = [len(each) for apps in results.values() for one in apps.values() for s in one.values()
              for each in s.values.values()]  # fmt: skip
    parts = [
        "# Lambda: what a layer costs",
        f"Written by `{command}`. The real runtime client in folders as in Lambda, events from a Runtime API on "
        "loopback, spans to a UDP socket on loopback, AWS calls to a stub. Init is from the start of the process to "
        "its first request for an event; together is that and the first invocation; billed is until the runtime asks "
        "for the next event. Medians of "
        f"{max(counts, default=0)} interleaved runs; of a layer, what it adds to no layer in the same round and, in "
        "brackets, the ratio of the medians. Compare ratios and differences, not milliseconds: Lambda's CPU share "
        "grows with the memory of the function.",
        "\n".join(f"- {line}" for line in lines),
        "## Targets",
        "Where the machine was not idle, the CPU time of the process tells more than the clock.",
        targets(results),
    ]
    for python, apps in results.items():
        for app, found in apps.items():
            parts += [f"## {APPS[app]}, Python {python}", tables(found, titles)]
    return "\n\n".join(parts) + "\n"
