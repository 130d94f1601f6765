"""What a segment is called, and the keys of its annotations.

X-Ray draws a node for each name: it is the service's or the dependency's, not the operation's. The order is that of
the collector's awsxrayexporter; unlike there, every name is freed of what X-Ray does not allow, a segment that is no
server span has its service's name, and producers and consumers are called after their broker.
"""

from __future__ import annotations

from functools import lru_cache

from opentelemetry.trace import SpanKind

from spanwell.export.segment_values import said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_NAME = 200
MAX_KEY = 500
_SYMBOLS = frozenset("_.:/%&#=+\\-@")
_KEY_SYMBOLS = frozenset("_.")
_SERVER = SpanKind.SERVER
_PREFIXES = ("AWS.SDK.", "AWS::")
_CALLED = ("rpc.service", "http.host", "net.peer.name", "server.address")
_URLS = ("url.full", "http.url")


@lru_cache(maxsize=1024)
def clean(name: str) -> str:
    """`name` as X-Ray allows it: letters, numbers, white space and ``_ . : / % & # = + \\ - @``, 200 characters."""
    kept = "".join(c if c.isalnum() or c in _SYMBOLS else " " if c.isspace() else "" for c in name[: 10 * MAX_NAME])
    return kept[:MAX_NAME].strip() or "span"


@lru_cache(maxsize=1024)
def annotation_key(key: str) -> str:
    """`key` as X-Ray indexes it: letters and digits of ASCII, `_` and `.`; anything else becomes `_`."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in _KEY_SYMBOLS else "_" for c in key[:MAX_KEY])


def segment_name(kind: SpanKind, attributes: Mapping[str, Any]) -> str:
    """The name of a service's segment, or "" for the service.name of its resource."""
    get = attributes.get
    found = said(get("aws.local.service"))
    if found or kind is not _SERVER:
        return found
    return said(get("peer.service")) or said(get("aws.service")) or _database(attributes)


def dependency_name(attributes: Mapping[str, Any], call: tuple[str, str] | None, name: str) -> str:
    """The name of a subsegment: whom it calls. `call` is the AWS call of the span, `name` the span's."""
    get = attributes.get
    remote = said(get("aws.remote.service"))
    if remote:
        return _without_prefix(remote) if call is not None else remote
    found = said(get("peer.service")) or said(get("service.peer.name")) or said(get("aws.service"))
    if not found and call is not None:
        found = call[0]
    return found or _database(attributes) or _peer(attributes) or name


def _peer(attributes: Mapping[str, Any]) -> str:
    for key in _CALLED:
        found = attributes.get(key)
        if found:
            return said(found)
    for key in _URLS:
        if key in attributes:
            return host_of(said(attributes[key]))
    return said(attributes.get("messaging.system"))


def _database(attributes: Mapping[str, Any]) -> str:
    """`database@host`"""
    get = attributes.get
    if "db.system" not in attributes and "db.system.name" not in attributes and "db.name" not in attributes:
        return ""
    database = said(get("db.namespace")) or said(get("db.name"))
    if not database:
        return ""
    address = said(get("db.connection_string")).removeprefix("jdbc:")
    host = host_of(address) or said(get("server.address")) or said(get("net.peer.name"))
    return f"{database}@{host}" if host else database


def host_of(url: str) -> str:
    """The host of a URL, without credentials and port; "" if there is none."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
