"""Events that stand for a request: API Gateway (REST, HTTP, WebSocket), function URLs, load balancers, AppSync.

Each function takes the event and gives None when it is not one of its kind.
"""

from __future__ import annotations

from spanwell.propagation.carried import Extracted, dict_of, headers, made, resource_name, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[Any, Any]


def request(event: Event) -> Extracted | None:
    """Any event with a `requestContext`."""
    context = event.get("requestContext")
    if not isinstance(context, dict):
        return None
    if isinstance(context.get("elb"), dict):
        return _load_balancer(event, context)
    if isinstance(context.get("http"), dict):
        return _http_api(event, context)
    if isinstance(context.get("connectionId"), str):
        return _websocket(event, context)
    if isinstance(event.get("requestHeaders"), dict):
        return _http("appsync_authorizer", headers(event["requestHeaders"]), source=text_of(context, "apiId"))
    if isinstance(event.get("httpMethod"), str) or isinstance(context.get("httpMethod"), str):
        return _rest_api(event, context)
    return None


def _rest_api(event: Event, context: Event) -> Extracted:
    identity = dict_of(context, "identity")
    return _http(
        "apigateway_v1",
        headers(event.get("multiValueHeaders"), event.get("headers")),
        method=text_of(event, "httpMethod") or text_of(context, "httpMethod"),
        route=text_of(event, "resource") or text_of(context, "resourcePath"),
        path=text_of(event, "path"),
        source=text_of(context, "apiId"),
        server=text_of(context, "domainName"),
        client=text_of(identity, "sourceIp"),
        agent=text_of(identity, "userAgent"),
        request_id=text_of(context, "requestId"),
    )


def _http_api(event: Event, context: Event) -> Extracted:
    http, domain = context["http"], text_of(context, "domainName")
    # "GET /pets/{id}", or "$default", which says nothing about the path.
    _, _, route = text_of(event, "routeKey").partition(" ")
    return _http(
        "function_url" if ".lambda-url." in domain else "apigateway_v2",
        headers(event.get("headers")),
        method=text_of(http, "method"),
        route=route,
        path=text_of(event, "rawPath") or text_of(http, "path"),
        source=text_of(context, "apiId"),
        server=domain,
        client=text_of(http, "sourceIp"),
        agent=text_of(http, "userAgent"),
        request_id=text_of(context, "requestId"),
    )


def _websocket(event: Event, context: Event) -> Extracted:
    identity = dict_of(context, "identity")
    return _http(
        "apigateway_websocket",
        # Only $connect, which is an HTTP request, has headers.
        headers(event.get("multiValueHeaders"), event.get("headers")),
        route=text_of(context, "routeKey"),
        source=text_of(context, "apiId"),
        server=text_of(context, "domainName"),
        client=text_of(identity, "sourceIp"),
        agent=text_of(identity, "userAgent"),
        request_id=text_of(context, "requestId"),
    )


def _load_balancer(event: Event, context: Event) -> Extracted:
    arn = text_of(context["elb"], "targetGroupArn")
    # arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID
    parts = arn.split("/")
    carrier = headers(event.get("multiValueHeaders"), event.get("headers"))
    return _http(
        "alb",
        carrier,
        method=text_of(event, "httpMethod"),
        path=text_of(event, "path"),
        source=parts[1] if len(parts) > 2 else resource_name(arn),
        arn=arn,
        client=text_of(carrier, "x-forwarded-for").partition(",")[0].strip(),
    )


def resolver(event: Event) -> Extracted | None:
    """AppSync's direct resolver."""
    info = event.get("info")
    if not isinstance(info, dict) or "arguments" not in event or not isinstance(info.get("fieldName"), str):
        return None
    owner, field = text_of(info, "parentTypeName"), text_of(info, "fieldName")
    found = _http(
        "appsync",
        headers(dict_of(event, "request").get("headers")),
        route=f"{owner}.{field}" if owner else field,
        server=text_of(event.get("request"), "domainName"),
    )
    if owner in ("Query", "Mutation", "Subscription"):
        found = found._replace(attributes={**found.attributes, "graphql.operation.type": owner.lower()})
    return found


def _http(
    kind: str,
    carrier: dict[str, str],
    *,
    method: str = "",
    route: str = "",
    path: str = "",
    source: str = "",
    arn: str = "",
    server: str = "",
    client: str = "",
    agent: str = "",
    request_id: str = "",
) -> Extracted:
    attributes = {
        "http.request.method": method,
        "http.route": route if method else "",
        "url.path": path,
        "url.scheme": carrier.get("x-forwarded-proto", "")[:16],
        "server.address": server or carrier.get("host", "").partition(":")[0][:256],
        "client.address": client,
        "user_agent.original": agent or carrier.get("user-agent", "")[:2048],
        "aws.request_id": request_id,
    }
    problem = made("", carrier).problem
    return Extracted(
        trigger="http",
        kind=kind,
        carrier=carrier,
        source=source,
        source_arn=arn,
        method=method,
        route=route,
        path=path,
        attributes={name: value for name, value in attributes.items() if value},
        problem=problem,
    )
