"""What only the parameters or the response of an AWS call know: the botocore instrumentor's own hooks tell.

Names and ids of resources and messages alone, never another parameter. An attribute stands here only where the
instrumentor sets none.
"""

from __future__ import annotations

from spanwell._guard import guard
from spanwell.enrich.aws_resources import (
    IDENTIFIER,
    TYPE,
    after_colon,
    after_slash,
    escaped,
    function_name,
    state_machine_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opentelemetry.trace import Span

    Attributes = dict[str, Any]
    Hook = Callable[[Span, str, str, Any], object]

MESSAGE_IDS = "spanwell.messaging.message_ids"
"""The ids of all messages of a batch, at most as many as one batch of SQS or SNS may have."""

_MAX_BATCH = 10
_MAX_TEXT = 1024
_MAX_ENTRIES = 100

# botocore's service name -> (parameter, attribute).
_PARAMETERS: dict[str, tuple[tuple[str, str], ...]] = {
    "s3": (("Bucket", "aws.s3.bucket"), ("Key", "aws.s3.key"), ("UploadId", "aws.s3.upload_id")),
    "kinesis": (("StreamName", "aws.kinesis.stream_name"),),
    "lambda": (("UUID", "aws.lambda.resource_mapping.id"),),
    "bedrock": (("guardrailIdentifier", "aws.bedrock.guardrail.id"),),
    "bedrock-runtime": (("guardrailIdentifier", "aws.bedrock.guardrail.id"),),
    "bedrock-agent": (
        ("agentId", "aws.bedrock.agent.id"),
        ("dataSourceId", "aws.bedrock.data_source.id"),
        ("knowledgeBaseId", "aws.bedrock.knowledge_base.id"),
    ),
    "bedrock-agent-runtime": (
        ("agentId", "aws.bedrock.agent.id"),
        ("knowledgeBaseId", "aws.bedrock.knowledge_base.id"),
    ),
}
# The same, for resources whose name has no attribute in the semantic conventions: (parameter, type, value -> name).
_RESOURCES: dict[str, tuple[tuple[str, str, Callable[[str], str]], ...]] = {
    "sqs": (("QueueName", "AWS::SQS::Queue", str),),
    "secretsmanager": (
        ("SecretId", "AWS::SecretsManager::Secret", after_colon),
        ("Name", "AWS::SecretsManager::Secret", str),
    ),
    "stepfunctions": (("executionArn", "AWS::StepFunctions::StateMachine", state_machine_name),),
    "lambda": (("FunctionName", "AWS::Lambda::Function", function_name),),
    "events": (
        ("EventBusName", "AWS::Events::EventBus", after_slash),
        ("EventBus", "AWS::Events::EventBus", after_slash),
    ),
    "firehose": (("DeliveryStreamName", "AWS::KinesisFirehose::DeliveryStream", str),),
}
_BATCHES = frozenset(("SendMessageBatch", "ReceiveMessage", "PublishBatch", "DeleteMessageBatch"))


def request_hook(span: Span, service: str, operation: str, params: Any) -> None:
    """Put the resource that `params` name on `span`; other services than those above cost two look-ups."""
    if not isinstance(params, dict) or not span.is_recording():
        return
    found: Attributes = {}
    for parameter, attribute in _PARAMETERS.get(service, ()):
        value = params.get(parameter)
        if isinstance(value, str) and value:
            found[attribute] = value[:_MAX_TEXT]
    if (service, operation) != ("lambda", "Invoke"):  # Application Signals sees a service there, no resource
        for parameter, kind, name_of in _RESOURCES.get(service, ()):
            _resource(found, kind, params.get(parameter), name_of)
    more = _SPECIAL.get((service, operation))
    if more is not None:
        more(params, found)
    elif service == "kinesis" and "StreamARN" in params:
        _stream(params, found)
    if found:
        span.set_attributes(found)


def response_hook(span: Span, service: str, operation: str, result: Any) -> None:
    """Put the ids of all messages of a batch on `span`, and S3's second request id, which AWS support asks for."""
    if not isinstance(result, dict) or not span.is_recording():
        return
    if operation in _BATCHES and service in ("sqs", "sns"):
        _batch(span, result.get("Messages") or result.get("Successful"))
    elif service == "s3":
        metadata = result.get("ResponseMetadata")
        extended = metadata.get("HostId") if isinstance(metadata, dict) else None
        if isinstance(extended, str) and extended:
            span.set_attribute("aws.extended_request_id", extended[:_MAX_TEXT])


def join(instrumentor: Any) -> None:
    """Put the hooks above in front of those of `instrumentor`, a BotocoreInstrumentor or AiobotocoreInstrumentor.

    It reads them at each call. The application's stay, and see what they would see without ours. Once is enough.
    """
    for name, ours in (("request_hook", request_hook), ("response_hook", response_hook)):
        theirs = getattr(instrumentor, name, None)
        if getattr(theirs, "ours", None) is not ours:
            setattr(instrumentor, name, _joined(ours, theirs))


def _joined(ours: Hook, theirs: Hook | None) -> Hook:
    def hook(span: Span, service: str, operation: str, data: Any) -> None:
        with guard("attributes of an AWS call"):
            ours(span, service, operation, data)
        if callable(theirs):
            theirs(span, service, operation, data)

    hook.ours = ours  # type: ignore[attr-defined]
    return hook


def _resource(found: Attributes, kind: str, value: Any, name_of: Callable[[str], str]) -> None:
    name = name_of(value[:_MAX_TEXT]) if isinstance(value, str) else ""
    if name and TYPE not in found:
        found[TYPE], found[IDENTIFIER] = kind, escaped(name)


def _stream(params: Attributes, found: Attributes) -> None:
    arn = params.get("StreamARN")
    if isinstance(arn, str) and "/" in arn:
        found.setdefault("aws.kinesis.stream_name", after_slash(arn[:_MAX_TEXT]))


def _events(params: Attributes, found: Attributes) -> None:
    """PutEvents: the bus, if all entries go to one; an entry without a bus goes to `default`."""
    entries = [each for each in _first(params.get("Entries"), _MAX_ENTRIES) if isinstance(each, dict)]
    buses = {each.get("EventBusName") or "default" for each in entries}
    if len(buses) == 1:
        _resource(found, "AWS::Events::EventBus", buses.pop(), after_slash)
        if IDENTIFIER in found:
            found["messaging.destination.name"] = found[IDENTIFIER]
    if len(entries) > 1:
        found["messaging.batch.message_count"] = len(params["Entries"])


def _transaction(params: Attributes, found: Attributes) -> None:
    """TransactGetItems and TransactWriteItems: every table once, in order."""
    tables: dict[str, None] = {}
    for item in _first(params.get("TransactItems"), _MAX_ENTRIES):
        for action in item.values() if isinstance(item, dict) else ():
            name = action.get("TableName") if isinstance(action, dict) else None
            if isinstance(name, str) and len(tables) < _MAX_BATCH:
                tables[name[:_MAX_TEXT]] = None
    if tables:
        found["aws.dynamodb.table_names"] = tuple(tables)


def _batch(span: Span, messages: Any) -> None:
    messages = _first(messages, _MAX_BATCH)
    ids = [each.get("MessageId") for each in messages if isinstance(each, dict)]
    ids = [each[:_MAX_TEXT] for each in ids if isinstance(each, str)]
    if messages:
        span.set_attribute("messaging.batch.message_count", len(messages))
    if len(ids) > 1:
        span.set_attribute(MESSAGE_IDS, ids)


def _first(items: Any, most: int) -> Iterable[Any]:
    """The first `most` items of a list. By index: looping over received messages would open their spans."""
    if not isinstance(items, (list, tuple)):
        return []
    return [items[index] for index in range(min(len(items), most))]


_SPECIAL: dict[tuple[str, str], Callable[[Attributes, Attributes], None]] = {
    ("events", "PutEvents"): _events,
    ("dynamodb", "TransactWriteItems"): _transaction,
    ("dynamodb", "TransactGetItems"): _transaction,
}
