"""X-Ray's segment documents (docs.aws.amazon.com/xray, "AWS X-Ray segment documents"): alone, a line each, or in the
answer of BatchGetTraces.

A segment is a span of its service, a subsegment one below it, embedded or sent by itself. A service's name is that of
the segment; a subsegment sent by itself has that of the segment it hangs under, wherever in the file that stands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from spanwell.explore.formats.common import UNKNOWN_SERVICE, RefusedError, listed, mapped, shown, why
from spanwell.explore.formats.common import trace_id as valid_trace
from spanwell.explore.formats.xray_spans import Owner, owner_of, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwell.explore.formats.common import Refuse
    from spanwell.record import SpanRecord

MANY = "Traces"
_HELD = 20_000
_ERRORS = (ValueError, KeyError, TypeError, AttributeError)


def matches(value: dict[str, Any]) -> bool:
    """Whether `value` is a segment document, a trace of BatchGetTraces, its whole answer, or the daemon's header."""
    if MANY in value or "Segments" in value or "Document" in value:
        return True
    if value.get("format") == "json" and "version" in value:
        return True
    return "trace_id" in value and "id" in value


class _Part(NamedTuple):
    """A segment or subsegment. parent: the id it hangs under. owner: its segment, None while that is unknown."""

    document: dict[str, Any]
    parent: str | None
    owner: Owner | None
    where: str


class XrayReader:
    """Reads documents; see `common.Reader`. Those of a trace are held until 20,000 others have come, for subsegments
    that came before their segment and for segments that were first sent in progress."""

    def __init__(self) -> None:
        self.left_out = 0
        self._held: dict[str, list[tuple[dict[str, Any], str]]] = {}
        self._number = 0

    def feed(self, value: Any, where: str, refuse: Refuse) -> Iterator[SpanRecord]:
        """What `value` makes known: a trace that is whole, or the oldest when too much is held."""
        if "format" in value and "trace_id" not in value:
            return
        for document, place in _documents(value, where, refuse):
            try:
                trace = xray_trace(document.get("trace_id"))
            except RefusedError as error:
                refuse(place, str(error))
                continue
            self._held.setdefault(trace, []).append((document, place))
            self._number += 1
        while self._number > _HELD:
            yield from self._trace(next(iter(self._held)), refuse)

    def end(self, refuse: Refuse) -> Iterator[SpanRecord]:
        """The spans of all traces that are left."""
        while self._held:
            yield from self._trace(next(iter(self._held)), refuse)

    def _trace(self, trace: str, refuse: Refuse) -> Iterator[SpanRecord]:
        held = self._held.pop(trace)
        self._number -= len(held)
        finished = {_text(document.get("id")) for document, _ in held if not document.get("in_progress")}
        parts: list[_Part] = []
        for document, where in held:
            if document.get("inferred") or (document.get("in_progress") and _text(document.get("id")) in finished):
                self.left_out += 1
            else:
                parts += _flat(document, where, refuse)
        above = {_text(part.document.get("id")): part for part in parts}
        for part in parts:
            try:
                yield record(part.document, trace, part.parent, part.owner or _owner(part, above))
            except _ERRORS as error:
                refuse(part.where, why(error))


def _documents(value: dict[str, Any], where: str, refuse: Refuse) -> Iterator[tuple[dict[str, Any], str]]:
    """The documents in an answer of BatchGetTraces, in one of its traces or segments, or `value` itself."""
    if "Document" not in value and MANY not in value and "Segments" not in value:
        yield value, where
        return
    try:
        traces = listed(value[MANY], MANY) if MANY in value else [value]
        for number, trace in enumerate(traces):
            segments = listed(trace["Segments"], "Segments") if "Segments" in trace else [trace]
            for position, segment in enumerate(segments):
                place = f"{where}, Traces[{number}].Segments[{position}]" if MANY in value else where
                try:
                    told = segment["Document"]
                    yield mapped(json.loads(told) if isinstance(told, str) else told, "Document"), place
                except (*_ERRORS, RecursionError) as error:
                    refuse(place, f"its Document cannot be read: {why(error)}")
    except _ERRORS as error:
        refuse(where, why(error))


def _flat(document: dict[str, Any], where: str, refuse: Refuse) -> Iterator[_Part]:
    """A document and all subsegments in it. Nothing recurses."""
    try:
        owner = None if document.get("type") == "subsegment" else owner_of(document)
    except _ERRORS as error:
        refuse(where, why(error))
        return
    waiting: list[tuple[Any, str | None, str]] = [(document, document.get("parent_id"), where)]
    while waiting:
        part, parent, place = waiting.pop()
        if not isinstance(part, dict):
            refuse(place, "a subsegment is no object")
            continue
        yield _Part(part, parent, owner, place)
        try:
            inner = listed(part.get("subsegments"), "subsegments")
        except RefusedError as error:
            refuse(place, str(error))
            continue
        below = [(each, part.get("id"), f"{place}, subsegments[{number}]") for number, each in enumerate(inner)]
        waiting += reversed(below)


def _owner(part: _Part, above: dict[Any, _Part]) -> Owner:
    """The segment above a subsegment that was sent by itself."""
    seen = set()
    at = _text(part.parent)
    while at is not None and at not in seen and at in above:
        if above[at].owner is not None:
            return above[at].owner  # type: ignore[return-value]
        seen.add(at)
        at = _text(above[at].parent)
    return Owner(UNKNOWN_SERVICE, {"service.name": UNKNOWN_SERVICE})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def xray_trace(value: object) -> str:
    """A trace id, in X-Ray's form `1-8 digits-24 digits` or W3C's. Raises `RefusedError`."""
    if isinstance(value, str) and value.startswith("1-"):
        version, _, rest = value.partition("-")
        start, dash, unique = rest.partition("-")
        if not dash or len(start) != 8 or len(unique) != 24:
            raise RefusedError(f"the trace id {shown(value)} is not {version}-8 digits-24 digits")
        return valid_trace(start + unique)
    return valid_trace(value)
