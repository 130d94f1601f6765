"""Results as Markdown: medians, quartiles, and ratios to the row they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.stats import ratio, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rounds import Samples

MS, US, MB = 1e3, 1e6, 1e-6


@dataclass(frozen=True)
class Column:
    """One metric: `scale` turns seconds or bytes into what is shown; `kind` is `ratio` or `plain`."""

    metric: str
    title: str
    scale: float
    kind: str = "ratio"
    digits: int = 1


@dataclass(frozen=True)
class Row:
    """One contender's samples."""

    key: str
    title: str
    samples: Samples

    def median(self, metric: str) -> float | None:
        """The median of `metric`, unscaled; None where it was not measured."""
        values = self.samples.values.get(metric)
        return summarise(values).median if values else None


@dataclass(frozen=True)
class Result:
    """One section: `base` is the key of the row that ratios are taken to."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    base: str

    def row(self, key: str) -> Row | None:
        """The row of contender `key`."""
        return next((row for row in self.rows if row.key == key), None)


def markdown(result: Result) -> str:
    """`result` as a heading and a table."""
    titles = ["", *_titles(result.columns)]
    lines = [_line(titles), _line(["---"] + ["---:"] * (len(titles) - 1))]
    lines += [_line([row.title, *_cells(result, row)]) for row in result.rows]
    note = _note(result)
    return "\n".join([f"## {result.title}", "", *([note, ""] if note else []), *lines, ""])


def _note(result: Result) -> str:
    counts = [len(values) for row in result.rows for values in row.samples.values.values()]
    base = result.row(result.base)
    parts = []
    if counts and max(counts) > 1:
        parts.append(f"Median (first to third quartile) of {_range(counts)} interleaved runs.")
    if base:
        parts.append(f"x is the ratio to '{base.title}'.")
    return " ".join(parts)


def _range(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _titles(columns: Sequence[Column]) -> list[str]:
    titles = []
    for column in columns:
        titles += [column.title, "x"] if column.kind == "ratio" else [column.title]
    return titles


def _cells(result: Result, row: Row) -> list[str]:
    if row.samples.error:
        width = len(_titles(result.columns))
        return [f"**failed**: {plain(row.samples.error)}", *[""] * (width - 1)]
    cells = []
    for column in result.columns:
        cells.append(_value(row, column))
        if column.kind == "ratio":
            cells.append(_times(result, row, column.metric))
    return cells


def _value(row: Row, column: Column) -> str:
    values = row.samples.values.get(column.metric)
    note = row.samples.notes.get(column.metric)
    if not values:
        return f"**failed**: {plain(note)}" if note else "-"
    summary = summarise(value * column.scale for value in values)
    text = f"{summary.median:.{column.digits}f}"
    if summary.count > 1:
        text += f" ({summary.low:.{column.digits}f}-{summary.high:.{column.digits}f})"
    return f"{text} **once failed**: {plain(note)}" if note else text


def _times(result: Result, row: Row, metric: str) -> str:
    base = result.row(result.base)
    own, other = row.median(metric), base.median(metric) if base else None
    times = ratio(own, other) if own is not None and other is not None else None
    return f"{times:.2f}" if times is not None else "-"


def plain(text: str) -> str:
    """`text` made fit for a table cell."""
    return " ".join(text.split()).replace("|", "/")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain Markdown table."""
    return "\n".join([_line(titles), _line(["---"] * len(titles)), *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
