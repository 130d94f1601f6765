"""Attribute values in the terms of OTLP, for both of its encodings: which field of AnyValue says a value.

| value | said as |
| --- | --- |
| None | an AnyValue without a field |
| text, bool, int of 64 bits, float with NaN and infinities, bytes | itself |
| a wider int | its text; from 4,301 digits on the hexadecimal one |
| list, tuple, other sequence | array |
| mapping | key-value list; a key that is no text becomes `str(key)` |
| a sequence or mapping deeper than 16 levels | text: `<list>`, the name of the type |
| anything else | `str(value)`, or `<Name of the type>` if it has none |

Half a surrogate pair, which is no text, becomes `?`. An attribute of more than 100,000 values is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from spanwell.values import MAX_DEPTH, text

# The numbers of AnyValue's fields.
NOTHING: Final = 0
TEXT: Final = 1
BOOL: Final = 2
INT: Final = 3
DOUBLE: Final = 4
ARRAY: Final = 5
PAIRS: Final = 6
BYTES: Final = 7

MAX_VALUES = 100_000
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

REMOTE_KNOWN, REMOTE = 0x100, 0x200
"""Span flags beside the eight W3C trace flags: whether the parent, or the linked span, is known to be remote."""


class Values:
    """Says the values of one attribute, at most 100,000 of them."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def said(self, value: Any, depth: int = 0) -> tuple[int, Any]:
        """The field for `value`, `depth` levels down, and its content in plain types.

        The items of ARRAY (a sequence) and PAIRS ((text, value) tuples) are as they were. Raises ValueError past
        the bound.
        """
        self.left -= 1
        if self.left < 0:
            raise ValueError("an attribute of more than 100,000 values")
        if value is None:
            return NOTHING, None
        # The plain form of a subclass by the base's own method: an enum's str() is not what it equals.
        if isinstance(value, str):
            return TEXT, text(str.__str__(value))
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return DOUBLE, float.__float__(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return BYTES, bytes(value)
        return _tree(value, depth)


def _integer(value: int) -> tuple[int, Any]:
    if isinstance(value, bool):
        return BOOL, value
    plain = int.__index__(value)
    if INT_MIN <= plain <= INT_MAX:
        return INT, plain
    try:
        return TEXT, str(plain)
    except ValueError:
        return TEXT, hex(plain)


def _tree(value: Any, depth: int) -> tuple[int, Any]:
    mapping = isinstance(value, Mapping)
    if not mapping and not isinstance(value, Sequence):
        return TEXT, text(value)
    if depth >= MAX_DEPTH:
        # Receivers refuse a whole request for one message that is nested too deep: protobuf parsers stop at 100.
        return TEXT, f"<{type(value).__name__}>"
    if mapping:
        return PAIRS, [(text(key), item) for key, item in value.items()]
    return ARRAY, value


def count(value: Any) -> int:
    """A number of dropped items as the 32 bits that OTLP has for it."""
    return max(0, min(int(value), 0xFFFF_FFFF))


def dropped_of(attributes: Any) -> int:
    """How many attributes of a resource or scope the SDK had no room for."""
    return getattr(attributes, "dropped", 0) or 0


def sound_span(fields: tuple[Any, ...]) -> tuple[Any, ...]:
    """`span_fields` with everything but the attributes, events and links as OTLP can say it.

    Raises ValueError for ids out of range.
    """
    context, parent, name, kind, start, end, code, said, *rest = fields
    for each in (context,) if parent is None else (context, parent):
        check_ids(each)
    return context, parent, text(name), kind, time(start), time(end), code, said and text(said), *rest


def sound_event(fields: tuple[Any, ...]) -> tuple[Any, ...]:
    """`event_fields` likewise."""
    name, at, attributes, dropped = fields
    return text(name), time(at), attributes, dropped


def check_ids(context: Any) -> None:
    """Raise ValueError for a trace id over 128 bits or a span id over 64."""
    if not (0 <= context.trace_id < 2**128 and 0 <= context.span_id < 2**64):
        raise ValueError(f"ids out of range: trace {context.trace_id:#x}, span {context.span_id:#x}")


def time(value: Any) -> int:
    """Unix nanoseconds as the 64 bits that OTLP has for them; 0 if unknown."""
    return 0 if value is None else max(0, min(int(value), 0xFFFF_FFFF_FFFF_FFFF))
