"""Checks documents against the Embedded Metric Format as the CloudWatch user guide describes it, and adds them up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from math import isfinite
from typing import Any, NamedTuple

UNITS = frozenset(
    (
        *("Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes"),
        *("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count", "Bytes/Second", "None"),
        *("Kilobytes/Second", "Megabytes/Second", "Gigabytes/Second", "Terabytes/Second", "Bits/Second"),
        *("Kilobits/Second", "Megabits/Second", "Gigabits/Second", "Terabits/Second", "Count/Second"),
    )
)
MAX_BYTES = 1_048_576


class Found(NamedTuple):
    """One metric that CloudWatch would make of a document: of each dimension set one."""

    namespace: str
    name: str
    unit: str
    dimensions: tuple[tuple[str, str], ...]
    values: tuple[tuple[float, float], ...]


def lines(output: str) -> list[str]:
    """The lines of a process's output that are documents."""
    return [line for line in output.splitlines() if line.startswith('{"_aws"')]


def check(line: str | bytes) -> list[Found]:
    """The metrics of one document. AssertionError where it breaks a rule of the format."""
    raw = line if isinstance(line, bytes) else line.encode()
    assert len(raw) <= MAX_BYTES
    assert b"\n" not in raw
    root = json.loads(raw, parse_constant=_no_constant)
    assert isinstance(root, dict)
    metadata = root["_aws"]
    assert set(metadata) == {"Timestamp", "CloudWatchMetrics"}
    assert type(metadata["Timestamp"]) is int
    assert metadata["Timestamp"] >= 0
    assert isinstance(metadata["CloudWatchMetrics"], list)
    return [found for directive in metadata["CloudWatchMetrics"] for found in _directive(directive, root)]


def totals(found: Iterable[Found]) -> dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[float, float]]:
    """(namespace, name, dimensions) -> (count, sum)."""
    counts: Counter[Any] = Counter()
    sums: Counter[Any] = Counter()
    for each in found:
        key = each.namespace, each.name, each.dimensions
        counts[key] += sum(count for _, count in each.values)
        sums[key] += sum(value * count for value, count in each.values)
    return {key: (counts[key], sums[key]) for key in counts}


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def _directive(directive: Any, root: dict[str, Any]) -> list[Found]:
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 255
    assert len(directive["Dimensions"]) >= 1
    sets = []
    for names in directive["Dimensions"]:
        assert len(names) <= 30
        assert len(set(names)) == len(names)
        sets.append(tuple((name, _dimension(name, root)) for name in names))
    assert 1 <= len(directive["Metrics"]) <= 100
    assert len({definition["Name"] for definition in directive["Metrics"]}) == len(directive["Metrics"])
    return [
        Found(
            directive["Namespace"], definition["Name"], definition.get("Unit", ""), named, _values(definition, root)
        )
        for definition in directive["Metrics"]
        for named in sets
    ]


def _dimension(name: str, root: dict[str, Any]) -> str:
    assert 1 <= len(name) <= 250
    value = root[name]
    assert isinstance(value, str), f"the value of dimension {name} is no text"
    assert 1 <= len(value) <= 1024
    assert value.isascii()
    assert value.isprintable()
    assert not value.startswith(":")
    return value


def _values(definition: Any, root: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    assert set(definition) <= {"Name", "Unit", "StorageResolution"}
    assert 1 <= len(definition["Name"]) <= 1024
    assert definition.get("Unit", "None") in UNITS
    value = root[definition["Name"]]
    if isinstance(value, dict):
        numbers, counts = value["Values"], value["Counts"]
        assert 1 <= len(numbers) == len(counts) <= 100
        assert all(count > 0 for count in counts)
        assert value["Count"] == sum(counts)
        assert value["Min"] <= min(numbers) + 1e-9 * abs(min(numbers))
        assert value["Max"] >= max(numbers) - 1e-9 * abs(max(numbers))
    else:
        numbers = value if isinstance(value, list) else [value]
        counts = [1] * len(numbers)
        assert 1 <= len(numbers) <= 100
    for number in numbers:
        assert type(number) in (int, float)
        assert isfinite(number)
        assert abs(number) <= 2.0**360
    return tuple(zip(map(float, numbers), map(float, counts), strict=True))
