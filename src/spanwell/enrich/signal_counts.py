"""Latency, Error and Fault of Application Signals, counted on every recorded span with the attributes that ADOT uses.

| metric of | spans | attributes |
| --- | --- | --- |
| the service | SERVER and local roots | aws.local.service, aws.local.operation, aws.span.kind |
| a dependency | CLIENT, PRODUCER, CONSUMER | these, aws.remote.service, .operation, and of `_LABELS` what is known |

A span can count for both. An error is a 4xx, a fault a 5xx or a failed span without either. Own aggregates: three
histograms of the SDK cost 20 us a span, this a look-up and an append.
"""

from __future__ import annotations

import threading

from opentelemetry.trace import SpanKind

from spanwell._children import in_child
from spanwell._otel.spans import attributes_of
from spanwell.analysis.names import MAX_SERIES
from spanwell.analysis.quantiles import Histogram
from spanwell.enrich.aws_resources import IDENTIFIER, TYPE
from spanwell.values import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from opentelemetry.sdk.trace import ReadableSpan

    Labels: TypeAlias = "tuple[tuple[str, str], ...]"

SERVICE, OPERATION, KIND = "aws.local.service", "aws.local.operation", "aws.span.kind"
REMOTE_SERVICE, REMOTE_OPERATION = "aws.remote.service", "aws.remote.operation"
REMOTE_ENVIRONMENT, DB_USER = "aws.remote.environment", "aws.remote.db.user"
PRIMARY = "aws.remote.resource.cfn.primary.identifier"
OTHERS, OTHER_REMOTES = "AllOtherOperations", "AllOtherRemoteOperations"
"""Operations beyond the bound, as the CloudWatch agent calls them."""

_PENDING = 32
_MAX_TEXT = 512
_MAX_NS = 2**60
_OK, _ERROR, _FAULT = 0, 1, 2
_CLIENT = SpanKind.CLIENT
_DEPENDS = frozenset(("CLIENT", "PRODUCER", "CONSUMER"))
_BOTO3_SQS = "opentelemetry.instrumentation.boto3sqs"  # whose calls botocore's spans tell too
# Of a key: the kind, what CloudFormation calls the resource, and the values of these, of services the first two.
_REMOTES = (REMOTE_SERVICE, REMOTE_OPERATION, REMOTE_ENVIRONMENT, TYPE, IDENTIFIER)
_DEPENDENCY = (SERVICE, OPERATION, *_REMOTES, "db.user")
_LABELS = (KIND, PRIMARY, SERVICE, OPERATION, *_REMOTES, DB_USER)
# What CloudFormation calls these resources, where it is not their name.
_PRIMARIES = {
    "AWS::SQS::Queue": ("aws.sqs.queue.url", "aws.queue_url"),
    "AWS::SNS::Topic": ("aws.sns.topic.arn",),
    "AWS::SecretsManager::Secret": ("aws.secretsmanager.secret.arn",),
    "AWS::StepFunctions::StateMachine": ("aws.step_functions.state_machine.arn",),
    "AWS::StepFunctions::Activity": ("aws.step_functions.activity.arn",),
    "AWS::Bedrock::Guardrail": ("aws.bedrock.guardrail.arn",),
}


class Totals:
    """What one series saw: latency in milliseconds, how many spans were errors, how many faults."""

    __slots__ = ("errors", "faults", "latency")

    def __init__(self) -> None:
        self.latency = Histogram()
        self.errors = self.faults = 0

    def merge(self, other: Totals) -> None:
        """Add what `other` saw."""
        self.latency.merge(other.latency)
        self.errors += other.errors
        self.faults += other.faults


class Series:
    """One set of attributes. `pending`: durations in nanoseconds, times four, with the outcome in the last bits."""

    __slots__ = ("_lock", "_totals", "labels", "pending")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.pending: list[int] = []
        self._lock = threading.RLock()
        self._totals = Totals()

    def fold(self) -> None:
        """Bring the totals up to date."""
        with self._lock:
            pending, totals = self.pending, self._totals
            number = len(pending)  # other threads go on appending
            taken = pending[:number]
            del pending[:number]
            observe = totals.latency.observe
            for each in taken:
                observe((each >> 2) / 1e6)
                if each & _ERROR:
                    totals.errors += 1
                elif each & _FAULT:
                    totals.faults += 1

    def drain(self) -> Totals | None:
        """What was seen since the last call, or None."""
        with self._lock:
            self.fold()
            found = self._totals
            if not found.latency.count:
                return None
            self._totals = Totals()
        return found


class SignalCounts:
    """A stage behind those that name and redact. `first` is called with the first span, in a child again.

    max_series: sets of attributes, beyond which spans count as `AllOtherOperations`.
    """

    def __init__(
        self,
        *,
        max_series: int = MAX_SERIES,
        first: Callable[[], object] | None = None,
    ) -> None:
        self._max = max_series
        self.first = first
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: what was counted is the parent's."""
        self._lock = threading.RLock()
        self._series: dict[tuple[Any, ...], Series] = {}

    def on_end(self, span: ReadableSpan) -> None:
        """Count a span that has been given names: one that serves, or that depends on somebody, or both."""
        attributes = attributes_of(span)
        start, end = span.start_time, span.end_time
        if KIND not in attributes or start is None or end is None:
            return
        get = attributes.get
        parent = span.parent
        root = parent is None or parent.is_remote
        kind = "CLIENT" if span.kind is _CLIENT else span.kind.name
        depends = kind in _DEPENDS and REMOTE_SERVICE in attributes
        if kind != "CLIENT" and (scope := span.instrumentation_scope) is not None and scope.name == _BOTO3_SQS:
            root = depends = False
        seen = min(max(0, end - start), _MAX_NS) << 2 | _outcome(get, span)
        if root or kind == "SERVER":
            self._count(("LOCAL_ROOT" if root else kind, None, get(SERVICE), get(OPERATION)), seen)
        if depends:
            resource = get(TYPE)
            primary = None if resource is None else get(IDENTIFIER)
            if type(resource) is str and resource in _PRIMARIES:
                primary = next(filter(None, map(get, _PRIMARIES[resource])), primary)
            self._count((kind, primary, *map(get, _DEPENDENCY)), seen)

    def _count(self, key: tuple[Any, ...], seen: int) -> None:
        try:
            series = self._series.get(key)
        except TypeError:  # a list among the values, of a span that was not made by the SDK
            series = None
        if series is None:
            series = self._made(key)
        series.pending.append(seen)
        if len(series.pending) >= _PENDING:
            series.fold()

    def _made(self, key: tuple[Any, ...]) -> Series:
        # Long texts are cut here, not remembered: each time they come they come here.
        key = tuple(None if each is None else text(each)[:_MAX_TEXT] for each in key)
        with self._lock:
            is_first = not self._series
            if len(self._series) >= self._max and key not in self._series:
                others = (key[0], None, key[2], OTHERS)
                key = others if len(key) == len(others) else (*others, "UnknownRemoteService", OTHER_REMOTES)
            made = self._series.get(key)
            if made is None:
                known = tuple((name, each) for name, each in zip(_LABELS, key, strict=False) if each is not None)
                made = self._series[key] = Series(known)
        if is_first and self.first is not None:
            self.first()
        return made

    def drain(self) -> Iterator[tuple[Labels, Totals]]:
        """Each set of attributes with what it saw since the last call. One caller at a time."""
        for series in list(self._series.values()):
            totals = series.drain()
            if totals is not None:
                yield series.labels, totals

    @property
    def series(self) -> int:
        """How many sets of attributes there are."""
        return len(self._series)


def _outcome(get: Callable[[str], Any], span: ReadableSpan) -> int:
    code = get("http.response.status_code") or get("http.status_code")
    if isinstance(code, int) and 400 <= code <= 599:
        return _ERROR if code < 500 else _FAULT
    return _OK if span.status.is_ok else _FAULT
