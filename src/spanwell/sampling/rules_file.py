"""Files of sampling rules: reading them in each format, and again when they have changed.

A file is what GetSamplingRules returns (also as the AWS CLI prints it, or a bare list of its rules), or a local rules
file of the X-Ray SDKs, version 1 or 2.
"""

from __future__ import annotations

import os
import stat
import time

from spanwell import _guard
from spanwell.sampling.rules import Rule, number_field, parse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Report = Callable[[str], object]

MAX_FILE = 1 << 20
"""Bytes; a larger file is not read."""

MAX_TOLD = 10
"""Problems of one version of a file that are told one by one."""


def read_rules(text: str, report: Report) -> list[Rule] | None:
    """The rules in `text`, in order; None if nothing in it can be used.

    `report` gets one line for each thing that cannot be used, with field, value and remedy. Never raises.
    """
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        report(f"sampling rules: this is no JSON ({' '.join(str(error).split())[:200]}); write it as JSON")
        return None
    if isinstance(document, dict) and "SamplingRuleRecords" in document:
        document = document["SamplingRuleRecords"]
    elif isinstance(document, dict) and "default" in document:
        return _sdk_rules(document, report)
    elif isinstance(document, dict) and ("version" in document or "rules" in document):
        report('sampling rules: default is missing; add "default": {"fixed_target": 1, "rate": 0.05}')
        return None
    if not isinstance(document, list):
        report("sampling rules: SamplingRuleRecords is no list; write what GetSamplingRules returns, or SDK rules")
        return None
    rules = parse(document, report)
    if not rules:
        report("sampling rules: SamplingRuleRecords holds no usable rule; write at least one")
    return rules or None


def _sdk_rules(document: dict[str, Any], report: Report) -> list[Rule] | None:
    """A rules file of the X-Ray SDKs: the order of the file is the priority, `default` is what is left."""
    version = document.get("version")
    host = {1: "service_name", 2: "host"}.get(version if type(version) is int else 0)
    given = document.get("rules")
    try:
        if host is None:
            raise ValueError(f"version {shown(version)} is not known; write 1 or 2")
        last = _sdk_default(document["default"])
    except ValueError as error:
        report(f"sampling rules: {error}; the file is left out")
        return None
    if given is not None and not isinstance(given, list):
        report(f"sampling rules: rules {shown(given)} is no list; only the default applies")
    rules: list[Rule] = []
    taken = {last.name: 1}
    for number, found in enumerate(given if isinstance(given, list) else (), 1):
        try:
            rule = _sdk_rule(found, host)
        except ValueError as error:
            report(f"sampling rules: rule {number}: {error}; this rule is left out")
            continue
        name = _free(rule.name, taken)
        rules.append(rule._replace(name=name, priority=len(rules) + 1))
    return [*rules, last._replace(priority=max(last.priority, len(rules) + 1))]


def _sdk_default(found: object) -> Rule:
    if not isinstance(found, dict):
        raise ValueError(f'default {shown(found)} is no object; write {{"fixed_target": 1, "rate": 0.05}}')
    for field in ("host", "service_name", "http_method", "url_path"):
        if field in found:
            raise ValueError(f"default: {field} has no place there; remove it, or make it a rule")
    try:
        return Rule("Default", fixed_rate=_sdk_rate(found), reservoir_size=_sdk_target(found))
    except ValueError as error:
        raise ValueError(f"default: {error}") from None


def _sdk_rule(found: object, host: str) -> Rule:
    if not isinstance(found, dict):
        raise ValueError(f"{shown(found)} is no object")
    for field in (host, "http_method", "url_path"):
        if not isinstance(found.get(field), str):
            raise ValueError(f'{field} {shown(found.get(field))} is no text; write a pattern, "*" for any')
    patterns = {"host": found[host], "http_method": found["http_method"], "url_path": found["url_path"]}
    described = found.get("description")
    # Made of what the rule says, so that it is the same when other rules come and go.
    name = described if isinstance(described, str) and described.strip() else " ".join(patterns.values())
    return Rule(name[:200], fixed_rate=_sdk_rate(found), reservoir_size=_sdk_target(found), **patterns)


def _sdk_rate(found: dict[str, Any]) -> float:
    return number_field(found, "rate", float("nan"), high=1)


def _sdk_target(found: dict[str, Any]) -> int:
    return int(number_field(found, "fixed_target", float("nan"), whole=True))


def _free(name: str, taken: dict[str, int]) -> str:
    """`name`, or with a number behind it where another rule has it; now taken. `taken`: the last number of each."""
    number, free = taken.get(name, 0), name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    taken[name], taken[free] = max(number, 1), 1
    return free


class RulesFile:
    """A rules file that is read again when it has changed. Says what is wrong with it once a version."""

    def __init__(self, path: str, report: Report | None = None) -> None:
        self.path = path
        self._report = report or (lambda line: _guard.logger.warning("spanwell: %s", line))
        self.forget()

    def forget(self) -> None:
        """Whatever the file holds is new again."""
        self._version: object = None
        self._read: int | None = None

    def changed(self) -> list[Rule] | None:
        """The rules, if the file has changed and holds any that can be used; else None."""
        problems: list[str] = []
        rules = None
        try:
            found = os.stat(self.path)
            version = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
            if version == self._version:
                return None
            text = read_text(self.path, found)
            # Two changes within one tick of the file system's clock have one time: look again at a young file.
            self._version = version if abs(time.time() - found.st_mtime) > 2.0 else None
            if hash(text) == self._read:
                return None
            self._read = hash(text)
            rules = read_rules(text, problems.append)
        except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path that cannot be one
            said = getattr(error, "strerror", None) or str(error)
            if hash(said) == self._read:
                return None
            self._version, self._read = None, hash(said)
            problems.append(f"cannot be read ({said})")
        self._tell(problems, used=rules is not None)
        return rules

    def _tell(self, problems: list[str], *, used: bool) -> None:
        lines = problems[:MAX_TOLD]
        if len(problems) > MAX_TOLD:
            lines.append(f"{len(problems) - MAX_TOLD} more problems of this kind")
        if not used:
            lines[-1:] = [f"{''.join(lines[-1:])}; the rules in use stay"]
        for line in lines:
            self._report(f"rules file {self.path}: {line}")


def read_text(path: str, found: os.stat_result | None = None) -> str:
    """The text of a rules file. Raises OSError or, with one line, ValueError."""
    # Opening a pipe would wait for its other end.
    if not stat.S_ISREG((found or os.stat(path)).st_mode):
        raise ValueError("it is no regular file")
    with open(path, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    return data.decode("utf-8-sig")
