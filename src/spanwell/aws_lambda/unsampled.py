"""The context of an invocation that is not sampled, for an SDK that an earlier one, or the application, has set up.

Without it the handler's spans would be roots, and sampled or not on their own. The trace goes on: calls carry the
header's Root and Lineage, not sampled.
"""

from __future__ import annotations

import os

from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from spanwell import incoming
from spanwell._otel import api
from spanwell.incoming import Incoming
from spanwell.propagation.trace_header import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def enter(header: str) -> Any:
    """Make it the current context; returns the token for `leave`, or None for a header without a Root."""
    found = parse(header)
    if found is None:
        return None
    # Without a Parent a made-up one: a span has to stand somewhere below, or it would be a root.
    parent = found.parent or int.from_bytes(os.urandom(8), "big") | 1
    span = NonRecordingSpan(SpanContext(found.root, parent, True, TraceFlags(TraceFlags.DEFAULT)))
    came = Incoming(found.root, sampled="0", lineage=found.lineage)
    return attach(set_span_in_context(span, incoming.put(Context(), came)))


def leave(token: Any) -> None:
    """Back to the context before."""
    api.leave(token)
