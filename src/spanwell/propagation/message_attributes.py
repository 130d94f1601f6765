"""SQS and SNS: W3C's context as message attributes, as pure functions over botocore's parameters.

Message attributes are the application's: they count (ten to a message), they add to the size of the message, and
subscriptions filter by them. So they are added only where there is room, and never beside ones that are there. The
caller's objects are never changed: what has to change is copied, the rest is shared.
"""

from __future__ import annotations

from spanwell.propagation.carried import TRACEPARENT, TRACESTATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Params = dict[str, Any]
    Carrier = dict[str, str]

MOST_ATTRIBUTES = 10
MOST_BYTES = 262_144
"""Of a message or, in a batch, of all its messages: every account's limit, though some have a higher one."""
_NAMES = (TRACEPARENT, TRACESTATE, "baggage")
# Below this many characters in a message no limit is near, whatever they are in UTF-8.
_SURELY_SHORT = 40_000
_LONGEST_VALUE = 8192


def send_message(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of SQS SendMessage with `traceparent` and `tracestate` of `carrier`."""
    return _single(params, carrier, ("MessageBody",))


def send_message_batch(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of SQS SendMessageBatch with the context in each message, as far as they have room."""
    return _batch(params, "Entries", carrier, ("MessageBody",))


def publish(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of SNS Publish with the context; a text message to a telephone has nowhere to put it."""
    if params.get("PhoneNumber") is not None:
        return params
    return _single(params, carrier, ("Message", "Subject"))


def publish_batch(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of SNS PublishBatch with the context in each message, as far as they have room."""
    return _batch(params, "PublishBatchRequestEntries", carrier, ("Message", "Subject"))


def _single(params: Params, carrier: Carrier, texts: tuple[str, ...]) -> Params:
    return _message(params, carrier, None if _short(params, texts) else _Room(lambda: _size(params, texts)))


def _batch(params: Params, field: str, carrier: Carrier, texts: tuple[str, ...]) -> Params:
    entries = params.get(field)
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, dict) for entry in entries):
        return params
    short = len(entries) <= MOST_ATTRIBUTES and all(_short(entry, texts, len(entries)) for entry in entries)
    room = None if short else _Room(lambda: sum(_size(entry, texts) for entry in entries))
    changed = [_message(entry, carrier, room) for entry in entries]
    if all(new is old for new, old in zip(changed, entries, strict=True)):
        return params
    return {**params, field: changed}


class _Room:
    """What is left of the size of a request; added up when it is first asked."""

    __slots__ = ("_left", "_used")

    def __init__(self, used: Callable[[], int]) -> None:
        self._used = used
        self._left: int | None = None

    def take(self, size: int) -> bool:
        if self._left is None:
            try:
                self._left = MOST_BYTES - self._used()
            except (TypeError, AttributeError, LookupError, UnicodeEncodeError):
                self._left = 0  # of a wrong type: left for botocore to report
        if size > self._left:
            return False
        self._left -= size
        return True


def _message(entry: Params, carrier: Carrier, room: _Room | None) -> Params:
    own = entry.get("MessageAttributes", {})
    if not isinstance(own, dict) or TRACEPARENT in own or TRACESTATE in own:
        return entry
    attributes = dict(own)
    for name in _NAMES:
        text = carrier.get(name)
        if not text or name in own or len(text) > _LONGEST_VALUE:
            continue
        if len(attributes) >= MOST_ATTRIBUTES or (room and not room.take(len(name) + 6 + len(text))):
            break
        attributes[name] = {"DataType": "String", "StringValue": text}
    return {**entry, "MessageAttributes": attributes} if len(attributes) > len(own) else entry


def _short(entry: Params, texts: Iterable[str], of: int = 1) -> bool:
    """Whether `entry`, one of `of`, is far from any limit by its looks alone."""
    if entry.get("MessageAttributes"):
        return False
    length = 0
    for name in texts:
        text = entry.get(name, "")
        if not isinstance(text, str):
            return False
        length += len(text)
    return length * of < _SURELY_SHORT


def _size(entry: Params, texts: Iterable[str]) -> int:
    size = sum(bytes_of(entry.get(name, "")) for name in texts)
    for name, value in entry.get("MessageAttributes", {}).items():
        size += bytes_of(name) + bytes_of(value["DataType"])
        size += bytes_of(value["BinaryValue"] if "BinaryValue" in value else value.get("StringValue", ""))
    return size


def bytes_of(text: Any) -> int:
    """The size of a text, in UTF-8, or of bytes. Raises TypeError for what is neither."""
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode())
    if isinstance(text, (bytes, bytearray)):
        return len(text)
    raise TypeError("no text")
