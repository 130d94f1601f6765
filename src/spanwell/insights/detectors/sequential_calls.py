"""Calls one after the other that could run side by side: at least two, which would save 100 ms and 10 % (defaults).

What does not show cannot be known, so the calls must look independent in every way that shows:

- They are successful reads under one parent: GET, `Get*`, `Describe*`, a SELECT without WHERE. Whatever else happens
  between two of them (a write, an error, a cache, a step of its own, 100 ms of computing) ends the row.
- No part of a URL that looks like an id may be new in it: unless the request or an earlier call of the row had it, it
  may come from the answer before. Calls that differ by their ids alone are independent of one another.
- Pages of one listing, the same URL again, what follows a redirect, a listing's entries, and whatever follows
  credentials or configuration, need the answer before them.

Time counts on the critical path alone. Ten calls of one kind are `n_plus_one`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spanwell.analysis import calls
from spanwell.analysis.critical_path import critical_path, time_on_path
from spanwell.analysis.tree import SENDING
from spanwell.insights import wording
from spanwell.insights.model import INFO, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from spanwell.analysis.tree import Tree
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "sequential_calls"
DEFAULTS = {
    "sequential_calls.count": 2,
    "sequential_calls.saved_ms": 100,
    "sequential_calls.saved_ratio": 0.1,
    "sequential_calls.gap_ms": 100,
    "sequential_calls.repeats": 10,
}

_MS = 1_000_000
_MOST = 10
_MAX_NAMED = 4
_MAX_TEXT = 4_096
_READING = re.compile(r"(Batch)?(Get|Head|Describe|Read|Fetch|Lookup|Check|Count|Is|Has|Find|List|Query|Scan|Search)")
_LISTING = re.compile(r"(Find|List|Query|Scan|Search)")
_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "QUERY"))
_GIVING = frozenset(("STS", "Secrets Manager", "SSM", "KMS", "AppConfigData", "Cognito Identity", "SSO"))
_GIVING_PATH = re.compile(r"token|oauth|login|auth|session|\.well-known|discover", re.IGNORECASE)
_CURSOR = re.compile(
    r"(?:^|&)[\w.-]*(?:page|cursor|token|offset|after|before|since|next|start|marker|skip|continu)\w*=", re.IGNORECASE
)
_ID = re.compile(r"[^/&=?]*\d[^/&=?]*|[^/&=?]{25,}")
_BETWEEN = re.compile(r"[/&=?#\s]+")
_VERSION = re.compile(r"(?:v\d{1,3}(?:\.\d{1,3})?|\d{1,2}\.\d{1,2})\Z", re.IGNORECASE)
# Of these the same again is the very same; the arguments of others do not show.
_TELLING = (calls.HTTP, calls.DB)
_CHOOSING = re.compile(r"\b(?:where|having|for\s+update|limit|offset)\b", re.IGNORECASE)


class _Read(NamedTuple):
    """A call that changes nothing. ids: what in its URL looks like one. leads: what follows needs its answer."""

    position: int
    span: SpanRecord
    call: calls.Call
    ids: tuple[str, ...] = ()
    again: bool = False  # the same call once more is the next page, or asks whether something has changed
    listing: bool = False
    giving: bool = False
    leads: bool = False


def may(hints: Hints) -> bool:
    """Whether there are calls enough, and time enough in them."""
    if hints.clients < 2:
        return False
    return hints.thresholds is None or hints.clients_ns > hints.threshold("sequential_calls.saved_ms") * _MS


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """Look at the children of every span, in one pass; then at the critical path if any could be it."""
    root = fragment.root
    if root is None or not root.duration or fragment.dropped:
        return []
    chosen = {name.partition(".")[2]: thresholds.get(name, root.name) for name in DEFAULTS}
    least = max(chosen["saved_ms"] * _MS, chosen["saved_ratio"] * root.duration)
    tree, known = fragment.tree, _said(root)
    rows = [
        row
        for parent, children in tree.children.items()
        if len(children) > 1 and tree.spans[parent].kind not in SENDING
        for row in _rows(tree, children, known, chosen["gap_ms"] * _MS)
        if _matters(row, chosen) and _saved([each.span.duration for each in row]) >= least
    ]
    top = next((position for position, span in enumerate(tree.spans) if span is root), None) if rows else None
    if top is None:
        return []
    spent = time_on_path(critical_path(tree, top))
    found: dict[tuple[str, ...], Insight] = {}
    for row in rows:
        saved = _saved([sum(spent.get(below, 0) for below in tree.below(each.position)) for each in row])
        if saved >= least:
            insight = _insight(root, row, saved / _MS)
            found.setdefault(insight.subject, insight)
    return list(found.values())[:_MOST]


def _saved(durations: list[int]) -> int:
    return sum(durations) - max(durations)


def _matters(row: list[_Read], chosen: dict[str, float]) -> bool:
    if len(row) < max(2, chosen["count"]):
        return False
    return len(row) < chosen["repeats"] or len({each.call.pattern for each in row}) > 1


def _insight(root: SpanRecord, row: list[_Read], saved: float) -> Insight:
    asked = calls.operation_of(root)
    names = sorted({f"{each.call.operation} at {each.call.peer}" for each in row})
    named = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
    return Insight(
        NAME,
        INFO,
        f"{asked} makes {len(row)} calls one after the other ({named}) that do not seem to need one another's "
        f"answers: run them at the same time to save about {wording.duration(saved)}.",
        (asked, *names[:_MAX_NAMED]),
        tuple(each.span.span_id for each in row[:_MOST]),
        {
            "count": len(row),
            "saved_ms": saved,
            "saved_ratio": round(min(1.0, saved * _MS / root.duration), 4),
        },
    )


def _rows(tree: Tree, children: tuple[int, ...], known: frozenset[str], gap: float) -> list[list[_Read]]:
    """The rows of independent reads among `children`, which stand by start time."""
    row = _Row(known)
    rows = [row.reads]
    busy_until = 0
    for position in children:
        span = tree.spans[position]
        if span.name == "connect" and span.kind == "client":
            continue  # a connection taken from a pool for the statement that follows
        read = _read(position, span)
        if read is None or not row.takes(read, gap):
            row = _Row(known)
            rows.append(row.reads)
        if read is not None and span.start_ns >= busy_until:
            row.add(read)
        busy_until = max(busy_until, span.end_ns)
    return rows


class _Row:
    """Reads one after the other, none of which needs an earlier one's answer, as far as can be seen."""

    def __init__(self, known: frozenset[str]) -> None:
        self.reads: list[_Read] = []
        self._known = known
        self._ids: set[str] = set()
        self._exact: set[str] = set()
        self._listed: set[str] = set()

    def takes(self, read: _Read, gap: float) -> bool:
        """Whether `read` follows the row closely and is independent of all in it."""
        if not self.reads:
            return True
        last = self.reads[-1]
        if not 0 <= read.span.start_ns - last.span.end_ns <= gap or last.leads:
            return False
        if read.call.exact in self._exact and read.call.family in _TELLING:
            return False
        if read.call.pattern == last.call.pattern:
            return not read.again
        if last.giving or (not read.listing and read.call.peer in self._listed):
            return False
        return all(each in self._ids or each in self._known for each in read.ids)

    def add(self, read: _Read) -> None:
        self.reads.append(read)
        self._ids.update(read.ids)
        self._exact.add(read.call.exact)
        if read.listing:
            self._listed.add(read.call.peer)


def _read(position: int, span: SpanRecord) -> _Read | None:
    """`span` as a read; None for everything else."""
    if span.kind != "client" or span.is_error or span.end_ns < span.start_ns or calls.is_waiting(span):
        return None
    call = calls.call_of(span)
    if call is None:
        return None
    made = _Read(position, span, call)
    if call.family == calls.HTTP:
        return _http(made)
    if call.family in (calls.AWS, calls.RPC):
        operation = calls.first(span.attributes, "rpc.method").rpartition("/")[2]
        if _READING.match(operation) is None:
            return None
        listing = _LISTING.match(operation) is not None
        return made._replace(listing=listing, again=listing, giving=call.peer in _GIVING)
    if call.family == calls.DB:
        text = calls.statement_of(span.attributes).lstrip()
        if text[:6].upper() == "SELECT" and _CHOOSING.search(text) is None:
            return made
    return None


def _http(made: _Read) -> _Read | None:
    attributes = made.span.attributes
    if calls.first(attributes, "http.request.method", "http.method").upper() not in _SAFE:
        return None
    path, query = _path_and_query(attributes)
    status = calls.status_of(attributes)
    return made._replace(
        ids=tuple(part for part in _ID.findall(f"{path}?{query}") if not _VERSION.match(part)),
        again=_CURSOR.search(query) is not None,
        giving=_GIVING_PATH.search(path) is not None,
        leads=status >= 300 and status != 304,
    )


def _path_and_query(attributes: Mapping[str, Any]) -> tuple[str, str]:
    url = calls.first(attributes, "url.full", "http.url").partition("#")[0]
    address, _, query = url.partition("?")
    path = address.partition("://")[2].partition("/")[2]
    if path or query:
        return path, query
    path, _, query = calls.first(attributes, "url.path", "http.target").partition("?")
    return path, query or calls.first(attributes, "url.query")


def _said(root: SpanRecord) -> frozenset[str]:
    """All that the request said, as far as its span has it, in the parts that ids are found in."""
    texts = (each for each in root.attributes.values() if each.__class__ is str)
    return frozenset(_BETWEEN.split("\n".join((root.name, *texts))[:_MAX_TEXT]))
