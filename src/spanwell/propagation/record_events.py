"""Events that are a batch of records: queues, topics, streams, tables, buckets.

A trigger whose records may carry a context of their own gives one `Carried` a record, in order; a record that cannot
be read gives one without a context, and the others keep theirs.
"""

from __future__ import annotations

from spanwell.propagation import carried
from spanwell.propagation.carried import MOST_MESSAGES, Carried, Extracted, dict_of, opened, resource_name, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Record = dict[Any, Any]


def batch(records: list[Any]) -> Extracted | None:
    """The event whose `Records` these are; None if the first record is of no known kind."""
    first = records[0]
    if not isinstance(first, dict):
        return None
    known = _SOURCES.get(text_of(first, "eventSource") or text_of(first, "EventSource"))
    return known(first, records) if known is not None else None


def _all(records: list[Any], read: Callable[[Record], Carried]) -> tuple[Carried, ...]:
    return tuple(_one(record, read) for record in records[:MOST_MESSAGES])


def _one(record: Any, read: Callable[[Record], Carried]) -> Carried:
    if not isinstance(record, dict):
        return Carried(problem="not a record")
    try:
        return read(record)
    except Exception as error:  # an object that only looks like one: bad input, not an error of ours
        return Carried(problem=f"unreadable record ({type(error).__name__})")


def _pubsub(kind: str, system: str, name: str, arn: str, messages: tuple[Carried, ...], **more: Any) -> Extracted:
    attributes = {
        "messaging.system": system,
        "messaging.operation.type": "process",
        "messaging.destination.name": name,
        "messaging.batch.message_count": len(messages) if len(messages) > 1 else 0,
        "messaging.message.id": messages[0].message_id if len(messages) == 1 else "",
        **more,
    }
    return Extracted(
        trigger="pubsub",
        kind=kind,
        messages=messages,
        source=name,
        source_arn=arn,
        attributes={key: value for key, value in attributes.items() if value},
    )


def _sqs(first: Record, records: list[Any]) -> Extracted:
    arn = text_of(first, "eventSourceARN")
    envelope = opened(first.get("body"))
    topic = text_of(envelope, "TopicArn")
    kind = "sqs"
    if envelope:
        kind = "sns_sqs" if topic else "eventbridge_sqs"
    found = _pubsub(
        kind,
        "aws_sqs",
        resource_name(arn),
        arn,
        _all(records, carried.sqs_delivered),
        **{"aws.sns.topic.arn": topic},
    )
    return found._replace(route=text_of(envelope, "detail-type"))


def _sns(first: Record, records: list[Any]) -> Extracted:
    arn = text_of(dict_of(first, "Sns"), "TopicArn")
    messages = _all(records, _notification)
    return _pubsub("sns", "aws.sns", resource_name(arn), arn, messages, **{"aws.sns.topic.arn": arn})


def _notification(record: Record) -> Carried:
    sns = dict_of(record, "Sns")
    found: dict[str, str] = {}
    carried.attributes(found, sns.get("MessageAttributes"), "Value")
    problem = carried.inside(found, sns.get("Message"))
    return carried.made(sns.get("MessageId"), found, problem)


def _kinesis(first: Record, records: list[Any]) -> Extracted:
    arn = text_of(first, "eventSourceARN")
    name = resource_name(arn)
    messages = _all(records, _stream_record)
    return _pubsub("kinesis", "aws_kinesis", name, arn, messages, **{"aws.kinesis.stream_name": name})


def _stream_record(record: Record) -> Carried:
    kinesis = dict_of(record, "kinesis")
    # A pipe puts the fields of `kinesis` beside the rest.
    blob = kinesis.get("data") if kinesis else record.get("data")
    found: dict[str, str] = {}
    carried.data(found, blob)
    return carried.made(record.get("eventID") or record.get("sequenceNumber"), found)


def firehose(event: Record) -> Extracted | None:
    """The event that asks to transform a batch of a Firehose stream."""
    records, arn = event.get("records"), text_of(event, "deliveryStreamArn")
    if not isinstance(records, list) or not arn:
        return None
    return _pubsub("firehose", "aws_firehose", resource_name(arn), arn, _all(records, _transformed))


def _transformed(record: Record) -> Carried:
    found: dict[str, str] = {}
    carried.data(found, record.get("data"))
    return carried.made(record.get("recordId"), found)


_OPERATIONS = {"INSERT": "insert", "MODIFY": "edit", "REMOVE": "delete"}


def _dynamodb(first: Record, records: list[Any]) -> Extracted:
    arn = text_of(first, "eventSourceARN")
    # arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/TIME
    _, _, after = arn.partition(":table/")
    table = after.partition("/")[0]
    attributes = {
        "db.system.name": "aws.dynamodb",
        "aws.dynamodb.table_names": [table] if table else None,
        "faas.document.collection": table,
        "faas.document.operation": _same(records, lambda record: _OPERATIONS.get(text_of(record, "eventName"), "")),
    }
    return _datasource("dynamodb", table, arn, attributes)


def _s3(first: Record, records: list[Any]) -> Extracted:
    s3 = dict_of(first, "s3")
    bucket = dict_of(s3, "bucket")
    name, key = text_of(bucket, "name"), text_of(dict_of(s3, "object"), "key") if len(records) == 1 else ""
    attributes = {
        "aws.s3.bucket": name,
        "aws.s3.key": key,
        "faas.document.collection": name,
        "faas.document.name": key,
        "faas.document.operation": _same(records, _change),
        "faas.document.time": text_of(first, "eventTime"),
    }
    return _datasource("s3", name, text_of(bucket, "arn"), attributes)


def _change(record: object) -> str:
    name = text_of(record, "eventName").removeprefix("s3:")
    if name.startswith("ObjectRemoved"):
        return "delete"
    return "insert" if name.startswith("ObjectCreated") else ""


def _same(records: list[Any], read: Callable[[object], str]) -> str:
    """What `read` gives for every record, or "" when they differ."""
    found = {read(record) for record in records[:MOST_MESSAGES]}
    return found.pop() if len(found) == 1 else ""


def _datasource(kind: str, source: str, arn: str, attributes: dict[str, Any]) -> Extracted:
    """Neither tables nor buckets carry a context with their records."""
    shown = {key: value for key, value in attributes.items() if value}
    return Extracted(trigger="datasource", kind=kind, source=source, source_arn=arn, attributes=shown)


_SOURCES: dict[str, Callable[[Record, list[Any]], Extracted]] = {
    "aws:sqs": _sqs,
    "aws:sns": _sns,
    "aws:kinesis": _kinesis,
    "aws:dynamodb": _dynamodb,
    "aws:s3": _s3,
}
