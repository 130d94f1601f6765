"""Whether a trace is one that a filter asks for."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING

from spanwell.explore.filters import causes, fields
from spanwell.explore.filters.keywords import BOOLEAN, KEYWORDS, NUMBER
from spanwell.explore.filters.nodes import (
    BEGINS,
    CONTAINS,
    DIFFERS,
    ENDS,
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
from spanwell.explore.filters.subjects import View

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from spanwell.explore.filters.causes import Item
    from spanwell.explore.filters.nodes import Filter, Node, Value
    from spanwell.explore.filters.subjects import Subject
    from spanwell.explore.model import Trace

_SECOND = 1_000_000_000
_ORDERS = {"<": lt, "<=": le, ">": gt, ">=": ge}


def matches(trace: Trace, wanted: Filter) -> bool:
    """Whether `wanted` holds for `trace`. Linear in its spans for each part of the expression."""
    view = View(trace)
    return bool(trace.spans) and _holds(wanted, view.whole, view)


def _holds(node: Filter, subject: Subject, view: View) -> bool:
    if isinstance(node, And):
        return all(_holds(part, subject, view) for part in node.parts)
    if isinstance(node, Or):
        return any(_holds(part, subject, view) for part in node.parts)
    if isinstance(node, Not):
        return not _holds(node.inner, subject, view)
    if isinstance(node, (Has, Compare)):
        return _keyword(node, subject)
    if isinstance(node, Annotation):
        return _annotation(node, subject)
    if isinstance(node, Words):
        search = _finder(node.text).search
        return any(search(text) for span in subject.spans for text in fields.searched(span))
    return _complex(node, view)


def _complex(node: Service | Edge | RootCause | CauseJson, view: View) -> bool:
    if isinstance(node, Service):
        return any(
            _is(found, node.node) and (node.inner is None or _holds(node.inner, found, view)) for found in view.nodes
        )
    if isinstance(node, Edge):
        return any(
            node.inner is None or any(_holds(node.inner, side, view) for side in link.sides)
            for link in view.links
            if _is(link.source, node.source) and _is(link.target, node.target)
        )
    if isinstance(node, RootCause):
        return any(
            node.inner is None or _item_holds(node.inner, item)
            for path in causes.paths(view, node.kind)
            for item in causes.items(view, path, node.part)
        )
    return _as_json(node, view)


@lru_cache(64)
def _finder(text: str) -> re.Pattern[str]:
    # ASCII alone is folded: what sqlite's LIKE does, so that a store may look for candidates with it.
    return re.compile(re.escape(text), re.IGNORECASE | re.ASCII)


def _is(subject: Subject, node: Node) -> bool:
    return (not node.name or node.name in subject.names) and (not node.type or node.type in subject.types)


# --- keywords ---------------------------------------------------------------------------------------------------


def _keyword(node: Has | Compare, subject: Subject) -> bool:
    kind = KEYWORDS[node.keyword].kind
    if kind == BOOLEAN:
        return _truth(node, _flag(subject, node.keyword))
    if kind == NUMBER:
        return _measure(node, _number(subject, node.keyword))
    return _text(node, fields.texts(subject, node.keyword))


def _flag(subject: Subject, keyword: str) -> bool:
    if keyword in ("partial", "root", "inferred"):
        return bool(getattr(subject, keyword))
    return keyword in subject.status


def _number(subject: Subject, keyword: str) -> float | None:
    if keyword == "http.status":
        return fields.status(subject)
    return (subject.response_time if keyword == "responsetime" else subject.duration) / _SECOND


def _truth(node: Has | Compare, found: bool) -> bool:
    if isinstance(node, Has):
        return found
    return (found == (node.value.text == "true")) == (node.operator == EQUALS)


def _measure(node: Has | Compare, found: float | None) -> bool:
    if isinstance(node, Has):
        return found is not None
    return _compared((found,), node.operator, node.value)


def _text(node: Has | Compare, found: Iterable[str]) -> bool:
    if isinstance(node, Has):
        return any(True for _ in found)
    return _compared(found, node.operator, node.value)


def _annotation(node: Annotation, subject: Subject) -> bool:
    found = fields.annotation(subject, node.key)
    if node.operator:
        return _compared(found, node.operator, node.value)
    # As in X-Ray, a boolean alone is what it says.
    return any(value is not False and value is not None for value in found)


def _compared(found: Iterable[Any], operator: str, wanted: Value) -> bool:
    """Whether one of the values compares so; `!=` is that none is equal."""
    if operator == DIFFERS:
        return not any(_equal(value, wanted) for value in found)
    if operator == EQUALS:
        return any(_equal(value, wanted) for value in found)
    if operator in _ORDERS:
        limit, order = number_of(wanted.text), _ORDERS[operator]
        return limit is not None and any(_is_number(value) and order(value, limit) for value in found)
    return any(isinstance(value, str) and _has(value, operator, wanted.text) for value in found)


def _equal(value: Any, wanted: Value) -> bool:
    if isinstance(value, bool):
        return not wanted.quoted and wanted.text.lower() == ("true" if value else "false")
    if isinstance(value, (int, float)):
        return wanted.number is not None and value == wanted.number
    return isinstance(value, str) and value == wanted.text


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has(value: str, operator: str, part: str) -> bool:
    if operator == CONTAINS:
        return part in value
    return value.startswith(part) if operator == BEGINS else operator == ENDS and value.endswith(part)


# --- root causes ------------------------------------------------------------------------------------------------


def _item_holds(node: Filter, item: Item) -> bool:
    if isinstance(node, And):
        return all(_item_holds(part, item) for part in node.parts)
    if isinstance(node, Or):
        return any(_item_holds(part, item) for part in node.parts)
    if isinstance(node, Not):
        return not _item_holds(node.inner, item)
    if not isinstance(node, (Has, Compare)):
        return False  # the parser lets nothing else in
    keyword = node.keyword
    if keyword in ("index", "coverage"):
        return _measure(node, item.number if keyword == "index" else item.coverage)
    if keyword in ("first", "last", "inferred", "remote"):
        return _truth(node, item.number == 0 if keyword == "first" else bool(getattr(item, keyword)))
    found = {"name": item.names, "type": item.types, "message": tuple(filter(None, (item.message,)))}
    return _text(node, found[keyword])


def _as_json(node: CauseJson, view: View) -> bool:
    wanted = json.loads(node.wanted)
    kinds = (node.kind,) if node.kind else ("fault", "error", "responsetime")
    told = [
        (causes.items(view, path, "service"), causes.items(view, path, "entity"))
        for kind in kinds
        for path in causes.paths(view, kind)
    ]
    return all(
        any(_path_is(cause["Services"], services, entities) for services, entities in told)
        for cause in (wanted if isinstance(wanted, list) else [wanted])
    )


def _path_is(wanted: list[dict[str, Any]], services: list[Item], entities: list[Item]) -> bool:
    names = [service["Name"] for service in wanted]
    below = [entity["Name"] for service in wanted for entity in service.get("EntityPath", ())]
    return _named(names, services) and (not below or _named(below, entities))


def _named(names: list[str], found: list[Item]) -> bool:
    return len(names) == len(found) and all(name in item.names for name, item in zip(names, found, strict=True))
