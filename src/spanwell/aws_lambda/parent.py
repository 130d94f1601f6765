"""Which context an invocation continues, and which others its span links to.

Where spans go to X-Ray, Lambda's own segment is there too, and the environment's header, which names it, tells the
parent. Any other backend has never heard of that segment: there the event's own context is the parent, and the
environment's is a link. Its decision says only whether X-Ray records anything, so the user's sampler is asked; its
Root and Lineage go on. Without any parent the context of a single message is it.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

from spanwell.propagation import carriers, process, xray
from spanwell.propagation.xray import HEADER, TraceHeader, XRayPropagator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from spanwell.propagation.carried import Extracted
else:
    from typing import NamedTuple

_SEGMENT = XRayPropagator(prefer_xray=True)
_NAMES = ("traceparent", "tracestate", "baggage")


class Entered(NamedTuple):
    """context: what the span is started in. links: the contexts it links to, each once."""

    context: Context
    links: list[SpanContext]


def enter(found: Extracted, header: str, called: object, *, to_xray: bool) -> Entered:
    """The context of an invocation whose event is `found` and whose trace header is `header`, "" without one.

    called: the runtime client's context object, which holds what a caller sent beside the event. Where spans go to
    X-Ray, `header` is sampled or missing: another invocation exports nothing and does not come here.
    """
    carrier = {**_beside(called), **found.carrier}
    given = xray.parse(header) if header else None
    links: list[SpanContext] = []
    if given is None:
        context = get_global_textmap().extract(carrier, Context())
    elif to_xray:
        context, links = _below_segment(carrier, header, given)
    else:
        context, links = _below_event(carrier, given)
    creators = carriers.contexts(found)
    if len(found.messages) == 1 and creators and not get_current_span(context).get_span_context().is_valid:
        context, creators = process.entered(found.messages[0], Context())
    return Entered(context, _once([*creators, *links]))


def _below_segment(carrier: dict[str, str], header: str, given: TraceHeader) -> tuple[Context, list[SpanContext]]:
    """The environment's parent; what the event named in another trace is a link."""
    own = _SEGMENT.extract({HEADER: header}, Context())
    carrier.pop(HEADER, None)
    if not carrier:
        return own, []
    named = get_global_textmap().extract(carrier, Context())
    event = get_current_span(named).get_span_context()
    other = [event] if event.is_valid and event.trace_id != given.root else []
    return Context({**named, **own}), other


def _below_event(carrier: dict[str, str], given: TraceHeader) -> tuple[Context, list[SpanContext]]:
    """The event's parent; the environment's is a link if X-Ray records it."""
    own = xray.parse(carrier[HEADER]) if HEADER in carrier else None
    if own is None:
        carrier[HEADER] = xray.format_header(TraceHeader(given.root, lineage=given.lineage))
    elif given.lineage and not own.lineage:
        carrier[HEADER] = xray.format_header(TraceHeader(own.root, own.parent, own.sampled, given.lineage))
    context = get_global_textmap().extract(carrier, Context())
    parent = get_current_span(context).get_span_context()
    if given.sampled != "1" or not given.parent or (parent.trace_id, parent.span_id) == (given.root, given.parent):
        return context, []
    return context, [SpanContext(given.root, given.parent, True, TraceFlags(TraceFlags.SAMPLED))]


def _beside(called: object) -> dict[str, str]:
    """The carrier in what a caller sent beside the event: `custom` of the client context, or its `w3c`."""
    custom = getattr(getattr(called, "client_context", None), "custom", None)
    found: dict[str, str] = {}
    if isinstance(custom, dict):
        for name in (*_NAMES, HEADER):
            value = custom.get(name)
            if isinstance(value, str):
                found[name] = value
    ask = getattr(called, "w3c", None)
    fields = ask() if callable(ask) else None
    if isinstance(fields, dict):
        found.update({name: fields[name] for name in _NAMES if isinstance(fields.get(name), str)})
    return found


def _once(contexts: list[SpanContext]) -> list[SpanContext]:
    return list({(each.trace_id, each.span_id): each for each in contexts}.values())
