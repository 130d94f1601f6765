"""One segment or subsegment as a span: its blocks as the attributes they were made from.

What spanwell's own writers put into the namespace `otel` of the metadata goes before what the blocks tell.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from spanwell.explore.formats.common import (
    KINDS,
    STATUSES,
    UNKNOWN_SERVICE,
    RefusedError,
    clamped,
    integer,
    listed,
    mapped,
    named,
    shown,
    span_id,
)
from spanwell.explore.formats.common import parent_id as valid_parent
from spanwell.explore.formats.common import trace_id as valid_trace
from spanwell.explore.formats.xray_blocks import blocks, causes, resource_of
from spanwell.record import EventRecord, LinkRecord, SpanRecord
from spanwell.values import revived

if TYPE_CHECKING:
    from collections.abc import Mapping

OTEL, DEFAULT = "otel", "default"
RESOURCE = "otel.resource."
LISTED = "aws.xray.annotations"
IN_PROGRESS = "aws.xray.inprogress"
_SPACE = "aws.xray.metadata."
_REMOTE = ("aws", "remote")


class Owner(NamedTuple):
    """What a segment tells of all its subsegments."""

    service: str
    resource: Mapping[str, Any]


def owner_of(segment: dict[str, Any]) -> Owner:
    """The service of a segment."""
    service = named(segment.get("name")) or UNKNOWN_SERVICE
    default = mapped(mapped(segment.get("metadata"), "metadata").get(DEFAULT), "metadata")
    told = {key.removeprefix(RESOURCE): value for key, value in default.items() if key.startswith(RESOURCE)}
    resource = {"service.name": service, **resource_of(segment), **told}
    return Owner(named(resource["service.name"]), resource)


def record(document: dict[str, Any], trace_id: str, parent: str | None, owner: Owner) -> SpanRecord:
    """The span. Raises `common.RefusedError`, ValueError, KeyError, TypeError or AttributeError."""
    spaces = dict(mapped(document.get("metadata"), "metadata"))
    own = mapped(spaces.pop(OTEL, None), "metadata.otel")
    start = _time(document.get("start_time"), "start_time")
    ended = document.get("end_time")
    end = start if ended is None else _time(ended, "end_time")
    kind = _kind(document, own)
    links = tuple(map(_link, listed(document.get("links"), "links")))
    ids = trace_id, span_id(document.get("id")), valid_parent(parent)
    if own.get("whole") is True:
        return _ours(ids, kind, own, mapped(spaces.get(DEFAULT), "metadata"), (start, end), links, owner)
    told = _attributes(document, spaces, kind)
    if ended is None:
        told[IN_PROGRESS] = True
    events, message = causes(document, end, told)
    events += [_event(each) for each in listed(own.get("events"), "events")]
    failed = any(document.get(flag) is True for flag in ("error", "fault", "throttle"))
    dropped = mapped(own.get("dropped"), "dropped")
    return SpanRecord(
        *ids,
        named(own.get("name")) or _name(document, kind),
        kind,
        owner.service,
        start,
        end,
        "error" if failed else "unset",
        message if failed else "",
        told,
        tuple(events),
        links,
        owner.resource,
        named(own.get("scope")),
        dropped_attributes=integer(dropped.get("attributes", 0), "dropped"),
        dropped_events=integer(dropped.get("events", 0), "dropped"),
        dropped_links=integer(dropped.get("links", 0), "dropped"),
    )


def _ours(
    ids: tuple[str, str, str | None],
    kind: str,
    own: dict[str, Any],
    default: dict[str, Any],
    times: tuple[int, int],
    links: tuple[LinkRecord, ...],
    owner: Owner,
) -> SpanRecord:
    """A span that `xray_write` wrote."""
    status = own.get("status", "unset")
    if status not in STATUSES:
        raise RefusedError(f"the status {shown(status)} is none")
    resource = revived(mapped(own["resource"], "resource")) if "resource" in own else owner.resource
    events = tuple(
        EventRecord(
            named(each["name"]),
            clamped(integer(each["time_ns"], "time_ns")),
            revived(mapped(each["attributes"], "attributes")),
        )
        for each in listed(own.get("events"), "events")
    )
    counts = [clamped(integer(each, "a count")) for each in (own.get("dropped") or (0, 0, 0))]
    return SpanRecord(
        *ids,
        named(own.get("name")),
        kind,
        named(own.get("service")) or owner.service,
        clamped(integer(own.get("start_ns", times[0]), "start_ns")),
        clamped(integer(own.get("end_ns", times[1]), "end_ns")),
        status,
        named(own.get("status_message")),
        revived(default),
        events,
        links,
        resource,
        named(own.get("scope")),
        named(own.get("scope_version")),
        named(own.get("trace_state")),
        clamped(integer(own.get("flags", 0), "flags")),
        *counts[:3],
    )


def _time(value: object, name: str) -> int:
    """Seconds as nanoseconds; a float of today's date holds microseconds, no more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 9e9:
        raise RefusedError(f"{name} {shown(value)} is no time in seconds" if value is not None else f"no {name}")
    return round(value * 1e6) * 1_000


def _kind(document: dict[str, Any], own: dict[str, Any]) -> str:
    told = named(own.get("kind")).lower()
    if told in KINDS:
        return told
    if document.get("namespace") in _REMOTE:
        return "client"
    ours = "subsegments" not in document and own
    below = document.get("type") == "subsegment" or "trace_id" not in document
    return "internal" if below or ours else "server"


def _name(document: dict[str, Any], kind: str) -> str:
    """A segment is called after its service; what was asked of it says more."""
    name = named(document.get("name"))
    if kind != "server":
        operation = mapped(document.get("aws"), "aws").get("operation")
        return f"{name}.{operation}" if operation and document.get("namespace") == "aws" else name or "span"
    request = mapped(mapped(document.get("http"), "http").get("request"), "http.request")
    method, url = named(request.get("method")), named(request.get("url"))
    path = url.partition("://")[2].partition("/")[2] if "://" in url else url.removeprefix("/")
    path = "/" + path.partition("?")[0].partition("#")[0]
    return f"{method} {path}".strip() if method or url else name or "span"


def _attributes(document: dict[str, Any], spaces: dict[str, Any], kind: str) -> dict[str, Any]:
    told = blocks(document, kind)
    annotations = mapped(document.get("annotations"), "annotations")
    if annotations:
        told.update(annotations)
        told[LISTED] = list(annotations)
    default = mapped(spaces.pop(DEFAULT, None), "metadata.default")
    told.update((key, value) for key, value in default.items() if not key.startswith(RESOURCE))
    for name, space in spaces.items():
        told[_SPACE + name] = json.dumps(space, separators=(",", ":"))
    return told


def _link(link: dict[str, Any]) -> LinkRecord:
    trace = named(link.get("trace_id"))
    if trace.startswith("1-"):
        trace = trace[2:].replace("-", "", 1)
    told = mapped(link.get("attributes"), "attributes")
    state = told.get("otel.trace_state", "")
    rest = {key: value for key, value in told.items() if key != "otel.trace_state"}
    return LinkRecord(valid_trace(trace), span_id(link.get("id")), revived(rest), named(state))


def _event(event: dict[str, Any]) -> EventRecord:
    return EventRecord(
        named(event.get("name")), _time(event.get("time"), "time"), mapped(event.get("attributes"), "attributes")
    )
