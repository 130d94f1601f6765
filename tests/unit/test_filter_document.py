"""The examples of docs/filters.md hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spanwell.explore.filters import FilterError, matches, parse
from spanwell.explore.filters.keywords import KEYWORDS
from support.shop_trace import shop

TEXT = (Path(__file__).parents[2] / "docs/filters.md").read_text()
EXAMPLES = [line for block in re.findall(r"```filter\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_about_the_trace_of_the_tests(example: str) -> None:
    wrong = example in ("!ok",)
    assert matches(shop(), parse(example)) is not wrong


def test_the_commands_parse() -> None:
    commands = re.findall(r"^\$ spanwell .*--filter (?:'([^']*)'|(\w+))", TEXT, re.MULTILINE)
    assert len(commands) == 3
    for quoted, word in commands:
        parse(quoted or word)


def test_the_error_that_is_shown() -> None:
    (shown,) = re.findall(r"```text\nspanwell: --filter: (.*?)\n```", TEXT, re.DOTALL)
    with pytest.raises(FilterError) as caught:
        parse("ok AND responstime > 5")
    assert str(caught.value) == shown


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_keyword_is_described(keyword: str) -> None:
    assert f"`{keyword}`" in TEXT
