"""Globs in linear time: `*` is any run of characters, `?` any single one, everything else itself in any case.

Text comes from requests, so no text may be dear. Between two stars the leftmost place of a segment is as good as any
later one, so nothing is ever tried again. Segments of plain characters are found by `str.find`. A segment with `?` is
tried at a few places where its longest plain part stands; if none fits, all places are looked at together, as bits of
one large int.

Case: two characters are the same if their `str.lower()` is. Every character counts as one, even `İ`, whose lower case
is two, so that `?` stands for it.
"""

from __future__ import annotations

from itertools import repeat
from re import finditer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_TRIES = 20
"""Places that are tried one by one in one text: those of the usual length are decided by then."""

_NO_CHARACTER = "\ufdd0"  # Unicode keeps it for uses like this one

_SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # in no folded text


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` stands for the whole of `text`."""
    return Glob(pattern).matches(text)


def fold(text: str) -> str:
    """`text` in lower case, character by character, as long as before."""
    if text.isascii():
        return text.lower()
    # str.lower() makes two characters of İ, and what it makes of Σ depends on the characters around it.
    text = text.replace("Σ", "Σ".lower())
    if "İ" not in text:
        return text.lower()
    if _NO_CHARACTER not in text:
        return text.replace("İ", _NO_CHARACTER).lower().replace(_NO_CHARACTER, "İ")
    return "İ".join(map(str.lower, text.split("İ")))


class Glob:
    """A pattern, prepared for many texts.

    `exact` is the folded text that a pattern without wildcards stands for, `prefix` that of one whose only wildcard
    is a last `*`; else they are None. `everything`: the pattern is made of stars. `plain`: a folded text that every
    matching text contains.
    """

    __slots__ = ("_first", "_last", "_middle", "_shortest", "_starred", "everything", "exact", "plain", "prefix")

    def __init__(self, pattern: str) -> None:
        first, *rest = fold(pattern).split("*")
        self._starred = bool(rest)
        self._first = _Segment(first)
        self._last = _Segment(rest.pop() if rest else "")
        self._middle = tuple(_Segment(each) for each in rest if each)
        everything = (self._first, *self._middle, self._last)
        self._shortest = sum(each.length for each in everything)
        self.everything = self._starred and not self._shortest
        self.plain = max((each.anchor for each in everything), key=len)
        self.exact = first if not self._starred and self._first.whole else None
        only_first = self._starred and self._shortest == self._first.length
        self.prefix = first if only_first and self._first.whole else None

    def matches(self, text: str) -> bool:
        """Whether the pattern stands for the whole of `text`."""
        return self.matches_folded(fold(text))

    def matches_folded(self, text: str) -> bool:
        """The same for a text that went through `fold`."""
        if not self._starred:
            return len(text) == self._shortest and self._first.stands(text, 0)
        if len(text) < self._shortest:
            return False
        at, end = self._first.length, len(text) - self._last.length
        if not self._first.stands(text, 0) or not self._last.stands(text, end):
            return False
        places: _Places | None = None
        for segment in self._middle:
            if segment.whole:
                at = text.find(segment.anchor, at, end)
            else:
                places = places or _Places(text, at, end, self._middle)
                at = segment.find(text, at, end, places)
            if at < 0:
                return False
            at += segment.length
        return at <= end


class _Segment:
    """What stands between two stars: plain parts at fixed distances, `?` in the gaps. `whole`: there is no gap."""

    __slots__ = ("anchor", "anchor_offset", "length", "parts", "whole")

    def __init__(self, text: str) -> None:
        self.length = len(text)
        self.parts = tuple((found.start(), found.group()) for found in finditer(r"[^?]+", text))
        self.anchor_offset, self.anchor = max(self.parts, key=lambda part: len(part[1]), default=(0, ""))
        self.whole = "?" not in text

    def stands(self, text: str, at: int) -> bool:
        """Whether the segment stands at `at` of `text`, which has room for it."""
        for offset, part in self.parts:  # noqa: SIM110 - all() of a generator takes twice as long
            if not text.startswith(part, at + offset):
                return False
        return True

    def find(self, text: str, at: int, end: int, places: _Places) -> int:
        """The leftmost place from `at` on that leaves the segment before `end`; -1 for none."""
        if not self.parts:
            return at if at + self.length <= end else -1
        offset = self.anchor_offset
        last = end - self.length + offset + len(self.anchor)
        while places.tries:
            places.tries -= 1
            found = text.find(self.anchor, at + offset, last)
            if found < 0:
                return -1
            at = found - offset
            if self.stands(text, at):
                return at
            at += 1
        return places.find(self.parts, at, end - self.length)


class _Places:
    """Where each character stands in a text: one int a character, whose bit i says that it stands at `start` + i.

    `tries`: how many places may still be looked at one by one.
    """

    __slots__ = ("_end", "_masks", "_segments", "_start", "_text", "tries")

    def __init__(self, text: str, start: int, end: int, segments: Iterable[_Segment]) -> None:
        self._text, self._start, self._end = text, start, end
        self._segments = segments
        self.tries = _TRIES
        self._masks: dict[str, int] | None = None

    def find(self, parts: Iterable[tuple[int, str]], at: int, last: int) -> int:
        """The leftmost place in `at`..`last` at which all parts stand; -1 for none."""
        if at > last:
            return -1
        if self._masks is None:
            gapped = [each.parts for each in self._segments if not each.whole]
            wanted = {character for some in gapped for _, part in some for character in part}
            self._masks = _masks(self._text[self._start : self._end], sorted(wanted))
        masks = self._masks
        first = at - self._start
        fits = (1 << (last - at + 1)) - 1
        for offset, part in parts:
            for distance, character in enumerate(part, first + offset):
                fits &= masks[character] >> distance
            if not fits:
                return -1
        return at + (fits & -fits).bit_length() - 1


# Digits that make int() read one bit of every byte: bytes.translate and int() of a binary text run at C speed.
_BIT = [bytes(49 if byte >> bit & 1 else 48 for byte in range(256)) for bit in range(8)]


def _masks(text: str, wanted: list[str]) -> dict[str, int]:
    """Where each wanted character stands in `text`; bit 0 is its start. The text is not empty."""
    masks: dict[str, int] = {}
    everywhere = (1 << len(text)) - 1
    for group in (wanted[start : start + 255] for start in range(0, len(wanted), 255)):
        codes = {character: code for code, character in enumerate(group, 1)}
        coded = _coded(text, codes)[::-1]
        bits = [int(coded.translate(table), 2) for table in _BIT[: len(group).bit_length()]]
        for character, code in codes.items():
            mask = everywhere
            for number, places in enumerate(bits):
                mask &= places if code >> number & 1 else places ^ everywhere
            masks[character] = mask
    return masks


def _coded(text: str, codes: dict[str, int]) -> bytes:
    """One byte a character: its code, or 0 for all others."""
    wide = [character for character in codes if character > "\xff"]
    if len(wide) > len(_SPARE):
        return bytes(map(codes.get, text, repeat(0)))
    spare = dict(zip(wide, _SPARE, strict=False))
    table = bytearray(256)
    for character, code in codes.items():
        table[ord(spare.get(character, character))] = code
    for character, letter in spare.items():
        text = text.replace(character, letter)
    # The other wide ones become `?`, which nobody looks for.
    return text.encode("latin-1", "replace").translate(table)
