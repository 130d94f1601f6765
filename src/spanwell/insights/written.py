"""Insights as attributes of the local root: written by the process that found them, read back from a store.

`spanwell.insights` lists the types; each insight stands under `spanwell.insight.<type>.`, a second one of the same
type under `spanwell.insight.<type>.2.` and so on. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from spanwell.insights.model import ERROR, INFO, WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from spanwell.insights.model import Insight

LIST = "spanwell.insights"
PREFIX = "spanwell.insight."
MOST = 8
"""Insights that a local root carries at most."""

MOST_VALUES = 8
"""Values of one insight at most."""

LONGEST = 1000
"""Characters of a sentence or another text at most."""

_ORDER = {ERROR: 0, WARNING: 1, INFO: 2}


class Written(NamedTuple):
    """An insight as a span carries it; `values` are further numbers and words."""

    type: str
    severity: str
    sentence: str
    fingerprint: str
    evidence: tuple[str, ...]
    values: Mapping[str, Any]


def write(found: Iterable[tuple[str, Insight]]) -> dict[str, Any]:
    """The attributes for (fingerprint, insight) pairs, the most severe first; at most `MOST` of them."""
    kept = sorted(found, key=lambda pair: _ORDER.get(pair[1].severity, 3))[:MOST]
    attributes: dict[str, Any] = {LIST: tuple(dict.fromkeys(insight.type for _, insight in kept))}
    times: dict[str, int] = {}
    for fingerprint, insight in kept:
        number = times[insight.type] = times.get(insight.type, 0) + 1
        head = f"{PREFIX}{insight.type}." if number == 1 else f"{PREFIX}{insight.type}.{number}."
        # Its own fields come last: a value of the same name must not take their place.
        for key, value in list(insight.values.items())[:MOST_VALUES]:
            if isinstance(value, (bool, int, float, str)):
                attributes[head + str(key)] = value[:LONGEST] if isinstance(value, str) else value
        attributes[head + "severity"] = insight.severity
        attributes[head + "sentence"] = insight.sentence[:LONGEST]
        attributes[head + "fingerprint"] = fingerprint
        if insight.evidence:
            attributes[head + "evidence"] = tuple(insight.evidence[:10])
    return attributes


def read(attributes: Mapping[str, Any]) -> list[Written]:
    """What a local root carries; whatever is incomplete or of the wrong type is left out."""
    listed = attributes.get(LIST)
    if not isinstance(listed, (list, tuple)):
        return []
    found: list[Written] = []
    for kind in dict.fromkeys(each for each in listed if isinstance(each, str)):
        for number in range(1, MOST + 1):
            head = f"{PREFIX}{kind}." if number == 1 else f"{PREFIX}{kind}.{number}."
            one = _read(kind, head, attributes)
            if one is None:
                break
            found.append(one)
    return found


def _read(kind: str, head: str, attributes: Mapping[str, Any]) -> Written | None:
    fingerprint, sentence = attributes.get(head + "fingerprint"), attributes.get(head + "sentence")
    severity = attributes.get(head + "severity")
    if not (isinstance(fingerprint, str) and isinstance(sentence, str) and isinstance(severity, str)):
        return None
    evidence = attributes.get(head + "evidence")
    values = {
        key[len(head) :]: value
        for key, value in attributes.items()
        if key.startswith(head) and "." not in key[len(head) :] and key[len(head) :] not in _OWN
    }
    return Written(
        kind,
        severity,
        sentence,
        fingerprint,
        tuple(each for each in evidence if isinstance(each, str)) if isinstance(evidence, (list, tuple)) else (),
        values,
    )


_OWN = frozenset(("severity", "sentence", "fingerprint", "evidence"))
