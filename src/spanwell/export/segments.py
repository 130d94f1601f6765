"""Ended spans as X-Ray segment documents, mapped as the collector's awsxrayexporter does, with the differences that
docs/xray.md lists.

A span becomes a segment if it serves or is the first of this process in its trace, else a subsegment, sent by itself.
A first span that calls somebody (CLIENT, PRODUCER, CONSUMER) becomes two documents: the service's segment and, below
it, the dependency's subsegment.

`drafts` does what can be done when a span ends; `finished` adds what the resource tells, when documents leave.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from opentelemetry.trace import SpanKind

from spanwell._otel import spans
from spanwell.analysis.names import THROTTLED
from spanwell.export.segment_cause import cause, flags
from spanwell.export.segment_http import http_block
from spanwell.export.segment_limits import MAX_DOCUMENT, fitted
from spanwell.export.segment_names import clean, dependency_name, segment_name
from spanwell.export.segment_parts import (
    RESOURCE,
    annotate,
    aws_block,
    aws_call,
    links_of,
    listed_keys,
    metadata,
    other_events,
    sql_block,
    trace_id,
)
from spanwell.export.segment_values import MAX_STRING, encoded, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.export.segment_resource import Part

_SERVER, _INTERNAL, _CONSUMER = SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CONSUMER
_REMOTE_KINDS = frozenset((SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER))
_USERS = ("enduser.id", "user.id")
_OF_DEPENDENCIES = ("aws.remote.service", "aws.remote.operation", "remoteTarget", "K8s.RemoteNamespace")
_ODD, _MASK = 0xD6E8FEB86659FD93, 2**64 - 1
_CLASH = f'"{RESOURCE}'.encode()
_EMPTY = b'"default":{}}}'


class Draft(NamedTuple):
    """A document without what its resource tells. `text`: JSON; of a segment it ends with the namespace `default` of
    its metadata. named: the name is the resource's if not. listed: attributes of the resource to be annotated."""

    text: bytes
    segment: bool
    named: bool
    merged: bool = False
    listed: tuple[str, ...] = ()


def drafts(span: ReadableSpan, limit: int = MAX_DOCUMENT) -> tuple[Draft, ...]:
    """The documents of `span`, one or two, each of at most `limit` bytes. Raises ValueError for a span that X-Ray
    has no place for: without valid ids or without a start."""
    ended = spans.ended(span)
    _, parent, name, kind, _, _, status, told, events, links, description, scope = ended
    body = _outline(ended)
    local = _is_local_root(parent, told)
    both = local and kind in _REMOTE_KINDS
    segment = not both and (kind is _SERVER or "parent_id" not in body or (local and kind is _INTERNAL))
    rest = dict(told)
    call = aws_call(told)
    errors = flags(status, rest, rest.pop(THROTTLED, None) is True)
    found = long = None
    if events or status == "error":
        found, long = cause(kind, int(body["id"], 16), events, status, description, rest)
    linked = links_of(links) if links else None
    listed = listed_keys(rest)
    kept = _service_segment(body, ended, errors, found, linked, listed) if both else {}
    if both:
        body["parent_id"] = kept["id"]
    if not segment:
        body["type"] = "subsegment"
    _blocks(body, rest, kind, call)
    body.update(errors)
    named = segment_name(kind, told) if segment else dependency_name(told, call, name)
    if named or not segment:
        body["name"] = clean(named)
    annotations = annotate(listed, told, rest) if listed else None
    if annotations:
        body["annotations"] = annotations
    if found:
        body["cause"] = found
    if linked and not (both and kind is _CONSUMER):
        body["links"] = linked
    if long:
        rest.setdefault("exception.message", long)
    first = _draft(body, rest, _own(span, name, body.get("name"), kind, scope, events), listed, limit)
    return (first, _draft(kept, {}, {}, listed, limit)) if both else (first,)


def _outline(ended: Any) -> dict[str, Any]:
    """Ids and times."""
    context, parent, start, end = ended[0], ended[1], ended[4], ended[5]
    if context is None or not context[spans.VALID]:
        raise ValueError("a span without valid ids")
    if start <= 0:
        raise ValueError("a span without a start")
    body: dict[str, Any] = {
        "trace_id": trace_id(context[spans.TRACE_ID]),
        "id": f"{context[spans.SPAN_ID]:016x}",
        "start_time": start / 1e9,
        "end_time": max(start, end) / 1e9,
    }
    if parent is not None and parent[spans.VALID]:
        body["parent_id"] = f"{parent[spans.SPAN_ID]:016x}"
    return body


def _is_local_root(parent: Any, told: Any) -> bool:
    """As Application Signals marks it, else what the span knows itself: its parent is in another process."""
    marked = told.get("aws.span.kind")
    if marked is not None:
        return bool(marked == "LOCAL_ROOT")
    return parent is None or bool(parent[spans.REMOTE])


def _blocks(body: dict[str, Any], rest: dict[str, Any], kind: SpanKind, call: tuple[str, str] | None) -> None:
    """What `body` says about the request, the call or the query that the span is."""
    segment = "type" not in body
    for key in _USERS:
        if key in rest:
            body["user"] = short(rest[key])
            if len(body["user"]) < MAX_STRING:
                del rest[key]
            break
    http = http_block(kind, segment, rest)
    if http:
        body["http"] = http
    if segment:
        return
    if call is not None or "aws.service" in rest:
        body["namespace"] = "aws"
    elif kind in _REMOTE_KINDS:
        body["namespace"] = "remote"
    aws, sql = aws_block(rest, call), sql_block(rest)
    if aws:
        body["aws"] = aws
    if sql:
        body["sql"] = sql


def _service_segment(
    body: dict[str, Any], ended: Any, errors: dict[str, bool], found: Any, linked: Any, listed: list[str]
) -> dict[str, Any]:
    """The segment above a dependency's subsegment: as long, with the same outcome."""
    kind, told = ended[3], ended[7]
    made = dict(body)
    # The same each time, so that a document that is sent again replaces the first.
    made["id"] = f"{int(body['id'], 16) * _ODD & _MASK:016x}"
    made.update(errors)
    if found:
        made["cause"] = found["exceptions"][0]["id"]
    if linked and kind is _CONSUMER:
        made["links"] = linked
    named = segment_name(kind, told)
    if named:
        made["name"] = clean(named)
    annotations = annotate((key for key in listed if key not in _OF_DEPENDENCIES), told, {}) if listed else None
    if annotations:
        made["annotations"] = annotations
    return made


def _own(span: Any, name: str, shown: str | None, kind: SpanKind, scope: Any, events: Any) -> dict[str, Any]:
    """What a segment document has no field for: the namespace `otel` of its metadata."""
    own: dict[str, Any] = {}
    if name != shown:
        own["name"] = short(name)
    if kind is not _INTERNAL:
        own["kind"] = kind.name
    if scope is not None and scope.name:
        own["scope"] = short(scope.name)
    if events:
        others = other_events(events)
        if others:
            own["events"] = others
    dropped = span.dropped_attributes, span.dropped_events, span.dropped_links
    if any(dropped):
        own["dropped"] = dict(zip(("attributes", "events", "links"), dropped, strict=True))
    return own


def _draft(body: dict[str, Any], rest: dict[str, Any], own: dict[str, Any], listed: list[str], limit: int) -> Draft:
    segment = "type" not in body
    default, spaces = metadata(rest) if rest else ({}, {})
    if own:
        spaces["otel"] = {**spaces.get("otel", {}), **own}
    if segment or default:
        spaces["default"] = default  # the last: what the resource tells is put behind it
    if spaces:
        body["metadata"] = spaces
    text = encoded(body)
    too_long = len(text) > limit
    if too_long:
        text = fitted(body, limit)
    if not segment:
        return Draft(text, False, True)
    of_resource = tuple(key.removeprefix(RESOURCE) for key in listed if key.startswith(RESOURCE))
    merged = too_long or bool(of_resource) or _CLASH in text
    return Draft(text, True, "name" in body, merged, of_resource)


def finished(draft: Draft, part: Part, limit: int = MAX_DOCUMENT) -> bytes:
    """The whole document, in at most `limit` bytes."""
    if not draft.segment:
        made = draft.text
    elif draft.merged:
        return fitted(_merged(draft, part), limit)
    else:
        between = b"" if not part.inner or draft.text.endswith(_EMPTY) else b","
        name = b"" if draft.named else b"," + encoded({"name": part.name})[1:-1]
        made = b"".join((draft.text[:-3], between, part.inner, b"}}", name, part.top, b"}"))
    if len(made) <= limit:
        return made
    return fitted(_merged(draft, part) if draft.segment else json.loads(made), limit)


def _merged(draft: Draft, part: Part) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(draft.text)
    whole.setdefault("name", part.name)
    for field, value in part.fields.items():
        whole[field] = {**value, **whole[field]} if isinstance(whole.get(field), dict) else value
    told = dict(part.metadata)
    annotations = annotate(draft.listed, part.attributes, {}, RESOURCE)
    for key in draft.listed:
        told.pop(RESOURCE + key, None)
    if annotations:
        whole["annotations"] = {**annotations, **whole.get("annotations", {})}
    spaces = whole.setdefault("metadata", {})
    spaces["default"] = {**told, **spaces.get("default", {})}
    return whole
