"""Which detectors run, with which thresholds: those of the table, those of plug-ins, without those switched off."""

from __future__ import annotations

from types import SimpleNamespace

from spanwell.insights import detectors
from spanwell.insights.hints import Limits
from spanwell.insights.model import Thresholds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from spanwell.insights.model import Detector

    Report = Callable[[str], object]

GROUP = "spanwell_insight_detector"
"""The entry-point group of users' detectors: name -> function(fragment) or a module like those of `detectors`."""


class Loaded:
    """The detectors that run, and all thresholds.

    local: those that look at fragments. over_time: NAME -> module, for those of that sort. limits: below these only
    users' detectors are asked.
    """

    def __init__(self, local: list[Detector], over_time: Mapping[str, Any], thresholds: Thresholds) -> None:
        self.local = local
        self.over_time = over_time
        self.thresholds = thresholds
        self.limits = limits(thresholds)


def limits(thresholds: Thresholds) -> Limits:
    """From where on our own detectors are asked, at the least of each threshold over all operations."""
    return Limits(
        thresholds.least(detectors.DURATIONS) * 1_000_000,
        thresholds.least(detectors.CLIENTS),
        thresholds.least(detectors.SPANS),
        thresholds.least(detectors.BYTES) / 4,  # characters may be four bytes long
        frozenset(detectors.ROOT_KEYS),
    )


def load(
    *,
    chosen: Sequence[str] = (),
    disabled: Iterable[str] = (),
    plugins: Iterable[Any] = (),
    report: Report,
) -> Loaded:
    """Import the detectors. chosen: "name=number" or "name@operation=number". plugins: entry points of `GROUP`.

    Whatever cannot be used is reported in one line and left out; the rest applies.
    """
    modules = _modules(report)
    for entry in plugins:
        made = _plugin(entry, modules, report)
        if made is not None:
            modules[made.NAME] = made
    off = _known(disabled, modules, report)
    defaults: dict[str, float] = {}
    for module in modules.values():
        defaults.update(module.DEFAULTS)
    thresholds = Thresholds(defaults, parse(chosen, defaults, report))
    used = {name: module for name, module in modules.items() if name not in off}
    return Loaded(
        [module for name, module in used.items() if name not in detectors.OVER_TIME],
        {name: module for name, module in used.items() if name in detectors.OVER_TIME},
        thresholds,
    )


def parse(chosen: Iterable[str], known: Iterable[str], report: Report) -> dict[str, float]:
    """The thresholds that the user set, as `Thresholds` takes them."""
    found: dict[str, float] = {}
    names = frozenset(known)
    for text in chosen:
        key, equals, value = text.rpartition("=")
        key = key.strip()
        name, at, operation = key.partition("@")
        name = name.strip()
        if not equals or not key or (at and not operation.strip()):
            report(f"{_shown(text)} is not name=number or name@operation=number; it is left out")
        elif name not in names:
            report(f"{_shown(name)} is no threshold{_nearest(name, names)}; it is left out")
        else:
            number = _number(value)
            if number is None:
                report(f"{_shown(value.strip())} is not a number of 0 or more for {name}; its default stays")
            else:
                found[f"{name}@{operation.strip()}" if at else name] = number
    return found


def _modules(report: Report) -> dict[str, Any]:
    """Our detectors by name. One that cannot be imported costs itself alone."""
    from importlib import import_module

    found: dict[str, Any] = {}
    for name in detectors.NAMES:
        try:
            found[name] = import_module(f"spanwell.insights.detectors.{name}")
        except Exception as error:
            report(f"the detector {name} cannot be used: {type(error).__name__}: {error}")
    return found


def _known(disabled: Iterable[str], modules: Mapping[str, Any], report: Report) -> frozenset[str]:
    off = frozenset(disabled)
    for name in sorted(off - modules.keys()):
        report(f"{_shown(name)} is no detector{_nearest(name, modules)}; nothing is switched off for it")
    return off


def _plugin(entry: Any, taken: Mapping[str, Any], report: Report) -> Any:
    """A user's detector in the shape of ours; None, reported, if it cannot be one."""
    name = str(entry.name)
    try:
        found = entry.load()
        detect = getattr(found, "detect", None) if not callable(found) or hasattr(found, "detect") else None
        if detect is not None:
            made = SimpleNamespace(
                NAME=name,
                DEFAULTS={str(key): float(value) for key, value in getattr(found, "DEFAULTS", {}).items()},
                may=getattr(found, "may", _always),
                detect=detect,
            )
        elif callable(found):
            made = SimpleNamespace(NAME=name, DEFAULTS={}, may=_always, detect=_with_fragment_alone(found))
        else:
            raise TypeError(f"it is a {type(found).__name__}, not a function or a module with detect(fragment, ...)")
    except Exception as error:
        report(f"the plug-in {_shown(name)} of {GROUP} cannot be used: {type(error).__name__}: {error}")
        return None
    if name in taken:
        report(f"the plug-in {_shown(name)} of {GROUP} has the name of another detector; it is left out")
        return None
    return made


def _with_fragment_alone(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda fragment, _thresholds: function(fragment)


def _always(_hints: object) -> bool:
    return True


def _number(raw: str) -> float | None:
    try:
        number = float(raw)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""
