"""What the formats share: ids, times and values that may be anything, and how what is refused is told."""

from __future__ import annotations

import json
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from spanwell.values import plain, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spanwell.record import SpanRecord

    Refuse = Callable[[str, str], None]
    """`(where, why)` of something that is left out, e.g. `("line 3, spans[1]", "the span id is missing")`."""

KINDS = ("internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
UNKNOWN_SERVICE = "unknown_service"
TIME_UNKNOWN = "spanwell.time_unknown"
"""True on a span whose sender left its time out; it stands where its parent starts."""

_MAX = 2**63 - 1
_TRACE, _SPAN, _DIGITS = 32, 16, 40
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


class RefusedError(ValueError):
    """A span, or a document of spans, that cannot be imported; the message says why."""


class Reader(Protocol):
    """Reads one format. A reader is good for one file: it may hold documents until it has seen those they need."""

    left_out: int
    """Documents that are sound but no spans of their own, e.g. X-Ray's inferred segments."""

    def feed(self, value: Any, where: str, refuse: Refuse) -> Iterable[SpanRecord]:
        """The spans that `value`, one parsed JSON value of the file, makes known."""
        ...

    def end(self, refuse: Refuse) -> Iterable[SpanRecord]:
        """The spans that are held when the file ends."""
        ...


def trace_id(value: object) -> str:
    """A trace id as 32 digits; shorter ones (64 bits, or without leading zeros) get zeros in front."""
    return _known_trace(value) if value.__class__ is str else _id(value, _TRACE, "trace id")


@lru_cache(maxsize=1024)
def _known_trace(value: str) -> str:
    return _id(value, _TRACE, "trace id")


def span_id(value: object) -> str:
    """A span id as 16 digits."""
    return _id(value, _SPAN, "span id")


def parent_id(value: object) -> str | None:
    """A parent's id; None where there is none, or only zeros."""
    if not value or (isinstance(value, str) and not value.strip("0")):
        return None
    return _id(value, _SPAN, "parent id")


def _id(value: object, length: int, name: str) -> str:
    if not value:
        raise RefusedError(f"the {name} is missing")
    if not isinstance(value, str):
        raise RefusedError(f"the {name} {shown(value)} is no text")
    if len(value) == length:
        try:
            if len(bytes.fromhex(value)) * 2 == length and value.strip("0"):
                return value.lower()
        except ValueError:
            pass
    found = _unusual(value.strip(), length)
    if found is None:
        raise RefusedError(f"the {name} {shown(value)} is not 1 to {length} hexadecimal digits, one of them not 0")
    return found


def _unusual(value: str, length: int) -> str | None:
    if len(value) == length * 2 // 3 + (4 - length * 2 // 3 % 4) % 4 and value.endswith("="):
        found = _from_base64(value)  # as protobuf's own JSON has bytes
        if found is not None and len(found) == length:
            return found
    digits = value.lower()
    if not digits or len(digits) > length or not set(digits) <= set("0123456789abcdef"):
        return None
    return digits.zfill(length) if digits.strip("0") else None


def _from_base64(value: str) -> str | None:
    from base64 import b64decode

    try:
        return b64decode(value, validate=True).hex()
    except ValueError:
        return None


def integer(value: object, name: str) -> int:
    """A number, also written as text. Raises `RefusedError` naming it `name`."""
    if value.__class__ is int:
        return value
    try:
        if isinstance(value, str):
            if len(value) <= _DIGITS:
                return int(value)
        elif isinstance(value, float):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise RefusedError(f"{name} {shown(value)} is no whole number")


def nanoseconds(value: object, name: str, unit: int = 1) -> int:
    """A time since 1970 in `unit` nanoseconds."""
    found = integer(value, name) * unit
    if not 0 <= found <= _MAX:
        raise RefusedError(f"{name} {shown(value)} is out of range")
    return found


def duration(value: object, name: str, unit: int) -> int:
    """A length of time in `unit` nanoseconds, not negative."""
    found = integer(value, name) * unit
    if found < 0:
        raise RefusedError(f"{name} {shown(value)} is negative")
    return found


def listed(value: object, name: str) -> list[Any]:
    """A list; empty for null."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise RefusedError(f"{name} is no list but {_type(value)}")
    return value


def mapped(value: object, name: str) -> dict[str, Any]:
    """An object; empty for null."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RefusedError(f"{name} is no object but {_type(value)}")
    return value


def named(value: object) -> str:
    """A name; "" for null."""
    return value if value.__class__ is str else "" if value is None else text(value)


def why(error: Exception) -> str:
    """In a few words why a span could not be read."""
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, KeyError):
        return f"the field {shown(error.args[0])} is missing"
    return f"a field has the wrong type ({error})"


def shown(value: object) -> str:
    """`value` for a message."""
    made = repr(value) if not isinstance(value, int) or -_MAX <= value <= _MAX else "of many digits"
    return made if len(made) <= 60 else made[:59] + "…"


def _type(value: object) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "a boolean"}.get(type(value), "a number")


def clamped(number: int) -> int:
    """`number` within what the sqlite tables hold."""
    return max(0, min(number, _MAX))


def dumps(tree: object) -> str:
    """JSON text of what `jsonable` gives."""
    return text(_encode(tree))


def as_text(value: Any) -> str:
    """An attribute value for formats that have only text: lists and maps as JSON."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not isfinite(value):
        return repr(value)
    return dumps(plain({"": value})[""])
