"""The requests of the X-Ray sampling API, judged as strictly as the service's model does."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container, Mapping
from itertools import pairwise
from typing import Any

RULES = "GetSamplingRules"
TARGETS = "SamplingTargets"
COUNTS = ("RequestCount", "SampledCount", "BorrowCount")
BOOST_COUNTS = ("TotalCount", "AnomalyCount", "SampledAnomalyCount")


def problems(path: str, body: bytes, tokens: Container[str]) -> list[str]:
    """What X-Ray would not accept of a request, a sentence each; `tokens` are the NextTokens it gave."""
    if path not in (RULES, TARGETS):
        return [f"no such operation; there are {RULES} and {TARGETS}"]
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return ["the request is not JSON"]
    if not isinstance(document, dict):
        return ["the request is no JSON object"]
    if path == RULES:
        token = document.get("NextToken")
        found = [f"unknown key {key}" for key in sorted(document.keys() - {"NextToken"})]
        known = token is None or (isinstance(token, str) and token in tokens)
        return found if known else [*found, f"NextToken {token!r} was never given"]
    lists = {"SamplingStatisticsDocuments": STATISTICS, "SamplingBoostStatisticsDocuments": BOOSTS}
    found = [f"unknown key {key}" for key in sorted(document.keys() - lists.keys())]
    if "SamplingStatisticsDocuments" not in document:
        found.append("SamplingStatisticsDocuments is required")
    for name, fields in lists.items():
        found += _documents(name, document.get(name, []), fields)
    return found


def _documents(name: str, documents: object, fields: Mapping[str, Callable[[Any], bool]]) -> list[str]:
    if not isinstance(documents, list):
        return [f"{name} is no list"]
    if len(documents) > 25:
        return [f"{name} has {len(documents)} documents, more than 25"]
    return [f"{name}[{index}]: {said}" for index, each in enumerate(documents) for said in _document(each, fields)]


def _document(document: object, fields: Mapping[str, Callable[[Any], bool]]) -> list[str]:
    if not isinstance(document, dict):
        return ["is no object"]
    found = [f"unknown key {key}" for key in sorted(document.keys() - fields.keys())]
    found += [f"{key} is required" for key in fields if key not in document and key != "BorrowCount"]
    found += [
        f"{key} is {document[key]!r}" for key, fits in fields.items() if key in document and not fits(document[key])
    ]
    if not found:
        names = COUNTS if "ClientID" in fields else BOOST_COUNTS
        counts = [(name, document.get(name, 0)) for name in names]
        found += [
            f"{name} {count} is more than {above} {limit}"
            for (above, limit), (name, count) in pairwise(counts)
            if count > limit
        ]
    return found


def _text(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and low <= len(value) <= high


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_epoch(value: object) -> bool:
    # Seconds: milliseconds would be beyond the year 5000.
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 < value < 1e11
    )


def _is_client(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{24}", value) is not None


STATISTICS: dict[str, Callable[[Any], bool]] = {
    "RuleName": _text(1, 32),
    "ClientID": _is_client,
    "Timestamp": _is_epoch,
    **dict.fromkeys(COUNTS, _is_count),
}
BOOSTS: dict[str, Callable[[Any], bool]] = {
    "RuleName": _text(1, 32),
    "ServiceName": _text(0, 64),
    "Timestamp": _is_epoch,
    **dict.fromkeys(BOOST_COUNTS, _is_count),
}
