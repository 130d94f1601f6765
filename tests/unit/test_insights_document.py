"""docs/insights.md says of each detector what its module says."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from spanwell.insights import detectors

PAGE = (Path(__file__).parents[2] / "docs/insights.md").read_text()
ROWS = {row[1]: row[2].split(" | ") for row in re.finditer(r"^\| `([a-z_]+)` \| (.+) \|$", PAGE, re.MULTILINE)}


def test_the_table_has_every_detector() -> None:
    assert sorted(ROWS) == sorted(detectors.NAMES)


def test_the_table_has_every_threshold_with_its_default() -> None:
    for name in detectors.NAMES:
        said = dict(each.split("=") for each in re.findall(r"`([a-z_.]+=[0-9.]+)`", ROWS[name][1]))
        defaults = import_module(f"spanwell.insights.detectors.{name}").DEFAULTS
        assert {key: float(value) for key, value in said.items()} == defaults, name


def test_the_table_has_every_severity() -> None:
    for name in detectors.NAMES:
        source = Path(import_module(f"spanwell.insights.detectors.{name}").__file__ or "").read_text()
        used = {word.lower() for word in re.findall(r"\b(INFO|WARNING|ERROR)\b", source)}
        assert set(re.findall(r"info|warning|error", ROWS[name][2])) == used, name
