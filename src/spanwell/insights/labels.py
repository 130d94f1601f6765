"""What a span is called in metrics: operation, peer and outcome, from its attributes alone. Pure.

The outcome is as CloudWatch Application Signals has it: `error` for a 4xx, `fault` for a 5xx or a failed span
without either, else `ok`.
"""

from __future__ import annotations

from spanwell.insights.paths import template, template_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OK, ERROR, FAULT = "ok", "error", "fault"
_UNKNOWN = "unknown"

_STATUS = ("http.response.status_code", "http.status_code", "error.type")
_METHOD = ("http.request.method", "http.method")
_MESSAGES = (
    *("messaging.destination.template", "messaging.destination.name"),
    *("messaging.operation.type", "messaging.operation"),
)
_NAMED = ("service.peer.name", "peer.service", "aws.remote.service")
_PORTS = ("server.port", "net.peer.port")
# What labels are made of, by the sort of span: of one sort, spans that agree in these have the same labels. (Those of
# dependencies and entries: the host or path aside.)
REQUEST = (*_STATUS, *_METHOD, "http.route")
WORK = (*_STATUS, "rpc.service", "rpc.method", *_MESSAGES)
HTTP_CALL = (*_STATUS, *_NAMED, *_METHOD, *_PORTS, "url.template")
RPC_CALL = (
    *(*_STATUS, *_NAMED, *_PORTS, "aws.remote.resource.identifier"),
    *("rpc.system", "rpc.system.name", "rpc.service", "rpc.method"),
)
DB_CALL = (
    *(*_STATUS, *_NAMED, *_PORTS, "aws.remote.resource.identifier"),
    *("db.system.name", "db.system", "db.namespace", "db.name", "db.operation.name", "db.operation"),
)
MESSAGE_CALL = (*_STATUS, *_NAMED, *_PORTS, "aws.remote.resource.identifier", "messaging.system", *_MESSAGES)


def outcome(attributes: Mapping[str, Any], failed: bool) -> tuple[str, str]:
    """(ok, error or fault; the kind of error or ""). `failed`: the span's status is ERROR."""
    code = attributes.get("http.response.status_code") or attributes.get("http.status_code")
    if not isinstance(code, int) or not 400 <= code <= 599:
        code = 0
    if not code and not failed:
        return OK, ""
    kind = _text(attributes, "error.type") or (str(code) if code else "_OTHER")
    return (ERROR if 0 < code < 500 else FAULT), kind


def raw_path(attributes: Mapping[str, Any]) -> str:
    """The path that a request without a known route asked for, or ""."""
    return _text(attributes, "url.path", "http.target")


def entry_operation(name: str, attributes: Mapping[str, Any]) -> str:
    """What was asked for: `GET /orders/{id}`, `Orders/Place`, `process orders`; else the span's name."""
    method = _text(attributes, "http.request.method", "http.method")
    if method:
        route = _text(attributes, "http.route")
        if not route:
            path = raw_path(attributes)
            route = template(path) if path else ""
        return f"{method} {route}" if route else method
    procedure = _text(attributes, "rpc.method")
    if procedure:
        service = _text(attributes, "rpc.service")
        return f"{service}/{procedure}" if service else procedure
    destination = _destination(attributes)
    if destination:
        work = _text(attributes, "messaging.operation.type", "messaging.operation") or "process"
        return f"{work} {destination}"
    return template_name(name) or _UNKNOWN


def dependency_operation(attributes: Mapping[str, Any]) -> str:
    """What the peer is asked for: `PutItem`, `SELECT`, `send`, `GET`.

    An HTTP request is its method, with the template of its URL if the instrumentor knows it: the paths of other
    services would use up the budget of series.
    """
    procedure = _text(attributes, "rpc.method")
    if procedure:
        return procedure.rpartition("/")[2]
    if _text(attributes, "db.system.name", "db.system"):
        return _text(attributes, "db.operation.name", "db.operation") or "query"
    if _text(attributes, "messaging.system"):
        return _text(attributes, "messaging.operation.type", "messaging.operation") or "send"
    method = _text(attributes, "http.request.method", "http.method")
    path = _text(attributes, "url.template")
    return f"{method} {path}".strip() or "call"


def peer(attributes: Mapping[str, Any]) -> str:
    """Who is called, by the first of: a name that was given, the AWS service with its resource, the RPC service of
    AWS, the database, the destination of messages, the address."""
    given = _text(attributes, "service.peer.name", "peer.service")
    if given:
        return given
    remote = _text(attributes, "aws.remote.service") or _aws_service(attributes)
    if remote:
        resource = _text(attributes, "aws.remote.resource.identifier")
        return f"{remote}/{resource}" if resource and remote.startswith("AWS::") else remote
    system = _text(attributes, "db.system.name", "db.system")
    if system:
        return f"{system}/{_text(attributes, 'db.namespace', 'db.name') or address(attributes)}".rstrip("/")
    system = _text(attributes, "messaging.system")
    if system:
        return f"{system}/{_destination(attributes)}".rstrip("/")
    return address(attributes) or _text(attributes, "rpc.service") or _UNKNOWN


def _aws_service(attributes: Mapping[str, Any]) -> str:
    if "aws-api" not in (attributes.get("rpc.system"), attributes.get("rpc.system.name")):
        return ""
    service = _text(attributes, "rpc.service") or _text(attributes, "rpc.method").partition("/")[0]
    return f"AWS::{service}" if service else ""


def address(attributes: Mapping[str, Any]) -> str:
    """`host:port` of who is called, without the ports that HTTP implies."""
    for host_key, port_key in (("server.address", "server.port"), ("net.peer.name", "net.peer.port")):
        host = _text(attributes, host_key)
        if host:
            port = attributes.get(port_key)
            return f"{host}:{port}" if isinstance(port, int) and port not in (80, 443) else host
    return authority(attributes)


def authority(attributes: Mapping[str, Any]) -> str:
    """Host and port of the URL that was asked, without credentials, or ""."""
    url = attributes.get("url.full") or attributes.get("http.url")
    if not isinstance(url, str):
        return ""
    rest = url.partition("://")[2][:512]
    return rest.partition("/")[0].partition("?")[0].rpartition("@")[2]


def _destination(attributes: Mapping[str, Any]) -> str:
    found = _text(attributes, "messaging.destination.template")
    return found or template_name(_text(attributes, "messaging.destination.name"))


def _text(attributes: Mapping[str, Any], *keys: str) -> str:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str) and value:
            return value
    return ""
