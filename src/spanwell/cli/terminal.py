"""What the commands share: colours, tables, durations as people write them, and a quiet end of a pipe."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from spanwell.explore.text import cells, clean, fill, fit, format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "Style",
    "cells",
    "clean",
    "duration",
    "fill",
    "fit",
    "format_duration",
    "format_time",
    "progress",
    "progress_line",
    "quiet_pipe",
    "say_error",
    "table",
    "terminal_width",
    "wants_colour",
]

_CODES = {
    "title": "1",
    "name": "0",
    "service": "36",
    "kind": "2",
    "detail": "2",
    "duration": "33",
    "bar": "34",
    "good": "32",
    "warning": "33",
    "error": "31",
    "missing": "35",
    "branch": "2",
    "dim": "2",
}
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9}
_UNITS |= {"h": 3600 * 10**9, "d": 86400 * 10**9, "w": 7 * 86400 * 10**9}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*")
_LONGEST = 2**62


class Style:
    """Paints text by role (title, service, duration, error, warning, good, dim, …) when `enabled`."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __call__(self, role: str, text: str) -> str:
        """`text` in the colour of `role`; unchanged for an unknown role."""
        code = _CODES.get(role, "0")
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled and text and code != "0" else text


def wants_colour(environ: Mapping[str, str], out: TextIO) -> bool:
    """Colours on a terminal only; NO_COLOR turns them off and FORCE_COLOR on, if they are not empty."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] not in ("0", "false")
    return environ.get("TERM") != "dumb" and _is_terminal(out)


def terminal_width(environ: Mapping[str, str], out: TextIO) -> int:
    """Columns of the terminal or of COLUMNS; 120 where there is neither."""
    if environ.get("COLUMNS", "").isdecimal() and int(environ["COLUMNS"]) > 0:
        return min(int(environ["COLUMNS"]), 1000)
    return shutil.get_terminal_size((120, 24)).columns if _is_terminal(out) else 120


def _is_terminal(out: TextIO) -> bool:
    try:
        return out.isatty()
    except (AttributeError, ValueError):
        return False


def duration(text: str) -> int:
    """`500ms`, `1.5s`, `1h30m`, `2d` as nanoseconds: a type for argparse."""
    given = text.strip().lower()
    total = end = 0
    for part in _PART.finditer(given):
        if part.start() != end or part[2] not in _UNITS or len(part[1]) > 18:
            break
        total += int(float(part[1]) * _UNITS[part[2]])
        end = part.end()
    if not given or end != len(given) or total > _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 500ms, 1.5s, 30m or 1h30m")
    return total


def table(rows: Sequence[Sequence[str]], headers: Sequence[str], *, right: Sequence[int] = ()) -> list[str]:
    """`rows` under `headers` in aligned columns, two spaces apart; the columns numbered in `right` end flush.

    Cells are cleaned of control characters, so paint whole lines, not cells.
    """
    cleaned = [[clean(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(cells(row[column]) for row in cleaned) for column in range(len(headers))]
    lines = []
    for row in cleaned:
        parts = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - cells(cell))
            parts.append(space + cell if column in right else cell + space)
        lines.append("  ".join(parts).rstrip())
    return lines


def progress_line(text: str, done: int, total: int) -> str:
    """A bar that overwrites the terminal's line, and clears it at the end."""
    filled = 30 * done // max(1, total)
    end = "\r\x1b[K" if done >= total else ""
    return f"\r{text} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}{end}"


def progress(text: str, total: int, *, quiet: bool = False) -> Callable[[int], object]:
    """What shows on a terminal, on the error output, how many of `total` are done; some 200 times at most."""
    if quiet or not sys.stderr.isatty():
        return lambda _done: None
    step = max(1, total // 200)

    def show(done: int) -> None:
        if done % step == 0 or done >= total:
            sys.stderr.write(progress_line(text, min(done, total), total))
            sys.stderr.flush()

    return show


def say_error(message: str) -> None:
    """One line on the error output."""
    print(f"spanwell: {clean(message)}", file=sys.stderr)


@contextmanager
def quiet_pipe(out: TextIO) -> Iterator[None]:
    """End without a word when the reader of `out` has gone (`| head`), and write what its encoding cannot
    as `?`.
    """
    reconfigure = getattr(out, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    try:
        yield
        out.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at exit: let that go nowhere.
        if out is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
