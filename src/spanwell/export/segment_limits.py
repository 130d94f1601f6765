"""A segment document that is too long: what matters least is taken out until it fits."""

from __future__ import annotations

from spanwell.export.segment_values import cut, encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_DOCUMENT = 64_000
"""Bytes of a document: X-Ray's "64 kB", and with its header less than a UDP datagram over IPv4 can hold (65,507)."""

CUT = "spanwell.cut"
"""The key in metadata under which stands what has been taken out."""

_REQUIRED = frozenset(
    (
        *("trace_id", "id", "name", "start_time", "end_time", "parent_id", "type", "namespace", "origin"),
        *("error", "throttle", "fault"),
    )
)


def fitted(document: dict[str, Any], limit: int) -> bytes:
    """`document`, which this changes, in at most `limit` bytes of JSON; 2,000 are always enough.

    In this order: long values of metadata are cut, then the longest taken out; links; stack frames and exceptions;
    long annotations; at last everything that X-Ray does not require.
    """
    steps: tuple[tuple[str, Callable[[dict[str, Any], int], None]], ...] = (
        ("metadata", _shorten_metadata),
        ("metadata", _drop_metadata),
        ("links", lambda whole, _: _keep(whole, "links", 5)),
        ("cause", _shorten_cause),
        ("links", lambda whole, _: _keep(whole, "links", 0)),
        ("annotations", _shorten_annotations),
        ("everything", _strip),
    )
    made = encoded(document)
    taken: list[str] = []
    for name, step in steps:
        if len(made) <= limit:
            return made
        step(document, len(made) - limit + 200)
        if name not in taken:
            taken.append(name)
        if name != "everything":
            document.setdefault("metadata", {}).setdefault("default", {})[CUT] = ", ".join(taken)
        made = encoded(document)
    return made


def _shorten_metadata(document: dict[str, Any], _: int) -> None:
    for space in document.get("metadata", {}).values():
        for key, value in space.items():
            if isinstance(value, str):
                space[key] = cut(value, 4000)


def _drop_metadata(document: dict[str, Any], excess: int) -> None:
    """Take out the longest values until `excess` bytes are gone."""
    spaces = document.get("metadata", {})
    sized = [
        (len(encoded({key: value})), name, key) for name, space in spaces.items() for key, value in space.items()
    ]
    for size, name, key in sorted(sized, key=lambda each: -each[0]):
        if excess <= 0:
            break
        del spaces[name][key]
        excess -= size - 2
    for name in [name for name, space in spaces.items() if not space]:
        del spaces[name]


def _keep(document: dict[str, Any], field: str, number: int) -> None:
    if field in document:
        document[field] = document[field][:number]
        if not document[field]:
            del document[field]


def _shorten_cause(document: dict[str, Any], _: int) -> None:
    found = document.get("cause")
    if not isinstance(found, dict):
        return
    found["exceptions"] = found["exceptions"][:3]
    found["exceptions"][-1].pop("cause", None)
    for exception in found["exceptions"]:
        stack = exception.get("stack", [])
        if len(stack) > 10:
            exception["truncated"] = exception.get("truncated", 0) + len(stack) - 10
            exception["stack"] = stack[:10]


def _shorten_annotations(document: dict[str, Any], _: int) -> None:
    found = document.get("annotations", {})
    for key, value in found.items():
        if isinstance(value, str):
            found[key] = cut(value, 100)


def _strip(document: dict[str, Any], _: int) -> None:
    for field in [field for field in document if field not in _REQUIRED]:
        del document[field]
