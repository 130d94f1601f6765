"""Which metrics `cloudwatch` and `emf` send, by which dimensions, and how many they can become. Pure.

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
    from typing import TypeAlias

    Keys: TypeAlias = "tuple[str, ...]"
    Sets: TypeAlias = "tuple[Keys, ...]"
    """Sets of attributes; a metric is there once for each set."""

NAMESPACE = "DistributedTracing/Insights"
DEFAULT = ("slow_trace", "trace_errors", "high_service_count")
DOLLARS = 0.30
"""A custom metric costs about so much a month."""

SERVICE = "ServiceName"
"""The dimension that every metric has."""

_SHORT = {"operation": OPERATION, "peer": PEER, "kind": KIND, "outcome": OUTCOME, "error": ERROR_TYPE}
_DIMENSIONS = {OPERATION: "Operation", PEER: "Peer", KIND: "SpanKind", OUTCOME: "Outcome", ERROR_TYPE: "ErrorType"}
_MOST = {OPERATION: MAX_NAMES + 1, PEER: MAX_NAMES + 1, KIND: 5, OUTCOME: 3, ERROR_TYPE: MAX_NAMES + 1}
_INSIGHT_TYPES = 20
_MAX_DIMENSIONS = 29  # of CloudWatch's 30, beside ServiceName
_MAX_SETS = 10
_MAX_NAME = 250


class Chosen(NamedTuple):
    """insights: types of insights, or None for all. metrics: a metric's name, or its beginning and `*` -> the sets of
    attributes that become dimensions. namespace: of all metrics but insights."""

    insights: frozenset[str] | None
    metrics: Mapping[str, Sets]
    namespace: str = NAMESPACE

    def sets_of(self, name: str) -> Sets | None:
        """The dimension sets of the metric `name`, or None if it is not sent."""
        found = self.metrics.get(name)
        if found is not None:
            return found
        matching = [key for key in self.metrics if key.endswith("*") and name.startswith(key[:-1])]
        return self.metrics[max(matching, key=len)] if matching else None


INSIGHTS_ONLY = Chosen(frozenset(DEFAULT), {})


def parse(
    listed: Iterable[str],
    report: Callable[[str], object],
    *,
    dimensions: Iterable[str] = (),
    namespace: str = NAMESPACE,
) -> Chosen:
    """What is sent with SPANWELL_CLOUDWATCH_METRICS=`listed`, beside the default.

    `slow_db`: a type of insight; `insights`: all of them. `entry.duration`, `spanwell.queue.size`, `http.server.*`,
    `*`: metrics, by the sets of SPANWELL_METRICS_DIMENSIONS=`dimensions`; `entry.duration:operation+outcome/service`:
    by two sets of its own. `service` is the set of ServiceName alone.
    """
    insights: set[str] = set(DEFAULT)
    metrics: dict[str, Sets] = {}
    every = False
    general = _general(dimensions, report)
    for text in listed:
        name, colon, by = text.strip().partition(":")
        own = _sets(by.split("/")) if colon else general
        if not name or own is None:
            report(
                f"SPANWELL_CLOUDWATCH_METRICS: {text!r} is left out: write `slow_db` or `entry.duration:operation`"
            )
        elif name in ("insights", INSIGHTS):
            every = True
        elif "." not in name and not name.endswith("*"):
            insights.add(name)
        else:
            ours = name.startswith(("entry.", "dependency."))
            metrics[f"spanwell.{name}" if ours else name] = own
    return Chosen(None if every else frozenset(insights), metrics, _namespace(namespace, report))


def _general(dimensions: Iterable[str], report: Callable[[str], object]) -> Sets:
    wanted = [text for text in dimensions if text]
    found = _sets(wanted) if wanted else ((),)
    if found is None:
        report(
            f"SPANWELL_METRICS_DIMENSIONS={','.join(wanted)!r} is left out: write sets of at most {_MAX_DIMENSIONS}"
            " attributes such as `operation+outcome,service`"
        )
    return found or ((),)


def _sets(texts: Iterable[str]) -> Sets | None:
    found: list[Keys] = []
    for text in texts:
        keys = _keys(text)
        if keys is None:
            return None
        if keys not in found:
            found.append(keys)
    return tuple(found) if 0 < len(found) <= _MAX_SETS else None


def _keys(text: str) -> Keys | None:
    parts = [part.strip() for part in text.split("+")]
    if not all(parts) or any(len(part) > _MAX_NAME for part in parts):
        return None
    keys = tuple(dict.fromkeys(_SHORT.get(part, part) for part in parts if part != "service"))
    return keys if len(keys) <= _MAX_DIMENSIONS else None


def _namespace(text: str, report: Callable[[str], object]) -> str:
    fine = all(letter.isascii() and (letter.isalnum() or letter in ".-_/#:") for letter in text)
    if 0 < len(text) <= 255 and fine and not text.startswith((":", "AWS/")):
        return text
    report(
        f"SPANWELL_METRICS_NAMESPACE={text[:80]!r} is no namespace that CloudWatch takes (letters, digits and"
        f" ._/#:-, at most 255, not AWS/…): using {NAMESPACE}"
    )
    return NAMESPACE


def dimension(attribute: str) -> str:
    """The name of the dimension that an attribute becomes."""
    return _DIMENSIONS.get(attribute, attribute)


def most(chosen: Chosen) -> int:
    """How many metrics that can become for one service, those of other libraries counted as one for each name."""
    number = _INSIGHT_TYPES if chosen.insights is None else len(chosen.insights)
    for sets in chosen.metrics.values():
        for keys in sets:
            product = 1
            for key in keys:
                product *= _MOST.get(key, 1)
            number += min(product, MAX_SERIES)
    return number


def ascii_text(text: object) -> str:
    """A dimension's value: 1 to 1024 printable ASCII characters, no colon first."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in str("" if text is None else text)[:1024]).strip()
    return "_" + shown[1:] if shown.startswith(":") else shown or "-"
