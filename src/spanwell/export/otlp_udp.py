"""Exporter `xray_otlp_udp`: OTLP in datagrams, as AWS's distro sends it on Lambda and to the CloudWatch agent.

A datagram is the header of the X-Ray daemon's protocol, `T1S` for traces that are kept or `T1U` for those that only
count, and an ExportTraceServiceRequest as base64.
"""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import Any, NamedTuple

from spanwell._otel import spans
from spanwell.export import otlp_protobuf
from spanwell.export.udp import HEADER, Datagram, UdpExporter, by_trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.export.encoding import Sent

SAMPLED, UNSAMPLED = b"T1S", b"T1U"
_MARK = "aws.trace.flag.sampled"


class Item(NamedTuple):
    """A span that waits."""

    trace_id: int
    kept: bool
    resource: Any
    scope: Any
    span: bytes


class OtlpUdpExporter(UdpExporter):
    """Sends OTLP to `address` (see `udp.parse_address`), several spans a datagram."""

    name = "xray_otlp_udp"

    def encode(self, span: ReadableSpan) -> tuple[Item, int]:
        """`span` as protobuf. Raises ValueError for a span that has no encoding."""
        encoded = otlp_protobuf.encode_span(span)
        context = span.context
        if context is None:
            raise ValueError("a span without a context")
        # A sampler's promotion marks a span as unsampled, but it is to be kept: `T1U` would only be counted.
        kept = bool(context.trace_flags & 1) or spans.attributes_of(span).get(_MARK) is False
        return Item(context.trace_id, kept, span.resource, span.instrumentation_scope, encoded), len(encoded) + 100

    def send(self, items: list[Any]) -> Sent:
        """As many spans a datagram as fit; those of a trace leave together. A span that fits in none is lost."""
        return self.deliver(self._datagrams(by_trace(items)))

    def _datagrams(self, items: list[Item]) -> Iterator[Datagram]:
        room = (self._largest - len(HEADER) - len(SAMPLED)) // 4 * 3
        for prefix, kept in ((SAMPLED, True), (UNSAMPLED, False)):
            chosen = [(each.resource, each.scope, each.span) for each in items if each.kept is kept]
            if not chosen:
                continue
            for part in otlp_protobuf.requests(chosen, max_bytes=room):
                data = HEADER + prefix + b64encode(part.body)
                yield Datagram(len(part.items), partial(_if_it_fits, data))


def _if_it_fits(data: bytes, largest: int) -> bytes | None:
    return data if len(data) <= largest else None
