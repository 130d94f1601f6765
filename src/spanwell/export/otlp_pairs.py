"""Attributes as protobuf: KeyValue messages, and those that come again remembered."""

from __future__ import annotations

from struct import Struct
from typing import Any

from spanwell.export.otlp_values import ARRAY, BOOL, DOUBLE, INT, INT_MAX, INT_MIN, NOTHING, PAIRS, TEXT, Values
from spanwell.values import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Pair = tuple[str, Any]

_OF_ONE_KEY = 128
_SHORT = 256
_MASK = 2**64 - 1
_double = Struct("<Bd").pack


class _Varints(dict[int, bytes]):
    """Unsigned numbers as varints; those below 4096, lengths mostly, are remembered."""

    def __missing__(self, number: int) -> bytes:
        made = bytearray()
        rest = number
        while rest > 0x7F:
            made.append(rest & 0x7F | 0x80)
            rest >>= 7
        made.append(rest)
        encoded = bytes(made)
        if number < 4096:
            self[number] = encoded
        return encoded


varint = _Varints().__getitem__
"""A number from 0 on as a protobuf varint."""


def framed(tag: bytes, message: bytes) -> bytes:
    """`message` as a field: tag, length, bytes."""
    return tag + varint(len(message)) + message


class Pairs(dict[tuple[str, Any], bytes]):
    """(key, value) -> their KeyValue as the field `tag` of the message whose attributes they are.

    In here are only texts and tuples of texts: True, 1 and 1.0 would be one key. Remembered are pairs of at most
    256 bytes, `bound` each of texts, ints and bools, of one key 128: one whose values never come again must not
    push out the others. At the bound all of them go, and are made again.
    """

    def __init__(self, tag: int, bound: int = 1024) -> None:
        super().__init__()
        self._tag = bytes((tag,))
        self._bound = bound
        self._ints: dict[Pair, bytes] = {}
        self._bools: dict[Pair, bytes] = {}
        self._kept: dict[str, int] = {}
        # What stands before an AnyValue of that many bytes, and before the bytes of a text.
        self._heads: dict[tuple[str, int], bytes] = {}
        self._text_heads: dict[tuple[str, int], bytes] = {}
        self.pair = self.__getitem__
        """One pair. Raises for what only `one_by_one` can say."""

    def joined(self, attributes: Mapping[str, Any]) -> tuple[bytes, int]:
        """All of `attributes` that can be said, and how many cannot. Raises nothing."""
        try:
            return b"".join(map(self.pair, attributes.items())), 0
        except Exception:
            return self.one_by_one(attributes)

    def one_by_one(self, attributes: Mapping[str, Any]) -> tuple[bytes, int]:
        """The same where `pair` raises: a mapping has no hash, half a surrogate pair no UTF-8."""
        made = []
        unsaid = 0
        for item in list(attributes.items()):
            try:
                made.append(self.pair(item))
            except Exception:
                try:
                    made.append(self.odd(*item))
                except Exception:
                    unsaid += 1
        return b"".join(made), unsaid

    def odd(self, key: Any, value: Any) -> bytes:
        """One pair of any types, past what is remembered. Raises for what cannot be said at all."""
        return self._pair(text(key), any_value(value, Values()))

    def __missing__(self, item: tuple[str, Any]) -> bytes:
        key, value = item
        kind = type(value)
        if kind is str:
            raw: bytes = value.encode()
            try:
                made = self._text_heads[key, len(raw)] + raw
            except KeyError:
                made = self._text_head(key, len(raw)) + raw
            if self._kept.get(key, 0) < _OF_ONE_KEY:
                self._keep(self, item, made)
            return made
        if kind is int:
            return self._ints.get(item) or self._int(item)
        if kind is bool:
            return self._bools.get(item) or self._bool(item)
        made = self._pair(key, any_value(value, Values()))
        if kind is tuple and all(type(each) is str for each in value):
            self._keep(self, item, made)
        return made

    def _int(self, item: Pair) -> bytes:
        key, value = item
        if INT_MIN <= value <= INT_MAX:
            made = self._pair(key, b"\x18" + varint(value & _MASK))
        else:
            made = self._pair(key, any_value(value, Values()))
        if self._kept.get(key, 0) < _OF_ONE_KEY:
            self._keep(self._ints, item, made)
        return made

    def _bool(self, item: Pair) -> bytes:
        made = self._pair(item[0], b"\x10\x01" if item[1] else b"\x10\x00")
        self._keep(self._bools, item, made)
        return made

    def _keep(self, memo: dict[Pair, bytes], item: Pair, made: bytes) -> None:
        kept = self._kept.get(item[0], 0)
        if kept >= _OF_ONE_KEY or len(made) > _SHORT:
            return
        if len(memo) >= self._bound:
            for full in (self, self._ints, self._bools, self._kept):
                full.clear()
        self._kept[item[0]] = kept + 1
        memo[item] = made

    def _pair(self, key: str, value: bytes) -> bytes:
        """`key` with an encoded AnyValue."""
        size = len(value)
        try:
            return self._heads[key, size] + value
        except KeyError:
            head = self._head(key, size)
            self._keep_head(self._heads, key, size, head)
            return head + value

    def _text_head(self, key: str, size: int) -> bytes:
        before = b"\x0a" + varint(size)
        head = self._head(key, len(before) + size) + before
        self._keep_head(self._text_heads, key, size, head)
        return head

    def _head(self, key: str, size: int) -> bytes:
        before = framed(b"\x0a", key.encode()) + b"\x12" + varint(size)
        return self._tag + varint(len(before) + size) + before

    def _keep_head(self, memo: dict[tuple[str, int], bytes], key: str, size: int, head: bytes) -> None:
        if size <= _SHORT and len(head) <= _SHORT:
            if len(memo) >= self._bound:
                memo.clear()
            memo[key, size] = head


def key_value(key: str, value: bytes) -> bytes:
    """A KeyValue of `key` and an encoded AnyValue."""
    return framed(b"\x0a", key.encode()) + framed(b"\x12", value)


def any_value(value: Any, values: Values, depth: int = 0) -> bytes:
    """The AnyValue of `value`, `depth` levels down in an attribute. Raises ValueError for too many values."""
    field, content = values.said(value, depth)
    if field == TEXT:
        return framed(b"\x0a", content.encode())
    if field == INT:
        return b"\x18" + varint(content & _MASK)
    if field == BOOL:
        return b"\x10\x01" if content else b"\x10\x00"
    if field == DOUBLE:
        return _double(0x21, content)
    if field == NOTHING:
        return b""
    if field == ARRAY:
        return framed(b"\x2a", b"".join([framed(b"\x0a", any_value(each, values, depth + 1)) for each in content]))
    if field == PAIRS:
        return framed(b"\x32", _list(content, values, depth + 1))
    return framed(b"\x3a", content)


def _list(pairs: list[Pair], values: Values, depth: int) -> bytes:
    return b"".join([framed(b"\x0a", key_value(key, any_value(each, values, depth))) for key, each in pairs])
