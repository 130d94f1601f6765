"""What every trace that a filter matches has, in terms that a store can look up: it loads no others. Pure.

A bound may let through traces that do not match; it never leaves out one that does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwell.analysis.calls import THROTTLING_WORDS
from spanwell.analysis.names import THROTTLED
from spanwell.explore.filters.fields import RESOURCE_PREFIX
from spanwell.explore.filters.nodes import (
    DIFFERS,
    EQUALS,
    And,
    Annotation,
    CauseJson,
    Compare,
    Edge,
    Has,
    Not,
    Or,
    RootCause,
    Service,
    Words,
    number_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from spanwell.explore.filters.nodes import Filter, Node, Value
    from spanwell.explore.summary import TraceSummary

    Bound: TypeAlias = "Everything | Longer | InService | Failed | Incomplete | Told | Every | Some"

NAME, SERVICE, MESSAGE = "name", "service", "message"
ATTRIBUTES, EVENTS, RESOURCE = "attributes", "events", "resource"
"""Where a text can stand; attributes, events and resources are JSON (`spanwell.values`)."""

ANY = "\0"
"""Stands in a text for any one character."""

_SPAN = (NAME, SERVICE, MESSAGE, ATTRIBUTES, EVENTS)
_NANOSECONDS = 1e9
_LONGEST = 9e18
_CODES = range(100, 600)
_IN_RESOURCE = ("availabilityzone", "instance.id")


@dataclass(frozen=True)
class Everything:
    """All traces."""


@dataclass(frozen=True)
class Longer:
    """The trace takes at least so many nanoseconds."""

    ns: int


@dataclass(frozen=True)
class InService:
    """A span is of this service."""

    name: str


@dataclass(frozen=True)
class Failed:
    """A span has the status error."""


@dataclass(frozen=True)
class Incomplete:
    """The root or a parent is missing."""


@dataclass(frozen=True)
class Told:
    """One span has each of `texts` in one of `places`, in whatever case of its ASCII letters."""

    texts: tuple[str, ...]
    places: tuple[str, ...]
    calls: bool = False
    """Whether the span is one that calls or sends."""


@dataclass(frozen=True)
class Every:
    """All of these."""

    parts: tuple[Bound, ...]


@dataclass(frozen=True)
class Some:
    """One of these; none of them, no trace."""

    parts: tuple[Bound, ...]


def every(parts: Iterable[Bound]) -> Bound:
    """All of `parts`, in the simplest form."""
    found = tuple(dict.fromkeys(part for part in parts if part != Everything()))
    return Every(found) if len(found) > 1 else found[0] if found else Everything()


def some(parts: Iterable[Bound]) -> Bound:
    """One of `parts`, in the simplest form; of none, nothing."""
    found = tuple(dict.fromkeys(parts))
    return Everything() if Everything() in found else found[0] if len(found) == 1 else Some(found)


def bounds(node: Filter) -> Bound:
    """The bound of a filter."""
    if isinstance(node, And):
        return every(map(bounds, node.parts))
    if isinstance(node, Or):
        return some(map(bounds, node.parts))
    if isinstance(node, Not):
        return bounds(node.inner.inner) if isinstance(node.inner, Not) else Everything()
    if isinstance(node, Has):
        return _flag(node.keyword)
    if isinstance(node, Compare):
        return _compare(node)
    if isinstance(node, Annotation):
        return _annotation(node)
    if isinstance(node, Words):
        return _told(_literal(node.text), *_SPAN)
    return _complex(node)


def _complex(node: Service | Edge | RootCause | CauseJson) -> Bound:
    if isinstance(node, CauseJson):
        return _cause(node.kind)
    inner = bounds(node.inner) if node.inner is not None else Everything()
    if isinstance(node, RootCause):
        # The name of an exception may stand for a number, as those of gRPC do.
        return every((_cause(node.kind), inner if node.part != "exception" else Everything()))
    if isinstance(node, Service):
        return every((_node(node.node), inner))
    source = InService(node.source.name) if node.source.name else Everything()  # who calls has spans
    return every((source, _node(node.target), inner))


def _cause(kind: str) -> Bound:
    return _flag(kind) if kind in ("fault", "error") else Everything()


def _node(node: Node) -> Bound:
    """A service has spans, or it is the peer of a call, whose name is made of parts of attributes."""
    if not node.name:
        return Everything()
    called = _told(_peer(node.name), ATTRIBUTES)
    return some((InService(node.name), replace(called, calls=True) if isinstance(called, Told) else called))


# --- keywords ---------------------------------------------------------------------------------------------------


_THROTTLED: tuple[Bound, ...] = (
    Told((THROTTLED,), (ATTRIBUTES,)),
    Every((Failed(), Some(tuple(Told((word,), (MESSAGE, ATTRIBUTES, EVENTS)) for word in sorted(THROTTLING_WORDS))))),
    Told(('rpc.grpc.status_code":8',), (ATTRIBUTES,)),  # RESOURCE_EXHAUSTED
)


def _flag(keyword: str) -> Bound:
    if keyword == "throttle":
        return Some((*_THROTTLED, _status("429")))
    if keyword == "error":
        return Some((*_THROTTLED, _status("4")))
    if keyword == "fault":
        return Some((Failed(), _status("5")))
    if keyword == "http.status":
        return _status("")
    return Incomplete() if keyword == "partial" else Everything()


def _status(digits: str) -> Bound:
    return Told((f'status_code":{digits}',), (ATTRIBUTES,))


def _compare(node: Compare) -> Bound:
    keyword, operator, value = node.keyword, node.operator, node.value
    if value.text in ("true", "false") and not value.quoted:
        return _flag(keyword) if (value.text == "true") == (operator == EQUALS) else Everything()
    number = value.number
    if number is not None:
        return _numbered(keyword, operator, number)
    if operator == DIFFERS:
        return Everything()
    if keyword == "http.url":
        return _told(_url(value.text), ATTRIBUTES)  # it may be put together from several
    if keyword in _IN_RESOURCE:
        return _told(_literal(value.text), RESOURCE)
    if keyword == "resource.arn":
        return _told(_literal(value.text), RESOURCE, ATTRIBUTES)
    if keyword == "message":
        return _told(_literal(value.text), EVENTS, MESSAGE)
    if keyword == "name":
        return _told(_peer(value.text), *_SPAN)
    return Everything() if keyword == "type" else _told(_literal(value.text), ATTRIBUTES)


def _numbered(keyword: str, operator: str, number: float) -> Bound:
    if operator == DIFFERS or keyword in ("index", "coverage"):
        return Everything()
    if keyword == "http.status":
        return _statuses(operator, number)
    if not abs(number) * _NANOSECONDS < _LONGEST:
        return Everything()
    ns = int(number * _NANOSECONDS)
    # A float may be off by one part in 2**52: a microsecond of slack covers 50 days.
    slack = 1_000 + abs(ns) // 10**12
    return Longer(max(0, ns - slack)) if operator in (">", ">=", EQUALS) else Everything()


def _statuses(operator: str, number: float) -> Bound:
    holds: dict[str, Callable[[int], bool]] = {
        "=": lambda code: code == number,
        "<": lambda code: code < number,
        "<=": lambda code: code <= number,
        ">": lambda code: code > number,
        ">=": lambda code: code >= number,
    }
    codes = [code for code in _CODES if holds[operator](code)]
    if len(codes) == 1:
        return _status(str(codes[0]))
    return some(_status(str(hundred)) for hundred in sorted({code // 100 for code in codes}))


def _annotation(node: Annotation) -> Bound:
    if node.operator == DIFFERS:
        return Everything()
    place, key = ATTRIBUTES, node.key
    if key.startswith(RESOURCE_PREFIX):
        place, key = RESOURCE, key.removeprefix(RESOURCE_PREFIX)
    value = _value(node.value) if node.operator and node.operator[0] not in "<>" else ()
    return _told((_key(key), *value), place)


def _value(value: Value) -> tuple[str, ...]:
    """What must stand in the JSON of an attribute that compares so."""
    if not value.quoted and (number_of(value.text) is not None or value.text.lower() in ("true", "false")):
        return ()  # 30 is found as 30.0, too
    return _literal(value.text)


# --- texts ------------------------------------------------------------------------------------------------------


def _told(texts: Iterable[str], *places: str) -> Bound:
    found = tuple(dict.fromkeys(text for text in texts if text))
    return Told(found, places) if found else Everything()


def _literal(text: str) -> tuple[str, ...]:
    """The longest part of `text` that JSON writes as it is."""
    return (max(_pieces(text, lambda letter: letter.isprintable() and letter not in '"\\'), key=len),)


def _peer(name: str) -> list[str]:
    """The parts of the name of a peer, each of which an attribute holds: system and place, host and port."""
    return _pieces(name, lambda letter: letter.isprintable() and letter not in '":\\ ')


def _url(url: str) -> list[str]:
    """The parts of a URL that no joint of scheme, host, port, path and query goes through."""
    return _pieces(url, str.isalnum)


def _key(key: str) -> str:
    """A key as JSON writes it before its value, with `ANY` where the attribute may have another character."""
    written = _literal(key)[0]
    return f'"{written}":'.replace("_", ANY) if written == key else written.replace("_", ANY)


def _pieces(text: str, kept: Callable[[str], bool]) -> list[str]:
    return "".join(letter if kept(letter) else "\n" for letter in text).split("\n")


def may_hold(bound: Bound, summary: TraceSummary) -> bool:
    """Whether a trace with this summary can be one: for stores that have no more than summaries to look at."""
    if isinstance(bound, Every):
        return all(may_hold(part, summary) for part in bound.parts)
    if isinstance(bound, Some):
        return any(may_hold(part, summary) for part in bound.parts)
    if isinstance(bound, Longer):
        return summary.duration >= bound.ns
    if isinstance(bound, InService):
        return any(service.name == bound.name for service in summary.services)
    if isinstance(bound, Failed):
        return summary.errors > 0
    return not summary.complete if isinstance(bound, Incomplete) else True
