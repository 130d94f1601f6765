"""Stages that link: to the trace that a request named besides, and to what created the messages of an invocation."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from spanwell._otel.spans import drop_links_to
from spanwell.incoming import invoked_by, other_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span


class OtherParentLink:
    """Links a span with a remote parent to the parent that the other header named, in another trace."""

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """Add the link; spans with a local parent cost one attribute look-up.

        A span without a parent gets none: a header loses only against a valid remote parent, so such a span
        was detached on purpose.
        """
        parent = span.parent
        if parent is None or not parent.is_remote:
            return
        other = other_parent(parent_context, parent.trace_id)
        if other is not None:
            span.add_link(other)


_LAMBDA = "opentelemetry.instrumentation.aws_lambda"


class InvocationLinks:
    """Links a Lambda invocation's span to what created the messages of its event, and writes the event's attributes.

    As does the CONSUMER span that the instrumentor opens below it for a batch of SQS. That links by itself to what
    message attributes name, or, where they name nothing, to its own parent: those links go.
    """

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """Add the links to the instrumentor's spans; to others nothing."""
        scope = span.instrumentation_scope
        if scope is None or scope.name != _LAMBDA:
            return
        by = invoked_by(parent_context)
        if by is None:
            return
        consumer = span.kind is SpanKind.CONSUMER
        if consumer and span.parent is not None:
            drop_links_to(span, span.parent)
        present = {(link.context.trace_id, link.context.span_id) for link in span.links}
        for each in by.links:
            if (each.trace_id, each.span_id) not in present:
                span.add_link(each)
        if not consumer:
            own = span.attributes or {}
            span.set_attributes({key: value for key, value in by.attributes.items() if key not in own})
