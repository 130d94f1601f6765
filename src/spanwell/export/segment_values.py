"""Any value as JSON that X-Ray takes: text, finite numbers of 64 bits, booleans, lists and objects."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from math import isfinite, isnan
from typing import Any

from spanwell.values import text

MAX_STRING = 250
"""Characters of a text in a segment document, where nothing else is said (X-Ray, "Segment documents")."""

MAX_VALUE = 32_768
"""Characters of a text in metadata: a document is 64 kB at most."""

_MAX_INTEGER = 2**63
_MAX_DEPTH = 8
_MAX_ITEMS = 1000
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False).encode


def encoded(document: Mapping[str, Any]) -> bytes:
    """`document` as JSON in UTF-8. Never raises: what JSON or UTF-8 cannot say is replaced (see `plain`)."""
    try:
        return _encode(document).encode("utf-8", "replace")
    except (ValueError, TypeError, RecursionError):
        return _encode(plain(document)).encode("utf-8", "replace")


def plain(value: Any, depth: int = 0) -> Any:
    """`value` made of JSON types: NaN and infinities, integers beyond 64 bits and anything unknown become text, bytes
    base64. Deeper than 8 levels and longer than 1,000 items or 32,768 characters it is cut."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value if len(value) <= MAX_VALUE else cut(value, MAX_VALUE))
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(bytes(value)[:MAX_VALUE]).decode("ascii")
    try:
        return _tree(value, depth)
    except Exception:
        return f"<{type(value).__name__}>"


def _number(value: int | float) -> Any:
    if isinstance(value, float):
        if isfinite(value):
            return float(value)
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if -_MAX_INTEGER <= value < _MAX_INTEGER:
        return int(value)
    try:
        return cut(str(int(value)), MAX_VALUE)
    except ValueError:  # Python prints no more than 4,300 digits
        return cut(hex(int(value)), MAX_VALUE)


def _tree(value: Any, depth: int) -> Any:
    if depth >= _MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        items = list(value.items())[:_MAX_ITEMS]
        return {cut(text(key), MAX_VALUE): plain(item, depth + 1) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return cut(text(value), MAX_VALUE)


def said(value: Any) -> str:
    """`value` as text; "" for None. Never raises."""
    return value if value.__class__ is str else "" if value is None else text(value)


def cut(value: str, length: int) -> str:
    """`value`, at most `length` characters of it."""
    return value if len(value) <= length else value[: length - 1] + "…"


def short(value: Any) -> str:
    """`value` as a text of X-Ray's usual length; "" for None."""
    shown = said(value)
    return shown if len(shown) <= MAX_STRING else cut(shown, MAX_STRING)


def whole_number(value: Any) -> int | None:
    """`value` as an integer of 64 bits, e.g. 404, "404" or 404.0; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        found = int(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if -_MAX_INTEGER <= found < _MAX_INTEGER else None
