"""The ended spans of every local root that has not ended yet: bounded in every direction.

By local root, not by trace: a service that calls itself has several in one trace. A span finds its local root through
its parent among the open spans; where that has ended already, through its trace.
"""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import NamedTuple

from opentelemetry.trace import SpanKind

from spanwell import _forks, _guard
from spanwell._children import in_child
from spanwell._otel.spans import REMOTE, SPAN_ID, TRACE_ID, ended
from spanwell.insights.hints import Hints
from spanwell.insights.records import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

    from spanwell._otel.spans import Ended

    class Look(Protocol):
        """What is done with a local root that has ended, in the thread that ended it."""

        def __call__(self, local: Local, root: Ended, span: ReadableSpan, /) -> object: ...

    class Every(Protocol):
        """What counts spans one by one; see `red.Red.span`."""

        def __call__(
            self, name: str, kind: str, root: bool, nanoseconds: int, failed: bool, attributes: Mapping[str, Any], /
        ) -> object: ...


_SENDING = (SpanKind.CLIENT, SpanKind.PRODUCER)
_TOGETHER = 64
_GENERATION = 16_384
_SETTLED = 60.0


class Bounds(NamedTuple):
    """traces: local roots that have not ended. spans: ended spans that one of them may hold beside itself. total:
    those of all together."""

    traces: int = 2000
    spans: int = 500
    total: int = 50_000


DEFAULT = Bounds()


class Local:
    """One local root that has not ended, and what has ended below it.

    begun: spans that have started, the root among them. dropped: ended spans that there was no room for. hints: of
    those, and at the end of all.
    """

    __slots__ = ("begun", "done", "dropped", "hints", "root_id", "spans", "started", "trace_id")

    def __init__(self, trace_id: int, root_id: int, started: float) -> None:
        self.trace_id = trace_id
        self.root_id = root_id
        self.started = started
        self.begun = 1
        self.dropped = 0
        self.done = False
        self.spans: list[Ended] = []
        self.hints = Hints()


class Buffer:
    """A stage that sees every span start and end, and looks at each local root that has ended.

    make: gives what looks; called when the first one has ended. every: called with each ended span that is a local
    root, or client or producer, whether or not its local root is known; some spans later, see `flush`.

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._look: Look | None = None
        self._every = every
        self._traces, self._spans, self._total = bounds
        self._clock = clock
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        """At the start, and in a forked child: what is under way belongs to the parent."""
        # Re-entrant: the garbage collector may end a generator's span while this thread is in here.
        self._lock = threading.RLock()
        # Open spans. Of those that never end nobody tells: two generations, and the older one goes as a whole.
        self._open: dict[int, Local] = {}
        self._older: dict[int, Local] = {}
        self._live: dict[int, Local] = {}  # by local root, oldest first
        self._by_trace: dict[int, Local] = {}  # one of each trace among them
        self._added = count(1)  # spans; an iterator, because its step is atomic
        self._taken = 0
        self.evictions: dict[str, int] = {}
        self.late = self.unfinished = self.roots = self.spans = 0
        self._waiting: list[Ended] = []
        self._flushing = threading.Lock()  # never waited for by a thread that may hold it

    @property
    def live(self) -> int:
        """Local roots that have not ended."""
        return len(self._live)

    @property
    def held(self) -> int:
        """Ended spans that are held now."""
        return sum(len(local.spans) for local in tuple(self._live.values()))

    # --- spans start and end ------------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """A local root begins; any other span joins its parent's."""
        parent = span.parent
        if parent is None or parent[REMOTE]:
            self._begin(span.context)
            return
        local = self._open.get(parent[SPAN_ID]) or self._find(parent)
        if local is not None:
            local.begun += 1
            self._open[span.context[SPAN_ID]] = local
            if len(self._open) > _GENERATION:
                self._age_open()

    def on_end(self, span: ReadableSpan) -> None:
        """Keep what the span says until its local root ends, or look at that."""
        one = ended(span)
        if self._every is not None:
            self._waiting.append(one)
            if len(self._waiting) >= _TOGETHER:
                self.flush()
        span_id = one[0][SPAN_ID]
        local = self._open.pop(span_id, None)
        if local is None:
            local = self._of_rare_end(span_id, one)
        if local is None or local.done:
            self.late += 1
            return
        spans = local.spans
        if span_id == local.root_id:
            self._end(local, one, span)
        elif len(spans) < self._spans:
            spans.append(one)
            held = next(self._added) - self._taken
            if held > self._total or local.done:
                self._at_bound(local, spans, held - self._total)
        else:
            local.dropped += 1
            local.hints.count((one,), _SENDING)
            self._count("spans")

    def flush(self) -> None:
        """Hand on to `every` what waits for it. In one go, since each span alone would cost three times as much."""
        every = self._every
        if every is None or not self._flushing.acquire(blocking=False):
            return
        try:
            number = len(self._waiting)
            waiting = self._waiting[:number]
            del self._waiting[:number]
            for _, parent, name, kind, start, end, status, attributes, _, _, _, _ in waiting:
                root = parent is None or parent[REMOTE]
                if root or kind in _SENDING:
                    every(name, KINDS[kind.value], root, max(0, end - start), status == "error", attributes)
        finally:
            self._flushing.release()

    def _find(self, parent: SpanContext) -> Local | None:
        """Where the parent is not among the latest open spans."""
        trace_id = parent[TRACE_ID]
        local = self._older.get(parent[SPAN_ID]) or self._by_trace.get(trace_id)
        # Ids of some generators are short, and may meet.
        return local if local is not None and local.trace_id == trace_id else None

    def _of_rare_end(self, span_id: int, one: Ended) -> Local | None:
        """A span that is not among the latest open ones."""
        local = self._older.pop(span_id, None)
        parent = one[1]
        if local is not None or parent is None or parent[REMOTE]:
            return local or self._live.get(span_id)
        return self._open.get(parent[SPAN_ID]) or self._find(parent)

    def _begin(self, context: SpanContext) -> None:
        root_id, trace_id = context[SPAN_ID], context[TRACE_ID]
        now = self._clock()
        local = Local(trace_id, root_id, now)
        with self._lock:
            if len(self._live) < self._traces or self._make_room(now):
                self._live[root_id] = self._open[root_id] = local
                self._by_trace.setdefault(trace_id, local)
            else:
                self._count("traces")
        if len(self._open) > _GENERATION:
            self._age_open()

    def _end(self, local: Local, one: Ended, span: ReadableSpan) -> None:
        """The local root has ended."""
        with self._lock:
            if local.done:  # evicted by another thread, a moment ago
                self.late += 1
                return
            self._forget(local)
            spans = local.spans = [*self._take(local.spans), one]
            ended_here = len(spans) + local.dropped
            self.roots += 1
            self.spans += ended_here
            self.unfinished += max(0, local.begun - ended_here)
        local.hints.count(spans, _SENDING)
        (self._look or self._made())(local, one, span)
        local.spans = []  # spans that have not ended keep `local` alive

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

    # --- bounds -------------------------------------------------------------------------------------------------

    def _at_bound(self, local: Local, spans: list[Ended], excess: int) -> None:
        """One span was added to `spans`, and is too many, or came after the end. excess: how many too many in all."""
        with self._lock:
            enough = self._taken + excess
            while self._live and self._taken < enough:
                self._evict(next(iter(self._live.values())), "total")
            if local.done:
                self._take(spans)

    def _make_room(self, now: float) -> bool:
        """Let the oldest go, unless it is young: else, with too many at a time, each would go just before its end."""
        oldest = next(iter(self._live.values()))
        if now - oldest.started < _SETTLED:
            return False
        self._evict(oldest, "traces")
        return True

    def _evict(self, local: Local, cause: str) -> None:
        self._forget(local)
        self._take(local.spans)
        self._count(cause)

    def _forget(self, local: Local) -> None:
        local.done = True
        if self._live.get(local.root_id) is local:
            del self._live[local.root_id]
        if self._by_trace.get(local.trace_id) is local:
            del self._by_trace[local.trace_id]

    def _take(self, spans: list[Ended]) -> list[Ended]:
        """Empty `spans`; another thread may add to them still, and comes here afterwards, see `_at_bound`."""
        number = len(spans)
        taken = spans[:number]
        del spans[:number]
        self._taken += number
        return taken

    def _count(self, cause: str) -> None:
        with self._lock:
            self.evictions[cause] = self.evictions.get(cause, 0) + 1

    def _age_open(self) -> None:
        with self._lock:
            if len(self._open) > _GENERATION:
                self._older, self._open = self._open, {}


def _blind(local: Local, root: Ended, span: ReadableSpan, /) -> None:
    """Sees nothing."""
