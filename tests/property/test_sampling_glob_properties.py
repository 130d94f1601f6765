"""The matcher against the plainest one there is."""

from __future__ import annotations

from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from spanwell.sampling import glob

alphabet = st.sampled_from("aAbcéÉЖжİΣ\u03c3ς𐐀𐐨\n\ufdd0")
texts = st.text(alphabet, max_size=40)
patterns = st.text(st.one_of(alphabet, st.sampled_from("**??")), max_size=14)


def reference(pattern: str, text: str) -> bool:
    """Which prefixes of the text the pattern so far stands for, one table row a pattern character."""
    row = [True] + [False] * len(text)
    for wanted in pattern:
        if wanted == "*":
            first = row.index(True) if True in row else len(row)
            row = [index >= first for index in range(len(row))]
        else:
            same = [wanted == "?" or wanted.lower() == found.lower() for found in text]
            row = [False] + [before and fits for before, fits in zip(row, same, strict=False)]
    return row[-1]


@settings(deadline=None, max_examples=400)
@given(patterns, texts)
@example("*a?*", "ab")
@example("*?a*?b", "aab")
def test_it_agrees_with_the_reference(pattern: str, text: str) -> None:
    assert glob.matches(pattern, text) is reference(pattern, text)


@settings(deadline=None, max_examples=300)
@given(patterns, texts, st.integers(0, 3))
def test_it_agrees_when_all_places_are_looked_at_together(pattern: str, text: str, tries: int) -> None:
    with mock.patch.object(glob, "_TRIES", tries):
        assert glob.matches(pattern, text) is reference(pattern, text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="*?")), st.text(), st.text())
def test_a_text_matches_itself_with_stars_around(middle: str, before: str, after: str) -> None:
    assert glob.matches(middle, middle)
    assert glob.matches(f"*{middle}*", before + middle + after)
    assert glob.matches("?" * len(before) + "*", before + after)
