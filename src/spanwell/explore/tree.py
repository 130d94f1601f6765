"""One trace as lines of text: the tree of its spans with durations, services, AWS calls and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spanwell.explore.text import cells, clean, fill, fit, format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from spanwell.explore.model import Trace
    from spanwell.record import SpanRecord

    Paint = Callable[[str, str], str]

_BAR_FROM = 100
_SERVICE_FROM = 56
_NAME_AT_LEAST = 16
_DURATION = 9
_AWS_TARGETS = (
    "aws.dynamodb.table_names",
    "messaging.destination.name",
    "aws.sqs.queue_url",
    "aws.queue_url",
    "aws.sns.topic.arn",
    "messaging.destination",
    "aws.s3.bucket",
    "aws.kinesis.stream_name",
    "aws.lambda.function_name",
    "faas.invoked_name",
    "aws.secretsmanager.secret.arn",
    "aws.stepfunctions.state_machine.arn",
)


def plain_text(role: str, text: str) -> str:
    """Paint nothing."""
    return text


class _Columns(NamedTuple):
    """Widths of the columns; 0 leaves a column out."""

    name: int
    service: int
    bar: int


class _Place(NamedTuple):
    """Where a span stands in the tree: what is drawn before it and before what belongs to it."""

    position: int
    own: str
    below: str
    depth: int


def render(trace: Trace, *, width: int = 100, paint: Paint = plain_text) -> Iterator[str]:
    """The lines of `trace`, none wider than `width` columns (40 at least). Every span stands in exactly one
    line.

    `paint(role, text)` may add colour; roles are title, name, service, kind, detail, duration, bar, error,
    missing, branch.
    """
    width = max(40, width)
    columns = _columns(trace, width)
    yield paint("title", fit(_title(trace), width))
    for position in trace.roots:
        yield from _subtree(trace, [_Place(position, "", "", 0)], columns, paint, width)
    for parent_id, positions in _by_parent(trace).items():
        yield paint("missing", fit(f"missing parent {clean(parent_id)}", width))
        yield from _subtree(trace, _places(positions, "", 0), columns, paint, width)
    if trace.loops:
        yield paint("missing", fit("parents in a circle", width))
        yield from _subtree(trace, _places(trace.loops, "", 0), columns, paint, width)


def _title(trace: Trace) -> str:
    parts = [
        f"trace {clean(trace.trace_id)}",
        format_time(trace.start_ns) + " UTC",
        format_duration(trace.duration),
    ]
    # What is wrong first: a narrow terminal cuts the end.
    missing = len(_by_parent(trace))
    for number, what in ((len(trace.errors), "error"), (missing, "missing parent")):
        if number:
            parts.append(_number(number, what))
    parts += [_number(len(trace.spans), "span"), _number(len(trace.services), "service")]
    return "  ".join(parts)


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _by_parent(trace: Trace) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for position in trace.orphans:
        groups.setdefault(trace.spans[position].parent_id or "", []).append(position)
    return groups


def _columns(trace: Trace, width: int) -> _Columns:
    bar = min(40, width // 4) if width >= _BAR_FROM else 0
    service = 0
    if width >= _SERVICE_FROM:
        service = min(24, max((cells(clean(name)) for name in trace.services), default=0))
    name = width - _DURATION - 1 - (bar and bar + 1) - (service and service + 1)
    return _Columns(name, service, bar)


def _places(positions: tuple[int, ...] | list[int], below: str, depth: int) -> list[_Place]:
    """Children of one parent, the last one drawn with a corner."""
    last = len(positions) - 1
    return [
        _Place(position, below + ("└ " if index == last else "├ "), below + ("  " if index == last else "│ "), depth)
        for index, position in enumerate(positions)
    ]


def _subtree(trace: Trace, places: list[_Place], columns: _Columns, paint: Paint, width: int) -> Iterator[str]:
    # No recursion, and no branches wider than the column: a trace may be a chain of 100,000 spans.
    limit = columns.name - _NAME_AT_LEAST
    stack = list(reversed(places))
    while stack:
        place = stack.pop()
        if cells(place.own) > limit:
            place = place._replace(own=f"⋯{place.depth} {place.own[-2:]}")
        span = trace.spans[place.position]
        children = trace.children.get(place.position, ())
        yield _span_line(trace, span, place, columns, paint)
        error = _error(span)
        if error:
            branch = place.below + ("│ " if children else "  ")
            yield paint("branch", branch) + paint("error", fit(f"✗ {error}", max(8, width - cells(branch))))
        stack.extend(reversed(_places(children, place.below[: limit + 2], place.depth + 1)))


def _span_line(trace: Trace, span: SpanRecord, place: _Place, columns: _Columns, paint: Paint) -> str:
    room = columns.name - cells(place.own)
    name = fit(("✗ " if span.is_error else "") + (clean(span.name) or "(no name)"), room)
    line = paint("branch", place.own) + paint("error" if span.is_error else "name", name)
    room -= cells(name)
    for role, text in (("kind", _kind(span)), ("detail", clean(_detail(span)))):
        if text and room > 4:
            shown = fit(text, room - 1)
            line += " " + paint(role, shown)
            room -= cells(shown) + 1
    line += " " * room
    if columns.service:
        line += " " + paint("service", fill(clean(span.service), columns.service))
    line += " " + paint("duration", fit(format_duration(span.duration), _DURATION).rjust(_DURATION))
    if columns.bar:
        role = "error" if span.is_error else "bar"
        line += " " + paint(role, _bar(trace, span, columns.bar))
    return line.rstrip()


def _kind(span: SpanRecord) -> str:
    return "" if span.kind == "internal" else f"[{clean(span.kind)}]"


def _bar(trace: Trace, span: SpanRecord, width: int) -> str:
    whole = trace.duration or 1
    start = min(width - 1, max(0, (span.start_ns - trace.start_ns) * width // whole))
    length = min(width - start, max(1, span.duration * width // whole))
    return " " * start + "█" * length


def _detail(span: SpanRecord) -> str:
    """What the name does not say: the AWS operation and its target, the HTTP status."""
    attributes = span.attributes
    parts = [_aws(span, attributes)]
    status = attributes.get("http.response.status_code", attributes.get("http.status_code"))
    if status is not None and str(status) not in span.name:
        parts.append(str(status))
    return " ".join(part for part in parts if part)


def _aws(span: SpanRecord, attributes: Mapping[str, Any]) -> str:
    if attributes.get("rpc.system") != "aws-api" and attributes.get("rpc.system.name") != "aws-api":
        return ""
    operation = f"{attributes.get('rpc.service', 'AWS')}.{attributes.get('rpc.method', '?')}"
    parts = [] if operation in span.name else [operation]
    for key in _AWS_TARGETS:
        target = attributes.get(key)
        if target:
            parts.append(_target(target))
            break
    return " ".join(parts)


def _target(target: Any) -> str:
    if isinstance(target, (list, tuple)):
        return ",".join(str(item) for item in target)
    return str(target).rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def _error(span: SpanRecord) -> str:
    """Type and message of what went wrong; empty for a span without error."""
    if not span.is_error:
        return ""
    for event in reversed(span.events):
        if event.name == "exception":
            kind = str(event.attributes.get("exception.type", "exception"))
            message = str(event.attributes.get("exception.message", ""))
            return clean(f"{kind}: {message}" if message else kind)
    if span.status_message:
        return clean(span.status_message)
    return clean(str(span.attributes.get("error.type", "")))
