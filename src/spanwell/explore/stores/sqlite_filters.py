"""The bound of a filter as a condition on the rows of `trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwell.explore.filters import pushdown as b

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from sqlite3 import Connection

    from spanwell.explore.filters.pushdown import Bound

    Condition = tuple[str, list[Any]]

SUMMARY = "trace_id, start_ns, end_ns, root_service, root_name, spans, errors"
_WINDOW = 2_000
_LATEST = 2**63 - 1
_CALLS = ("s.kind IN ('client', 'producer')",)
_OF_TRACE = "s.trace_id = trace.trace_id"

_COLUMNS = {
    b.NAME: "name LIKE ? ESCAPE '\\'",
    b.SERVICE: "service LIKE ? ESCAPE '\\'",
    b.MESSAGE: "status_message LIKE ? ESCAPE '\\'",
    b.ATTRIBUTES: "attributes LIKE ? ESCAPE '\\'",
    b.EVENTS: "events LIKE ? ESCAPE '\\'",
    b.RESOURCE: "resource_id IN (SELECT id FROM resource WHERE body LIKE ? ESCAPE '\\')",
}
_ORPHAN = """(root_start_ns IS NULL OR EXISTS (SELECT 1 FROM span AS child WHERE child.trace_id = trace.trace_id
    AND child.parent_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM span WHERE trace_id = child.trace_id AND span_id = child.parent_id)))"""


def candidates(
    connection: Connection, bound: Bound, conditions: Sequence[str], values: Sequence[Any]
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """(how many traces came before, of how many, a row of `SUMMARY`) of those within the bound, the newest first.

    The texts are looked for in the spans of each trace as its turn comes, not once in all: what is not rare is found
    soon, and what is rare costs little more.
    """
    sql, told = condition(bound)
    of = connection.execute("SELECT count(*) FROM trace").fetchone()[0]
    newest: int | None = _LATEST
    done = 0
    while newest is not None:
        oldest = connection.execute(
            "SELECT start_ns FROM trace WHERE start_ns <= ? ORDER BY start_ns DESC LIMIT 1 OFFSET ?",
            (newest, _WINDOW),
        ).fetchone()
        window = ["start_ns <= ?", "start_ns > ?"][: 2 if oldest else 1]
        rows = connection.execute(
            f"SELECT {SUMMARY} FROM trace WHERE {' AND '.join([*window, *conditions, sql])}"
            " ORDER BY start_ns DESC, trace_id",
            (newest, *(oldest or ()), *values, *told),
        )
        for row in rows:
            yield min(done, of), of, row
        done += _WINDOW
        newest = oldest[0] if oldest else None


def condition(bound: Bound) -> Condition:
    """SQL and its values."""
    if isinstance(bound, b.Every):
        return _joined(" AND ", [condition(part) for part in bound.parts])
    if isinstance(bound, b.Some):
        told = [part for part in bound.parts if isinstance(part, b.Told)]
        rest = [condition(part) for part in bound.parts if not isinstance(part, b.Told)]
        return _joined(" OR ", [*rest, _told(told)] if told else rest)
    if isinstance(bound, b.Told):
        return _told([bound])
    if isinstance(bound, b.Longer):
        return "duration_ns >= ?", [bound.ns]
    if isinstance(bound, b.Failed):
        return "errors > 0", []
    if isinstance(bound, b.InService):
        return f"EXISTS (SELECT 1 FROM trace_service AS s WHERE {_OF_TRACE} AND s.service = ?)", [bound.name]
    return (_ORPHAN, []) if isinstance(bound, b.Incomplete) else ("1", [])


def _joined(word: str, parts: list[Condition]) -> Condition:
    return f"({word.join(sql for sql, _ in parts) or 0})", [value for _, values in parts for value in values]


def _told(bounds: list[b.Told]) -> Condition:
    """One of several texts, looked for in one go."""
    sql, values = _joined(" OR ", [_texts(bound) for bound in bounds])
    return f"EXISTS (SELECT 1 FROM span AS s WHERE {_OF_TRACE} AND {sql})", values


def _texts(bound: b.Told) -> Condition:
    place = " OR ".join(_COLUMNS[place] for place in bound.places)
    every = [*_CALLS[: bound.calls], *[f"({place})"] * len(bound.texts)]
    values = [f"%{literal(text).replace(b.ANY, '_')}%" for text in bound.texts for _ in bound.places]
    return f"({' AND '.join(every)})", values


def literal(part: str) -> str:
    """`part` as it stands in a pattern of LIKE with the backslash as ESCAPE."""
    return part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
