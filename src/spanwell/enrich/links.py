"""Stage: when a request named two traces, the span of the chosen one links to the other."""

from __future__ import annotations

from spanwell.incoming import other_parent

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
