"""The text of AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG: what counts as an anomaly and how many traces it may capture."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    Report = Callable[[str], object]

_NAME = "AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG"
_MAX_FILE = 1 << 20  # bytes
_MAX_CODE = 16
"""Longest status code looked at, in characters: no expression can take long over that."""
_MAX_VERDICTS = 64
_USAGES = ("both", "sampling-boost", "anomaly-trace-capture", "neither")
_CONDITION = ("errorCodeRegex", "operations", "highLatencyMs", "usage")


class Condition:
    """One of anomalyConditions: true of a span when everything that is given holds.

    code: a full match of the status code. operations: any of these names, or None for all. slow_ns: at least this
    long, in nanoseconds, or None. boosts, captures: what an anomaly found by it is used for.
    """

    __slots__ = ("_code", "_verdicts", "boosts", "captures", "operations", "slow_ns")

    def __init__(
        self,
        code: re.Pattern[str] | None = None,
        operations: Collection[str] | None = None,
        slow_ns: float | None = None,
        usage: str = "both",
    ) -> None:
        self._code = code
        self._verdicts: dict[str, bool] = {}
        self.operations = None if operations is None else frozenset(operations)
        self.slow_ns = slow_ns
        self.boosts = usage in ("both", "sampling-boost")
        self.captures = usage in ("both", "anomaly-trace-capture")

    def holds(self, code: str, nanoseconds: int) -> bool:
        """Whether a span with this status code ("" for none) that took so long is an anomaly, operation aside."""
        if self.slow_ns is not None and nanoseconds < self.slow_ns:
            return False
        return self._code is None or self._matches(code)

    def _matches(self, code: str) -> bool:
        if not code or len(code) > _MAX_CODE:
            return False
        verdict = self._verdicts.get(code)  # there are few codes, and an expression may be slow
        if verdict is None:
            assert self._code is not None
            verdict = self._code.fullmatch(code) is not None
            if len(self._verdicts) < _MAX_VERDICTS:
                self._verdicts[code] = verdict
        return verdict


class Config:
    """conditions: none means the default (status above 499; without a status, an error). traces_per_second: how
    many unsampled traces with anomalies are captured."""

    __slots__ = ("conditions", "traces_per_second")

    def __init__(self, conditions: tuple[Condition, ...] = (), traces_per_second: float = 1.0) -> None:
        self.conditions = conditions
        self.traces_per_second = traces_per_second

    @property
    def captures(self) -> bool:
        """Whether it can capture anything at all."""
        used = not self.conditions or any(each.captures for each in self.conditions)
        return used and self.traces_per_second > 0


def read(text: str, report: Report) -> Config | None:
    """The configuration in `text`, which is YAML, JSON or the path of a file with either; None if it is unusable.

    What is wrong is reported, one line each; a bad condition is left out as a whole, because without its bad field it
    would hold for more than was meant. Never raises.
    """
    text = text.strip()
    if not text:
        return None

    def say(problem: str) -> None:
        report(f"{_NAME}: {problem}")

    content = _content(text, say)
    tree = None if content is None else _tree(content, say)
    if tree is None:
        return None
    for key in tree:
        if key not in ("version", "anomalyConditions", "anomalyCaptureLimit"):
            say(f"{_short(key)} is no field of it (version, anomalyConditions, anomalyCaptureLimit); it is ignored")
    if not _supported(tree.get("version"), say):
        return None
    return Config(_conditions(tree.get("anomalyConditions"), say), _limit(tree.get("anomalyCaptureLimit"), say))


def _content(text: str, say: Report) -> str | None:
    if "\n" in text or len(text) > 4096 or "\0" in text:
        return text
    if not os.path.isfile(text):
        if text.lower().endswith((".yml", ".yaml", ".json")):
            say(f"there is no file {_short(text)}; adaptive sampling is off")
            return None
        return text
    try:
        with open(text, encoding="utf-8") as file:
            content = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        say(f"the file {_short(text)} cannot be read ({_said(error)}); adaptive sampling is off")
        return None
    if len(content) > _MAX_FILE:
        say(f"the file {_short(text)} is larger than {_MAX_FILE} characters; adaptive sampling is off")
        return None
    return content


def _tree(content: str, say: Report) -> dict[Any, Any] | None:
    try:
        tree = _parsed(content)
    except ImportError:
        say("it is YAML, which needs PyYAML: pip install 'spanwell[config]', or write JSON; adaptive sampling is off")
        return None
    except Exception as error:
        say(f"it is neither a file nor YAML nor JSON ({_said(error)}); adaptive sampling is off")
        return None
    if not isinstance(tree, dict):
        say(f"{_short(tree)} is no mapping with version and anomalyConditions; adaptive sampling is off")
        return None
    return tree


def _parsed(content: str) -> Any:
    if content.lstrip("\ufeff \t\r\n").startswith("{"):
        import json

        try:
            return json.loads(content.lstrip("\ufeff"))
        except (ValueError, RecursionError):
            pass  # `{version: 1.0}` is YAML
    import yaml  # type: ignore[import-untyped, unused-ignore]

    return yaml.safe_load(content)


def _supported(version: object, say: Report) -> bool:
    if version is None:
        say("version is missing; read as 1.0")
        return True
    try:
        number = float(version) if isinstance(version, (int, float, str)) and version is not True else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if 1.0 <= number < 2.0:
        return True
    say(f"version={_short(version)} is not supported, 1.0 is; adaptive sampling is off")
    return False


def _conditions(given: object, say: Report) -> tuple[Condition, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        say(f"anomalyConditions={_short(given)} is no list; the default condition applies (5xx or an error)")
        return ()
    found = []
    for index, each in enumerate(given):
        try:
            found.append(_condition(each, f"anomalyConditions[{index}]", say))
        except ValueError as error:
            say(f"anomalyConditions[{index}]{error}; this condition is left out")
    if given and not found:
        say("no condition in anomalyConditions can be used; the default one applies (5xx or an error)")
    return tuple(found)


def _condition(given: object, place: str, say: Report) -> Condition:
    if not isinstance(given, dict):
        raise ValueError(f"={_short(given)} is no mapping with errorCodeRegex or highLatencyMs")
    for key in given:
        if key not in _CONDITION:
            _unknown(key, place, say)
    code, slow = _regex(given.get("errorCodeRegex")), _milliseconds(given.get("highLatencyMs"))
    if code is None and slow is None:
        raise ValueError(" has neither errorCodeRegex nor highLatencyMs, so it can find nothing")
    usage = given.get("usage")
    if usage is not None and usage not in _USAGES:
        raise ValueError(f".usage={_short(usage)} is none of {', '.join(_USAGES)}")
    return Condition(code, _operations(given.get("operations")), slow, usage or "both")


def _unknown(key: object, place: str, say: Report) -> None:
    from difflib import get_close_matches

    close = get_close_matches(str(key)[:100], _CONDITION, 1, 0.75)
    if close:
        raise ValueError(f".{_short(key)} is no field of it: did you mean {close[0]}?")
    say(f"{place}.{_short(key)} is no field of it ({', '.join(_CONDITION)}); it is ignored")


def _regex(given: object) -> re.Pattern[str] | None:
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)  # `errorCodeRegex: 503`, without quotes
    if not isinstance(given, str):
        raise ValueError(f".errorCodeRegex={_short(given)} is no regular expression such as '^5\\d\\d$'")
    try:
        return re.compile(given)
    except Exception as error:  # besides re.error: OverflowError, RecursionError, a warning made an error
        raise ValueError(f".errorCodeRegex={_short(given)} is no regular expression ({_said(error)})") from None


def _operations(given: object) -> list[str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise ValueError(f".operations={_short(given)} is no list of names such as 'GET /api'")
    return given


def _milliseconds(given: object) -> float | None:
    if given is None:
        return None
    return _number(given, ".highLatencyMs", "a number of milliseconds from 0") * 1e6


def _limit(given: object, say: Report) -> float:
    if given is None:
        return 1.0
    if not isinstance(given, dict) or given.get("anomalyTracesPerSecond") is None:
        say(
            f"anomalyCaptureLimit={_short(given)} is no mapping with anomalyTracesPerSecond; 1 trace a second applies"
        )
        return 1.0
    try:
        return _number(given["anomalyTracesPerSecond"], ".anomalyTracesPerSecond", "a number from 0")
    except ValueError as error:
        say(f"anomalyCaptureLimit{error}; 1 trace a second applies")
        return 1.0


def _number(given: object, field: str, wanted: str) -> float:
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= given <= 1e15:
        return float(given)
    raise ValueError(f"{field}={_short(given)} is not {wanted}")


def _said(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__


def _short(value: object) -> str:
    """A value in one line; a YAML alias can make a small file a huge value, and reprlib stops early."""
    from reprlib import Repr

    shown = Repr()
    shown.maxlevel, shown.maxstring, shown.maxother = 2, 100, 100
    return shown.repr(value)[:300]
