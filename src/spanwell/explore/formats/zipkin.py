"""Zipkin's v2 JSON (zipkin.io/zipkin-api, /api/v2/spans): lists of spans, also lists of lists as /traces gives them.

A client and a server may share one span id: both are kept, as two spans with that id. Tags are text and stay text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from spanwell.explore.formats.common import (
    KINDS,
    TIME_UNKNOWN,
    UNKNOWN_SERVICE,
    RefusedError,
    as_text,
    clamped,
    dumps,
    duration,
    listed,
    mapped,
    named,
    nanoseconds,
    parent_id,
    span_id,
    trace_id,
    why,
)
from spanwell.record import EventRecord, SpanRecord
from spanwell.values import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spanwell.explore.formats.common import Refuse

    Key = tuple[str, str]

_MICRO = 1_000
_HELD = 50_000
_KNOWN = 200_000
_SCOPE, _SCOPE_VERSION = "otel.scope.name", "otel.scope.version"
_ADDRESSES = ("ipv4", "ipv6")
_LOCAL, _LOCAL_PORT = "network.local.address", "network.local.port"
_PEER, _PEER_ADDRESS, _PEER_PORT = "peer.service", "network.peer.address", "network.peer.port"


def matches(value: dict[str, Any]) -> bool:
    """Whether `value` is a span of Zipkin v2."""
    return "traceId" in value and "id" in value


class ZipkinReader:
    """Reads spans; see `common.Reader`. Spans without a time, as a sampler's late joiner sends them, are held to the
    end of the file and placed where their parent starts, else where their trace does."""

    left_out = 0

    def __init__(self) -> None:
        self._held: dict[Key, list[tuple[SpanRecord, str]]] = {}
        self._number = 0
        self._starts: dict[Key, int] = {}
        self._resources: dict[tuple[Any, ...], dict[str, Any]] = {}

    def feed(self, value: Any, where: str, refuse: Refuse) -> Iterator[SpanRecord]:
        """The one span that `value` is."""
        try:
            span = self._span(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            refuse(where, why(error))
            return
        if span.start_ns:
            self._note(span)
            yield span
        elif self._number < _HELD:
            self._number += 1
            self._held.setdefault((span.trace_id, span.span_id), []).append((span, where))
        else:
            refuse(where, f"more than {_HELD} spans without a timestamp")

    def _note(self, span: SpanRecord) -> None:
        if len(self._starts) < _KNOWN:
            self._starts.setdefault((span.trace_id, span.span_id), span.start_ns)
            trace = span.trace_id, ""
            self._starts[trace] = min(self._starts.get(trace, span.start_ns), span.start_ns)

    def end(self, refuse: Refuse) -> Iterator[SpanRecord]:
        """The spans without a time."""
        for spans in self._held.values():
            for span, where in spans:
                start = self._place(span)
                if start is None:
                    refuse(where, "no span of its trace has a timestamp")
                    continue
                length = max(0, span.end_ns)
                told = {**span.attributes, TIME_UNKNOWN: True}
                yield span._replace(start_ns=start, end_ns=clamped(start + length), attributes=told)

    def _place(self, span: SpanRecord) -> int | None:
        trace = span.trace_id
        seen: set[str | None] = set()
        at: str | None = span.span_id
        while at is not None and at not in seen:
            found = self._starts.get((trace, at))
            if found is not None:
                return found
            seen.add(at)
            held = self._held.get((trace, at))
            at = held[0][0].parent_id if held else None
        return self._starts.get((trace, ""))

    def _span(self, span: dict[str, Any]) -> SpanRecord:
        get = span.get
        notes = sorted(map(_event, listed(get("annotations"), "annotations")), key=lambda event: event.time_ns)
        start = nanoseconds(get("timestamp") or 0, "timestamp", _MICRO) or (notes[0].time_ns if notes else 0)
        length = duration(get("duration") or 0, "duration", _MICRO)
        local = get("localEndpoint") or {}
        told: dict[str, Any] = {key: named(value) for key, value in mapped(get("tags"), "tags").items()}
        status, message = _status(told)
        scope, version = told.pop(_SCOPE, ""), told.pop(_SCOPE_VERSION, "")
        _endpoint(local, told, _LOCAL, _LOCAL_PORT)
        remote = get("remoteEndpoint")
        if remote:
            _endpoint(remote, told, _PEER_ADDRESS, _PEER_PORT)
            if remote.get("serviceName"):
                told.setdefault(_PEER, named(remote["serviceName"]))
        resource = self._resource(local)
        return SpanRecord(
            trace_id(get("traceId")),
            span_id(get("id")),
            parent_id(get("parentId")),
            named(get("name")),
            _kind(get("kind")),
            resource["service.name"],
            start,
            clamped(start + length),
            status,
            message,
            told,
            tuple(notes),
            resource=resource,
            scope=scope,
            scope_version=version,
        )

    def _resource(self, local: dict[str, Any]) -> dict[str, Any]:
        key = local.get("serviceName"), local.get("ipv4"), local.get("ipv6")
        known = self._resources.get(key)
        if known is None:
            known = {"service.name": named(key[0]) or UNKNOWN_SERVICE}
            addresses = [named(each) for each in key[1:] if each]
            if addresses:
                known["host.ip"] = addresses
            if len(self._resources) < _KNOWN:
                self._resources[key] = known
        return known


def _kind(value: Any) -> str:
    if value is None:
        return "internal"
    kind = named(value).lower()
    if kind not in KINDS:
        raise RefusedError(f"the kind {value!r} is none of CLIENT, SERVER, PRODUCER, CONSUMER")
    return kind


def _status(told: dict[str, Any]) -> tuple[str, str]:
    code = told.pop("otel.status_code", "").lower()
    failed = told.pop("error", None)  # whatever it says
    if failed is not None:
        return "error", "" if failed in ("", "true") else failed
    return (code if code in ("ok", "error") else "unset"), ""


def _endpoint(endpoint: dict[str, Any], told: dict[str, Any], address: str, port: str) -> None:
    found = endpoint.get("ipv4") or endpoint.get("ipv6")
    if found:
        told.setdefault(address, named(found))
    if endpoint.get("port"):
        told.setdefault(port, endpoint["port"])


def _event(note: dict[str, Any]) -> EventRecord:
    name, told = named(note.get("value")), {}
    if name.startswith('"') and name.endswith("}"):  # `"name": {attributes}`, as OpenTelemetry's exporters write
        try:
            found = json.loads(f"{{{name}}}")
        except (ValueError, RecursionError):
            found = {}
        if len(found) == 1:
            ((inner, values),) = found.items()
            if isinstance(values, dict):
                name, told = inner, values
    return EventRecord(name, nanoseconds(note["timestamp"], "timestamp", _MICRO), told)


# --- writing --------------------------------------------------------------------------------------------------------


def write(traces: Iterable[list[SpanRecord]]) -> Iterator[str]:
    """One list of spans, a line each."""
    first = True
    yield "["
    for spans in traces:
        callers = {span.span_id for span in spans if span.kind == "client"}
        for span in spans:
            yield ("\n" if first else ",\n") + dumps(_json(span, span.kind == "server" and span.span_id in callers))
            first = False
    yield "\n]\n"


def _json(span: SpanRecord, shared: bool) -> dict[str, Any]:
    told = dict(span.attributes)
    timed = told.pop(TIME_UNKNOWN, None) is not True
    local: dict[str, Any] = {} if span.service == UNKNOWN_SERVICE else {"serviceName": span.service}
    resource = dict(span.resource)
    resource.pop("service.name", None)
    local |= _written(told, _LOCAL, _LOCAL_PORT)
    if told.get(_LOCAL) is None and "host.ip" in resource and set(local) & set(_ADDRESSES):
        del resource["host.ip"]
    remote: dict[str, Any] = {"serviceName": named(told.pop(_PEER))} if told.get(_PEER) else {}
    remote |= _written(told, _PEER_ADDRESS, _PEER_PORT)
    made: dict[str, Any] = {"traceId": span.trace_id, "id": span.span_id}
    made |= {"parentId": span.parent_id} if span.parent_id else {}
    made |= {"kind": span.kind.upper()} if span.kind != "internal" else {}
    made["name"] = text(span.name)
    if timed:
        made["timestamp"] = span.start_ns // _MICRO
    length = max(0, span.end_ns // _MICRO - span.start_ns // _MICRO)
    made |= {"duration": length} if length else {}
    made |= {"localEndpoint": local} if local else {}
    made |= {"remoteEndpoint": remote} if remote else {}
    if span.events:
        made["annotations"] = [_note_json(event) for event in span.events]
    tags = {key: as_text(value) for key, value in {**resource, **told}.items()} | dict(_own_tags(span))
    made |= {"tags": tags} if tags else {}
    return made | ({"shared": True} if shared else {})


def _written(told: dict[str, Any], address: str, port: str) -> dict[str, Any]:
    """An endpoint's address and port, which leave `told`."""
    made: dict[str, Any] = {}
    found = told.get(address)
    if isinstance(found, str) and ("." in found or ":" in found):
        made["ipv6" if ":" in found else "ipv4"] = told.pop(address)
    if type(told.get(port)) is int and 0 < told[port] < 65_536:
        made["port"] = told.pop(port)
    return made


def _own_tags(span: SpanRecord) -> Iterator[tuple[str, str]]:
    if span.scope:
        yield _SCOPE, span.scope
    if span.scope_version:
        yield _SCOPE_VERSION, span.scope_version
    if span.status != "unset":
        yield "otel.status_code", span.status.upper()
    if span.is_error:
        yield "error", span.status_message or "true"


def _note_json(event: EventRecord) -> dict[str, Any]:
    value = event.name
    if event.attributes:
        told = {
            key: each if isinstance(each, (int, bool)) else as_text(each) for key, each in event.attributes.items()
        }
        value = f"{dumps(event.name)}:{dumps(told)}"
    return {"timestamp": event.time_ns // _MICRO, "value": value}
