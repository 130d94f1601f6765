"""SQS: the trace header beside the message, as pure functions over botocore's parameters and responses.

The header travels as the message system attribute AWSTraceHeader. It counts neither towards the ten message
attributes nor towards the size of the message, and botocore checks no digest over it. The caller's objects
are never changed: what has to change is copied, the rest is shared.
"""

from __future__ import annotations

from spanwell.propagation.carried import TRACEPARENT, TRACESTATE, sqs_polled
from spanwell.propagation.xray import HEADER as X_RAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

    from spanwell.propagation.carried import Carried

    Params = dict[str, Any]

HEADER = "AWSTraceHeader"
_ASKED = "MessageSystemAttributeNames"
_ASKED_BEFORE_2024 = "AttributeNames"
_ATTRIBUTES = "MessageAttributeNames"


def send_message(params: Params, header: str) -> Params:
    """`params` of SendMessage (or an entry of a batch) with the trace header; as it is when it has one.

    Parameters of a wrong type are left alone, so that botocore reports them as it would without us.
    """
    attributes = params.get("MessageSystemAttributes", {})
    if not isinstance(attributes, dict) or HEADER in attributes:
        return params
    added = {HEADER: {"DataType": "String", "StringValue": header}}
    return {**params, "MessageSystemAttributes": {**attributes, **added}}


def send_message_batch(params: Params, header: str) -> Params:
    """`params` of SendMessageBatch with the trace header in each of its (at most ten) entries."""
    entries = params.get("Entries")
    if not isinstance(entries, (list, tuple)):
        return params
    return {
        **params,
        "Entries": [send_message(entry, header) if isinstance(entry, dict) else entry for entry in entries],
    }


def with_header(params: Params, carrier: Params, _: object = None) -> Params:
    """`send_message`, as a row of `sending` wants it."""
    return send_message(params, carrier[X_RAY])


def batch_with_header(params: Params, carrier: Params, _: object = None) -> Params:
    """`send_message_batch`, as a row of `sending` wants it."""
    return send_message_batch(params, carrier[X_RAY])


class Receipt:
    """What has to be undone in the response to a ReceiveMessage that was asked for the header."""

    __slots__ = ("asked_for_some", "hide", "hide_attributes", "queue_url")

    def __init__(self, queue_url: object, *, hide: bool, asked_for_some: bool) -> None:
        self.queue_url = queue_url
        self.hide = hide
        self.asked_for_some = asked_for_some
        self.hide_attributes = False


def receive_message(params: Params, members: Container[str], *, ask: bool) -> tuple[Params, Receipt]:
    """`params` of ReceiveMessage that ask for the trace header, and what to undo in the response.

    `members` are the parameters that this botocore knows: the newer of the two names exists since 2024. With
    `ask` false, and with names of a wrong type, the parameters stay as they are.
    """
    asked = [params.get(name, ()) for name in (_ASKED, _ASKED_BEFORE_2024)]
    queue_url = params.get("QueueUrl")
    if not all(isinstance(names, (list, tuple)) for names in asked):
        return params, Receipt(queue_url, hide=False, asked_for_some=True)
    names = [name for part in asked for name in part]
    if not ask or HEADER in names or "All" in names:
        return params, Receipt(queue_url, hide=False, asked_for_some=True)
    field = _ASKED if _ASKED in params or (_ASKED in members and not asked[1]) else _ASKED_BEFORE_2024
    params = {**params, field: [*params.get(field, ()), HEADER]}
    return params, Receipt(queue_url, hide=True, asked_for_some=bool(names))


def ask_for_attributes(params: Params, receipt: Receipt) -> Params:
    """`params` of ReceiveMessage that ask for W3C's context in message attributes too, where the caller asks for no
    attributes at all: the digest in the response is over all that were asked for."""
    if params.get(_ATTRIBUTES, []) not in ([], ()):
        return params
    receipt.hide_attributes = True
    return {**params, _ATTRIBUTES: [TRACEPARENT, TRACESTATE]}


class Taken:
    """The message attributes that only we asked for, removed from `messages`: reads a message with them put back."""

    __slots__ = ("_taken",)

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        # By identity, and each message held so that its id stays its own.
        self._taken = {id(message): (message, message.pop("MessageAttributes", None)) for message in messages}
        for message in messages:
            message.pop("MD5OfMessageAttributes", None)

    def __call__(self, message: Any, header: str | None) -> Carried:
        """What `message` carries."""
        _, attributes = self._taken.pop(id(message), (None, None))
        return sqs_polled({**message, "MessageAttributes": attributes} if attributes else message, header)


def take_headers(messages: list[dict[str, Any]], receipt: Receipt) -> list[str | None]:
    """The trace header of each message, in order; what only we asked for is removed from `messages`."""
    return [_take_header(message, receipt) for message in messages]


def _take_header(message: dict[str, Any], receipt: Receipt) -> str | None:
    attributes = message.get("Attributes")
    if not isinstance(attributes, dict):
        return None
    header = attributes.get(HEADER)
    if receipt.hide:
        attributes.pop(HEADER, None)
        if not attributes and not receipt.asked_for_some:
            del message["Attributes"]
    return header if isinstance(header, str) else None


def queue_name(queue_url: object) -> str:
    """The queue's name: the last part of its URL (or of its ARN), or ""."""
    return queue_url.rstrip("/").rpartition("/")[2].rpartition(":")[2] if isinstance(queue_url, str) else ""
