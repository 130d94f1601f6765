"""Text for a terminal: what a string takes in cells, cut and filled to a width, durations and times for
people.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timezone

_UNITS = ((60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))


def clean(text: str) -> str:
    """`text` in one line and without characters that steer a terminal: each becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def cells(text: str) -> int:
    """Columns that `text` (see `clean`) takes: two for East Asian wide letters and emoji, none for
    accents.
    """
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def fit(text: str, width: int) -> str:
    """`text` cut to at most `width` columns, with `…` where something is missing."""
    if cells(text) <= width:
        return text
    taken, left = [], width - 1
    for letter in text:
        left -= _cells(letter)
        if left < 0:
            break
        taken.append(letter)
    return "".join(taken) + "…" if width > 0 else ""


def fill(text: str, width: int) -> str:
    """`text` cut or filled with spaces to exactly `width` columns."""
    text = fit(text, width)
    return text + " " * (width - cells(text))


def format_duration(ns: int) -> str:
    """Nanoseconds as three digits and a unit: `1.23 ms`, `45.6 s`; minutes from 1 minute on: `2.50 min`."""
    for size, unit in _UNITS:
        # 999.5 us shows as 1.00 ms: round first, then choose the unit.
        if ns >= size * 0.9995 and ns > 0:
            value = ns / size
            if unit == "ns":
                return f"{ns} ns"
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return "0 ns"


def format_time(ns: int) -> str:
    """Unix nanoseconds as UTC, `2026-11-20 09:43:14.250`; `?` for a time no calendar holds."""
    try:
        moment = datetime.fromtimestamp(ns / 1e9, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return "?"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
