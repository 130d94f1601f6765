"""The parent of a Lambda invocation, and what its span links to: `event_context_extractor` of the instrumentor.

The parent is what the propagators find in the request's own headers and, in the place of their X-Ray header, the
one of the environment, which names the function's own segment. Every message of the event that carries a context
becomes a link, whatever is the parent.

The environment's header comes from Lambda and is there whether anybody uses X-Ray or not. Where spans go to X-Ray,
its decision holds (`xray-lambda`). Elsewhere `Sampled=0` only says that X-Ray records nothing: of such a header the
trace id and Lineage are kept, and the sampler decides. Without a parent, the context of a single message is it.
"""

from __future__ import annotations

import os

from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import get_current_span

from spanwell import incoming
from spanwell._guard import guard
from spanwell.incoming import Invoked
from spanwell.propagation import carriers, process, xray
from spanwell.propagation.carried import problems
from spanwell.propagation.xray import HEADER, TraceHeader, XRayPropagator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanwell.propagation.carried import Extracted

_ENVIRONMENT = "_X_AMZN_TRACE_ID"


class EventContext:
    """Called with an event, gives the context to start the invocation's span in; never raises.

    to_xray: spans go to X-Ray. environ: where Lambda puts the trace header of each invocation.
    """

    def __init__(self, *, to_xray: bool, environ: Mapping[str, str] = os.environ) -> None:
        self._to_xray = to_xray
        self._environ = environ

    def __call__(self, event: object) -> Context:
        """The context of the invocation that got `event`."""
        with guard("trace context of a Lambda event"):
            return self._context(event)
        return Context()

    def _context(self, event: object) -> Context:
        found = carriers.extract(event)
        context = self._entered(found)
        creators = carriers.contexts(found)
        if len(found.messages) == 1 and creators and self._is_open(context):
            context, creators = process.entered(found.messages[0], Context())
        return incoming.invoked(context, Invoked(tuple(creators), _attributes(found)))

    def _entered(self, found: Extracted) -> Context:
        """The context that the request and the environment give."""
        carrier = dict(found.carrier)
        text = self._environ.get(_ENVIRONMENT, "")
        header = xray.parse(text) if text else None
        if header is not None:
            if self._to_xray or header.sampled != "0":
                carrier[HEADER] = text
            else:
                carrier.setdefault(HEADER, xray.format_header(TraceHeader(header.root, lineage=header.lineage)))
        textmap = get_global_textmap()
        context = textmap.extract(carrier, Context())
        if header is not None and self._to_xray and HEADER not in textmap.fields:
            context = XRayPropagator(prefer_xray=True).extract({HEADER: text}, context)
        return context

    def _is_open(self, context: Context) -> bool:
        """Whether nothing has named a parent, and X-Ray does not expect the trace id that it gave."""
        if get_current_span(context).get_span_context().is_valid:
            return False
        return not self._to_xray or incoming.of(context) is None


class Meters:
    """For the instrumentor's `meter_provider`, which it only flushes: the global one, if there is anything to flush.

    Without metrics the API's own stands there, which cannot, and the instrumentor logs a warning at each invocation.
    """

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Flush the global meter provider within the time."""
        from opentelemetry.metrics import get_meter_provider

        flush = getattr(get_meter_provider(), "force_flush", None)
        return flush is None or bool(flush(timeout_millis))


def _attributes(found: Extracted) -> dict[str, str]:
    attributes = {"faas.trigger": found.trigger}
    shown = problems(found)
    if shown:
        attributes[process.PROBLEM] = shown
    return attributes
