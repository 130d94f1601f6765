"""What a span asks somebody else for: the peer, the operation, and when two calls are the same.

Reads the stable attribute names and the ones before them. Names that are made here hold no ids: `GET /users/{id}`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from spanwell.analysis.names import THROTTLED, THROTTLES
from spanwell.analysis.tree import SENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from spanwell.analysis.tree import Tree
    from spanwell.record import SpanRecord

DB, AWS, HTTP, RPC, MESSAGING, OTHER = "db", "aws", "http", "rpc", "messaging", "other"

_MAX_TEXT = 2_048
_MAX_LABEL = 120
_DEFAULT_PORTS = (80, 443)

# A part of a path that is a value: digits in it, or longer than names are.
_IS_ID = re.compile(
    r"\d+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[^\d]*\d)[0-9A-Fa-f]{6,}"
    r"|(?=[^\d]*\d[^\d]*\d)[\w.~=+:@%-]{8,}|\d[\w.~-]*|[\w-]{2,12}-\d+|[\w.~=+%-]{33,}|[^/@]+(?:@|%40)[^/@]+"
)
# The same, where a name of several words may hold anything: in doubt it is a word.
_IS_BARE_ID = re.compile(r"#?\d+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[^\d]*\d)[0-9a-f]{12,}")
_VERSION = re.compile(r"v\d+(?:\.\d+)*", re.IGNORECASE)
_VALUE = re.compile(r"'(?:[^']|'')*'|\b\d[\w.]*\b|\$\d+\b|%\(\w+\)s|%s|:\w+\b|@\w+\b")
_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_SPACE = re.compile(r"\s+")
_WORDS = re.compile(r"\b(FROM|INTO|UPDATE|JOIN)\s+[`\"\[]?([A-Za-z_][\w.$]*)", re.IGNORECASE)


class Call(NamedTuple):
    """One call to somebody else.

    family: db, aws, http, rpc, messaging or other. peer: who, e.g. `postgresql:shop`, `DynamoDB`, `billing:8080`.
    operation: what, without values, e.g. `SELECT items`, `GetItem orders`, `GET /users/{id}`. pattern: the same for
    calls that differ in values only. exact: the same for calls that differ in nothing a span can tell.
    """

    family: str
    peer: str
    operation: str
    pattern: str
    exact: str


def call_of(span: SpanRecord) -> Call | None:
    """What a CLIENT or PRODUCER span asks for; None for other spans."""
    if span.kind not in SENDING:
        return None
    call = _call(span, span.attributes)
    return call._replace(peer=_label(call.peer), operation=_label(call.operation))


def _call(span: SpanRecord, attributes: Mapping[str, Any]) -> Call:
    service = aws_service(attributes)
    if service:
        return _aws(service, span)
    if first(attributes, "db.system.name", "db.system"):
        return _db(span)
    if first(attributes, "messaging.system"):
        return _messaging(span)
    if first(attributes, "rpc.system.name", "rpc.system"):
        return _rpc(span)
    if first(attributes, "http.request.method", "http.method"):
        return _http(span)
    name = templated(span.name)
    return Call(OTHER, host(attributes), name, name, span.name[:_MAX_TEXT])


def _label(text: str) -> str:
    """`text` on one line, and not too long a one."""
    return " ".join(text[:_MAX_LABEL].split())


def outermost(tree: Tree) -> Iterator[tuple[int, Call]]:
    """The positions of calls, by start time, but for those directly below a call: an ORM's span around that of its
    driver is one call."""
    for position, span in enumerate(tree.spans):
        if span.kind in SENDING:
            parent = tree.parents[position]
            if parent is None or tree.spans[parent].kind not in SENDING:
                call = call_of(span)
                if call is not None:
                    yield position, call


def first(attributes: Mapping[str, Any], *names: str) -> str:
    """The first of `names` that holds text, or ""."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value[:_MAX_TEXT]
    return ""


def status_of(attributes: Mapping[str, Any]) -> int:
    """The HTTP status, or 0."""
    for name in ("http.response.status_code", "http.status_code"):
        value = attributes.get(name)
        if isinstance(value, int):
            return value
    return 0


def host(attributes: Mapping[str, Any]) -> str:
    """The service that is called, by its name where one is known, else host and unusual port; "" if unknown."""
    name = first(attributes, "service.peer.name", "peer.service")
    if name:
        return name
    for address, port in (
        ("server.address", "server.port"),
        ("net.peer.name", "net.peer.port"),
        ("network.peer.address", "network.peer.port"),
        ("net.sock.peer.addr", "net.sock.peer.port"),
    ):
        name = first(attributes, address)
        if name:
            number = attributes.get(port)
            return f"{name}:{number}" if number.__class__ is int and number not in _DEFAULT_PORTS else name
    url = first(attributes, "url.full", "http.url")
    return url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]


def operation_of(span: SpanRecord) -> str:
    """The name of a span without values: `GET /users/{id}`. An HTTP server's is by its route where that is known."""
    method = first(span.attributes, "http.request.method", "http.method")
    route = first(span.attributes, "http.route")
    if route and method and span.kind == "server":
        return _label(f"{method} {route}")
    if method and span.name in (method, "HTTP", f"HTTP {method}"):
        path = _path(span.attributes)
        if path:
            return _label(f"{method} {template(path)}")
    return templated(span.name)


@lru_cache(2_048)
def templated(name: str) -> str:
    """`name` with paths in it templated, and numbers: `GET /users/12` -> `GET /users/{id}`."""
    return " ".join(_word(word) for word in name[:_MAX_TEXT].split())[:_MAX_LABEL]


def _word(word: str) -> str:
    if "/" in word:
        return template(word)
    return "{id}" if _IS_BARE_ID.fullmatch(word) else word


@lru_cache(2_048)
def template(path: str) -> str:
    """`path` without its query and with `{id}` for each part that is a value: `/users/12?all=1` -> `/users/{id}`."""
    plain = path[:_MAX_TEXT].partition("?")[0].partition("#")[0]
    parts = plain.split("/")
    return "/".join("{id}" if part and _IS_ID.fullmatch(part) and not _VERSION.fullmatch(part) else part
                    for part in parts)  # fmt: skip


@lru_cache(2_048)
def pattern_of(statement: str) -> str:
    """A statement with `?` for its values and lists of them, so that two runs of the same query are equal."""
    return _SPACE.sub(" ", _LIST.sub("(?)", _VALUE.sub("?", statement[:_MAX_TEXT]))).strip()


def statement_of(attributes: Mapping[str, Any]) -> str:
    """The text of a database call, or ""."""
    return first(attributes, "db.query.text", "db.statement")


def aws_service(attributes: Mapping[str, Any]) -> str:
    """The service of a call by an AWS SDK, e.g. `DynamoDB`, or ""."""
    if attributes.get("rpc.system") != "aws-api" and attributes.get("rpc.system.name") != "aws-api":
        return ""
    return first(attributes, "rpc.service") or first(attributes, "rpc.method").rpartition("/")[0] or "AWS"


_BLOCKING = frozenset(
    (
        *("BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BLMPOP", "BZMPOP", "LISTEN"),
        *("XREAD", "XREADGROUP", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "WAIT", "WAITAOF", "MONITOR"),
    )
)
_POLLS = frozenset(
    (
        *("ReceiveMessage", "GetActivityTask", "PollForActivityTask", "PollForDecisionTask", "PollForJobs"),
        *("SubscribeToShard", "StartLiveTail"),
    )
)


def is_waiting(span: SpanRecord) -> bool:
    """Whether the span is long because it waits for something to do: a long poll, a web socket, a blocking pop."""
    attributes = span.attributes
    if first(attributes, "url.scheme", "http.scheme") in ("ws", "wss") or status_of(attributes) == 101:
        return True
    if first(attributes, "rpc.method").rpartition("/")[2] in _POLLS and aws_service(attributes):
        return True
    if first(attributes, "messaging.operation.type", "messaging.operation") == "receive":
        return True
    command = statement_of(attributes).lstrip() or first(attributes, "db.operation.name", "db.operation")
    return command.partition(" ")[0].upper() in _BLOCKING


_RESOURCES = (
    "aws.dynamodb.table_names",
    *("aws.sqs.queue.url", "aws.queue_url", "messaging.destination.name", "messaging.destination"),
    *(
        "aws.s3.bucket",
        "faas.invoked_name",
        "aws.sns.topic.arn",
        "aws.kinesis.stream_name",
        "aws.secretsmanager.secret",
    ),
)


def _aws(service: str, span: SpanRecord) -> Call:
    attributes = span.attributes
    operation = first(attributes, "rpc.method").rpartition("/")[2] or span.name
    resource = ""
    for name in _RESOURCES:
        value = attributes.get(name)
        if value.__class__ in (tuple, list) and value:
            value = value[0]
        if value.__class__ is str and value:
            resource = value[:_MAX_TEXT].rpartition("/")[2].rpartition(":")[2]
            break
    said = f"{service}.{operation}{' ' if resource else ''}{resource}"[:_MAX_LABEL]
    exact = f"{said} {first(attributes, 'aws.s3.key')}"
    return Call(AWS, service, said, said, exact)


def _db(span: SpanRecord) -> Call:
    attributes = span.attributes
    system = first(attributes, "db.system.name", "db.system")
    place = first(attributes, "db.namespace", "db.name") or host(attributes)
    statement = statement_of(attributes)
    operation = first(attributes, "db.query.summary") or _summary(span, statement)
    pattern = pattern_of(statement) if statement else operation
    exact = statement or span.name[:_MAX_TEXT]
    return Call(DB, f"{system}:{place}" if place else system, operation, pattern, exact)


def _summary(span: SpanRecord, statement: str) -> str:
    """`SELECT items`, from what stands beside the statement or from the statement itself."""
    attributes = span.attributes
    verb = first(attributes, "db.operation.name", "db.operation") or statement.lstrip().partition(" ")[0].upper()
    if not verb or not verb.replace("_", "").isalnum():
        return templated(span.name)
    table = first(attributes, "db.collection.name", "db.sql.table", "db.mongodb.collection")
    if not table and statement:
        found = _WORDS.search(statement)
        table = found[2] if found else ""
    return f"{verb} {table}".rstrip()


def _messaging(span: SpanRecord) -> Call:
    attributes = span.attributes
    system = first(attributes, "messaging.system")
    place = first(attributes, "messaging.destination.name", "messaging.destination")
    verb = first(attributes, "messaging.operation.name", "messaging.operation.type", "messaging.operation") or "send"
    said = f"{verb} {place}".rstrip() if place else templated(span.name)
    return Call(MESSAGING, f"{system}:{place}" if place else system, said, said, said)


def _rpc(span: SpanRecord) -> Call:
    attributes = span.attributes
    service, method = first(attributes, "rpc.service"), first(attributes, "rpc.method")
    said = f"{service}/{method}" if service and method else method or span.name
    return Call(RPC, host(attributes) or service, said, said, said)


def _http(span: SpanRecord) -> Call:
    attributes = span.attributes
    method = first(attributes, "http.request.method", "http.method")
    peer, path = host(attributes), _path(attributes)
    url = first(attributes, "url.full", "http.url") or (f"{peer}{path}" if path or peer else span.span_id)
    shown = first(attributes, "url.template") or template(path)
    said = f"{method} {shown or ('/' if peer else templated(span.name))}"[:_MAX_LABEL]
    return Call(HTTP, peer, said, f"{said} {peer}", f"{method} {url}")


def _path(attributes: Mapping[str, Any]) -> str:
    path = first(attributes, "url.path", "http.target")
    if path:
        return path
    rest = first(attributes, "url.full", "http.url").partition("://")[2]
    _, slash, path = rest.partition("/")
    return slash + path


# --- errors -----------------------------------------------------------------------------------------------------

_SAID = re.compile(r"An error occurred \(([\w.]{1,100})\)")


def error_type(span: SpanRecord) -> str:
    """The kind of error without its message: AWS's code, an exception's class, a status; "" for no error."""
    attributes = span.attributes
    said = _SAID.search(span.status_message[:_MAX_TEXT]) or _SAID.search(_exception(span, "exception.message"))
    if said is not None:
        return said[1]
    code = attributes.get("rpc.grpc.status_code")
    if isinstance(code, int) and code:
        return _GRPC.get(code, f"gRPC status {code}")  # its client raises the same exception for all
    found = first(attributes, "rpc.response.status_code", "error.type") or _exception(span, "exception.type")
    if found:
        return _label(found.rpartition(".")[2])
    status = status_of(attributes)
    return str(status) if status >= 400 else ""


_GRPC = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
THROTTLING_WORDS = frozenset((*THROTTLES, "RESOURCE_EXHAUSTED", "429"))
"""The kinds of error that are throttling."""


def is_throttled(span: SpanRecord) -> bool:
    """Whether the callee refused because it limits its rate."""
    attributes = span.attributes
    if attributes.get(THROTTLED) is True or status_of(attributes) == 429:
        return True
    return span.is_error and error_type(span) in THROTTLING_WORDS


def _exception(span: SpanRecord, name: str) -> str:
    for event in reversed(span.events):
        if event.name == "exception":
            return first(event.attributes, name)
    return ""
