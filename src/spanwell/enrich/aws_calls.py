"""What an ended span of an AWS call can tell beyond what the instrumentor wrote on it.

The instrumentor of botocore speaks OpenTelemetry's old conventions alone. The stable names are added beside them,
with the resource, the throttle flag and the kind of error, none of which needs anything but the span itself.
What only parameters or response know is put there by `aws_hooks`.
"""

from __future__ import annotations

from opentelemetry.trace import StatusCode

from spanwell._otel import spans
from spanwell.analysis.names import THROTTLED, THROTTLES
from spanwell.enrich.aws_resources import IDENTIFIER, TYPE, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

# Service id -> (old name, stable name) of the same value.
_RENAMED = {
    "SQS": (("messaging.destination", "messaging.destination.name"), ("aws.queue_url", "aws.sqs.queue.url")),
    "SNS": (("messaging.destination", "messaging.destination.name"),),
}
# The instrumentor sets these without a look at the value: no message was sent, the client has no region.
_REGION = ("cloud.region",)
_MAYBE_NONE = {"SQS": ("messaging.message.id", *_REGION), "Lambda": ("faas.invoked_region", *_REGION)}
_SAID = "An error occurred ("
_MAX_CODE = 100
_MAX_TABLES = 10
_MAX_SUMMARY = 255


def aws_call(attributes: dict[str, Any]) -> tuple[str, str] | None:
    """(service id, operation) of a span of an AWS SDK, in the old or the new conventions; None for others."""
    if attributes.get("rpc.system") != "aws-api" and attributes.get("rpc.system.name") != "aws-api":
        return None
    service, operation = attributes.get("rpc.service"), attributes.get("rpc.method")
    if operation.__class__ is not str:
        return None
    if service.__class__ is not str:  # new: `DynamoDB/GetItem`
        service, _, operation = operation.rpartition("/")
    return service, operation


class AwsCalls:
    """A part of `Ended` for the client spans of boto3 and aiobotocore."""

    def __init__(self) -> None:
        self._resources = Resources()

    def __call__(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
        """Add to `attributes` what is known of the AWS call; False for any other span."""
        call = aws_call(attributes)
        if call is None:
            return False
        service, operation = call
        _stable(service, attributes)
        found = self._resources.find(service, attributes)
        if found is not None:
            attributes[TYPE], attributes[IDENTIFIER] = found
        if service == "DynamoDB":
            _database(operation, attributes)
        if attributes.get("retry_attempts"):
            attributes.setdefault("http.request.resend_count", attributes["retry_attempts"])
        if span.status.status_code is StatusCode.ERROR:
            _error(span, attributes)
        return True


def _stable(service: str, attributes: dict[str, Any]) -> None:
    """The stable names beside the old ones, and no value that is none."""
    if "http.status_code" in attributes:
        attributes.setdefault("http.response.status_code", attributes["http.status_code"])
    for old, new in _RENAMED.get(service, ()):
        if old in attributes:
            attributes.setdefault(new, attributes[old])
    for key in _MAYBE_NONE.get(service, _REGION):
        if attributes.get(key, "") is None:
            del attributes[key]


def _database(operation: str, attributes: dict[str, Any]) -> None:
    attributes.setdefault("db.system.name", "aws.dynamodb")
    attributes.setdefault("db.operation.name", operation)
    tables = attributes.get("aws.dynamodb.table_names")
    if tables.__class__ is not tuple and tables.__class__ is not list:
        attributes.setdefault("db.query.summary", operation)
        return
    names = [each for each in tables[:_MAX_TABLES] if each.__class__ is str]
    if len(names) == 1:
        attributes.setdefault("db.collection.name", names[0])
    attributes.setdefault("db.query.summary", " ".join((operation, *names))[:_MAX_SUMMARY])


def _error(span: ReadableSpan, attributes: dict[str, Any]) -> None:
    code = error_code(span.status.description)
    if code in THROTTLES or attributes.get("http.status_code") == 429:
        attributes[THROTTLED] = True
    if "error.type" not in attributes:
        kind = code or _exception_type(span)
        if kind:
            attributes["error.type"] = kind


def error_code(description: str | None) -> str:
    """AWS's code of an error, from the message that botocore gives its ClientError; "" for other errors.

    Older instrumentors put the name of the exception in front.
    """
    start = description.find(_SAID, 0, _MAX_CODE + len(_SAID)) if description else -1
    if description is None or start < 0:
        return ""
    start += len(_SAID)
    code, closed, _ = description[start : start + _MAX_CODE].partition(")")
    return code if closed and code.replace(".", "").isalnum() else ""


def _exception_type(span: ReadableSpan) -> str:
    for event in spans.parts(span)[3]:
        kind = (event.attributes or {}).get("exception.type")
        if isinstance(kind, str):
            return kind[:_MAX_CODE]
    return ""
