"""One call for each item, where one call could bring them all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spanwell.analysis.calls import AWS, DB, HTTP, RPC, first, outermost, statement_of, templated
from spanwell.insights.model import WARNING, Insight
from spanwell.insights.wording import MS, evidence, milliseconds, operation, subject, took

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from spanwell.analysis.calls import Call
    from spanwell.analysis.tree import Tree
    from spanwell.insights.hints import Hints
    from spanwell.insights.model import Fragment, Thresholds
    from spanwell.record import SpanRecord

NAME = "n_plus_one"
DEFAULTS = {
    "n_plus_one.count": 5,
    "n_plus_one.remote_count": 10,
    "n_plus_one.duration_ms": 50,
    "n_plus_one.gap_ms": 1_000,
}

_RECEIVING = ("server", "consumer")
_COUNTED = (DB, AWS, HTTP, RPC)
# Statements that fetch nothing for an item.
_AROUND = frozenset(
    (
        *("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "RESET", "SHOW", "PRAGMA", "USE"),
        *("FETCH", "MOVE", "DECLARE", "CLOSE", "PING", "AUTH", "SELECT ?", "SELECT 1", "MULTI", "EXEC", "CONNECT"),
        *("EXPLAIN", "VACUUM", "ANALYZE", "CREATE", "ALTER", "DROP", "COPY", "GETMORE", "PUBLISH", "SUBSCRIBE"),
    )
)
# One statement for many already, or a page of a long result.
_BATCH = re.compile(
    r"\bIN\s*\([^()]*,|=\s*ANY\s*\(|\bOFFSET\b|\bVALUES\s*\([^()]*\)\s*,\s*\(|\bUNNEST\s*\(|;\s*\S", re.IGNORECASE
)
_PAGED = re.compile(
    r"[?&](?:page|pagesize|per_page|page_size|offset|cursor|after|before|start|skip|limit|marker|next|since"
    r"|page_?token|next_?token|continuation|continuationtoken|continuation-token|scroll|from)=",
    re.IGNORECASE,
)
# AWS operations that page, poll, or carry many items already.
_AWS_OTHER = re.compile(
    r"Batch|^(?:List|Scan|Receive|Describe|Head|Wait|Poll|UploadPart|GetRecords|GetShardIterator|GetLogEvents"
    r"|FilterLogEvents|GetQuery|PutRecords|PutEvents|PutLogEvents|TransactGet|TransactWrite|DeleteObjects)"
)
_AWS_BATCHES = {
    "GetItem": "BatchGetItem",
    "PutItem": "BatchWriteItem",
    "DeleteItem": "BatchWriteItem",
    "SendMessage": "SendMessageBatch",
    "DeleteMessage": "DeleteMessageBatch",
    "Publish": "PublishBatch",
    "PutRecord": "PutRecords",
    "DeleteObject": "DeleteObjects",
    "GetParameter": "GetParameters",
    "GetSecretValue": "BatchGetSecretValue",
}


def may(hints: Hints) -> bool:
    if hints.thresholds is None:
        return hints.clients > 1
    if hints.clients_ns < hints.threshold("n_plus_one.duration_ms") * MS:
        return False
    if hints.db >= hints.threshold("n_plus_one.count"):
        return True
    return hints.clients >= hints.threshold("n_plus_one.remote_count")


def detect(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    """One for each call that is repeated: similar calls in the same place, one after another, none of them failed."""
    tree, name = fragment.tree, fragment.operation
    gap = thresholds.get("n_plus_one.gap_ms", name) * MS
    shortest = thresholds.get("n_plus_one.duration_ms", name) * MS
    counts = {
        family: max(2, thresholds.get("n_plus_one.count" if family == DB else "n_plus_one.remote_count", name))
        for family in _COUNTED
    }
    found: dict[tuple[str, str], tuple[Call, list[SpanRecord]]] = {}
    for call, spans in _groups(tree).values():
        if len(spans) < counts[call.family]:
            continue
        for run in _runs(spans, gap):
            if len(run) >= counts[call.family] and sum(span.duration for span in run) >= shortest:
                key = (call.peer, call.operation)
                if key not in found or len(found[key][1]) < len(run):
                    found[key] = call, run
    for call, run in found.values():
        yield _insight(fragment, call, run)


def _groups(tree: Tree) -> dict[Hashable, tuple[Call, list[SpanRecord]]]:
    """Similar calls in the same place, by start time."""
    places = _places(tree)
    groups: dict[Hashable, tuple[Call, list[SpanRecord]]] = {}
    for position, call in outermost(tree):
        span = tree.spans[position]
        if span.is_error or call.family not in _COUNTED or not _fetches(call, span):
            continue
        parent = tree.parents[position]
        place = ("orphan", span.parent_id) if parent is None else places[parent]
        groups.setdefault((place, call.peer, call.pattern), (call, []))[1].append(span)
    return groups


def _places(tree: Tree) -> list[int]:
    """For each span a number that is the same for spans whose names, and those above them, are the same.

    A loop often has a span for each turn, with the call inside. A request that is handled is a place of its own.
    """
    places = [0] * len(tree.spans)
    known: dict[Hashable, int] = {}
    for position in tree.downwards:
        span, parent = tree.spans[position], tree.parents[position]
        own: Hashable = position
        if parent is not None and span.kind not in _RECEIVING:
            own = (places[parent], span.kind, templated(span.name))
        places[position] = known.setdefault(own, len(known))
    return places


def _runs(spans: list[SpanRecord], gap: float) -> Iterable[list[SpanRecord]]:
    """Those that follow each other: neither side by side nor long after the one before, as polling is."""
    run: list[SpanRecord] = []
    end = 0
    for span in spans:
        if run and not 0 <= span.start_ns - end <= gap:
            yield run
            run = []
        run.append(span)
        end = max(end, span.end_ns)
    if run:
        yield run


def _fetches(call: Call, span: SpanRecord) -> bool:
    """Whether the call is about one item, as far as the span tells."""
    if call.family == DB:
        statement = statement_of(span.attributes)
        word = call.pattern.partition(" ")[0].upper()
        if word in _AROUND or call.pattern.upper() in _AROUND:
            return False
        return not statement or _BATCH.search(statement) is None
    if call.family == AWS:
        return _AWS_OTHER.search(_aws_operation(call)) is None
    if call.family == HTTP:
        return _PAGED.search(first(span.attributes, "url.full", "http.url") or _query(span)) is None
    return True


def _query(span: SpanRecord) -> str:
    query = first(span.attributes, "url.query")
    return f"?{query}" if query else first(span.attributes, "http.target")


def _aws_operation(call: Call) -> str:
    return call.operation.partition(" ")[0].rpartition(".")[2]


def _insight(fragment: Fragment, call: Call, run: list[SpanRecord]) -> Insight:
    taken = sum(span.duration for span in run)
    peer = f" on {call.peer}" if call.family in (HTTP, RPC) and call.peer else ""
    verb = "runs" if call.family == DB else "calls"
    return Insight(
        NAME,
        WARNING,
        f"{subject(fragment)} {verb} {call.operation}{peer} {len(run)} times, one after another "
        f"({took(taken)}): {_remedy(call)}.",
        (operation(fragment), call.peer, call.operation),
        evidence(run),
        {
            "count": len(run),
            "duration_ms": milliseconds(taken),
            "peer": call.peer,
            "operation": call.operation,
        },
    )


def _remedy(call: Call) -> str:
    word = call.operation.partition(" ")[0].upper()
    if call.family == AWS:
        batch = _AWS_BATCHES.get(_aws_operation(call))
        return f"send them together with {batch}" if batch else "ask for several at once, or call side by side"
    if call.family != DB:
        return "ask for several at once, or call side by side"
    system = call.peer.partition(":")[0]
    if system in ("redis", "valkey", "memcached"):
        return "ask for all at once (MGET or a pipeline)"
    if system == "mongodb":
        return "load or write them together ($in, insert_many, bulk_write)"
    if word == "INSERT":
        return "write them with one statement (executemany or a bulk insert)"
    if word in ("UPDATE", "DELETE"):
        return "change them with one statement (IN, or executemany)"
    return "load them with one query (JOIN or IN)"
