"""Spans that have ended: the SDK offers no way to add an attribute or to change the tracestate of one.

Each function changes this one `ReadableSpan` alone, which is made when a span ends. The application's own span object
and mappings that another thread may be iterating over stay as they are.
"""

from __future__ import annotations

from copy import copy
from operator import attrgetter
from typing import Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind, TraceState

    Ended = tuple[
        SpanContext,
        SpanContext | None,
        str,
        SpanKind,
        int,
        int,
        str,
        Mapping[str, Any],
        Sequence[Any],
        Sequence[Any],
        str,
        InstrumentationScope | None,
    ]
    """Context, parent, name, kind, start and end (Unix nanoseconds, 0 if unknown), status (unset, ok or error),
    attributes, events, links, description of the status, scope. Only to be read."""

_ERROR, _OK = StatusCode.ERROR, StatusCode.OK

# A SpanContext is a tuple in this order. Its properties are a Python call each, which adds up where every span pays.
TRACE_ID: Final = 0
SPAN_ID: Final = 1
REMOTE: Final = 2
FLAGS: Final = 3
STATE: Final = 4
VALID: Final = 5


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes of an ended span, to be read only.

    `_attributes._dict`: through the public mapping a look-up that fails costs an exception, and iterating locks.
    """
    own: Any = span._attributes
    return getattr(own, "_dict", own) or {}


def write(span: ReadableSpan, attributes: Mapping[str, Any]) -> None:
    """Set `attributes` on an ended span: whoever reads it from now on sees them.

    `_attributes`: what the property `attributes` shows. Ours come on top of the attribute limit, so that none of the
    application's has to go.
    """
    own: Any = span._attributes
    replace_attributes(span, {**getattr(own, "_dict", own or {}), **attributes})


def set_trace_state(span: ReadableSpan, state: TraceState | None) -> None:
    """Give an ended span another tracestate; its children keep what they were given (`_context`: as above)."""
    old = span._context
    if old is not None:
        span._context = SpanContext(old.trace_id, old.span_id, old.is_remote, old.trace_flags, state)


def set_sampled(span: ReadableSpan, sampled: bool) -> None:
    """Let the exporters' processors take an ended span, or pass it by (`_context`: as above)."""
    old = span._context
    if old is not None and bool(old.trace_flags & 1) is not sampled:
        flags = TraceFlags(old.trace_flags & ~TraceFlags.SAMPLED | int(sampled))
        span._context = SpanContext(old.trace_id, old.span_id, old.is_remote, flags, old.trace_state)


def sampled_copy(span: ReadableSpan) -> ReadableSpan:
    """The same span with the sampled flag set: upstream's span processors let no other pass to their exporters.

    A copy of the object: a new `ReadableSpan` would lose how many attributes, events and links were dropped.
    """
    made = copy(span)
    old = span._context
    if old is not None:
        flags = TraceFlags(old.trace_flags | TraceFlags.SAMPLED)
        made._context = SpanContext(old.trace_id, old.span_id, old.is_remote, flags, old.trace_state)
    return made


def replace_attributes(holder: Any, attributes: dict[str, Any]) -> None:
    """Let an ended span, or a copy of an event or link, have `attributes`; how many were dropped stays known."""
    own: Any = holder._attributes
    written = BoundedAttributes(immutable=False)
    # `_dict`: past the setter, which would check and copy every value of the application once more.
    written._dict = attributes
    written.dropped = getattr(own, "dropped", 0)
    written._immutable = True
    holder._attributes = written


def parts(span: ReadableSpan) -> tuple[str, str | None, Mapping[str, Any] | None, Sequence[Any], Sequence[Any]]:
    """Name, status description, attributes, events and links of a span as it holds them: only to be read.

    Each property of a span makes a copy or a view, and iterating over a view runs Python code for every key.
    """
    own: Any = span._attributes
    events: Any = span._events
    links: Any = span._links
    return (
        span._name,
        span._status.description,
        getattr(own, "_dict", own),
        getattr(events, "_dq", events),
        getattr(links, "_dq", links),
    )


context_of: Callable[[ReadableSpan], SpanContext | None] = attrgetter("_context")
"""The context of a span, without the call that its property costs."""

beginning: Callable[[ReadableSpan], tuple[SpanContext, SpanContext | None, int]]
beginning = attrgetter("_context", "_parent", "_start_time")
"""Context, parent and start of a span in one call: as properties they are three, where hardly more should be."""


def ended(span: ReadableSpan) -> Ended:
    """What an ended span says, in one look: each property of a span is a Python call, and some make a copy."""
    attributes: Any = span._attributes
    events: Any = span._events
    links: Any = span._links
    status = span._status
    code = status._status_code
    try:
        attributes, events, links = attributes._dict, events._dq, links._dq
    except AttributeError:  # of a span that the SDK did not make
        attributes, events, links = _plain(attributes, "_dict"), _plain(events, "_dq"), _plain(links, "_dq")
    return (
        span._context,  # type: ignore[return-value]  # what has ended has one
        span._parent,
        span._name,
        span._kind,
        span._start_time or 0,
        span._end_time or 0,
        "error" if code is _ERROR else "ok" if code is _OK else "unset",
        attributes or {},
        # Not the lists themselves: an empty one is most of the memory that a span needs.
        events or (),
        links or (),
        status._description or "",
        span._instrumentation_scope,
    )


def _plain(holder: Any, inner: str) -> Any:
    return getattr(holder, inner, holder)


def open_copy(span: Any, end: int, attributes: Mapping[str, Any]) -> ReadableSpan:
    """A span that has not ended as it would be exported at `end` (Unix nanoseconds), with `attributes` on top.

    `_readable_span`: what `end` hands to the processors; it shares the span's attributes, so the copy gets its own.
    """
    made: ReadableSpan = span._readable_span()
    made._end_time = end
    write(made, attributes)
    return made


def rename(span: ReadableSpan, name: str) -> None:
    """Give an ended span another name (`_name`: `update_name` refuses)."""
    span._name = name


def describe_status(span: ReadableSpan, description: str) -> None:
    """Give the status of an ended span another description (`_status`: `set_status` refuses)."""
    span._status = Status(span._status.status_code, description)


def fail(span: ReadableSpan, description: str) -> None:
    """Let an ended span have failed (`_status`: as above)."""
    span._status = Status(StatusCode.ERROR, description)


def replace_events(span: ReadableSpan, events: Sequence[Any]) -> None:
    """Let an ended span have `events`, as many as it had."""
    span._events = _list_with(span._events, events)


def replace_links(span: ReadableSpan, links: Sequence[Any]) -> None:
    """Let an ended span have `links`, as many as it had."""
    span._links = _list_with(span._links, links)


def drop_links_to(span: Any, context: SpanContext) -> None:
    """Take the links to `context` out of a span that has just started (`_links`: the SDK only adds to them)."""
    links = getattr(span._links, "_dq", span._links)
    for link in list(links):
        if link.context.span_id == context.span_id and link.context.trace_id == context.trace_id:
            links.remove(link)


def event_with(event: Any, name: str, attributes: dict[str, Any] | None) -> Any:
    """A copy of an event with another name, and other attributes unless they are None."""
    made = copy(event)
    made._name = name
    if attributes is not None:
        replace_attributes(made, attributes)
    return made


def link_with(link: Any, attributes: dict[str, Any]) -> Any:
    """A copy of a link with other attributes: the link itself belongs to the application."""
    made = copy(link)
    replace_attributes(made, attributes)
    return made


def _list_with(old: Any, items: Sequence[Any]) -> Any:
    made = BoundedList.from_seq(None, items)
    made.dropped = getattr(old, "dropped", 0)
    return made
