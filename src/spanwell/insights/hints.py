"""Numbers about a trace that are kept while its spans end, so that detectors need not look at healthy ones."""

from __future__ import annotations

from typing import NamedTuple

from spanwell.analysis.names import THROTTLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from typing import Any

    from spanwell.insights.model import Thresholds
    from spanwell.record import SpanRecord

AWS = "aws-api"
RETRIES = _RETRIED, _RESENT = "retry_attempts", "http.request.resend_count"

_TELLING = frozenset(("db.system.name", "db.system", "rpc.system", "rpc.system.name", THROTTLED, *RETRIES))
_SENDING = ("client", "producer")
_TOO_MANY = 429


class Limits(NamedTuple):
    """Below all of these, and without any trouble, there is nothing to be found. keys: attributes that the local root
    must not have for that."""

    nanoseconds: float
    clients: float
    spans: float
    size: float
    keys: frozenset[str]


class Hints:
    """Counters over all ended spans of a fragment, those that the buffer has no room for too.

    spans, errors; clients: CLIENT and PRODUCER spans; db, aws: those among them that are database or AWS calls (a
    call to DynamoDB is both). retries: spans that say they were retried. throttled: calls answered with 429 or a
    throttling code. longest_ns, longest_db_ns, longest_aws_ns: the longest span of each sort; clients_ns, db_ns:
    their sums. largest_bytes: characters of the text attributes of the largest span, with its events' if it has any
    (elements, of a list).

    Of the local root, once it has ended: root_name, root_kind (server, ...), root_ns, root_error, root_attributes and
    server_status, its HTTP status or 0.
    """

    # Values of the class, not of each instance: one is made for every local root, and few of these are ever set.
    spans = errors = clients = db = aws = retries = throttled = 0
    longest_ns = longest_db_ns = longest_aws_ns = clients_ns = db_ns = largest_bytes = 0
    root_name = root_kind = ""
    root_ns = server_status = 0
    root_error = False
    root_attributes: Mapping[str, Any] = {}

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.thresholds = thresholds

    @classmethod
    def of(cls, spans: Iterable[SpanRecord], root: SpanRecord | None, thresholds: Thresholds | None = None) -> Hints:
        """The same numbers from records."""
        hints = cls(thresholds)
        hints.count(map(as_ended, spans), _SENDING)
        if root is not None:
            hints.end(root.name, root.kind, root.duration, root.is_error, root.attributes)
        return hints

    def threshold(self, name: str) -> float:
        """What is set for `name`, for this operation if it was. Only where `thresholds` were given."""
        assert self.thresholds is not None
        return self.thresholds.get(name, self.root_name)

    def count(self, spans: Iterable[tuple[Any, ...]], sending: Container[Any]) -> None:
        """Count ended spans, each as `_otel.spans.ended` has it. sending: the kinds that are CLIENT and PRODUCER.

        All of a fragment at once: a loop over locals costs half of what a call for each span does.
        """
        number = errors = clients = clients_ns = 0
        longest, largest = self.longest_ns, self.largest_bytes
        for span in spans:
            kind, attributes = span[3], span[7]
            nanoseconds = span[5] - span[4]
            number += 1
            if nanoseconds > longest:
                longest = nanoseconds
            if span[6] == "error":
                errors += 1
            sends = kind in sending
            if sends:
                clients += 1
                if nanoseconds > 0:
                    clients_ns += nanoseconds
                if attributes.get("http.response.status_code") == _TOO_MANY:
                    self.throttled += 1
            size = _size(attributes, span[8])
            if size > largest:
                largest = size
            if not attributes.keys().isdisjoint(_TELLING):
                self._look(sends, max(0, nanoseconds), attributes.get)
        self.spans += number
        self.errors += errors
        self.clients += clients
        self.clients_ns += clients_ns
        self.longest_ns, self.largest_bytes = longest, largest

    def _look(self, sending: bool, nanoseconds: int, get: Any) -> None:
        if sending and (get("db.system.name") or get("db.system")):
            self.db += 1
            self.db_ns += nanoseconds
            if nanoseconds > self.longest_db_ns:
                self.longest_db_ns = nanoseconds
        if get("rpc.system") == AWS or get("rpc.system.name") == AWS:
            self.aws += 1
            if nanoseconds > self.longest_aws_ns:
                self.longest_aws_ns = nanoseconds
        if get("retry_attempts") or get("http.request.resend_count"):
            self.retries += 1
        if get(THROTTLED):
            self.throttled += 1

    def end(self, name: str, kind: str, nanoseconds: int, error: bool, attributes: Mapping[str, Any]) -> None:
        """The local root has ended."""
        self.root_name, self.root_kind, self.root_ns, self.root_error = name, kind, nanoseconds, error
        self.root_attributes = attributes
        status = attributes.get("http.response.status_code") or attributes.get("http.status_code")
        if status.__class__ is int:
            self.server_status = status


def healthy(  # noqa: C901 - a call for each span would cost more than all its branches
    spans: Sequence[tuple[Any, ...]], limits: Limits, root_attributes: Mapping[str, Any], sending: tuple[Any, Any]
) -> bool:
    """Whether none of our detectors can find anything in ended spans, each as `_otel.spans.ended` has it.

    sending: the kinds that are CLIENT and PRODUCER. One pass that counts little: most traces are healthy, and for
    these it is all that is done.
    """
    longest, largest, most = limits.nanoseconds, limits.size, limits.clients
    client, producer = sending
    clients = clients_ns = 0
    for _, _, _, kind, start, end, status, attributes, events, _, _, _ in spans:
        nanoseconds = end - start
        if nanoseconds >= longest or status == "error":
            return False
        if kind is client or kind is producer:
            clients += 1
            if nanoseconds > 0:
                clients_ns += nanoseconds
            if attributes.get("http.response.status_code") == _TOO_MANY:
                return False
        if (_RETRIED in attributes or _RESENT in attributes or THROTTLED in attributes) and _troubled(attributes):
            return False
        size = 0
        for value in attributes.values():
            if value.__class__ is str:
                size += len(value)
            elif value.__class__ is tuple:
                size += _length(value)
        if size >= largest or (events and size + _of_events(events) >= largest):
            return False
    return (
        clients < most
        and clients_ns < longest
        and len(spans) < limits.spans
        and root_attributes.keys().isdisjoint(limits.keys)
    )


def _troubled(attributes: Mapping[str, Any]) -> bool:
    return bool(attributes.get(_RETRIED) or attributes.get(_RESENT) or attributes.get(THROTTLED))


def as_ended(span: SpanRecord) -> tuple[Any, ...]:
    """As far as it is counted here."""
    times = span.start_ns, span.end_ns
    return (None, None, span.name, span.kind, *times, span.status, span.attributes, span.events)


def _size(attributes: Mapping[str, Any], events: Iterable[Any]) -> int:
    size = 0
    for value in attributes.values():
        if value.__class__ is str:
            size += len(value)
        elif value.__class__ is tuple:
            size += _length(value)
    return size + _of_events(events) if events else size


def _of_events(events: Iterable[Any]) -> int:
    """The characters of the events' attributes: stack traces are what makes spans large."""
    return sum(_length(value) for event in events for value in (event.attributes or {}).values())


def _length(value: object) -> int:
    """The characters of a text or of a list of texts."""
    if isinstance(value, str):
        return len(value)
    return sum(len(item) for item in value if isinstance(item, str)) if isinstance(value, (tuple, list)) else 0
