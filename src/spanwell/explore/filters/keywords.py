"""The keywords of the language: of which kind each is, and where it may stand."""

from __future__ import annotations

from typing import NamedTuple

TRACE, SERVICE, EDGE = "the trace", "service(…) {…}", "edge(…) {…}"
CAUSE_SERVICE, CAUSE_ENTITY = "rootcause….service {…}", "rootcause….entity {…}"
CAUSE_EXCEPTION, CAUSE_TIME_ENTITY = "rootcause….exception {…}", "rootcause.responsetime.entity {…}"

_OUTSIDE = frozenset((TRACE, SERVICE, EDGE))
_CAUSES = frozenset((CAUSE_SERVICE, CAUSE_ENTITY, CAUSE_TIME_ENTITY, CAUSE_EXCEPTION))
_ENTITIES = frozenset((CAUSE_ENTITY, CAUSE_TIME_ENTITY))

BOOLEAN, NUMBER, STRING = "boolean", "number", "string"


class Keyword(NamedTuple):
    """`kind` decides which operators it takes; `places` are those it has a meaning in."""

    kind: str
    places: frozenset[str]


KEYWORDS: dict[str, Keyword] = {
    **dict.fromkeys(("ok", "error", "throttle", "fault", "partial", "root"), Keyword(BOOLEAN, _OUTSIDE)),
    "inferred": Keyword(BOOLEAN, _OUTSIDE | {CAUSE_SERVICE}),
    **dict.fromkeys(("first", "last"), Keyword(BOOLEAN, _CAUSES)),
    "remote": Keyword(BOOLEAN, _ENTITIES | {CAUSE_EXCEPTION}),
    **dict.fromkeys(("responsetime", "duration", "http.status"), Keyword(NUMBER, _OUTSIDE)),
    "index": Keyword(NUMBER, _CAUSES),
    "coverage": Keyword(NUMBER, frozenset((CAUSE_TIME_ENTITY,))),
    **dict.fromkeys(
        (
            *("http.url", "http.method", "http.useragent", "http.clientip"),
            *("user", "availabilityzone", "instance.id", "resource.arn"),
        ),
        Keyword(STRING, _OUTSIDE),
    ),
    "name": Keyword(STRING, _OUTSIDE | _CAUSES),
    "type": Keyword(STRING, _OUTSIDE | {CAUSE_SERVICE}),
    "message": Keyword(STRING, _OUTSIDE | {CAUSE_EXCEPTION}),
}

COMPLEX = ("service", "edge", "annotation", "rootcause", "group.name", "group.arn", "json")
CAUSE_KINDS = ("fault", "error", "responsetime")
CAUSE_PARTS = ("service", "entity", "exception")


def place_of(kind: str, part: str) -> str:
    """Where what stands in the braces of `rootcause.kind.part` stands."""
    if part == "entity":
        return CAUSE_TIME_ENTITY if kind == "responsetime" else CAUSE_ENTITY
    return CAUSE_SERVICE if part == "service" else CAUSE_EXCEPTION


def known(place: str) -> list[str]:
    """What may be written in `place`, in alphabetical order: for messages, and for completion."""
    simple = [name for name, keyword in KEYWORDS.items() if place in keyword.places]
    return sorted([*simple, *(COMPLEX if place == TRACE else ("annotation",) if place in _OUTSIDE else ())])
