"""Services that have a field of their own for the context: EventBridge, Step Functions, Lambda.

Pure functions over botocore's parameters. The caller's objects are never changed; a field that is there, or of a
wrong type, stays.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import b2a_base64
from json import JSONEncoder, loads

from spanwell.propagation.carried import KEYS
from spanwell.propagation.json_payloads import members
from spanwell.propagation.xray import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Params = dict[str, Any]
    Carrier = dict[str, str]

MOST_CLIENT_CONTEXT = 3583
"""Bytes of Lambda's ClientContext, in base64."""
_MOST_EVENT_HEADER, _MOST_EXECUTION_HEADER = 500, 256
_INVOCATIONS = (None, "RequestResponse", "Event")


def put_events(params: Params, carrier: Carrier, shape: Any) -> Params:
    """`params` of EventBridge PutEvents with a `TraceHeader` in each entry."""
    entries = params.get("Entries")
    if not isinstance(entries, (list, tuple)) or "TraceHeader" not in shape.members["Entries"].member.members:
        return params
    header = _short(carrier[HEADER], _MOST_EVENT_HEADER)
    changed = [
        {**entry, "TraceHeader": header} if isinstance(entry, dict) and "TraceHeader" not in entry else entry
        for entry in entries
    ]
    return (
        params
        if all(new is old for new, old in zip(changed, entries, strict=True))
        else {**params, "Entries": changed}
    )


def start_execution(params: Params, carrier: Carrier, shape: Any) -> Params:
    """`params` of Step Functions StartExecution or StartSyncExecution with `traceHeader`."""
    if "traceHeader" in params or "traceHeader" not in shape.members:
        return params
    return {**params, "traceHeader": _short(carrier[HEADER], _MOST_EXECUTION_HEADER)}


def invoke(params: Params, carrier: Carrier, shape: Any) -> Params:
    """`params` of Lambda Invoke with the context in `custom` of ClientContext; the payload stays."""
    if params.get("InvocationType") not in _INVOCATIONS or "ClientContext" not in shape.members:
        return params
    if "ClientContext" in params:
        text = _merged(params["ClientContext"], carrier)
    else:
        text = _base64(f'{{"custom":{{{members(carrier)}}}}}')
    return params if text is None else {**params, "ClientContext": text}


def _short(header: str, most: int) -> str:
    """`header` without its Lineage where that makes it too long for the field."""
    return header if len(header) <= most else header.partition(";Lineage=")[0]


def _merged(text: Any, carrier: Carrier) -> str | None:
    """The ClientContext `text` with the context in it; None where it has one, or cannot be read and written back."""
    if not isinstance(text, str) or len(text) > MOST_CLIENT_CONTEXT:
        return None
    try:
        own = loads(b64decode(text, validate=True).decode())
        custom = own.get("custom", {}) if isinstance(own, dict) else None
        if not isinstance(custom, dict) or any(key in custom for key in KEYS):
            return None
        added = {key: carrier[key] for key in KEYS if key in carrier}
        return _base64(_encode({**own, "custom": {**custom, **added}}))
    except (ValueError, RecursionError):
        return None


def _base64(text: str) -> str | None:
    """`text` as a ClientContext, unless that is too long."""
    found = b2a_base64(text.encode(), newline=False).decode()
    return found if len(found) <= MOST_CLIENT_CONTEXT else None


_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
