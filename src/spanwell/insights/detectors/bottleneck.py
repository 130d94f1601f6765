"""One dependency that most of the request waits for: at least half of the local critical path (default).

Only time on the critical path counts, so calls that run beside slower work do not. Below 200 ms on the path nothing
is said: half of a fast request is no bottleneck. Long polls wait by design and count as nobody's time.
"""

from __future__ import annotations

from spanwell.analysis import calls
from spanwell.analysis.critical_path import critical_path, time_on_path
from spanwell.analysis.tree import SENDING
from spanwell.insights import wording
from spanwell.insights.model import INFO, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwell.analysis.tree import Tree
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "bottleneck"
DEFAULTS = {"bottleneck.ratio": 0.5, "bottleneck.duration_ms": 200}

_MS = 1_000_000
_MOST = 10


def may(hints: Hints) -> bool:
    """Whether the calls took so much of the local root's time, and long enough."""
    if not hints.clients or hints.root_kind in SENDING:
        return False
    if hints.thresholds is None:
        return True
    least = max(hints.threshold("bottleneck.duration_ms") * _MS, hints.threshold("bottleneck.ratio") * hints.root_ns)
    return hints.clients_ns >= least


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """Add up the critical path by dependency."""
    root = fragment.root
    if root is None or root.kind in SENDING or fragment.dropped:
        return []
    limit = thresholds.get("bottleneck.duration_ms", root.name) * _MS
    if root.duration < limit or not root.duration:
        return []
    tree = fragment.tree
    top = next((position for position, span in enumerate(tree.spans) if span is root), None)
    if top is None:
        return []
    waits = _by_dependency(tree, top, time_on_path(critical_path(tree, top)))
    if not waits:
        return []
    peer = max(waits, key=lambda each: sum(waits[each].values()))
    waited = sum(waits[peer].values())
    if waited < limit or waited < thresholds.get("bottleneck.ratio", root.name) * root.duration:
        return []
    return [_insight(tree, root, peer, waits[peer])]


def _by_dependency(tree: Tree, top: int, spent: dict[int, int]) -> dict[str, dict[int, int]]:
    """Nanoseconds on the path of each peer, by the position of the call: what is below a call is its time."""
    found: dict[str, dict[int, int]] = {}
    for position in _outermost(tree, top):
        span = tree.spans[position]
        waited = sum(spent.get(each, 0) for each in tree.below(position))
        call = calls.call_of(span) if waited else None
        if call is not None and call.peer and not calls.is_waiting(span):
            found.setdefault(call.peer, {})[position] = waited
    return found


def _outermost(tree: Tree, top: int) -> list[int]:
    """The calls below `top` that are not below another call."""
    found, reached = [], [top]
    for position in reached:  # grows while it is walked
        for child in tree.children.get(position, ()):
            if tree.spans[child].kind in SENDING:
                found.append(child)
            else:
                reached.append(child)
    return found


def _insight(tree: Tree, root: SpanRecord, peer: str, waited: dict[int, int]) -> Insight:
    total = sum(waited.values())
    longest = sorted(waited, key=lambda position: -waited[position])
    ratio = min(1.0, total / root.duration)
    times = f"{len(waited)} calls" if len(waited) > 1 else "one call"
    name = calls.operation_of(root)
    return Insight(
        NAME,
        INFO,
        f"{name} waits {wording.duration(total / _MS)} of {wording.duration(root.duration / _MS)} ({ratio:.0%}) for "
        f"{peer}, in {times}: make that dependency faster or ask it less; nothing else helps as much.",
        (name, peer),
        tuple(tree.spans[position].span_id for position in longest[:_MOST]),
        {"duration_ms": total / _MS, "ratio": round(ratio, 4), "count": len(waited), "peer": peer},
    )
