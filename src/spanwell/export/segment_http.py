"""The `http` block of a segment document, from the old and the stable semantic conventions."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from spanwell.export.segment_values import MAX_STRING, said, short, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHARACTERS = frozenset("0123456789abcdefABCDEF.:%")
_DEFAULT_PORTS = {"http": "80", "https": "443"}

# Attribute -> (what it tells, whether it goes before the others that tell it: the stable name does)
_TELLS = {
    "http.request.method": ("method", True),
    "http.method": ("method", False),
    "http.response.status_code": ("status", True),
    "http.status_code": ("status", False),
    "url.full": ("url", True),
    "http.url": ("url", False),
    "url.scheme": ("scheme", True),
    "http.scheme": ("scheme", False),
    "url.path": ("path", True),
    "url.query": ("query", True),
    "http.target": ("target", True),
    "http.host": ("host", True),
    "server.address": ("server", True),
    "server.port": ("port", True),
    "http.server_name": ("local", True),
    "net.host.name": ("local", False),
    "net.host.port": ("local_port", True),
    "net.peer.name": ("remote", True),
    "net.peer.port": ("remote_port", True),
    "user_agent.original": ("agent", True),
    "http.user_agent": ("agent", False),
    "client.address": ("client", True),
    "http.client_ip": ("forwarded", True),
    "network.peer.address": ("peer", True),
    "net.peer.ip": ("peer", False),
    "net.sock.peer.addr": ("peer", False),
    "http.response.body.size": ("length", True),
    "http.response_content_length": ("length", False),
}
_SIGNS = frozenset(("method", "status", "url", "path", "target", "host"))
_ADDRESSES = frozenset(("client", "forwarded", "peer"))
_NUMBERS = frozenset(("status", "length"))


def http_block(kind: SpanKind, segment: bool, attributes: dict[str, Any]) -> dict[str, Any] | None:
    """`http` of a span, or None if it is none of HTTP. What is said in full there leaves `attributes`."""
    told: dict[str, Any] = {}
    keys: list[tuple[str, str]] = []
    for key, value in attributes.items():
        entry = _TELLS.get(key)
        if entry is not None and value is not None:
            field, first = entry
            keys.append((key, field))
            if first or field not in told:
                told[field] = value if value.__class__ is str or field in _NUMBERS else said(value)
    if _SIGNS.isdisjoint(told):
        return None
    block: dict[str, Any] = {}
    request = _request(kind, segment, told)
    if not segment and attributes.get("aws.xray.traced") is True:
        request["traced"] = True
    if request:
        block["request"] = request
    response = {}
    for name, field in (("status", "status"), ("content_length", "length")):
        number = whole_number(told[field]) if field in told else None
        if number is not None:
            response[name] = number
    if response:
        block["response"] = response
    _forget(keys, told, kind, attributes)
    return block or None


def status_code(attributes: dict[str, Any]) -> int | None:
    """The HTTP status that a span tells, or None."""
    found = attributes.get("http.response.status_code")
    if found is None:
        found = attributes.get("http.status_code")
    return None if found is None else found if found.__class__ is int else whole_number(found)


def _request(kind: SpanKind, segment: bool, told: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    if "method" in told:
        request["method"] = short(told["method"])
    url = told["url"] if "url" in told else _url(kind, told)
    if url:
        request["url"] = short(url)
    if "agent" in told:
        request["user_agent"] = short(told["agent"])
    if kind is SpanKind.SERVER and not _ADDRESSES.isdisjoint(told):
        _client(segment, told, request)
    return request


def _forget(keys: list[tuple[str, str]], told: dict[str, Any], kind: SpanKind, attributes: dict[str, Any]) -> None:
    """Take out what has been used, except what is too long for the block, or no number."""
    for key, field in keys:
        value = attributes[key]
        if value.__class__ is str and (len(value) > MAX_STRING or field in _NUMBERS):
            continue
        if field in _ADDRESSES and (kind is not SpanKind.SERVER or (field == "peer" and "client" in told)):
            continue
        del attributes[key]


def _url(kind: SpanKind, told: dict[str, Any]) -> str:
    target: str = told.get("target") or told.get("path", "")
    if told.get("query") and "target" not in told:
        target = f"{target}?{told['query']}"
    host = told.get("host") or _host(told, "local" if kind is SpanKind.SERVER else "remote")
    if not host:
        return target
    scheme = told.get("scheme") or "http"
    name, _, port = host.rpartition(":")
    if name and port == _DEFAULT_PORTS.get(scheme):
        host = name
    return f"{scheme}://{host}{target if target.startswith('/') else '/' + target}"


def _host(told: dict[str, Any], side: str) -> str:
    name: str = told.get("server") or told.get(side) or (told.get("peer", "") if side == "remote" else "")
    if not name:
        return ""
    name = f"[{name}]" if ":" in name else name
    port = told.get("port") or told.get(f"{side}_port")
    return f"{name}:{port}" if port else name


def _client(segment: bool, told: dict[str, Any], request: dict[str, Any]) -> None:
    """The caller's address. The peer of a client span would be the server."""
    peer, forwarded = told.get("peer", ""), told.get("forwarded", "")
    client = told.get("client") or forwarded
    address = client if _is_address(client) else peer
    if not _is_address(address):
        return
    request["client_ip"] = address
    # Instrumentors write client.address from the connection too; http.client_ip came from a header only.
    if segment and address != peer and (peer or forwarded):
        request["x_forwarded_for"] = True


def _is_address(value: str) -> bool:
    return 2 <= len(value) <= 64 and ("." in value or ":" in value) and _CHARACTERS.issuperset(value)
