"""Text into the parts of a filter expression, by recursive descent straight over its characters.

or    = and { OR and }
and   = not { [AND] not }          side by side is AND, as in X-Ray
not   = { "!" } ( "(" or ")" | term )
term  = keyword [ operator value ] | complex | free text
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spanwell.explore.filters import keywords as words
from spanwell.explore.filters.errors import nearest
from spanwell.explore.filters.nodes import (
    NUMBER_OPERATORS,
    OPERATORS,
    TEXT_OPERATORS,
    And,
    Annotation,
    CauseJson,
    Compare,
    Edge,
    Has,
    Node,
    Not,
    Or,
    RootCause,
    Service,
    Value,
    Words,
    number_of,
    same_json,
)
from spanwell.explore.filters.scanner import QUOTES, Scanner

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwell.explore.filters.nodes import Filter

MAX_LENGTH = 10_000
"""Characters of an expression."""

MAX_DEPTH = 50
"""Levels of parentheses, braces and `!`."""

_BOOLEANS = ("true", "false")
_WORD_OPERATORS = ("contains", "beginswith", "endswith")
_ELSEWHERE = {"&&": "AND", "||": "OR", "&": "AND", "|": "OR"}


def parse(text: str) -> Filter:
    """The expression in `text`. Raises `FilterError`, which knows the place."""
    return _Parser(text).whole()


class _Parser(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.place = words.TRACE

    def whole(self) -> Filter:
        if len(self.text) > MAX_LENGTH:
            raise self.error(f"an expression has at most {MAX_LENGTH} characters", MAX_LENGTH)
        found = self._or()
        if self.peek():
            raise self.error(f"expected AND, OR or the end, not {self.peek()}")
        return found

    # --- how terms are combined ----------------------------------------------------------------------------------

    def _or(self) -> Filter:
        parts = [self._and()]
        while self.taken_word("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Filter:
        parts = [self._not()]
        while True:
            if not self.taken_word("and") and (self.peek() in ("", ")", "}") or self.word_ahead() == "or"):
                return parts[0] if len(parts) == 1 else And(tuple(parts))
            parts.append(self._not())

    def _not(self) -> Filter:
        if self.peek() == "!":
            self._enter()
            self.at += 1
            inner = self._not()
            self.depth -= 1
            return Not(inner)
        if self.peek() == "(":
            self._enter()
            self.at += 1
            found = self._or()
            self.expect(")", "expected AND, OR or )")
            self.depth -= 1
            return found
        return self._term()

    def _enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} levels of parentheses, braces and !")

    # --- terms ---------------------------------------------------------------------------------------------------

    def _term(self) -> Filter:
        letter = self.peek()
        start = self.at
        if letter and letter in QUOTES:
            self._outside_causes(start)
            return Words(self._filled(self.quoted(), start))
        word = self.word()
        if not word:
            what = f", not {letter}" if letter else ""
            raise self.error(f"expected a keyword, free text, ! or ({what}")
        lower = word.lower()
        if lower in ("and", "or"):
            raise self.error(f"expected a keyword before {word.upper()}", start)
        if lower in words.KEYWORDS:
            return self._keyword(lower, start)
        complex_term = self._complex(lower)
        if complex_term is not None:
            return complex_term(word, start)
        return self._free(word, start)

    def _keyword(self, name: str, start: int) -> Filter:
        keyword = words.KEYWORDS[name]
        if self.place not in keyword.places:
            there = ", ".join(words.known(self.place))
            raise self.error(f"{name} means nothing in {self.place}; there are {there}", start)
        operator = self._operator()
        if not operator:
            return Has(name)
        if keyword.kind == words.BOOLEAN:
            return Compare(name, self._among(operator, ("=", "!="), name), self._boolean(name))
        if keyword.kind == words.NUMBER:
            return Compare(name, self._among(operator, NUMBER_OPERATORS, name), self._number(name))
        return Compare(name, self._among(operator, TEXT_OPERATORS, name), self._string(name))

    def _complex(self, lower: str) -> Callable[[str, int], Filter] | None:
        head, dot, _ = lower.partition(".")
        if lower in ("service", "edge"):
            return self._service if lower == "service" else self._edge
        if head == "annotation" and (dot or self.next() == "["):
            return self._annotation
        if head == "rootcause":
            return self._root_cause
        if lower == "json" and self.peek() in ("=", "("):
            return self._any_json
        if lower in ("group.name", "group.arn"):
            return self._group
        if lower == "not" or lower in _ELSEWHERE:
            return self._foreign
        return None

    def _free(self, word: str, start: int) -> Filter:
        end = self.at
        if self._operator():
            near = nearest(word, [*words.KEYWORDS, *words.COMPLEX])
            instead = near or f"; an attribute is written annotation[{word}]"
            raise self.error(f"unknown keyword {word}{instead}", start)
        self.at = end
        if self.next() in ("(", "{"):
            near = nearest(word, ["service", "edge", "rootcause"])
            raise self.error(f"unknown function {word}{near or '; there are service(…) and edge(…, …)'}", start)
        self._outside_causes(start, word)
        return Words(word, quoted=False)

    def _outside_causes(self, start: int, word: str = "") -> None:
        if self.place not in (words.TRACE, words.SERVICE, words.EDGE):
            there = words.known(self.place)
            raise self.error(
                f"free text means nothing in {self.place}{nearest(word, there) if word else ''}"
                f"; there are {', '.join(there)}",
                start,
            )

    def _foreign(self, word: str, start: int) -> Filter:
        raise self.error(f"write {_ELSEWHERE.get(word, '!')} instead of {word}", start)

    def _group(self, word: str, start: int) -> Filter:
        raise self.error(f"{word.lower()}: groups exist in X-Ray only; write the group's own expression here", start)

    # --- complex keywords ----------------------------------------------------------------------------------------

    def _top_only(self, word: str, start: int) -> None:
        if self.place != words.TRACE:
            raise self.error(f"{word} cannot stand in {self.place}", start)

    def _service(self, word: str, start: int) -> Filter:
        self._top_only("service", start)
        self.expect("(", "expected ( after service")
        node = Node() if self.peek() == ")" else self._node()
        self.expect(")", "expected ) after the name of the service")
        return Service(node, self._braces(words.SERVICE))

    def _edge(self, word: str, start: int) -> Filter:
        self._top_only("edge", start)
        self.expect("(", "expected ( after edge")
        source = self._node()
        self.expect(",", "expected a comma and the service that is called")
        target = self._node()
        self.expect(")", "expected ) after the two services")
        return Edge(source, target, self._braces(words.EDGE))

    def _annotation(self, word: str, start: int) -> Filter:
        if self.place not in (words.TRACE, words.SERVICE, words.EDGE):
            raise self.error(f"annotation cannot stand in {self.place}", start)
        key = word[len("annotation.") :]
        if "." not in word:
            self.at += 1
            self.peek()
            key = self.quoted() if self.next() in tuple(QUOTES) else self.word()
            if not key:
                raise self.error("expected the key of the annotation")
            self.expect("]", "expected ] after the key")
        if not key:
            raise self.error("expected the key of the annotation after the point")
        operator = self._operator()
        if not operator:
            return Annotation(key)
        number = operator[0] in "<>"
        return Annotation(key, operator, self._number(key) if number else self._any_value(operator))

    def _root_cause(self, word: str, start: int) -> Filter:
        self._top_only("rootcause", start)
        kind, _, part = word.lower()[len("rootcause") :].removeprefix(".").partition(".")
        if kind == "json":
            return self._json("")
        if kind not in words.CAUSE_KINDS:
            near = nearest(kind, words.CAUSE_KINDS)
            at = min(start + len("rootcause."), start + len(word))
            raise self.error(f"expected fault, error or responsetime after rootcause.{near}", at)
        if part == "json":
            return self._json(kind)
        if part not in words.CAUSE_PARTS:
            near = nearest(part, words.CAUSE_PARTS)
            at = min(start + len(f"rootcause.{kind}."), start + len(word))
            raise self.error(f"expected service, entity, exception or json after rootcause.{kind}.{near}", at)
        return RootCause(kind, part, self._braces(words.place_of(kind, part)))

    def _any_json(self, word: str, start: int) -> Filter:
        self._top_only("json", start)
        return self._json("")

    def _json(self, kind: str) -> Filter:
        closing = self.peek() == "("
        self.expect("(" if closing else "=", "expected = and #[…], the root causes as JSON")
        if self.peek() == "#":
            self.at += 1
        start = self.skip()
        try:
            found, self.at = json.JSONDecoder().raw_decode(self.text, start)
        except (ValueError, RecursionError) as error:
            at = getattr(error, "pos", start)
            raise self.error('expected the root causes as JSON: #[{"Services": [{"Name": …}]}]', at) from None
        if not _is_causes(found):
            raise self.error("expected a list of objects with Services, each with Name and EntityPath", start)
        if closing:
            self.expect(")", "expected ) after the JSON")
        return CauseJson(kind, same_json(json.dumps(found)))

    def _braces(self, place: str) -> Filter | None:
        if self.peek() != "{":
            return None
        outer, self.place = self.place, place
        self._enter()
        self.at += 1
        found = None
        if self.peek() != "}":
            found = self._or()
        self.expect("}", "expected AND, OR or }")
        self.depth -= 1
        self.place = outer
        return found

    def _node(self) -> Node:
        start = self.skip()
        if self.next() and self.next() in QUOTES:
            return Node(self.quoted())
        word = self.word()
        if word.lower() == "id" and self.peek() == "(":
            return self._id()
        if not word:
            raise self.error("expected the name of a service in quotation marks, or id(name: …, type: …)", start)
        return Node(word)

    def _id(self) -> Node:
        self.at += 1
        told: dict[str, str] = {}
        while not told or self.peek() == ",":
            if told:
                self.at += 1
            start = self.skip()
            word = self.word(":").lower()
            if word not in ("name", "type") or word in told:
                raise self.error("expected name: or type:, each once", start)
            self.expect(":", f"expected : after {word}")
            start = self.skip()
            told[word] = self.quoted() if self.next() in tuple(QUOTES) else self.word()
            if not told[word]:
                raise self.error(f"expected the {word} in quotation marks", start)
        self.expect(")", "expected a comma or )")
        return Node(told.get("name", ""), told.get("type", ""))

    # --- operators and values ------------------------------------------------------------------------------------

    def _operator(self) -> str:
        """The operator ahead, taken; "" if there is none. `!` followed by anything but `=` begins the next term."""
        start = self.skip()
        word = self.word_ahead()
        if word in _WORD_OPERATORS:
            self.at += len(word)
            return word.upper()
        for length in (2, 1):
            found = self.text[start : start + length]
            if found in ("==", "<>", "=<", "=>"):
                instead = {"==": "=", "<>": "!=", "=<": "<=", "=>": ">="}[found]
                raise self.error(f"write {instead} instead of {found}", start)
            if len(found) == length and found in OPERATORS:
                self.at += length
                return found
        return ""

    def _among(self, operator: str, allowed: tuple[str, ...], name: str) -> str:
        if operator not in allowed:
            kind = words.KEYWORDS[name].kind
            at = self.at - len(operator)
            raise self.error(f"{name} is a {kind}: it takes {' '.join(allowed)}", at)
        return operator

    def _boolean(self, name: str) -> Value:
        value, start = self._value()
        if value.text.lower() not in _BOOLEANS:
            raise self.error(f"{name} is true or false", start)
        return Value(value.text.lower(), quoted=False)

    def _number(self, name: str) -> Value:
        value, start = self._value()
        if number_of(value.text) is None:
            unit = " of seconds, without a unit, such as 0.5" if name in ("responsetime", "duration") else ""
            raise self.error(f"expected a number{unit}", start)
        return Value(value.text, quoted=False)

    def _string(self, name: str) -> Value:
        value, start = self._value()
        if value.text.lower() in ("and", "or") and not value.quoted:
            raise self.error(f"expected a text in quotation marks after {name}", start)
        return Value(value.text)

    def _any_value(self, operator: str) -> Value:
        value, start = self._value()
        if value.text.lower() in ("and", "or") and not value.quoted:
            raise self.error("expected a value", start)
        return Value(value.text) if operator not in ("=", "!=") else value

    def _filled(self, text: str, start: int) -> str:
        if not text:
            raise self.error("expected text between the quotation marks", start)
        return text

    def _value(self) -> tuple[Value, int]:
        start = self.skip()
        if self.next() and self.next() in QUOTES:
            return Value(self.quoted()), start
        word = self.word()
        if not word:
            raise self.error("expected a value", start)
        return Value(word, quoted=False), start


def _is_causes(tree: object) -> bool:
    causes = tree if isinstance(tree, list) else [tree]
    return bool(causes) and all(
        isinstance(cause, dict)
        and isinstance(cause.get("Services"), list)
        and all(_is_named(service) and _are_named(service.get("EntityPath", [])) for service in cause["Services"])
        for cause in causes
    )


def _are_named(tree: object) -> bool:
    return isinstance(tree, list) and all(map(_is_named, tree))


def _is_named(tree: object) -> bool:
    return isinstance(tree, dict) and isinstance(tree.get("Name"), str)
