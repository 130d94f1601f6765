"""OTEL_TRACES_SAMPLER_ARG as our samplers read it: `key=value,key=value`, with samplers nested in parentheses.

Within parentheses the separator is `;`, because some configurators split the variable at commas:
``head=(xray;endpoint=http://127.0.0.1:2000),slow_ms=500``.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Convert = Callable[[str], Any]  # raises ValueError, whose text says what is wanted
    Report = Callable[[str], object]


class Nested(NamedTuple):
    """A sampler named within an argument: its name, and its own argument in the same grammar."""

    name: str
    argument: str = ""


def parse(sampler: str, argument: str, known: Mapping[str, Convert], report: Report) -> dict[str, Any]:
    """The values of `argument`, converted by `known`; what cannot be used is reported and left out.

    A repeated key whose converter gives a list adds to it. Every report is one line that names the field, the value
    and the remedy. Never raises.
    """
    values: dict[str, Any] = {}
    for part in _split(argument, ",", sampler, report):
        key, mark, raw = part.partition("=")
        key, raw = key.strip(), raw.strip()
        if not mark or key not in known:
            report(_unknown(sampler, part if not mark else key, known))
            continue
        try:
            value = known[key](raw)
        except ValueError as error:
            report(f"sampler {sampler}: {key}={raw[:200]!r} is not {error}; it is left out")
            continue
        values[key] = values[key] + value if isinstance(value, list) and key in values else value
    return values


def nested(raw: str) -> Nested:
    """`name` or `(name;key=value;…)` as a `Nested`."""
    inner = raw[1:-1] if raw.startswith("(") and raw.endswith(")") else raw
    parts = _split(inner, ";" if raw.startswith("(") else ",", "", lambda _problem: None)
    if not parts or "=" in parts[0] or not parts[0].strip():
        raise ValueError("a sampler such as xray or (xray;endpoint=http://127.0.0.1:2000)")
    return Nested(parts[0].strip(), ",".join(parts[1:]))


def number(low: float = 0.0, high: float = float("inf"), what: str = "") -> Convert:
    """A converter to a float from `low` to `high`."""

    def convert(raw: str) -> float:
        wanted = what or (f"a number from {low:g}" + (f" to {high:g}" if high != float("inf") else ""))
        try:
            value = float(raw)
        except ValueError:
            raise ValueError(wanted) from None
        if not low <= value <= high or value == float("inf"):
            raise ValueError(wanted)
        return value

    return convert


def whole(low: int = 0, high: int = 1 << 62) -> Convert:
    """A converter to an int from `low` to `high`."""

    def convert(raw: str) -> int:
        if not raw.isascii() or not raw.isdecimal() or not low <= int(raw[:20]) <= high:
            raise ValueError(f"a whole number from {low}" + (f" to {high}" if high != 1 << 62 else ""))
        return int(raw)

    return convert


def boolean(raw: str) -> bool:
    """true or false"""
    if raw.lower() in ("true", "1", "yes", "on"):
        return True
    if raw.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def _split(text: str, separator: str, sampler: str, report: Report) -> list[str]:
    """`text` at every `separator` outside parentheses, without empty parts."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == separator and depth <= 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    if depth:
        report(f"sampler {sampler}: the parentheses in {text[:200]!r} do not match")
    return [part for part in parts if part.strip()]


def _unknown(sampler: str, key: str, known: Mapping[str, Convert]) -> str:
    close = get_close_matches(key.partition("=")[0], known, 1)
    hint = f"did you mean {close[0]}=?" if close else f"it knows {', '.join(known)}"
    return f"sampler {sampler}: {key[:200]!r} is no argument of it; {hint}"
