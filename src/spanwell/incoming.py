"""What the propagator learnt of an incoming request and other rooms must know.

Two ways lead there. The id generator has no access to a context, so a root trace id that waits for its span
travels in a `ContextVar`. Everything else travels in the OpenTelemetry context, as one immutable `Incoming`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from opentelemetry.context import Context, create_key, get_current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import SpanContext

ROOT_LIFETIME = 5.0
"""Seconds after which a trace id that no root span took is forgotten."""

KEY = create_key("spanwell-incoming")
"""Where `Incoming` stands in a context."""

_INVOKED = create_key("spanwell-invoked")

# A list, because copies of the context (asyncio tasks) share it: whoever pops first has the id, nobody else.
_pending: ContextVar[list[tuple[int, float]] | None] = ContextVar("spanwell-pending-root", default=None)


class Incoming:
    """What one `X-Amzn-Trace-Id` header said, and what became of it. Treat as immutable.

    trace_id: its Root. parentless: it named no Parent. sampled: "0", "1", "?" or "" (absent).
    lineage: its Lineage, or "". undecided: the very span context that stands in the context as the
    parent while nobody has decided on sampling. other: its span context, when another
    header's trace was chosen.
    """

    __slots__ = ("lineage", "other", "parentless", "sampled", "trace_id", "undecided")

    def __init__(
        self,
        trace_id: int,
        *,
        parentless: bool = False,
        sampled: str = "",
        lineage: str = "",
        undecided: SpanContext | None = None,
        other: SpanContext | None = None,
    ) -> None:
        self.trace_id = trace_id
        self.parentless = parentless
        self.sampled = sampled
        self.lineage = lineage
        self.undecided = undecided
        self.other = other


def expect_root(trace_id: int, now: float) -> None:
    """Give `trace_id` to the next root span started here, at most `ROOT_LIFETIME` after `now` (monotonic)."""
    _pending.set([(trace_id, now)])


def forget_root() -> None:
    """No root is expected any more in this execution context."""
    if _pending.get() is not None:
        _pending.set(None)


def take_root(monotonic: Callable[[], float]) -> int:
    """The expected root trace id, once; else 0. `monotonic` is the clock that `expect_root` was given."""
    waiting = _pending.get()
    if not waiting:
        return 0
    try:
        trace_id, since = waiting.pop()
    except IndexError:  # another thread holding a copy of this context was first
        return 0
    return trace_id if monotonic() - since <= ROOT_LIFETIME else 0


def put(context: Context, incoming: Incoming) -> Context:
    """`context` with `incoming` in it."""
    return Context({**context, KEY: incoming})


def of(context: Context | None) -> Incoming | None:
    """What arrived with the request `context` belongs to (None: the current context), or None."""
    found = (get_current() if context is None else context).get(KEY)
    return found if isinstance(found, Incoming) else None


def without(context: Context) -> Context:
    """`context` without what an earlier extraction left; the same object when there is nothing to remove."""
    if KEY not in context:
        return context
    return Context({key: value for key, value in context.items() if key != KEY})


def other_parent(context: Context | None, trace_id: int) -> SpanContext | None:
    """The parent that lost because its header named another trace than the one chosen, `trace_id`."""
    incoming = of(context)
    if incoming is None or incoming.other is None or incoming.other.trace_id == trace_id:
        return None
    return incoming.other


class Invoked(NamedTuple):
    """What the event of a Lambda invocation adds to its span: links to what created its messages, and attributes."""

    links: tuple[SpanContext, ...]
    attributes: Mapping[str, str]


def invoked(context: Context, by: Invoked) -> Context:
    """`context` with word of the event, for the span that is started in it."""
    return Context({**context, _INVOKED: by})


def invoked_by(context: Context | None) -> Invoked | None:
    """What `invoked` left in the context (None: the current one), or None."""
    found = (get_current() if context is None else context).get(_INVOKED)
    return found if isinstance(found, Invoked) else None
