"""What the span of an invocation says: its name, kind and attributes, by OpenTelemetry's semantic conventions.

Pure functions over the event, the runtime client's context object and the handler's result; none changes them.
"""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from spanwell.propagation.carried import dict_of, problems, text_of
from spanwell.propagation.process import PROBLEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from spanwell.propagation.carried import Extracted

REMAINING_MS = "spanwell.lambda.remaining_ms"
"""Milliseconds left when the handler had ended."""
START_REMAINING_MS = "spanwell.lambda.start_remaining_ms"
"""Milliseconds that the invocation may take, as known when it started."""
INIT_MS = "spanwell.lambda.init_ms"
INITIALIZATION = "spanwell.lambda.initialization_type"
TIMEOUT = "spanwell.lambda.timeout"
"""True on what was exported open, just before the function's time limit."""
BATCH_FAILURES = "spanwell.lambda.batch_item_failures"
"""How many messages of a batch the handler gave back as failed."""

STATUS = "http.response.status_code"

_MOST_QUERY = 2048
_CONSUMED = ("pubsub", "datasource")


def kind_of(found: Extracted) -> SpanKind:
    """CONSUMER for messages, streams and changes of data, SERVER for requests and everything else."""
    return SpanKind.CONSUMER if found.trigger in _CONSUMED else SpanKind.SERVER


def name_of(found: Extracted, function: str) -> str:
    """`GET /orders/{id}`, `process orders`, or the function's name."""
    if found.trigger in _CONSUMED and found.source:
        return f"process {found.source}"
    if found.trigger == "http" and found.route and found.route != "$default":
        return f"{found.method} {found.route}" if found.method else found.route
    return function or "invoke"


def starting(
    event: object, context: object, found: Extracted, environ: Mapping[str, str], *, cold: bool, init_ns: int
) -> dict[str, Any]:
    """The attributes that are known when the handler is called."""
    attributes: dict[str, Any] = {**found.attributes, "faas.trigger": found.trigger, "faas.coldstart": cold}
    if found.trigger in _CONSUMED and found.source:
        attributes.setdefault("messaging.operation.name", "process")
    request_id, arn = getattr(context, "aws_request_id", ""), getattr(context, "invoked_function_arn", "")
    if isinstance(request_id, str) and request_id:
        attributes["faas.invocation_id"] = request_id
    if isinstance(arn, str) and arn:
        attributes.update(_of_arn(arn, str(getattr(context, "function_version", ""))))
    problem = problems(found)
    if problem:
        attributes[PROBLEM] = problem
    query = _query(event, found) if found.trigger == "http" else ""
    if query:
        attributes["url.query"] = query
    remaining = remaining_ms(context)
    if remaining is not None:
        attributes[START_REMAINING_MS] = remaining
    if cold:
        kind = environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "")
        if kind:
            attributes[INITIALIZATION] = kind
        if init_ns > 0:
            attributes[INIT_MS] = init_ns / 1e6
    return attributes


def _of_arn(arn: str, version: str) -> dict[str, str]:
    """`cloud.resource_id` names the version, not the alias it was called by, as the conventions ask for."""
    found = {"aws.lambda.invoked_arn": arn, "cloud.resource_id": arn}
    parts = arn.split(":")
    if len(parts) > 4 and parts[4]:
        found["cloud.account.id"] = parts[4]
    if len(parts) == 8 and version:
        found["cloud.resource_id"] = ":".join((*parts[:7], version))
    return found


def _query(event: Any, found: Extracted) -> str:
    """The query of the request, as far as the event tells it: as it came, or put together again."""
    raw = text_of(event, "rawQueryString")
    if raw or not isinstance(event, dict):
        return raw[:_MOST_QUERY]
    several = dict_of(event, "multiValueQueryStringParameters")
    given = several or {key: [value] for key, value in dict_of(event, "queryStringParameters").items()}
    if not given:
        return ""
    pairs = [(str(key), str(each)) for key, values in list(given.items())[:100] for each in _several(values)[:100]]
    if found.kind == "alb":  # a load balancer hands them on as they came
        return "&".join(f"{key}={value}" for key, value in pairs)[:_MOST_QUERY]
    from urllib.parse import urlencode

    return urlencode(pairs)[:_MOST_QUERY]


def _several(values: Any) -> list[Any]:
    return (values or [""]) if isinstance(values, list) or values is None else [values]


def remaining_ms(context: object) -> float | None:
    """Milliseconds until the function's time limit; None where the context does not tell."""
    ask = getattr(context, "get_remaining_time_in_millis", None)
    return float(ask()) if callable(ask) else None


def ended(found: Extracted, result: object) -> dict[str, Any]:
    """The attributes that the handler's result gives."""
    if type(result) is not dict:
        return {}
    if found.trigger == "http":
        status = _status(result.get("statusCode"))
        return {STATUS: status} if status else {}
    failures = result.get("batchItemFailures")
    if found.messages and isinstance(failures, list) and failures:
        return {BATCH_FAILURES: len(failures)}
    return {}


def _status(code: object) -> int:
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        code = int(code)
    return code if type(code) is int and 100 <= code < 600 else 0
