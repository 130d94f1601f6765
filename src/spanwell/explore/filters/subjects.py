"""What a filter asks of: the whole trace, and the nodes and edges of its service map.

As in X-Ray, a segment is what one service did for one request: an entry span and what is below it in that service.
A call that no other service answered with spans of its own stands for an inferred node, named after its peer.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from spanwell.analysis.calls import AWS, DB, call_of, first, is_throttled, outermost
from spanwell.analysis.tree import RECEIVING, SENDING
from spanwell.insights.labels import ERROR, FAULT, OK, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwell.analysis.calls import Call
    from spanwell.explore.model import Trace
    from spanwell.record import SpanRecord

THROTTLE = "throttle"

_PLATFORMS = {
    "aws_lambda": "AWS::Lambda::Function",
    "aws_ec2": "AWS::EC2::Instance",
    "aws_ecs": "AWS::ECS::Container",
    "aws_eks": "AWS::EKS::Container",
    "aws_elastic_beanstalk": "AWS::ElasticBeanstalk::Environment",
    "aws_app_runner": "AWS::AppRunner::Service",
}


def status_of(span: SpanRecord) -> frozenset[str]:
    """What X-Ray would flag: `ok`, `error`, `error` and `throttle`, or `fault`."""
    if is_throttled(span):
        return frozenset((ERROR, THROTTLE))
    return frozenset((outcome(span.attributes, span.is_error)[0],))


class Subject:
    """A segment or an inferred one. Times are nanoseconds; `names` and `types` are those that it goes by."""

    inferred = root = partial = False

    def __init__(
        self, entry: SpanRecord | None, spans: tuple[SpanRecord, ...], names: tuple[str, ...], types: tuple[str, ...]
    ) -> None:
        self.entry = entry
        self.spans = spans
        self.names = names
        self.types = types

    @property
    def response_time(self) -> int:
        """How long the answer took."""
        return self.entry.duration if self.entry is not None else 0

    @property
    def duration(self) -> int:
        """How long all of it took."""
        return self.response_time

    @cached_property
    def status(self) -> frozenset[str]:
        """See `status_of`."""
        return status_of(self.entry) if self.entry is not None else frozenset()


class Whole(Subject):
    """The trace: its status and its request are those of its root."""

    def __init__(self, view: View) -> None:
        trace = view.trace
        self.entry = None if trace.main is None else trace.spans[trace.main]
        self.spans = trace.spans
        self._view = view

    @cached_property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of all nodes."""
        return tuple(dict.fromkeys(name for node in self._view.nodes for name in node.names))

    @cached_property
    def types(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of all nodes."""
        return tuple(dict.fromkeys(kind for node in self._view.nodes for kind in node.types))

    @cached_property
    def inferred(self) -> bool:  # type: ignore[override]
        """Whether there is an inferred node."""
        return bool(self._view.inferred)

    @cached_property
    def root(self) -> bool:  # type: ignore[override]
        """Whether the root is there."""
        return self._view.trace.root is not None

    @cached_property
    def partial(self) -> bool:  # type: ignore[override]
        """Whether the root or a parent is missing."""
        parents = {span.parent_id for span in self.spans}
        return None not in parents or not (parents - {None}) <= {span.span_id for span in self.spans}

    @property
    def duration(self) -> int:
        """From the first start to the last end."""
        return self._view.trace.duration


class Link(NamedTuple):
    """A call from one service to another: what the caller and the called one have of it."""

    source: Subject
    target: Subject
    sides: tuple[Subject, ...]


class View:
    """`trace` as the nodes and edges that a filter speaks of; each is worked out when it is asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @cached_property
    def whole(self) -> Subject:
        """The trace."""
        return Whole(self)

    @cached_property
    def nodes(self) -> tuple[Subject, ...]:
        """All segments, the inferred ones last."""
        return (*self.segments.values(), *self.inferred.values())

    @cached_property
    def entries(self) -> dict[int, int]:
        """For each span the entry of its segment, as positions."""
        trace, found = self.trace, dict[int, int]()
        for position in trace.downwards:
            found[position] = position if self._enters(position) else found[trace.parents[position] or 0]
        return found

    def _enters(self, position: int) -> bool:
        spans, parent = self.trace.spans, self.trace.parents[position]
        span = spans[position]
        return parent is None or spans[parent].service != span.service or span.kind in RECEIVING

    @cached_property
    def segments(self) -> dict[int, Subject]:
        """Entry -> segment."""
        members: dict[int, list[SpanRecord]] = {}
        for position, entry in sorted(self.entries.items()):
            members.setdefault(entry, []).append(self.trace.spans[position])
        present = {span.span_id for span in self.trace.spans}
        return {entry: self._segment(entry, tuple(spans), present) for entry, spans in members.items()}

    def _segment(self, entry: int, spans: tuple[SpanRecord, ...], present: set[str]) -> Subject:
        span = self.trace.spans[entry]
        found = Subject(span, spans, (span.service,), _types(span))
        found.root = entry == self.trace.main
        found.partial = span.parent_id is not None and span.parent_id not in present
        return found

    @cached_property
    def inferred(self) -> dict[int, Subject]:
        """Position of a call that nobody answered -> the segment of who was called."""
        answered: set[int] = set()
        trace = self.trace
        for position in reversed(trace.downwards):
            parent = trace.parents[position]
            if parent is not None and (
                self.entries[position] == position or (trace.spans[position].kind in SENDING and position in answered)
            ):
                answered.add(parent)
        return {
            position: inferred_node(trace.spans[position], call)
            for position, call in outermost(trace)
            if position not in answered
        }

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """All calls between services, or to inferred ones."""
        return (*self._answered(), *self._unanswered())

    def _answered(self) -> Iterator[Link]:
        trace = self.trace
        for entry, target in self.segments.items():
            parent = trace.parents[entry]
            if parent is None:
                continue
            caller = trace.spans[parent]
            call = Subject(caller, (caller,), target.names, target.types)
            sides = (target, call) if caller.kind in SENDING else (target,)
            yield Link(self.segments[self.entries[parent]], target, sides)

    def _unanswered(self) -> Iterator[Link]:
        for position, target in self.inferred.items():
            yield Link(self.segments[self.entries[position]], target, (target,))


def inferred_node(span: SpanRecord, call: Call | None = None) -> Subject:
    """Who is called by `span`, as far as the call tells: its peer, and the AWS resource it names."""
    call = call or call_of(span)
    names = (call.peer if call else "", first(span.attributes, "aws.remote.resource.identifier"))
    types: tuple[str, ...] = ("remote",)
    if call is not None and call.family == AWS:
        types = (f"AWS::{call.peer}", first(span.attributes, "aws.remote.resource.type"))
    elif call is not None and call.family == DB:
        types = ("remote", first(span.attributes, "db.system.name", "db.system"))
    found = Subject(span, (span,), tuple(filter(None, names)), tuple(filter(None, types)))
    found.inferred = True
    return found


def _types(span: SpanRecord) -> tuple[str, ...]:
    found = _PLATFORMS.get(str(span.resource.get("cloud.platform")), "")
    return (found,) if found else ()


__all__ = ["ERROR", "FAULT", "OK", "THROTTLE", "Link", "Subject", "View", "inferred_node", "status_of"]
