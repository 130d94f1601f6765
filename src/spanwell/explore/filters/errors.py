"""What is wrong with a filter expression, and where."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from spanwell.explore.model import ExploreError
from spanwell.explore.text import cells, clean

if TYPE_CHECKING:
    from collections.abc import Iterable

_AROUND = 60
"""Characters shown on each side of the place."""


class FilterError(ExploreError):
    """An expression that cannot be read: what was expected, and at which character (from 0) of it.

    As text it is three lines: the message, the expression, and a caret under the character.
    """

    def __init__(self, message: str, position: int, text: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.text = text

    def __str__(self) -> str:
        first = max(0, self.position - _AROUND)
        before = ("…" if first else "") + clean(self.text[first : self.position])
        rest = self.text[self.position : self.position + _AROUND]
        after = clean(rest) + ("…" if self.position + _AROUND < len(self.text) else "")
        return f"{self.message}\n  {before}{after}\n  {' ' * cells(before)}^"


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the name that is most like `word`, or nothing."""
    found = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
