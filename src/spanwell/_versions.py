"""Does an installed version satisfy a requirement? For the plain requirements that instrumentors state.

packaging does all of this; importing it costs 12 ms of CPU in every start, a sixth of what instrumentation adds
(RATIONALE.md, "Version checks without packaging"). What is not plain is left to it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATORS = ("~=", "==", "!=", "<=", ">=", "<", ">")


class NotPlain(Exception):
    """The requirement or version has a form that only packaging understands."""


def satisfies(requirement: str, version_of: Callable[[str], str]) -> bool:
    """Whether ``name >= 1.0, < 3`` holds for the version that `version_of(name)` gives.

    Raises NotPlain for markers, extras, wildcards, pre-releases and other finer points, and whatever `version_of`
    raises for a package that is not installed.
    """
    name, clauses = _parse(requirement)
    installed = _release(version_of(name))
    return all(_holds(operator, installed, wanted) for operator, wanted in clauses)


def _parse(requirement: str) -> tuple[str, list[tuple[str, tuple[int, ...]]]]:
    text = requirement.strip()
    end = next((index for index, char in enumerate(text) if not (char.isalnum() or char in "-_.")), len(text))
    name, rest = text[:end], text[end:].strip()
    if not name or not text.isascii():
        raise NotPlain(requirement)
    clauses = []
    for part in rest.split(",") if rest else ():
        clause = part.strip()
        operator = next((each for each in _OPERATORS if clause.startswith(each)), "")
        if not operator:
            raise NotPlain(requirement)
        wanted = _release(clause[len(operator) :].strip())
        if operator == "~=" and len(wanted) < 2:
            raise NotPlain(requirement)
        clauses.append((operator, wanted))
    return name, clauses


def _release(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    if len(version) > 100 or not all(part.isascii() and part.isdigit() for part in parts):
        raise NotPlain(version)
    return tuple(int(part) for part in parts)


def _holds(operator: str, installed: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    size = max(len(installed), len(wanted))
    left = installed + (0,) * (size - len(installed))
    right = wanted + (0,) * (size - len(wanted))
    if operator == "~=":
        prefix = len(wanted) - 1
        return left >= right and left[:prefix] == wanted[:prefix]
    return {
        "==": left == right,
        "!=": left != right,
        "<=": left <= right,
        ">=": left >= right,
        "<": left < right,
        ">": left > right,
    }[operator]
