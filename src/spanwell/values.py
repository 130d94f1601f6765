"""Attribute values as JSON text and back: what the sqlite tables and every `--json` output hold.

| value | written as | read back as |
| --- | --- | --- |
| text, bool, int, finite float, None | itself | itself |
| list, tuple, other sequence or set | array | list |
| mapping | object; a key that is no text becomes `str(key)`; a key that starts with `$` gets one more `$` | dict |
| bytes | `{"$bytes": base64}` | bytes |
| NaN, infinities | `{"$float": "nan"}`, `"inf"`, `"-inf"` | float |
| text over 65,536 characters | its start and `…[+N characters]` | that text |
| bytes over 65,536 | `{"$bytes": base64 of the start, "length": N}` | the start |
| an int that Python refuses to print (4,300 digits) | text: its hexadecimal form | text |
| deeper than 16 levels, or past 1,048,576 characters in one tree | `{"$cut": name of the type}` | that dict |
| anything else | `str(value)` | text |

Half a surrogate pair, which is no text, becomes `?`. Attribute names of a span stand at the top: they are
kept as they are, `$` or not.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

MAX_TEXT = 65_536
MAX_TREE = 1_048_576
MAX_DEPTH = 16

_PLAIN = frozenset((str, bool, int, float, type(None)))
_KEYS = frozenset((str,))


def _encoder() -> Callable[[Any], str]:
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False)
    # `encode` makes one of these for each call, which takes longer than the encoding itself.
    make = getattr(json.encoder, "c_make_encoder", None)
    quoted = getattr(json.encoder, "encode_basestring", None)
    try:
        parts = make(None, encoder.default, quoted, None, ":", ",", False, False, False)  # type: ignore[misc]
    except TypeError:  # another implementation of Python
        return encoder.encode
    return lambda tree: "".join(parts(tree, 0))


_encode = _encoder()


def text(value: object) -> str:
    """`value` as text that UTF-8 can hold."""
    shown = value if type(value) is str else _shown(value)
    return shown if shown.isascii() else shown.encode("utf-8", "replace").decode("utf-8")


def cut(value: str) -> str:
    """`value`, or its first 65,536 characters and a note of how many are missing."""
    if len(value) <= MAX_TEXT:
        return value
    return f"{value[:MAX_TEXT]}…[+{len(value) - MAX_TEXT} characters]"


def dumps(attributes: Mapping[str, Any]) -> str:
    """One attribute mapping as JSON text, at most a little over 1 MiB long. Raises nothing for any values."""
    # Most spans hold short text and small numbers: the C encoder alone decides those.
    if _PLAIN.issuperset(map(type, attributes.values())) and _KEYS.issuperset(map(type, attributes)):
        try:
            encoded = text(_encode(attributes))
        except ValueError:  # not finite, or too many digits
            encoded = ""
        if 0 < len(encoded) <= MAX_TEXT:
            return encoded
    return text(_encode(plain(attributes)))


def loads(encoded: str | None) -> dict[str, Any]:
    """The attributes of `dumps`; empty for None. Raises ValueError for text that is no JSON object."""
    if not encoded:
        return {}
    tree = json.loads(encoded)
    if not isinstance(tree, dict):
        raise ValueError("not a JSON object")
    return revived(tree)


def revived(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that `plain` made JSON types of."""
    return {key: _revive(value) for key, value in tree.items()}


def loads_list(encoded: str | None) -> list[dict[str, Any]]:
    """Events or links: a list of objects whose `attributes` are as in `dumps`; empty for None."""
    items: list[dict[str, Any]] = json.loads(encoded) if encoded else []
    for item in items:
        item["attributes"] = {key: _revive(value) for key, value in item["attributes"].items()}
    return items


def plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """The same mapping made of JSON types only, in the documented form."""
    budget = _Budget()
    return {budget.key(key): budget.plain(value, 1) for key, value in attributes.items()}


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


class _Budget:
    """Walks one tree and stops taking more when its characters are spent."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_TREE

    def key(self, key: object) -> str:
        shown = text(key)[:MAX_TEXT]
        self.left -= len(shown) + 4
        return shown

    def plain(self, value: Any, depth: int) -> Any:
        self.left -= 8
        if self.left <= 0 or depth > MAX_DEPTH:
            return {"$cut": type(value).__name__}
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._int(int(value))
        if isinstance(value, float):
            return float(value) if isfinite(value) else {"$float": repr(float(value))}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes(bytes(value))
        return self._tree(value, depth)

    def _tree(self, value: Any, depth: int) -> Any:
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, depth)
            if isinstance(value, (list, tuple, set, frozenset)):
                return self._sequence(value, depth)
        except Exception:
            return {"$cut": type(value).__name__}
        return self._text(_shown(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, item in value.items():
            if self.left <= 0:
                tree["$cut"] = type(value).__name__
                break
            name = self.key(key)
            tree["$" + name if name.startswith("$") else name] = self.plain(item, depth + 1)
        return tree

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        items: list[Any] = []
        for item in value:
            items.append(self.plain(item, depth + 1))
            if self.left <= 0:
                break
        return items

    def _text(self, value: str) -> Any:
        shown = text(cut(str(value)))
        self.left -= len(shown)
        return shown if self.left > 0 else {"$cut": "str"}

    def _int(self, value: int) -> Any:
        try:
            self.left -= len(str(value))
        except ValueError:
            return self._text(hex(value))
        return value

    def _bytes(self, value: bytes) -> dict[str, Any]:
        start = b64encode(value[:MAX_TEXT]).decode("ascii")
        self.left -= len(start)
        if self.left <= 0:
            return {"$cut": "bytes"}
        return {"$bytes": start} if len(value) <= MAX_TEXT else {"$bytes": start, "length": len(value)}


def _revive(value: Any) -> Any:
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return b64decode(value["$bytes"])
    if "$float" in value:
        return float(value["$float"])
    if "$cut" in value:
        return value
    return {key[1:] if key.startswith("$$") else key: _revive(item) for key, item in value.items()}
