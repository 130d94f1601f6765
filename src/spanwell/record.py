"""`SpanRecord`: the small immutable view of an ended span that stores, analysis and insights share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class EventRecord(NamedTuple):
    """Something that happened during a span, at `time_ns` (Unix nanoseconds)."""

    name: str
    time_ns: int
    attributes: Mapping[str, Any] = {}


class LinkRecord(NamedTuple):
    """Another span that this one points at."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any] = {}
    trace_state: str = ""


class SpanRecord(NamedTuple):
    """One ended span. Ids are lower-case hexadecimal text, times are Unix nanoseconds.

    `parent_id` is None for a root. `kind` is internal, server, client, producer or consumer; `status` is
    unset, ok or error. `flags` are OTLP's: trace flags, 0x100 "remote is known", 0x200 "the parent is
    remote".
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    service: str
    start_ns: int
    end_ns: int
    status: str = "unset"
    status_message: str = ""
    attributes: Mapping[str, Any] = {}
    events: tuple[EventRecord, ...] = ()
    links: tuple[LinkRecord, ...] = ()
    resource: Mapping[str, Any] = {}
    scope: str = ""
    scope_version: str = ""
    trace_state: str = ""
    flags: int = 0
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0

    @property
    def duration(self) -> int:
        """Nanoseconds from start to end; 0 when the clock went backwards."""
        return max(0, self.end_ns - self.start_ns)

    @property
    def is_error(self) -> bool:
        """Whether the span's status is error."""
        return self.status == "error"
