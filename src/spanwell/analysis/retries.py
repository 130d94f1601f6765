"""Calls that were made again because they had failed."""

from __future__ import annotations

from typing import NamedTuple

from spanwell.analysis.calls import HTTP, Call, call_of, error_type, is_throttled, status_of
from spanwell.analysis.names import THROTTLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spanwell.analysis.tree import Tree
    from spanwell.record import SpanRecord

DEFAULT_GAP_NS = 5_000_000_000
"""How long after a failure the same call still is another attempt."""

# Answers that trying again does not change.
_FINAL_STATUS = frozenset((*range(400, 500),)) - {408, 425, 429}
_FINAL = frozenset(
    (
        *("IntegrityError", "UniqueViolation", "ForeignKeyViolation", "NotNullViolation", "CheckViolation"),
        *("ProgrammingError", "DataError", "UndefinedTable", "UndefinedColumn", "SyntaxError", "DuplicateKeyError"),
        *("NotSupportedError", "NOT_FOUND", "INVALID_ARGUMENT", "ALREADY_EXISTS", "PERMISSION_DENIED"),
        *("FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED", "CANCELLED", "WRONGTYPE"),
        *("ConditionalCheckFailedException", "ResourceNotFoundException", "ValidationException", "NoSuchKey"),
        *("AccessDenied", "AccessDeniedException", "InvalidSignatureException", "ParamValidationError"),
        "ResponseError",
    )
)


class Attempts(NamedTuple):
    """The attempts at one call. spans: positions, in order. more: attempts that have no span of their own."""

    call: Call
    spans: tuple[int, ...]
    more: int
    recovered: bool

    @property
    def times(self) -> int:
        """All attempts."""
        return len(self.spans) + self.more


def find_retries(tree: Tree, gap_ns: float = DEFAULT_GAP_NS) -> list[Attempts]:
    """Calls that were tried at least twice, by start time. Linear.

    Same parent, same call in all that a span tells, one after the other, and the one before failed in a way that may
    pass. Or a span that says how often it was sent.
    """
    chains: list[_Chain] = []
    open_chains: dict[Any, _Chain] = {}
    latest: dict[Any, SpanRecord] = {}
    for position, span in enumerate(tree.spans):
        call = call_of(span)
        if call is None:
            continue
        parent = tree.parents[position]
        family = span.parent_id if parent is None else parent
        key = (family, span.kind, call.peer, call.exact)
        chain = open_chains.get(key)
        if chain is None or not _follows(tree.spans[chain.spans[-1]], span, gap_ns):
            chain = open_chains[key] = _Chain(call)
            chains.append(chain)
        if call.family != HTTP:
            chain.more += _again(span)
        elif not chain.spans and not _sent_elsewhere(latest.get(family)):
            chain.more += _again(span)  # those before have no spans; those that follow have
        if call.family == HTTP:
            latest[family] = span
        chain.spans.append(position)
    return [
        Attempts(chain.call, tuple(chain.spans), chain.more, not tree.spans[chain.spans[-1]].is_error)
        for chain in chains
        if len(chain.spans) + chain.more > 1
    ]


class _Chain:
    """Attempts while they are found."""

    __slots__ = ("call", "more", "spans")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.spans: list[int] = []
        self.more = 0


def _follows(before: SpanRecord, span: SpanRecord, gap_ns: float) -> bool:
    return 0 <= span.start_ns - before.end_ns <= gap_ns and may_pass(before)


def may_pass(span: SpanRecord) -> bool:
    """Whether the span failed, and in a way that another attempt may change."""
    if not span.is_error:
        return False
    if is_throttled(span):
        return True
    kind = error_type(span)
    if kind in _FINAL:
        return False
    return status_of(span.attributes) not in _FINAL_STATUS or kind in THROTTLES


def _again(span: SpanRecord) -> int:
    """How often the span itself says that it was sent again."""
    value = span.attributes.get("retry_attempts") or span.attributes.get("http.request.resend_count")
    return value if isinstance(value, int) and 0 < value < 1_000 else 0


def _sent_elsewhere(span: SpanRecord | None) -> bool:
    """Whether the answer was to ask elsewhere or with credentials, which is no failure."""
    if span is None:
        return False
    status = status_of(span.attributes)
    return 300 <= status < 400 or status in (401, 407)
