"""EventBridge's `Detail` and the data of Kinesis and Firehose: the context as keys of a JSON object, if asked for.

Such a payload is the application's own text, so only one that is a JSON object gets the keys, at its end, and every
other byte of it stays what it was: nothing is serialised again. One that holds a context, that is no JSON or whose
request would grow near a limit is left alone, and so is the caller's dict.
"""

from __future__ import annotations

from json import JSONDecoder
from json.encoder import encode_basestring_ascii

from spanwell.propagation.carried import KEYS
from spanwell.propagation.message_attributes import bytes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Params = dict[str, Any]
    Carrier = dict[str, str]

# Bytes. EventBridge adds up all entries of a request; where accounts have a higher limit, this is the lower.
MOST_EVENT_BYTES = 262_144
MOST_KINESIS_RECORD, MOST_KINESIS_REQUEST = 1 << 20, 5 << 20
MOST_FIREHOSE_RECORD, MOST_FIREHOSE_REQUEST = 1000 << 10, 4_000_000
_SPACE = " \t\r\n"
# `json.loads` costs twice as much, and does not say where the object ends.
_decode = JSONDecoder().raw_decode


def put_events(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of EventBridge PutEvents with the context in the `Detail` of each entry."""
    return _each(params, "Entries", "Detail", carrier, _event_size, MOST_EVENT_BYTES, MOST_EVENT_BYTES)


def kinesis_record(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of Kinesis PutRecord with the context in `Data`."""
    return _one(params, carrier, _record_size, MOST_KINESIS_RECORD)


def kinesis_records(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of Kinesis PutRecords with the context in the `Data` of each record."""
    return _each(params, "Records", "Data", carrier, _record_size, MOST_KINESIS_RECORD, MOST_KINESIS_REQUEST)


def firehose_record(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of Firehose PutRecord with the context in the record's `Data`."""
    record = params.get("Record")
    if not isinstance(record, dict):
        return params
    changed = _one(record, carrier, _record_size, MOST_FIREHOSE_RECORD)
    return params if changed is record else {**params, "Record": changed}


def firehose_records(params: Params, carrier: Carrier, _: object = None) -> Params:
    """`params` of Firehose PutRecordBatch with the context in the `Data` of each record."""
    return _each(params, "Records", "Data", carrier, _record_size, MOST_FIREHOSE_RECORD, MOST_FIREHOSE_REQUEST)


def _one(record: Params, carrier: Carrier, size_of: Callable[[Params], int], most: int) -> Params:
    added = _members(carrier)
    try:
        if size_of(record) + len(added) > most:
            return record
    except (TypeError, UnicodeEncodeError):
        return record
    changed = with_members(record.get("Data"), added)
    return record if changed is None else {**record, "Data": changed}


def _each(
    params: Params,
    field: str,
    key: str,
    carrier: Carrier,
    size_of: Callable[[Params], int],
    most: int,
    most_in_all: int,
) -> Params:
    """`params` with the context in the entries that have room for it, in their order."""
    entries = params.get(field)
    if not isinstance(entries, (list, tuple)):
        return params
    try:
        sizes = [size_of(entry) for entry in entries]
    except (TypeError, AttributeError, UnicodeEncodeError):
        return params  # of a wrong type, or a file, whose size is not known
    added = _members(carrier)
    left = most_in_all - sum(sizes)
    changed = list(entries)
    for index, size in enumerate(sizes):
        if len(added) > left or size + len(added) > most:
            continue
        payload = with_members(entries[index].get(key), added)
        if payload is not None:
            changed[index] = {**entries[index], key: payload}
            left -= len(added)
    return (
        params if all(new is old for new, old in zip(changed, entries, strict=True)) else {**params, field: changed}
    )


def _members(carrier: Carrier) -> str:
    """`,"traceparent":"…",…}`: what takes the place of an object's closing brace. ASCII."""
    return f",{members(carrier)}}}"


def members(carrier: Carrier) -> str:
    """The context as members of a JSON object. ASCII; a tracestate or a Lineage may hold quotes."""
    return ",".join([f'"{key}":{encode_basestring_ascii(carrier[key])}' for key in KEYS if key in carrier])


def with_members(payload: Any, added: str) -> str | bytes | None:
    """`payload` with `added` in the place of its last brace; None if it is no JSON object or holds a context."""
    if isinstance(payload, str):
        text = payload
    elif isinstance(payload, (bytes, bytearray)) and payload[:1] in b" \t\r\n{":
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            return None
    else:
        return None
    start = 0 if text[:1] == "{" else len(text) - len(text.lstrip(_SPACE))
    if text[start : start + 1] != "{":
        return None
    try:
        found, end = _decode(text, start)
    except (ValueError, RecursionError):
        return None
    if text[end:].strip(_SPACE) or any(key in found for key in KEYS):
        return None
    changed = f"{text[: end - 1]}{added if found else added[1:]}{text[end:]}"
    return changed if isinstance(payload, str) else changed.encode()


def _event_size(entry: Params) -> int:
    """As EventBridge counts it."""
    get = entry.get
    size = bytes_of(get("Source", "")) + bytes_of(get("DetailType", "")) + bytes_of(get("Detail", ""))
    if get("Time") is not None:
        size += 14
    for resource in get("Resources", ()):
        size += bytes_of(resource)
    return size


def _record_size(record: Params) -> int:
    return bytes_of(record.get("Data")) + bytes_of(record.get("PartitionKey", ""))
