"""Errors of a span as X-Ray says them: error, throttle, fault, and the `cause` with exceptions and their stacks."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from spanwell.export.segment_http import status_code
from spanwell.export.segment_values import MAX_STRING, said, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

MAX_EXCEPTIONS = 10
MAX_FRAMES = 50
_MAX_TEXT = 100_000
_ODD = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_HEAD = "Traceback (most recent call last):"
_CHAINS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_REPEATED = "  [Previous line repeated "


def flags(status: str, attributes: dict[str, Any], throttled: bool) -> dict[str, bool]:
    """Which of `error`, `throttle`, `fault` are true: by the HTTP status, else by the span's (unset, ok, error)."""
    code = status_code(attributes)
    if code is not None and 400 <= code <= 499:
        return {"error": True, "throttle": True} if code == 429 or throttled else {"error": True}
    if code is not None and 500 <= code <= 599:
        return {"fault": True, "throttle": True} if throttled else {"fault": True}
    if throttled:
        return {"error": True, "throttle": True}
    return {"fault": True} if status == "error" else {}


def cause(
    kind: SpanKind, span_id: int, events: Sequence[Any], status: str, description: str, attributes: dict[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """(`cause` of a span or None, a message that is too long for it or "")"""
    remote = kind is SpanKind.CLIENT or kind is SpanKind.PRODUCER
    exceptions: list[dict[str, Any]] = []
    long = ""
    for event in events:
        if event.name == "exception" and len(exceptions) < MAX_EXCEPTIONS:
            told = event.attributes or {}
            message = said(told.get("exception.message"))
            long = long or (message if len(message) > MAX_STRING else "")
            stack = said(told.get("exception.stacktrace"))
            exceptions += _chained(said(told.get("exception.type")), message, stack)
    if not exceptions and status == "error" and description:
        long = description if len(description) > MAX_STRING else ""
        exceptions.append({"type": short(attributes.get("error.type")), "message": short(description)})
    if not exceptions:
        return None, ""
    return {"exceptions": _numbered(exceptions[:MAX_EXCEPTIONS], span_id, remote)}, long


def exception_id(span_id: int, index: int) -> str:
    """The id of an exception: the same for the same span each time it is told."""
    return f"{(span_id * _ODD + index + 1) & _MASK:016x}"


def _numbered(exceptions: list[dict[str, Any]], span_id: int, remote: bool) -> list[dict[str, Any]]:
    made = []
    for index, exception in enumerate(exceptions):
        whole = {"id": exception_id(span_id, index), **exception, "remote": remote}
        if whole.pop("caused", False) and index + 1 < len(exceptions):
            whole["cause"] = exception_id(span_id, index + 1)
        made.append(whole)
    return made


def _chained(kind: str, message: str, trace: str) -> list[dict[str, Any]]:
    """The exception of an event, and those that led to it, the latest first."""
    blocks = list(_blocks(trace[-_MAX_TEXT:].splitlines())) if trace else []
    made: list[dict[str, Any]] = []
    for block in reversed(blocks):
        frames, omitted, told_kind, told_message = _read(block)
        if not frames and not told_kind:
            continue
        exception: dict[str, Any] = {"type": short(told_kind), "message": short(told_message)}
        if not made:
            exception = {"type": short(kind or told_kind), "message": short(message or told_message)}
        if frames:
            exception["stack"] = frames[:MAX_FRAMES]
        if omitted + len(frames) > len(frames[:MAX_FRAMES]):
            exception["truncated"] = omitted + len(frames) - len(frames[:MAX_FRAMES])
        if made:
            made[-1]["caused"] = True
        made.append(exception)
    return made or [{"type": short(kind), "message": short(message)}]


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The tracebacks of a chain, as they are printed. Of an exception group only its own, not those inside."""
    block: list[str] = []
    inside = False
    for line in lines:
        bare = line[4:] if line.startswith("  | ") else line
        if bare.startswith(_CHAINS):
            yield block
            block, inside = [], False
        elif line.startswith("  +-+--"):
            inside = True
        elif not inside:
            block.append(bare)
    yield block


def _read(lines: Sequence[str]) -> tuple[list[dict[str, Any]], int, str, str]:
    """(frames, the innermost first; how many were not printed; type; message) of one traceback"""
    frames: list[dict[str, Any]] = []
    omitted, started = 0, False
    for number, line in enumerate(lines):
        if line.lstrip(" +|").startswith(("Traceback (", "Exception Group Traceback (")):
            started = True
        elif line.startswith('  File "'):
            frames.append(_frame(line))
        elif line.startswith(_REPEATED):
            count = line[len(_REPEATED) :].partition(" ")[0]
            omitted += int(count) if count.isdecimal() and len(count) < 10 else 0
        elif line and not line.startswith(" ") and (started or frames):
            kind, _, message = line.partition(": ")
            rest = "\n".join((message, *lines[number + 1 :])).rstrip("\n")
            return frames[::-1], omitted, kind.rstrip(":"), rest
    return frames[::-1], omitted, "", ""


def _frame(line: str) -> dict[str, Any]:
    path, _, rest = line[8:].rpartition('", line ')
    number, _, label = rest.partition(", in ")
    frame: dict[str, Any] = {"path": path[-MAX_STRING:]}
    if number.isdecimal() and len(number) < 10:
        frame["line"] = int(number)
    if label:
        frame["label"] = short(label)
    return frame
