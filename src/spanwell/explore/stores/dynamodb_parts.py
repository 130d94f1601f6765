"""The partial summaries that processes stored of one trace, put together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spanwell.explore.summary import ServiceCount, TraceSummary
from spanwell.export import dynamodb_layout as layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Found = Mapping[str, Any]

_ID = 8


class Parts(NamedTuple):
    """One trace as its summaries tell it.

    `orphans_known`: whether they tell of missing parents, too; a very large batch does not. `first_ms`, `last_ms`:
    when the first and the latest batch was written, Unix milliseconds. `expires`: when the latest part goes, Unix
    seconds. `final`: the item that closed the trace, or None.
    """

    summary: TraceSummary
    orphans_known: bool
    first_ms: int
    last_ms: int
    expires: int
    final: Found | None


def merge(trace_id: str, items: Iterable[Found]) -> Parts | None:
    """The parts of `trace_id` among `items` of any kind; None if there is no partial summary."""
    partials: list[Found] = []
    final: Found | None = None
    for item in items:
        sort = item[layout.SORT]["S"]
        if sort == layout.FINAL:
            final = item
        elif sort.startswith(layout.SUMMARY):
            partials.append(item)
    if not partials:
        return None
    root = min(
        (each for each in partials if "root_ns" in each), key=lambda each: _number(each, "root_ns"), default=None
    )
    known = all("ids" in each for each in partials)
    summary = TraceSummary(
        trace_id,
        min(_number(each, layout.START) for each in partials),
        max(_number(each, "end_ns") for each in partials),
        None if root is None else root["service"]["S"],
        None if root is None else root["root_name"]["S"],
        sum(_number(each, "spans") for each in partials),
        sum(_number(each, "errors") for each in partials),
        _orphans(partials) if known else 0,
        _services(partials),
    )
    return Parts(
        summary,
        known,
        min(_number(each, "written_ms") for each in partials),
        max(_number(each, "written_ms") for each in partials),
        max(_number(each, layout.EXPIRES) for each in partials),
        final,
    )


def _number(item: Found, name: str) -> int:
    return int(item[name]["N"])


def _services(partials: list[Found]) -> tuple[ServiceCount, ...]:
    counts: dict[str, list[int]] = {}
    for each in partials:
        count = counts.setdefault(each["service"]["S"], [0, 0])
        count[0] += _number(each, "spans")
        count[1] += _number(each, "errors")
    return tuple(ServiceCount(name, *counts[name]) for name in sorted(counts))


def _orphans(partials: list[Found]) -> int:
    own = {each for item in partials for each in _ids(item, "ids")}
    return sum(parent not in own for item in partials for parent in _ids(item, "parents"))


def _ids(item: Found, name: str) -> list[bytes]:
    packed = bytes(item[name]["B"]) if name in item else b""
    return [packed[start : start + _ID] for start in range(0, len(packed), _ID)]
