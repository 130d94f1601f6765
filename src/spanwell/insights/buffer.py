"""The ended spans of every local root that has not ended yet: bounded in every direction.

By local root, not by trace: a service that calls itself has several in one trace. As a rule it is the only one, and a
span finds it through its trace alone. The spans of a further one are remembered one by one.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import NamedTuple
from weakref import ref

from spanwell import _forks, _guard
from spanwell._children import in_child
from spanwell._otel.spans import REMOTE, SPAN_ID, TRACE_ID, beginning, ended
from spanwell.insights.hints import Hints
from spanwell.insights.records import SENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

    from spanwell._otel.spans import Ended

    class Look(Protocol):
        """What is done with a local root that has ended, in the thread that ended it."""

        def __call__(self, spans: Sequence[Ended], rest: Hints | None, span: ReadableSpan, /) -> object:
            """spans: what has ended, the local root last. rest: of those that there was no room for. span: the local
            root, to be written on."""

    Every = Callable[[Sequence[Ended]], object]
    """What counts spans, a few at a time; see `red.Red.spans`."""


_TOGETHER = 64
_MOST_REMEMBERED = 16_384
_SETTLED = 60_000_000_000


class Bounds(NamedTuple):
    """traces: local roots that have not ended. spans: ended spans that one of them may hold beside itself. total:
    those of all together."""

    traces: int = 2000
    spans: int = 500
    total: int = 50_000


DEFAULT = Bounds()


class Local:
    """One local root that has not ended, and what has ended below it.

    started: Unix nanoseconds. begun: spans that have started, the root among them. spans: what has ended. rest: what
    is known of ended spans that there was no room for. key: its place among the live.
    """

    __slots__ = ("begun", "key", "rest", "root_id", "spans", "started")

    def __init__(self, trace_id: int, root_id: int, started: int) -> None:
        self.key = trace_id
        self.root_id = root_id
        self.started = started
        self.begun = 1
        self.spans: list[Ended] = []
        self.rest: Hints | None = None

    @property
    def dropped(self) -> int:
        """Ended spans that there was no room for."""
        return 0 if self.rest is None else self.rest.spans


class Buffer:
    """A stage that sees every span start and end, and looks at each local root that has ended.

    make: gives what looks; called when the first one has ended. every: called with all ended spans, whether or not
    their local root is known; some spans later, see `flush`.

    `evictions`: cause (traces, total) -> how many local roots were not looked at because of it; cause `spans`: ended
    spans that a local root had no room for. `late`: spans that ended after their local root, or have none.
    `unfinished`: spans that had not ended when their local root did. `roots`, `spans`: what was looked at.
    """

    def __init__(
        self,
        make: Callable[[], Look],
        *,
        every: Every | None = None,
        bounds: Bounds = DEFAULT,
    ) -> None:
        self._make = make
        self._look: Look | None = None
        self._every = every
        self._traces, self._spans, total = bounds
        # What is held is counted once in so many spans, and may grow by as many meanwhile.
        self._between = 1 << max(0, (total // 100).bit_length() - 1)
        self._total = total - self._between + 1
        self._few = total // max(1, self._spans)  # so many local roots never hold too much
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        """At the start, and in a forked child: what is under way belongs to the parent."""
        # For what is rare. The common path needs none: each of its steps on a dictionary or a list is atomic.
        # Re-entrant: the garbage collector may end a generator's span while this thread is in here.
        self._lock = threading.RLock()
        # Oldest first, by trace; a further local root of the same trace by its own id, which is shorter than any
        # that a trace has in practice.
        self._live: dict[int, Local] = {}
        self._further: dict[int, Local] = {}  # such local roots and their open spans
        self._added = count(1)  # spans
        self.evictions: dict[str, int] = {}
        self.late = self.unfinished = self.roots = self.spans = 0
        self._waiting: list[Ended] | None = None if self._every is None else []
        self._after = _After(self)
        self._flushing = threading.Lock()  # never waited for by a thread that may hold it

    @property
    def live(self) -> int:
        """Local roots that have not ended."""
        return len(self._live)

    @property
    def held(self) -> int:
        """Ended spans that are held now."""
        return sum(len(local.spans) for local in self._live.copy().values())

    # --- spans start and end ------------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """A local root begins; any other span joins its parent's."""
        context, parent, started = beginning(span)
        local: Local | None
        if parent is None or parent[REMOTE]:
            trace_id, live = context[TRACE_ID], self._live
            local = Local(trace_id, context[SPAN_ID], started)
            if len(live) >= self._traces or live.setdefault(trace_id, local) is not local:
                self._begin_rarely(local)
            return
        local = self._live.get(context[TRACE_ID])
        if self._further:
            local = self._join(context, parent, local)
        if local is not None:
            local.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        """Keep what the span says until its local root ends, or look at that."""
        one = ended(span)
        waiting = self._waiting
        if waiting is not None:
            waiting.append(one)
            if len(waiting) >= _TOGETHER:
                self.flush()
        context, live = one[0], self._live
        found: Local | None = live.get(context[TRACE_ID])
        local = found if not self._further else self._leave(context, found)
        if local is None:
            self.late += 1
        elif context[SPAN_ID] == local.root_id:
            self._end(local, one, span)
        else:
            spans = local.spans
            if len(spans) < self._spans:
                spans.append(one)
                if len(live) > self._few and not next(self._added) % self._between:
                    self._bound()
            else:
                self._drop(local, one)

    def flush(self) -> None:
        """Hand on to `every` what waits for it. In one go, since each span alone would cost three times as much."""
        every, waiting = self._every, self._waiting
        if every is None or waiting is None or not self._flushing.acquire(blocking=False):
            return
        try:
            number = len(waiting)
            some = waiting[:number]
            del waiting[:number]
            every(some)
        finally:
            self._flushing.release()

    def _end(self, local: Local, one: Ended, span: ReadableSpan) -> None:
        """The local root has ended."""
        found = self._live.pop(local.key, None)
        if found is not local:  # evicted by another thread, a moment ago
            self._give_back(found)
            self.late += 1
            return
        spans, local.spans = local.spans, self._after
        number = len(spans)
        spans.append(one)
        ended_here = number + 1 + local.dropped
        self.roots += 1
        self.spans += ended_here
        if local.begun > ended_here:
            self.unfinished += local.begun - ended_here
        (self._look or self._made())(spans, local.rest, span)

    def _made(self) -> Look:
        """What looks at local roots, imported now. Without the lock: an import may wait for another thread's."""
        try:
            with _forks.whole:
                made = self._make()
        except Exception as error:
            if _guard.strict:
                raise
            _guard.failed("loading the insights", error)
            made = _blind
        if self._look is None:
            self._look = made
        return self._look

    # --- further local roots of a trace that has one -------------------------------------------------------------

    def _begin_rarely(self, local: Local) -> None:
        """Where there are too many, or another one of this trace."""
        if len(self._live) >= self._traces and not self._make_room(local.started):
            return
        if self._live.setdefault(local.key, local) is not local:
            local.key = local.root_id
            self._live[local.key] = local
            self._remember(local.root_id, local)

    def _give_back(self, other: Local | None) -> None:
        """Another one of the same trace, which has come since."""
        if other is not None:
            self._live[other.key] = other

    def _remember(self, span_id: int, local: Local) -> None:
        self._further[span_id] = local
        if len(self._further) > _MOST_REMEMBERED:  # most of them never end
            self._further = {}

    def _join(self, context: SpanContext, parent: SpanContext, first: Local | None) -> Local | None:
        local = self._further.get(parent[SPAN_ID])
        if local is None:
            return first
        self._remember(context[SPAN_ID], local)
        return local

    def _leave(self, context: SpanContext, first: Local | None) -> Local | None:
        local = self._further.pop(context[SPAN_ID], None)
        if local is None:
            return first
        return local if self._live.get(local.key) is local else None

    # --- bounds -------------------------------------------------------------------------------------------------

    def _drop(self, local: Local, one: Ended) -> None:
        """No room in `local`: what it says is added up, and the span goes."""
        with self._lock:
            if local.rest is None:
                local.rest = Hints()
            local.rest.count((one,), SENDING)
        self._count("spans")

    def _bound(self) -> None:
        """Too many spans in all: the oldest local root goes, with all it has."""
        with self._lock:
            held = self.held
            while held > self._total and self._live:
                held -= len(self._evict("total"))

    def _make_room(self, now: int) -> bool:
        """Let the oldest go, unless it is young: else, with too many at a time, each would go just before its end."""
        with self._lock:
            oldest = self._oldest()
            if oldest is None or now - oldest.started >= _SETTLED:
                self._evict("traces")
                return True
            self._count("traces")
        return False

    def _evict(self, cause: str) -> list[Ended]:
        oldest = self._oldest()
        if oldest is None or not self._take(oldest):
            return []
        spans, oldest.spans = oldest.spans, self._after
        self._count(cause)
        return spans

    def _oldest(self) -> Local | None:
        try:
            return next(iter(self._live.values()), None)
        except RuntimeError:  # another thread has added or taken one, between the two calls
            return None

    def _take(self, local: Local) -> bool:
        """Take `local` out of those that live; False for all but the first who tries."""
        found = self._live.pop(local.key, None)
        if found is local:
            return True
        self._give_back(found)
        return False

    def _count(self, cause: str) -> None:
        with self._lock:
            self.evictions[cause] = self.evictions.get(cause, 0) + 1


class _After(list["Ended"]):
    """The spans of a local root that has ended: what another thread still adds is only counted."""

    def __init__(self, buffer: Buffer) -> None:
        super().__init__()
        self._buffer = ref(buffer)

    def append(self, one: Ended) -> None:
        buffer = self._buffer()
        if buffer is not None:
            buffer.late += 1


def _blind(spans: Sequence[Ended], rest: Hints | None, span: ReadableSpan, /) -> None:
    """Sees nothing."""
