"""The ended spans of traces without a verdict: bounded in every direction, one verdict for each local root.

Not for each trace: a service that calls itself has several local roots in one trace, which end and fail apart. A span
finds its local root through its parent among the open spans; where the parent is not there any more, through the
parent as a local root, or through the trace.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from itertools import count
from typing import NamedTuple

from spanwell import _guard, incoming
from spanwell._children import in_child
from spanwell._otel import spans
from spanwell._otel.spans import FLAGS, REMOTE, SPAN_ID, STATE, TRACE_ID, attributes_of
from spanwell.sampling.outcome import PROMOTED, REASON, Tally
from spanwell.sampling.probability import MAX, randomness, threshold, threshold_in, with_threshold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext, Status

    from spanwell.sampling.parentbased import Surroundings
    from spanwell.sampling.tail_rules import Rules

OVERFLOW = "overflow"
"""The reason of a sampled local root whose tree could not be looked at as a whole."""

BASE = "base"
"""The reason of what no rule and no head sampler keeps, but the base rate."""

WAITING, KEPT, GONE = "waiting", "kept", "gone"

_GENERATION = 16_384
_DECISIONS = 10_000
_SETTLED = 5.0


class Bounds(NamedTuple):
    """traces: local roots without a verdict. spans: ended spans that one of them may hold. total: those of all
    together. age: seconds until a local root that has not ended gets its verdict."""

    traces: int = 2000
    spans: int = 512
    total: int = 12_000
    age: float = 60.0


DEFAULT = Bounds()


class Fragment:
    """One local root and what belongs to it. `state`: WAITING, KEPT (for `reason`) or GONE (to the head decision).
    `recorded`: its spans are unsampled, and may leave."""

    __slots__ = ("inherited", "reason", "recorded", "root_id", "sampled", "spans", "started", "state", "trace_id")

    def __init__(self, trace_id: int, root_id: int, sampled: int, inherited: bool, started: float) -> None:
        self.trace_id = trace_id
        self.root_id = root_id
        self.sampled = sampled
        self.recorded = not sampled
        self.inherited = inherited
        self.started = started
        self.state = WAITING
        self.reason = ""
        self.spans: list[ReadableSpan] = []


class TailBuffer:
    """A stage that sees every span start and end, and promotes those of traces worth keeping.

    base: the probability of keeping what no rule keeps. consistent: whether the head sampler's thresholds nest with
    ours, so that the threshold of what `base` keeps can be told. foreign: whether the head sampler may decide on a
    span otherwise than on its local root. decisions: verdicts are counted there.

    `evictions`: cause (traces, spans, total, age) -> how many traces fell to their head decision because of it.
    """

    def __init__(
        self,
        rules: Rules,
        around: Surroundings,
        decisions: Tally,
        *,
        base: float = 0.0,
        consistent: bool = False,
        foreign: bool = True,
        bounds: Bounds = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._reason = rules.reason
        self._slow = rules.slow
        self._careful = foreign or bool(rules.globs)
        self._fine: Status | None = None
        self._hand_over = around.promote
        self._edits = around.edits
        self._decisions = decisions
        self._base = threshold(base)
        self._consistent = consistent
        self._traces, self._spans, self._total, self._age = bounds
        self._clock = clock
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        """At the start, and in a forked child: what waits belongs to the parent."""
        # Re-entrant: the garbage collector may end a generator's span while this thread is in here.
        self._lock = threading.RLock()
        # Open spans. Of those that never end nobody tells: two generations, and the older one goes as a whole.
        self.open: dict[int, Fragment] = {}
        self._older: dict[int, Fragment] = {}
        self._live: dict[int, Fragment] = {}  # without a verdict, by local root, oldest first
        self._done: OrderedDict[int, Fragment] = OrderedDict()  # the latest decided ones, by local root
        self._by_trace: dict[int, Fragment] = {}  # one of each trace in the two above
        self._next_age = float("-inf")  # nothing reaches its age before this
        self._added = count(1)  # spans; an iterator, because its step is atomic
        self._taken = 0
        self.evictions: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Ended spans that wait now."""
        return sum(len(fragment.spans) for fragment in tuple(self._live.values()))

    # --- looking up ---------------------------------------------------------------------------------------------

    def find(self, parent: SpanContext) -> Fragment | None:
        """The fragment that a span with this local parent belongs to, where it is not among the latest open spans."""
        parent_id, trace_id = parent[SPAN_ID], parent[TRACE_ID]
        fragment = self._older.get(parent_id) or self._done.get(parent_id) or self._by_trace.get(trace_id)
        # Ids of some generators are short, and may meet.
        return fragment if fragment is not None and fragment.trace_id == trace_id else None

    # --- spans start and end ------------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """A local root begins its fragment; any other span joins its parent's."""
        parent = span.parent
        if parent is None or parent[REMOTE]:
            self._begin(span.context, parent is not None, parent_context)
            return
        fragment = self.open.get(parent[SPAN_ID]) or self.find(parent)
        if fragment is not None:
            self.open[span.context[SPAN_ID]] = fragment
            if len(self.open) > _GENERATION:
                self._age_open()

    def on_end(self, span: ReadableSpan) -> None:
        """Look at the span, keep it until the verdict, or follow the one that was reached."""
        context = span.context
        span_id = context[SPAN_ID]
        fragment = self.open.pop(span_id, None)
        if fragment is None:
            self._on_rare_end(span, context)
        elif fragment.root_id == span_id:
            if fragment.sampled:
                self._end_sampled(fragment, span)
            else:
                self._end_unsampled(fragment, span)
        else:
            # One look instead of two: spans without a status of their own share the same one.
            status = span.status
            if (
                status is not self._fine
                or fragment.state is not WAITING
                or self._careful
                or span.end_time - span.start_time >= self._slow  # type: ignore[operator]
            ):
                self._end_within(fragment, span, context)
            elif fragment.recorded:  # `_wait`, in line: this is the common case
                waiting = fragment.spans
                waiting.append(span)
                held = next(self._added) - self._taken
                if fragment.state is not WAITING or held > self._total or len(waiting) > self._spans:
                    self._promote(self._at_bound(fragment, held - self._total))

    def _end_within(self, fragment: Fragment, span: ReadableSpan, context: SpanContext) -> None:
        """A span that is no local root."""
        if fragment.state is WAITING:
            reason = self._reason(span, False)
            if reason:
                self._found(fragment, span, reason)
                return
            self._fine = span.status
            if not fragment.sampled and not context[FLAGS] & 1:
                self._wait(fragment, span)
        elif fragment.state is KEPT and not context[FLAGS] & 1:
            self._send(span, "")

    def _wait(self, fragment: Fragment, span: ReadableSpan) -> None:
        # Without the lock: whoever reaches the verdict empties the list after it, and so does whoever adds late.
        waiting = fragment.spans
        waiting.append(span)
        held = next(self._added) - self._taken
        if fragment.state is not WAITING or held > self._total or len(waiting) > self._spans:
            self._promote(self._at_bound(fragment, held - self._total))

    def _on_rare_end(self, span: ReadableSpan, context: SpanContext) -> None:
        """A span that is not among the latest open ones."""
        span_id, parent = context.span_id, span.parent
        is_root = parent is None or parent.is_remote
        fragment = self._older.pop(span_id, None)
        if fragment is None and is_root:
            fragment = self._live.get(span_id) or self._done.get(span_id)
        elif fragment is None and parent is not None:
            fragment = self.open.get(parent.span_id) or self.find(parent)
        if fragment is None:
            if is_root and context.trace_flags & 1:  # its beginning was not seen, or there was no room for it
                self._sign(span, self._reason(span, True) or OVERFLOW)
        elif not is_root:
            self._end_within(fragment, span, context)
        elif fragment.sampled:
            self._end_sampled(fragment, span)
        else:
            self._end_unsampled(fragment, span)

    def _begin(self, context: SpanContext, inherited: bool, parent_context: Context | None) -> None:
        now = self._clock()
        if self._base < MAX:
            inherited = inherited or _decided_elsewhere(parent_context)
        root_id, trace_id = context[SPAN_ID], context[TRACE_ID]
        fragment = Fragment(trace_id, root_id, context[FLAGS] & 1, inherited, now)
        out: list[ReadableSpan] = []
        with self._lock:
            if now >= self._next_age:
                out = self._expire(now)
            if len(self._live) < self._traces or self._make_room(now):
                self._live[root_id] = self.open[root_id] = fragment
                self._by_trace.setdefault(trace_id, fragment)
            else:
                self._count("traces")
        if len(self.open) > _GENERATION:
            self._age_open()
        if out:
            self._promote(out)

    def _age_open(self) -> None:
        with self._lock:
            if len(self.open) > _GENERATION:
                self._older, self.open = self.open, {}

    def _found(self, fragment: Fragment, span: ReadableSpan, reason: str) -> None:
        """A span within the tree is a reason to keep it."""
        if not span.context.trace_flags & 1:
            fragment.spans.append(span)
            next(self._added)
        with self._lock:
            out = self._settle(fragment, KEPT, reason) if fragment.state is WAITING else self._take(fragment)
        self._promote(out)

    # --- sampled traces: exported as they end, the local root says why ------------------------------------------

    def _end_sampled(self, fragment: Fragment, span: ReadableSpan) -> None:
        reason = fragment.reason or self._reason(span, True)
        with self._lock:
            whole = fragment.state is WAITING
            if whole:
                self._settle(fragment, KEPT if reason else GONE, reason)
        reason = fragment.reason or reason
        if whole and not reason:
            self._decisions.add("", "head")
            self._reweigh(fragment, span)
        else:
            self._decisions.add("", reason or OVERFLOW)
            self._sign(span, reason or OVERFLOW)

    def _sign(self, span: ReadableSpan, reason: str) -> None:
        """A sampled local root that was kept with certainty: it counts as one."""
        if self._edits:
            spans.write(span, {REASON: reason})
            _set_threshold(span, None)

    def _reweigh(self, fragment: Fragment, span: ReadableSpan) -> None:
        """A sampled local root that no rule keeps: the base keeps it too, perhaps with the higher probability."""
        if self._base < MAX and self._edits and self._consistent and not fragment.inherited:
            head = threshold_in(span.context.trace_state)
            if head is not None and head > self._base:
                _set_threshold(span, self._base)

    # --- unsampled traces: they wait ----------------------------------------------------------------------------

    def _end_unsampled(self, fragment: Fragment, span: ReadableSpan) -> None:
        """The local root has ended: the verdict, unless there is one."""
        out: list[ReadableSpan] = []
        if fragment.state is WAITING:
            reason = self._reason(span, True)
            if not reason and self._base < MAX:
                reason = self._by_chance(span)
            with self._lock:
                if fragment.state is WAITING:  # still
                    out = self._settle(fragment, KEPT if reason else GONE, reason)
        if fragment.state is KEPT:
            known = fragment.reason == BASE and self._consistent and not fragment.inherited
            _set_threshold(span, self._base if known else None)
            self._promote(out)
            self._send(span, fragment.reason)

    def _by_chance(self, span: ReadableSpan) -> str:
        context = span.context
        return BASE if randomness(context.trace_id, context.trace_state) >= self._base else ""

    def _at_bound(self, fragment: Fragment, excess: int) -> list[ReadableSpan]:
        """One span was added, and is too many, or came after the verdict. excess: how many too many in all."""
        with self._lock:
            out = self._expire(self._clock())
            if fragment.state is WAITING and len(fragment.spans) > self._spans:
                self._evict(fragment, "spans")
            enough = self._taken + excess
            while self._live and self._taken < enough:
                self._evict(next(iter(self._live.values())), "total")
            return out + self._take(fragment)

    # --- bounds; the lock is held -------------------------------------------------------------------------------

    def _settle(self, fragment: Fragment, state: str, reason: str = "") -> list[ReadableSpan]:
        """The verdict on a waiting fragment; what is to be promoted at once."""
        fragment.reason = reason
        fragment.state = state
        if state is GONE:
            fragment.recorded = False
        root_id, trace_id = fragment.root_id, fragment.trace_id
        self._live.pop(root_id, None)
        if self._by_trace.get(trace_id) is fragment and state is GONE:
            del self._by_trace[trace_id]
        else:
            self._remember(fragment)
        if state is KEPT and not fragment.sampled:
            self._decisions.add("", reason)
        return self._take(fragment)

    def _remember(self, fragment: Fragment) -> None:
        """For late spans: what was kept, and what was not while something else of the same trace may be."""
        self._done[fragment.root_id] = fragment
        if fragment.state is KEPT:
            self._by_trace[fragment.trace_id] = fragment
        if len(self._done) > _DECISIONS:
            oldest = self._done.popitem(last=False)[1]
            if self._by_trace.get(oldest.trace_id) is oldest:
                del self._by_trace[oldest.trace_id]

    def _take(self, fragment: Fragment) -> list[ReadableSpan]:
        """Empty a fragment after its verdict: what is to be promoted."""
        if fragment.state is WAITING:
            return []
        number = len(fragment.spans)  # there may be more in a moment
        taken = fragment.spans[:number] if fragment.state is KEPT else []
        del fragment.spans[:number]
        self._taken += number
        return taken

    def _evict(self, fragment: Fragment, cause: str) -> None:
        self._settle(fragment, GONE)
        self._count(cause)

    def _count(self, cause: str) -> None:
        self.evictions[cause] = self.evictions.get(cause, 0) + 1

    def _make_room(self, now: float) -> bool:
        """Let the oldest go, unless it is young: else, with too many at a time, each would go just before its end."""
        oldest = next(iter(self._live.values()))
        if now - oldest.started < _SETTLED:
            return False
        self._evict(oldest, "traces")
        return True

    def _expire(self, now: float) -> list[ReadableSpan]:
        """The verdict on what has reached its age: slow, if that is a reason."""
        out: list[ReadableSpan] = []
        self._next_age = now + self._age
        while self._live:
            oldest = next(iter(self._live.values()))
            age = now - oldest.started
            if age < self._age:
                self._next_age = oldest.started + self._age
                break
            if self._rules.is_slow(age):
                out += self._settle(oldest, KEPT, "slow")
            else:
                self._evict(oldest, "age")
        return out

    # --- promotion; without the lock, since an exporter may work in the span's own thread -------------------------

    def _promote(self, out: list[ReadableSpan]) -> None:
        for span in out:
            self._send(span, "")

    def _send(self, span: ReadableSpan, reason: str) -> None:
        """Export one span; with the reason, if it is a local root."""
        if self._hand_over is None or PROMOTED in attributes_of(span):  # another stage has sent it already
            return
        written: dict[str, Any] = {PROMOTED: False}
        if reason:
            written[REASON] = reason
        try:
            spans.write(span, written)
            self._hand_over(span)
        except Exception as error:
            if _guard.strict:
                raise
            _guard.failed("promotion", error)


def _set_threshold(span: ReadableSpan, value: int | None) -> None:
    old = span.context[STATE]
    new = with_threshold(old, value)
    if new is not old:
        spans.set_trace_state(span, new)


def _decided_elsewhere(parent_context: Context | None) -> bool:
    """Whether an X-Ray header without a parent brought a decision for this root, of unknown probability."""
    came = incoming.of(parent_context)
    return came is not None and came.parentless and came.sampled in ("0", "1")
