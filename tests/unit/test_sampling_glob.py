"""The globs of sampling rules."""

from __future__ import annotations

import sys

import pytest

from spanwell.sampling.glob import Glob, fold, matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("**", "a\nb", True),
        ("?", "", False),
        ("?", "\n", True),
        ("??", "a", False),
        ("/API/*", "/api/orders", True),
        ("/api/*", "/api", False),
        ("*.example.com", "shop.EXAMPLE.com", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "abab", True),
        ("*a?b*", "a-a-b", True),
        ("*a?b*c", "a-bc", True),
        ("*a?b*c", "a-b", False),
        ("*??*", "a", False),
        ("*??*", "ab", True),
        ("a?*?d", "abd", False),
        ("a?*?d", "abcd", True),
        ("[a]", "a", False),
        ("a.c", "abc", False),
        ("a+(b|c)$^\\", "A+(B|C)$^\\", True),
    ],
)
def test_a_pattern_stands_for_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize("text", ["/x/health", "/healthz", "prefix/health/suffix"])
def test_defect_14_no_glob_matches_within_a_text(text: str) -> None:
    assert not matches("/health", text)


def test_a_question_mark_is_one_character_even_when_its_lower_case_is_two() -> None:
    assert matches("?", "İ")
    assert matches("x?y*?z", "Xİyaİz")
    assert matches("*İ*", "aİb")
    assert not matches("??", "İ")
    assert not matches("i", "İ")


def test_case_does_not_depend_on_the_characters_around() -> None:
    assert matches("ΟΔΟΣ*", "οδοσ/1")
    assert matches("*\u03c3", "ΟΔΟΣ")


def test_folding_is_lower_case_for_each_character() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    expected = [each if each == "İ" else each.lower() for each in every]
    assert {len(each) for each in expected} == {1}
    assert fold("".join(every)) == "".join(expected)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*a*a*a*a*b", "a" * 10_000),
        ("*" + "a*" * 63 + "b", "a" * 10_000),
        ("*" + "a?" * 62 + "b*", "a" * 10_000),
        ("*" + "a?*" * 42 + "b", "a" * 10_000),
        ("*a?b*a?b*a?c*", "ab" * 5_000),
        ("*я?я*z?*", "я" * 10_000),
    ],
)
def test_defect_10_no_text_is_dear(pattern: str, text: str) -> None:
    # With a matcher that backtracks, this test does not come to an end.
    assert not matches(pattern, text)
    assert matches(pattern.replace("b", "").replace("z", "").replace("c", ""), text + "a" * 300)


@pytest.mark.parametrize("between", ["", "é", "я", "𐐨"])
def test_a_gap_is_found_far_behind_many_near_misses(between: str) -> None:
    text = ("ab" + between) * 300 + "a-c" + "ab" * 300
    assert matches("*a?c*b", text)
    assert matches("*?ab*a?c*?a?*", text)
    assert not matches("*a?c*a?c*", text)


def test_more_characters_than_a_byte_tells_apart() -> None:
    letters = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 600))
    assert matches("*" + letters[:300] + "?" + letters[301:] + "*", letters[:299] * 30 + letters)
    assert not matches("*" + letters[:300] + "?" + letters[302:] + "*", letters[:299] * 30 + letters)


def test_what_a_glob_tells_of_itself() -> None:
    assert Glob("/Api").exact == "/api"
    assert Glob("/Api/*").prefix == "/api/"
    assert Glob("**").everything
    assert (Glob("a?").exact, Glob("a?*").prefix, Glob("?*").everything) == (None, None, False)
    assert Glob("*a?bcd*e").plain == "bcd"
