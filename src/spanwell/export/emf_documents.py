"""CloudWatch's Embedded Metric Format: metric points as JSON documents, one line each. Pure.

A document has one namespace, one time, one value for each dimension, and up to 100 metrics. Every other attribute of
a point becomes a member at the root, where Logs Insights finds it and where it costs no metric. Specification:
"Embedded metric format", Amazon CloudWatch User Guide.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import NamedTuple

from spanwell.values import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from spanwell.export.cloudwatch_points import Point

_MAX_METRICS = 100
_MAX_VALUES = 100
_MAX_FIELDS = 30
_MAX_TEXT = 256
_VALUE_BYTES = 24  # of one value and its count, as they are written
_FRAME_BYTES = 160

_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Document(NamedTuple):
    """time_ms: Unix milliseconds. line: JSON in ASCII, without a line break. metrics: how many it defines."""

    time_ms: int
    line: bytes
    metrics: int


class _Metric(NamedTuple):
    name: str
    definition: str
    member: str

    @property
    def size(self) -> int:
        return len(self.definition) + len(self.member) + 2


def documents(found: Iterable[Point], *, max_bytes: int) -> Iterator[Document]:
    """`found` as documents of at most `max_bytes`, unless the dimensions of one alone need more."""
    groups: dict[tuple[str, str, str, int], list[Point]] = {}
    for point in found:
        named = {name: value for dimensions in point.sets for name, value in dimensions}
        sets = _json([[name for name, _ in dimensions] for dimensions in point.sets])
        taken = {*named, "_aws", point.name}
        members = _members(named, {**_exemplar(point.exemplars), **point.fields}, taken, max_bytes // 4)
        groups.setdefault((point.namespace, sets, members, point.time_ns // 1_000_000), []).append(point)
    for (namespace, sets, members, time_ms), points in groups.items():
        head = (
            f'{{"_aws":{{"Timestamp":{time_ms},"CloudWatchMetrics":[{{"Namespace":{_json(namespace)},'
            f'"Dimensions":{sets},"Metrics":['
        )
        tail = "]}]}" + members
        yield from _packed(points, head, tail, time_ms, max_bytes)


def _packed(points: list[Point], head: str, tail: str, time_ms: int, max_bytes: int) -> Iterator[Document]:
    """Documents of one head. Of two parts of one metric each needs a document of its own."""
    room = max_bytes - len(head) - len(tail) - 2
    waiting = [metric for point in points for metric in _metrics(point, room)]
    while waiting:
        now: dict[str, _Metric] = {}
        later: list[_Metric] = []
        size = 0
        for metric in waiting:
            fits = len(now) < _MAX_METRICS and (not now or size + metric.size <= room)
            if fits and metric.name not in now:
                now[metric.name] = metric
                size += metric.size
            else:
                later.append(metric)
        definitions = ",".join(metric.definition for metric in now.values())
        line = head + definitions + tail + "".join(f",{metric.member}" for metric in now.values()) + "}"
        yield Document(time_ms, line.encode("ascii"), len(now))
        waiting = later


def _metrics(point: Point, room: int) -> Iterator[_Metric]:
    name = _json(point.name)
    definition = f'{{"Name":{name},"Unit":{_json(point.unit)}}}' if point.unit else f'{{"Name":{name}}}'
    left = room - len(definition) - len(name) - _FRAME_BYTES
    each = max(1, min(_MAX_VALUES, left // _VALUE_BYTES))
    pairs = sorted(point.values.items())
    for start in range(0, len(pairs), each):
        yield _Metric(point.name, definition, f"{name}:{_value(pairs[start : start + each])}")


def _value(pairs: list[tuple[float, float]]) -> str:
    """A number, or values with their counts, and what they come to, for those who query the log."""
    if len(pairs) == 1 and pairs[0][1] == 1:
        return _number(pairs[0][0])
    values, counts = zip(*pairs, strict=True)
    total = sum(value * count for value, count in pairs)
    return (
        f'{{"Values":[{",".join(map(_number, values))}],"Counts":[{",".join(map(_number, counts))}],'
        f'"Min":{_number(min(values))},"Max":{_number(max(values))},"Count":{_number(sum(counts))},'
        f'"Sum":{_number(total)}}}'
    )


def _number(value: float) -> str:
    short = float(f"{value:.10g}")
    return str(int(short)) if short.is_integer() and abs(short) < 1e15 else repr(short)


def _exemplar(exemplars: Iterable[Any]) -> dict[str, str]:
    """The trace behind the largest value: as X-Ray writes trace ids too, without the dashes."""
    known = [each for each in exemplars if each.trace_id and each.span_id]
    if not known:
        return {}
    largest = max(known, key=lambda each: each.value)
    return {"trace_id": f"{largest.trace_id:032x}", "span_id": f"{largest.span_id:016x}"}


def _members(named: Mapping[str, str], fields: Mapping[str, Any], taken: set[str], max_bytes: int) -> str:
    """The values of dimensions, and of `fields` those that are no dimension, as far as they fit."""
    found = "".join(f",{_json(name)}:{_json(value)}" for name, value in named.items())
    left = max_bytes
    for number, (key, value) in enumerate(fields.items()):
        said = _said(value)
        name = text(key)
        if number >= _MAX_FIELDS or said is None or not name or len(name) > _MAX_TEXT or name in taken:
            continue
        member = f",{_json(name)}:{said}"
        left -= len(member)
        if left < 0:
            break
        found += member
    return found


def _said(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number(float(value)) if abs(value) < 1e300 and isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return _json(",".join(map(text, value[:16]))[:_MAX_TEXT])
    return None if value is None else _json(text(value)[:_MAX_TEXT])
