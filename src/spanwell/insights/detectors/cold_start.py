"""A request that had to wait for its Lambda function to start.

The local root says so: `faas.coldstart` is true (OpenTelemetry; old and stable conventions agree), or
`spanwell.lambda.init_ms`, how long the initialisation took, is there and above `cold_start.init_ms` (default 0).
With provisioned concurrency (`spanwell.lambda.initialization_type`) the function started before anybody asked.
"""

from __future__ import annotations

from spanwell.insights import wording
from spanwell.insights.model import INFO, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "cold_start"
DEFAULTS = {"cold_start.init_ms": 0}

COLD = "faas.coldstart"
INIT_MS = "spanwell.lambda.init_ms"
"""Milliseconds that the initialisation before this invocation took; on the first one of a process alone."""
INITIALIZATION = "spanwell.lambda.initialization_type"
"""AWS_LAMBDA_INITIALIZATION_TYPE: on-demand, provisioned-concurrency or snap-start."""


def may(hints: Hints) -> bool:
    """Whether the local root says anything about its start."""
    return COLD in hints.root_attributes or INIT_MS in hints.root_attributes


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """Look at the local root; where all processes' spans are here, at every function's."""
    if fragment.whole:
        spans = [span for span in fragment.spans if COLD in span.attributes or INIT_MS in span.attributes]
    else:
        spans = [fragment.root] if fragment.root is not None else []
    found: dict[tuple[str, ...], Insight] = {}
    for span in spans:
        insight = _judge(span, thresholds.get("cold_start.init_ms", span.name))
        if insight is not None:
            found.setdefault(insight.subject, insight)
    return found.values()


def _judge(span: SpanRecord, limit: float) -> Insight | None:
    attributes = span.attributes
    init = _number(attributes, INIT_MS)
    cold = attributes.get(COLD)
    if cold is not True and str(cold).lower() != "true" and (cold is not None or not init):
        return None
    if attributes.get(INITIALIZATION) == "provisioned-concurrency" or (init is not None and init <= limit):
        return None
    name = _function(span)
    took = f" for {wording.duration(init)}" if init is not None else ""
    return Insight(
        NAME,
        INFO,
        f"A request waited{took} until a new process of {name} had started: import less at the top of its modules, "
        "give it more memory, or use SnapStart or provisioned concurrency.",
        (name,),
        (span.span_id,),
        {"init_ms": init} if init is not None else {},
    )


def _number(attributes: Mapping[str, Any], key: str) -> float | None:
    value = attributes.get(key)
    if value.__class__ in (int, float) and value == value:
        return float(value)
    return None


def _function(span: SpanRecord) -> str:
    for holder in (span.resource, span.attributes):
        name = holder.get("faas.name")
        if isinstance(name, str) and name:
            return name
    return span.service or span.name
