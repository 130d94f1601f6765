"""What an OTLP receiver says: rejected spans, what is wrong with a request, when to come back. Pure."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

RETRYABLE = frozenset((429, 502, 503, 504))
"""The statuses after which OTLP wants the same request again; every other but 2xx is final."""

_MAX_TEXT = 300


def partial_success(headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """(rejected spans, the server's message) of an ExportTraceServiceResponse; (0, "") if it says nothing of that."""
    if _is_json(headers):
        document = _document(body).get("partialSuccess")
        if not isinstance(document, dict):
            return 0, ""
        return _number(document.get("rejectedSpans")), clean(document.get("errorMessage") or "")
    for number, value in _fields(body):
        if number == 1 and isinstance(value, bytes):
            inner = dict(_fields(value))
            rejected, text = inner.get(1, 0), inner.get(2, b"")
            return (
                rejected if isinstance(rejected, int) else 0,
                clean(text) if isinstance(text, bytes) else "",
            )
    return 0, ""


def message(headers: Mapping[str, str], body: bytes) -> str:
    """What the server says about its refusal: google.rpc.Status, JSON, or a short text; "" for a page or nothing."""
    kind = headers.get("content-type", "").lower()
    if "protobuf" in kind:
        text = dict(_fields(body)).get(2, b"")
        return clean(text) if isinstance(text, bytes) else ""
    if body.lstrip()[:1] == b"{":
        document = _document(body)
        found = document.get("message") or document.get("Message") or document.get("error") or ""
        return clean(found if isinstance(found, str) else "")
    return "" if "html" in kind or body.lstrip()[:1] == b"<" else clean(body)


def error_type(headers: Mapping[str, str], body: bytes) -> str:
    """The code of an AWS error, such as ``AccessDeniedException``, or ""."""
    found = headers.get("x-amzn-errortype") or ""
    if not found and body.lstrip()[:1] == b"{":
        document = _document(body)
        found = document.get("__type") or document.get("code") or ""
    return clean(str(found).partition(":")[0].rpartition("#")[2])


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait, as a number or an HTTP date; None if it does not. now: time.time()."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        at = http_date(text)
        return None if at is None else max(at - now, 0.0)
    return max(seconds, 0.0) if seconds < 1e9 else None  # NaN too


def http_date(text: str) -> float | None:
    """An HTTP date as time.time() gives it, or None."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        parts = parsedate_tz(text)
        return None if parts is None else float(mktime_tz(parts))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def clean(text: str | bytes) -> str:
    """The start of a foreign text, fit for one line of a log."""
    start = text[: 2 * _MAX_TEXT].decode("utf-8", "replace") if isinstance(text, bytes) else text[: 2 * _MAX_TEXT]
    return " ".join("".join(each if each.isprintable() else " " for each in start).split())[:_MAX_TEXT]


def _is_json(headers: Mapping[str, str]) -> bool:
    return "json" in headers.get("content-type", "").lower()


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode("utf-8-sig"), parse_int=_whole)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(digits: str) -> int:
    return int(digits) if len(digits) <= 30 else 0  # before Python 3.11 a million digits take a second


def _number(found: Any) -> int:
    """An int64 in JSON is a text, though not every server knows."""
    try:
        return int(found) if isinstance(found, int | float) else _whole(str(found or 0))
    except (ValueError, OverflowError):
        return 0


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of the fields of a protobuf message, as far as it is one: varints and lengths."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value - (1 << 64) if value >> 63 else value
        elif kind == 2:
            length, at = _varint(data, at)
            yield key >> 3, data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value & (1 << 64) - 1, at
