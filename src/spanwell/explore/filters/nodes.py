"""The parts of a filter expression, and how each is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    Filter: TypeAlias = "Has | Compare | Annotation | Words | Service | Edge | RootCause | CauseJson | Not | And | Or"

_KEY_SIGNS = "_.-/"
_ANY = '""'
EQUALS, DIFFERS = "=", "!="
CONTAINS, BEGINS, ENDS = "CONTAINS", "BEGINSWITH", "ENDSWITH"
TEXT_OPERATORS = (EQUALS, DIFFERS, CONTAINS, BEGINS, ENDS)
NUMBER_OPERATORS = (EQUALS, DIFFERS, "<", "<=", ">", ">=")
OPERATORS = (*NUMBER_OPERATORS, CONTAINS, BEGINS, ENDS)


@dataclass(frozen=True)
class Value:
    """What something is compared with. `quoted`: it is text; else a number or a boolean where it reads as one."""

    text: str
    quoted: bool = True

    @property
    def number(self) -> float | None:
        """The number that an unquoted value is, or None."""
        return None if self.quoted else number_of(self.text)


@dataclass(frozen=True)
class Has:
    """A keyword alone: a boolean that is true, anything else that is set."""

    keyword: str


@dataclass(frozen=True)
class Compare:
    """`keyword operator value`"""

    keyword: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Annotation:
    """`annotation[key]`, alone (it is set) or compared."""

    key: str
    operator: str = ""
    value: Value = Value("")


@dataclass(frozen=True)
class Words:
    """Free text: a part of a name, a service or a value."""

    text: str
    quoted: bool = True


@dataclass(frozen=True)
class Node:
    """A node of the service map: `"name"` or `id(name: "…", type: "…")`; "" is any."""

    name: str = ""
    type: str = ""


@dataclass(frozen=True)
class Service:
    """`service(node) { inner }`"""

    node: Node
    inner: Filter | None = None


@dataclass(frozen=True)
class Edge:
    """`edge(source, target) { inner }`"""

    source: Node
    target: Node
    inner: Filter | None = None


@dataclass(frozen=True)
class RootCause:
    """`rootcause.kind.part { inner }`"""

    kind: str
    part: str
    inner: Filter | None = None


@dataclass(frozen=True)
class CauseJson:
    """`rootcause.kind.json = #[…]`: `wanted` is JSON text, `kind` "" for any."""

    kind: str
    wanted: str


@dataclass(frozen=True)
class Not:
    """`!inner`"""

    inner: Filter


@dataclass(frozen=True)
class And:
    """Two or more, all of which hold."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """Two or more, one of which holds."""

    parts: tuple[Filter, ...]


def number_of(text: str) -> float | None:
    """A decimal number as text, or None."""
    body = text[1:] if text[:1] in ("+", "-") else text
    digits, _, exponent = body.lower().partition("e")
    whole = digits.replace(".", "", 1)
    if not (whole.isascii() and whole.isdecimal()) or len(text) > 40 or body.lower().endswith("e"):
        return None
    sign = exponent[1:] if exponent[:1] in ("+", "-") else exponent
    if exponent and not (sign.isascii() and sign.isdecimal() and len(sign) <= 3):
        return None
    return float(text)


def show(node: Filter) -> str:
    """The expression that parses to `node` again."""
    if isinstance(node, (And, Or)):
        word = " AND " if isinstance(node, And) else " OR "
        return word.join(f"({show(part)})" if isinstance(part, (And, Or)) else show(part) for part in node.parts)
    if isinstance(node, Not):
        return f"!({show(node.inner)})" if isinstance(node.inner, (And, Or)) else f"!{show(node.inner)}"
    if isinstance(node, Has):
        return node.keyword
    if isinstance(node, Compare):
        return f"{node.keyword} {node.operator} {_value(node.value)}"
    if isinstance(node, Annotation):
        return _annotation(node)
    if isinstance(node, Words):
        return quote(node.text) if node.quoted else node.text
    return _complex(node)


def _complex(node: Service | Edge | RootCause | CauseJson) -> str:
    if isinstance(node, CauseJson):
        return f"rootcause{'.' * bool(node.kind)}{node.kind}.json = #{node.wanted}"
    if isinstance(node, Service):
        head = f"service({_node(node.node)})"
    elif isinstance(node, Edge):
        head = f"edge({_node(node.source, _ANY)}, {_node(node.target, _ANY)})"
    else:
        head = f"rootcause.{node.kind}.{node.part}"
    return head if node.inner is None else f"{head} {{ {show(node.inner)} }}"


def _annotation(node: Annotation) -> str:
    plain = node.key.isascii() and all(c.isalnum() or c in _KEY_SIGNS for c in node.key)
    key = f"annotation.{node.key}" if plain else f"annotation[{quote(node.key)}]"
    return f"{key} {node.operator} {_value(node.value)}" if node.operator else key


def _node(node: Node, anything: str = "") -> str:
    if node.type:
        name = f"name: {quote(node.name)}, " if node.name else ""
        return f"id({name}type: {quote(node.type)})"
    return quote(node.name) if node.name else anything


def _value(value: Value) -> str:
    return quote(value.text) if value.quoted else value.text


def quote(text: str) -> str:
    """`text` in quotation marks, with a backslash before those and before backslashes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def same_json(text: str) -> str:
    """JSON text in one form."""
    return json.dumps(json.loads(text), sort_keys=True)
