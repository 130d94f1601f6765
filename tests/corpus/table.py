"""The table of docs/insights.md that says how well the detectors find what they look for.

`PYTHONPATH=src:tests python -m corpus.table` writes it.
"""

from __future__ import annotations

from pathlib import Path

from corpus.harness import HALVES, cases, score

DOCUMENT = Path(__file__).parents[2] / "docs" / "insights.md"
BEGIN, END = "<!-- corpus -->", "<!-- /corpus -->"
HEAD = (
    "| insight | tuned on: found | near misses left alone | precision, recall "
    "| held out: found | near misses left alone | precision, recall |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def detectors() -> list[str]:
    """Those that have programs, by name."""
    return sorted({made.detector for made in cases()})


def row(detector: str) -> str:
    """One line of the table."""
    cells = [detector]
    for half in HALVES:
        result = score(detector, half)
        cells.append(f"{result.found} of {result.positives}")
        cells.append(f"{result.near_misses - result.false} of {result.near_misses}")
        cells.append(f"{result.precision:.2f}, {result.recall:.2f}")
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """All of it."""
    return "\n".join((HEAD, *map(row, detectors())))


def write() -> None:
    """Put the table between the two marks of the document."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after or chr(10)}")


if __name__ == "__main__":
    write()
