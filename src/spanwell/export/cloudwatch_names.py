"""Which metrics the `cloudwatch` exporter sends, by which dimensions, and how many they can become. Pure.

Every combination of a metric and its dimensions is billed, so nothing goes there that was not asked for.
"""

from __future__ import annotations

from typing import NamedTuple

from spanwell.analysis.names import (
    ERROR_TYPE,
    INSIGHTS,
    KIND,
    MAX_NAMES,
    MAX_SERIES,
    OPERATION,
    OUTCOME,
    PEER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NAMESPACE = "DistributedTracing/Insights"
DEFAULT = ("slow_trace", "trace_errors", "high_service_count")
DOLLARS = 0.30
"""A custom metric costs about so much a month."""

_SHORT = {"operation": OPERATION, "peer": PEER, "kind": KIND, "outcome": OUTCOME, "error": ERROR_TYPE}
_DIMENSIONS = {OPERATION: "Operation", PEER: "Peer", KIND: "SpanKind", OUTCOME: "Outcome", ERROR_TYPE: "ErrorType"}
_MOST = {OPERATION: MAX_NAMES + 1, PEER: MAX_NAMES + 1, KIND: 5, OUTCOME: 3, ERROR_TYPE: MAX_NAMES + 1}
_INSIGHT_TYPES = 20
_MAX_DIMENSIONS = 29  # of CloudWatch's 30, beside ServiceName


class Chosen(NamedTuple):
    """insights: types of insights, or None for all. metrics: a metric's name -> attributes that become dimensions."""

    insights: frozenset[str] | None
    metrics: Mapping[str, tuple[str, ...]]


def parse(listed: Iterable[str], report: Callable[[str], object]) -> Chosen:
    """What is sent with SPANWELL_CLOUDWATCH_METRICS=`listed`, beside the default.

    `slow_db`: a type of insight; `insights`: all of them. `entry.duration`, `spanwell.queue.size`, `my.metric`: a
    metric, over all its attributes; `entry.duration:operation+outcome`: by these.
    """
    insights: set[str] = set(DEFAULT)
    metrics: dict[str, tuple[str, ...]] = {}
    every = False
    for text in listed:
        name, colon, by = text.strip().partition(":")
        keys = tuple(_SHORT.get(part, part) for part in by.split("+") if part)
        if not name or (colon and not keys) or len(keys) > _MAX_DIMENSIONS:
            report(
                f"SPANWELL_CLOUDWATCH_METRICS: {text!r} is left out: write `slow_db` or `entry.duration:operation`"
            )
        elif name in ("insights", INSIGHTS):
            every = True
        elif "." not in name:
            insights.add(name)
        else:
            ours = name.startswith(("entry.", "dependency."))
            metrics[f"spanwell.{name}" if ours else name] = keys
    return Chosen(None if every else frozenset(insights), metrics)


def dimension(attribute: str) -> str:
    """The name of the dimension that an attribute becomes."""
    return _DIMENSIONS.get(attribute, attribute)


def most(chosen: Chosen) -> int:
    """How many metrics that can become for one service, those of other libraries counted as one for each name."""
    number = _INSIGHT_TYPES if chosen.insights is None else len(chosen.insights)
    for keys in chosen.metrics.values():
        product = 1
        for key in keys:
            product *= _MOST.get(key, 1)
        number += min(product, MAX_SERIES)
    return number
