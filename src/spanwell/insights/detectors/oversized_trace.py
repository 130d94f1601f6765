"""More spans, or larger ones, than stores like and people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.insights.model import INFO, Insight
from spanwell.insights.wording import evidence, operation, subject, what

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping
    from typing import Any

    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "oversized_trace"
DEFAULTS = {"oversized_trace.spans": 500, "oversized_trace.span_bytes": 64_000}


def may(hints: Hints) -> bool:
    if hints.thresholds is None or hints.spans > hints.threshold("oversized_trace.spans"):
        return True
    # The hint counts characters of text alone: of those that may be four bytes long, and lists beside them.
    return hints.largest_bytes > hints.threshold("oversized_trace.span_bytes") / 4


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """At most one for too many spans and one for each name of spans that are too large."""
    count, most = len(fragment.spans) + fragment.dropped, thresholds.get("oversized_trace.spans", fragment.operation)
    if count > most:
        yield _many(fragment, count)
    limit = thresholds.get("oversized_trace.span_bytes", fragment.operation)
    large: dict[str, tuple[int, SpanRecord]] = {}
    for span in fragment.spans:
        size = size_of(span)
        if size > limit:
            name = what(span)
            if name not in large or size > large[name][0]:
                large[name] = (size, span)
    for name, (size, span) in large.items():
        yield _large(fragment, name, size, span)


def size_of(span: SpanRecord) -> int:
    """About how many bytes a span takes where it is stored: its texts and those of its events and links."""
    size = len(span.name) + len(span.status_message) + _size(span.attributes)
    for event in span.events:
        size += len(event.name) + _size(event.attributes)
    for link in span.links:
        size += 48 + _size(link.attributes)
    return size


def _size(attributes: Mapping[str, Any]) -> int:
    size = 0
    for key, value in attributes.items():
        size += len(str(key)) + 6
        if isinstance(value, (list, tuple)):
            size += sum(_bytes(item) + 3 for item in value)
        else:
            size += _bytes(value)
    return size


def _bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    return len(value) if isinstance(value, bytes) else 8


def _many(fragment: Fragment, count: int) -> Insight:
    from collections import Counter

    names: Counter[str] = Counter(map(what, fragment.spans))
    name, often = names.most_common(1)[0] if names else ("", 0)
    examples = (span for span in fragment.spans if what(span) == name)
    return Insight(
        NAME,
        INFO,
        f"{subject(fragment)} made {count} spans, {often} of them {name}: "
        "record such steps as one span with a count, or start a linked trace for each part.",
        (operation(fragment), "spans"),
        evidence(examples),
        {"spans": count, "most": name},
    )


def _large(fragment: Fragment, name: str, size: int, span: SpanRecord) -> Insight:
    keys = {key: _size({key: value}) for key, value in span.attributes.items()}
    events = sum(_size(event.attributes) for event in span.events)
    key = max(keys, key=keys.__getitem__, default="")
    if not key or events > keys[key]:
        key = "its events"
    return Insight(
        NAME,
        INFO,
        f"{subject(fragment)} has a span {name} of {size / 1_000:.0f} kB, most of it in {key}: "
        "put less there, or set OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT.",
        (operation(fragment), "bytes", name),
        (span.span_id,),
        {"bytes": size, "largest": key},
    )
