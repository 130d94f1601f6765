"""Services, operations and resources as CloudWatch Application Signals names them: `aws.local.*`, `aws.remote.*`.

| attribute | on | value |
| --- | --- | --- |
| aws.local.service, aws.local.environment | entry and exit spans | of the resource, worked out once |
| aws.local.operation | the same | of the local root: its name; `<function>/FunctionHandler`; `InternalOperation` |
| aws.span.kind | the same | `LOCAL_ROOT` or the kind |
| aws.remote.service, aws.remote.operation | exit spans | who is called, and what for |
| aws.remote.environment | Lambda's Invoke | `lambda:default` |
| aws.remote.resource.type, .identifier | exit spans | the resource (see `aws_resources`), or the database |

An entry span is a SERVER or a local root, an exit span a CLIENT, PRODUCER or CONSUMER, unless it processes a message
that a CONSUMER span of this process has received.
"""

from __future__ import annotations

import threading

from opentelemetry.trace import SpanKind

from spanwell.enrich.aws_calls import aws_call
from spanwell.enrich.aws_resources import IDENTIFIER, TYPE, escaped, function_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_MAX_OPEN = 10_000
_MAX_TEXT = 512
_EXITS = frozenset((SpanKind.CLIENT, SpanKind.PRODUCER))
_REMOTE_SERVICE, _REMOTE_OPERATION = "aws.remote.service", "aws.remote.operation"
_SERVICES = {
    "Bedrock Agent": "AWS::Bedrock",
    "Bedrock Agent Runtime": "AWS::Bedrock",
    "Bedrock Runtime": "AWS::BedrockRuntime",
    "Bedrock AgentCore": "AWS::BedrockAgentCore",
    "Bedrock AgentCore Control": "AWS::BedrockAgentCore",
    "Secrets Manager": "AWS::SecretsManager",
    "SFN": "AWS::StepFunctions",
}
# (service, operation) by the first of these pairs that a span has anything of; each a choice of old and new names.
_PAIRS = (
    (("rpc.service",), ("rpc.method",)),
    (("db.system.name", "db.system"), ("db.operation.name", "db.operation", "db.query.summary")),
    (("faas.invoked_name",), ("faas.trigger",)),
    (("messaging.system",), ("messaging.operation.type", "messaging.operation", "messaging.operation.name")),
)
_UNKNOWN_SERVICE, _UNKNOWN_OPERATION = "UnknownRemoteService", "UnknownRemoteOperation"


class AppSignals:
    """A stage, for its `on_start`, and with `derive` a part of `Ended`.

    `resource` gives the attributes of the resource, which may become complete only later. `function` is the name of
    the Lambda function this is, or "".
    """

    def __init__(self, resource: Callable[[], Mapping[str, Any]], function: str = "") -> None:
        self._resource = resource
        self._function = function
        self._local = ("", "")
        self._known = -1  # so many attributes of the resource
        # Span id -> its local root, while the span is open. The root may still get another name, from a route.
        self._roots: dict[int, Span] = {}
        # Open CONSUMER spans: whether their parent is one, here.
        self._consumers: dict[int, bool] = {}
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """Remember the local root of `span`; of more than 10,000 open spans the oldest are forgotten."""
        own, parent = span.context, span.parent
        if own is None:
            return
        root = span if parent is None or parent.is_remote else self._roots.get(parent.span_id)
        if root is not None:
            if len(self._roots) >= _MAX_OPEN:
                self._forget()
            self._roots[own.span_id] = root
        if span.kind is SpanKind.CONSUMER:
            if len(self._consumers) >= _MAX_OPEN:
                self._consumers.clear()
            self._consumers[own.span_id] = parent is not None and parent.span_id in self._consumers

    def _forget(self) -> None:
        with self._lock:
            for span_id in list(self._roots)[: _MAX_OPEN // 10]:
                self._roots.pop(span_id, None)

    def derive(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
        """Add the names to the attributes of an ended entry or exit span; False for others."""
        own, parent, kind = span.context, span.parent, span.kind
        root = self._roots.pop(own.span_id, None) if own is not None else None
        is_root = parent is None or parent.is_remote
        is_exit = kind in _EXITS or (kind is SpanKind.CONSUMER and self._receives(span, attributes, is_root))
        if not is_root and not is_exit and kind is not SpanKind.SERVER:
            return False
        attributes["aws.local.service"], attributes["aws.local.environment"] = self._locals()
        attributes["aws.span.kind"] = "LOCAL_ROOT" if is_root else kind.name
        if is_root or kind is SpanKind.SERVER:
            operation = local_operation(span.name, kind, attributes, self._function, root=is_root)
        elif root is None:
            operation = "UnknownOperation"
        else:
            operation = local_operation(root.name, root.kind, root.attributes or {}, self._function, root=True)
        attributes.setdefault("aws.local.operation", operation)
        if is_exit:
            _remote(attributes)
        return True

    def _receives(self, span: ReadableSpan, attributes: Mapping[str, Any], is_root: bool) -> bool:
        """Whether a CONSUMER span stands for a dependency: of receiving and processing only the first does."""
        below = self._consumers.pop(span.context.span_id, False) if span.context is not None else False
        operation = attributes.get("messaging.operation.type") or attributes.get("messaging.operation")
        return is_root or operation != "process" or not below

    def _locals(self) -> tuple[str, str]:
        resource = self._resource()
        if len(resource) == self._known:
            return self._local
        self._known = len(resource)
        service = resource.get("service.name")
        if not isinstance(service, str) or service.startswith("unknown_service"):
            service = "UnknownService"
        self._local = (service, environment_name(resource))
        return self._local


def environment_name(resource: Mapping[str, Any]) -> str:
    """The environment as Application Signals shows it: the user's, or that of the platform, e.g. `ecs:cluster`."""
    chosen = resource.get("deployment.environment.name") or resource.get("deployment.environment")
    if isinstance(chosen, str):
        return chosen
    platform = resource.get("cloud.platform")
    if platform == "aws_lambda":
        return "lambda:default"
    if platform == "aws_eks" and resource.get("k8s.cluster.name"):
        return f"eks:{resource['k8s.cluster.name']}/{resource.get('k8s.namespace.name', 'default')}"
    if platform == "aws_ecs" and resource.get("aws.ecs.cluster.arn"):
        return f"ecs:{str(resource['aws.ecs.cluster.arn']).rpartition('/')[2]}"
    return "ec2:default" if platform in ("aws_ec2", "aws_elastic_beanstalk") else "generic:default"


def local_operation(
    name: str, kind: SpanKind, attributes: Mapping[str, Any], function: str = "", *, root: bool = True
) -> str:
    """The operation that an entry span stands for. Of a path only the first part: the rest may hold values."""
    if function and root:
        return f"{function}/FunctionHandler"
    if root and kind is not SpanKind.SERVER:
        return "InternalOperation"
    method = attributes.get("http.request.method") or attributes.get("http.method")
    if name and name not in (method, "UnknownOperation"):
        return name
    path = attributes.get("url.path") or attributes.get("http.target")
    if not isinstance(path, str):
        path = _path(attributes.get("url.full") or attributes.get("http.url"))
    if path is None:
        return "UnknownOperation"
    return f"{method} {_first_part(path)}" if method else _first_part(path)


def _remote(attributes: dict[str, Any]) -> None:
    call = aws_call(attributes)
    if call is not None:
        service, operation = _aws(call, attributes)
    else:
        service, operation = _named(attributes)
        _database(attributes)
    if _REMOTE_SERVICE not in attributes:
        peer = attributes.get("peer.service")
        attributes[_REMOTE_SERVICE] = peer if isinstance(peer, str) and peer else service
    attributes.setdefault(_REMOTE_OPERATION, operation)


def _aws(call: tuple[str, str], attributes: dict[str, Any]) -> tuple[str, str]:
    service, operation = call
    if call != ("Lambda", "Invoke"):
        return _SERVICES.get(service, f"AWS::{service}"), operation
    # A function that is invoked is a service of its own there.
    attributes.setdefault("aws.remote.environment", "lambda:default")
    name = attributes.get("faas.invoked_name")
    return (function_name(name) if isinstance(name, str) and name else _UNKNOWN_SERVICE), operation


def _named(attributes: Mapping[str, Any]) -> tuple[str, str]:
    for services, operations in _PAIRS:
        service, operation = _one(attributes, services), _one(attributes, operations)
        if service or operation:
            return service or _host(attributes), operation or _request(attributes)
    kind = attributes.get("graphql.operation.type")
    if isinstance(kind, str):
        return "graphql", kind
    return _host(attributes), _request(attributes)


def _one(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str) and value:
            return value[:_MAX_TEXT] if key != "db.query.summary" else value.partition(" ")[0]
    return ""


def _address(attributes: Mapping[str, Any]) -> tuple[str, Any]:
    for host, port in (
        ("server.address", "server.port"),
        ("net.peer.name", "net.peer.port"),
        ("net.sock.peer.addr", "net.sock.peer.port"),
    ):
        name = attributes.get(host)
        if isinstance(name, str) and name:
            return name[:_MAX_TEXT], attributes.get(port)
    return "", None


def _host(attributes: Mapping[str, Any]) -> str:
    name, port = _address(attributes)
    if name:
        return f"{name}:{port}" if port else name
    url = attributes.get("url.full") or attributes.get("http.url")
    if isinstance(url, str) and "://" in url:
        return url.partition("://")[2][:_MAX_TEXT].partition("/")[0].partition("?")[0].rpartition("@")[2]
    return _UNKNOWN_SERVICE


def _request(attributes: Mapping[str, Any]) -> str:
    method = attributes.get("http.request.method") or attributes.get("http.method")
    path = _path(attributes.get("url.full") or attributes.get("http.url"))
    if path is None:
        return f"{method} {_UNKNOWN_OPERATION}" if method else _UNKNOWN_OPERATION
    return f"{method} {_first_part(path)}" if method else _first_part(path)


def _path(url: Any) -> str | None:
    if not isinstance(url, str):
        return None
    _, found, rest = url[:4096].partition("://")
    if not found:
        return url
    host, slash, path = rest.partition("/")
    return slash + path if "?" not in host else "/"


def _first_part(path: str) -> str:
    return "/" + path.lstrip("/").partition("?")[0].partition("#")[0].partition("/")[0][:_MAX_TEXT]


def _database(attributes: dict[str, Any]) -> None:
    """`[database|]host[|port]`."""
    if not (attributes.get("db.system.name") or attributes.get("db.system")):
        return
    host, port = _address(attributes)
    if not host:
        return
    database = attributes.get("db.namespace") or attributes.get("db.name")
    parts = [escaped(database)] if isinstance(database, str) and database else []
    parts += [escaped(host), str(port)] if port else [escaped(host)]
    attributes.setdefault(TYPE, "DB::Connection")
    attributes.setdefault(IDENTIFIER, "|".join(parts))
