"""Exporter `xray`: segment documents to the X-Ray daemon, the CloudWatch agent or a collector, over UDP.

One datagram a document, header first (X-Ray, "Sending trace data to X-Ray"). The documents of a trace leave together.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

from spanwell._guard import warn_once
from spanwell.export.segment_limits import MAX_DOCUMENT
from spanwell.export.segment_resource import Parts
from spanwell.export.segments import Draft, drafts, finished
from spanwell.export.udp import HEADER, Datagram, UdpExporter, by_trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.export.encoding import Sent

_MONTH = 30 * 86_400


class Item(NamedTuple):
    """A span that waits: its trace, its end in Unix nanoseconds, its resource, its documents."""

    trace_id: int
    end: int
    resource: Any
    drafts: tuple[Draft, ...]


def item_of(span: ReadableSpan) -> tuple[Item, int]:
    """A span as an item, and the bytes that it keeps. Raises ValueError for a span that X-Ray has no place for."""
    made = drafts(span)
    context = span.context
    trace_id = 0 if context is None else context.trace_id
    return Item(trace_id, span.end_time or 0, span.resource, made), sum(len(each.text) + 100 for each in made)


def warn_if_old(items: list[Item], now: float) -> None:
    """X-Ray keeps traces of 30 days. Older ones are sent, as nobody knows what it will do; it is said once.

    The time in a trace id is not looked at: X-Ray takes ids of W3C, which have none.
    """
    if items and min(item.end for item in items) < (now - _MONTH) * 1e9:
        warn_once("xray:old", "spanwell: spans that ended more than 30 days ago: X-Ray may not take them")


class XRayUdpExporter(UdpExporter):
    """Sends segment documents to the daemon at `address` (see `udp.parse_address`)."""

    name = "xray"

    def __init__(self, address: str = "127.0.0.1:2000", *, now: Callable[[], float] = time.time, **more: Any) -> None:
        super().__init__(address, **more)
        self._now = now
        self._parts = Parts()

    def encode(self, span: ReadableSpan) -> tuple[Item, int]:
        """The documents of `span` as far as its resource does not matter."""
        return item_of(span)

    def send(self, items: list[Any]) -> Sent:
        """One datagram a document. A span of two documents is lost if the second is."""
        warn_if_old(items, self._now())
        return self.deliver(self._datagrams(by_trace(items)))

    def _datagrams(self, items: list[Item]) -> Iterator[Datagram]:
        for item in items:
            last = len(item.drafts) - 1
            for number, draft in enumerate(item.drafts):
                yield Datagram(int(number == last), partial(self._document, item, draft))

    def _document(self, item: Item, draft: Draft, largest: int) -> bytes:
        limit = min(MAX_DOCUMENT, largest - len(HEADER))
        return HEADER + finished(draft, self._parts(item.resource), limit)
