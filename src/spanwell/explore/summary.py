"""What a list of traces says about each, and the stable JSON forms of summaries, traces and spans.

A summary in JSON: `trace_id`, `start_ns`, `end_ns`, `duration_ns`, `root_service` and `root_name` (null
until the root is there), `spans`, `errors`, `orphans`, `services` (list of `name`, `spans`, `errors`). A
trace: the same, with `spans` as a list and the number as `span_count`. A span: the fields of
`spanwell.record.SpanRecord` and `duration_ns`; attribute values as in `spanwell.values`. Fields may be
added, none is renamed or removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from spanwell.values import plain

if TYPE_CHECKING:
    from spanwell.explore.model import Trace
    from spanwell.record import SpanRecord


class ServiceCount(NamedTuple):
    """How much one service contributed to a trace."""

    name: str
    spans: int
    errors: int


class TraceSummary(NamedTuple):
    """One line of a trace list. Times are Unix nanoseconds; services are in alphabetical order."""

    trace_id: str
    start_ns: int
    end_ns: int
    root_service: str | None
    root_name: str | None
    spans: int
    errors: int
    orphans: int
    services: tuple[ServiceCount, ...]

    @property
    def duration(self) -> int:
        """Nanoseconds from the first start to the last end."""
        return max(0, self.end_ns - self.start_ns)

    @property
    def complete(self) -> bool:
        """Whether the root and every parent are there."""
        return self.root_name is not None and self.orphans == 0


def summarise(trace: Trace) -> TraceSummary:
    """The summary of a whole trace: the same that a store keeps for it."""
    counts: dict[str, list[int]] = {}
    for span in trace.spans:
        count = counts.setdefault(span.service, [0, 0])
        count[0] += 1
        count[1] += span.is_error
    present = {span.span_id for span in trace.spans}
    root = trace.root
    return TraceSummary(
        trace_id=trace.trace_id,
        start_ns=trace.start_ns,
        end_ns=trace.end_ns,
        root_service=root.service if root else None,
        root_name=root.name if root else None,
        spans=len(trace.spans),
        errors=len(trace.errors),
        orphans=sum(span.parent_id not in present for span in trace.spans if span.parent_id is not None),
        services=tuple(ServiceCount(name, *counts[name]) for name in sorted(counts)),
    )


def summary_json(summary: TraceSummary) -> dict[str, Any]:
    """The JSON form of a summary."""
    return {
        "trace_id": summary.trace_id,
        "start_ns": summary.start_ns,
        "end_ns": summary.end_ns,
        "duration_ns": summary.duration,
        "root_service": summary.root_service,
        "root_name": summary.root_name,
        "spans": summary.spans,
        "errors": summary.errors,
        "orphans": summary.orphans,
        "services": [service._asdict() for service in summary.services],
    }


def trace_json(trace: Trace) -> dict[str, Any]:
    """The JSON form of a trace with all its spans."""
    summary = summary_json(summarise(trace))
    return {**summary, "span_count": summary["spans"], "spans": [span_json(span) for span in trace.spans]}


def span_json(span: SpanRecord) -> dict[str, Any]:
    """The JSON form of a span."""
    return {
        **span._asdict(),
        "duration_ns": span.duration,
        "attributes": plain(span.attributes),
        "events": [{**event._asdict(), "attributes": plain(event.attributes)} for event in span.events],
        "links": [{**link._asdict(), "attributes": plain(link.attributes)} for link in span.links],
        "resource": plain(span.resource),
    }
