"""The service's answer to statistics, checked field by field."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Say = Callable[[str], object]  # takes one line about what cannot be used

_LATEST = 1e12  # seconds since the epoch; anything later is no time
_MOST = 1e9  # traces a second, and seconds


class Target(NamedTuple):
    """A checked SamplingTargetDocument. Points in time are seconds since the epoch; None: not mentioned."""

    name: str
    fixed_rate: float
    quota: float | None
    quota_until: float
    interval: float | None
    boost: float | None
    boost_until: float


class _Bad(Exception):
    """A target that cannot be used: which field, and what is wanted."""


def read_targets(response: Mapping[str, Any], say: Say) -> list[Target]:
    """The usable SamplingTargetDocuments of `response`; `say` gets a line about each other one.

    Raises ValueError for what is no answer of the service at all: then the statistics have not arrived.
    """
    documents = response.get("SamplingTargetDocuments")
    if documents is None and "LastRuleModification" in response:
        documents = []
    if not isinstance(documents, list):
        raise ValueError("the answer has no list SamplingTargetDocuments")
    targets = []
    for document in documents:
        try:
            targets.append(_target(document))
        except _Bad as bad:
            name = document.get("RuleName") if isinstance(document, dict) else None
            say(f"X-Ray sampling target of rule {str(name)[:64]!r}: {bad}; it is ignored, what held before stays")
    return targets


def read_time(response: Mapping[str, Any], field: str, say: Say) -> float | None:
    """A point in time of `response`; None if it is missing or, reported, cannot be one."""
    try:
        return _number(response, field, 0, _LATEST)
    except _Bad as bad:
        say(f"X-Ray sampling targets: {bad}; it is ignored")
        return None


def read_unprocessed(response: Mapping[str, Any]) -> Iterator[tuple[str, bool, bool]]:
    """What the service did not take: (rule, whether to send it again, whether it is the boost statistics)."""
    for field, boost in (("UnprocessedStatistics", False), ("UnprocessedBoostStatistics", True)):
        documents = response.get(field)
        for document in documents if isinstance(documents, list) else ():
            if isinstance(document, dict):
                code = str(document.get("ErrorCode"))
                if code[:1] in ("4", "5"):
                    yield str(document.get("RuleName")), code[0] == "5", boost


def _target(document: Any) -> Target:
    if not isinstance(document, dict):
        raise _Bad(f"{str(document)[:80]!r} is not an object")
    name = document.get("RuleName")
    if not isinstance(name, str):
        raise _Bad(f"RuleName={str(name)[:80]!r} is not a text")
    quota = _number(document, "ReservoirQuota", 0, _MOST)
    boost, boost_until = _boost(document.get("SamplingBoost"))
    return Target(
        name,
        _needed(document, "FixedRate", 1),
        quota,
        0.0 if quota is None else _needed(document, "ReservoirQuotaTTL", _LATEST),
        _number(document, "Interval", 0, _MOST),
        boost,
        boost_until,
    )


def _boost(document: Any) -> tuple[float | None, float]:
    if document is None:
        return None, 0.0
    if not isinstance(document, dict):
        raise _Bad(f"SamplingBoost={str(document)[:80]!r} is not an object")
    return _needed(document, "BoostRate", 1), _needed(document, "BoostRateTTL", _LATEST)


def _needed(document: Mapping[str, Any], field: str, high: float) -> float:
    value = _number(document, field, 0, high)
    if value is None:
        raise _Bad(f"{field} is missing")
    return value


def _number(document: Mapping[str, Any], field: str, low: float, high: float) -> float | None:
    value = document.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise _Bad(f"{field}={str(value)[:80]!r} is not a number from {low:g} to {high:g}")
    return float(value)
