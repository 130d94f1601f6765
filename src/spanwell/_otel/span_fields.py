"""What the encoders need of an ended span, an event or a link, in one look: read only, never kept.

Every property of these is a Python call, and some make a copy: through them reading alone costs more than encoding.
The private names are those behind the properties, as the SDK makes spans (`_attributes._dict`, `_events._dq`: what
the bounded mapping and list hold). What was made by hand is read through the properties.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

span_fields: Callable[[Any], tuple[Any, ...]] = attrgetter(
    "_context",
    "_parent",
    "_name",
    "_kind._value_",
    "_start_time",
    "_end_time",
    "_status._status_code._value_",
    "_status._description",
    "_attributes._dict",
    "_attributes.dropped",
    "_events._dq",
    "_events.dropped",
    "_links._dq",
    "_links.dropped",
)
"""Context, parent, name, kind (0: internal), start, end (Unix nanoseconds or None), status code, its description,
attributes, how many were dropped, events, dropped, links, dropped. AttributeError: ask `any_span_fields`.

`_value_`: an enum's `value` is a Python call on Python 3.10.
"""

event_fields: Callable[[Any], tuple[Any, ...]] = attrgetter(
    "_name", "_timestamp", "_attributes._dict", "_attributes.dropped"
)
"""Name, Unix nanoseconds, attributes, how many were dropped. AttributeError: ask `any_event_fields`."""

link_fields: Callable[[Any], tuple[Any, ...]] = attrgetter("context", "_attributes._dict", "_attributes.dropped")
"""Context, attributes, how many were dropped. AttributeError: ask `any_link_fields`."""


def any_span_fields(span: Any) -> tuple[Any, ...]:
    """The same as `span_fields`, of any `ReadableSpan`. Raises ValueError for one without a context."""
    if span.context is None:
        raise ValueError("a span without a context")
    status = span.status
    return (
        span.context,
        span.parent,
        span.name,
        span.kind.value,
        span.start_time,
        span.end_time,
        status.status_code.value if status is not None else 0,
        status.description if status is not None else None,
        span.attributes or {},
        span.dropped_attributes,
        span.events,
        span.dropped_events,
        span.links,
        span.dropped_links,
    )


def any_event_fields(event: Any) -> tuple[Any, ...]:
    """The same as `event_fields`, of any event."""
    return event.name, event.timestamp, event.attributes or {}, event.dropped_attributes


def any_link_fields(link: Any) -> tuple[Any, ...]:
    """The same as `link_fields`, of any link."""
    return link.context, link.attributes or {}, link.dropped_attributes
