"""Any attribute tree survives as JSON, as itself or in its documented form."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.values import MAX_DEPTH, MAX_TEXT, dumps, loads, plain

sound_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = sound_text.filter(lambda key: key != "$cut")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | sound_text | st.binary(max_size=40)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(sound_text, trees, max_size=6))
def test_a_sound_tree_comes_back_as_it_was(attributes: dict[str, Any]) -> None:
    assert loads(dumps(attributes)) == attributes


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


odd_scalars = st.one_of(
    scalars,
    st.floats(),
    st.text(),
    st.builds(Odd),
    st.builds(object),
    st.complex_numbers(),
    st.integers(min_value=10**5000, max_value=10**5001),
    st.integers(70_000, 80_000).map(lambda size: "x" * size),
    st.integers(70_000, 80_000).map(bytes),
    st.sets(st.integers(), max_size=3),
)
odd_trees = st.recursive(
    odd_scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.integers())), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.one_of(st.text(), st.integers(), st.none()), odd_trees, max_size=4))
def test_any_tree_becomes_bounded_sound_json(attributes: dict[Any, Any]) -> None:
    encoded = dumps(attributes)
    encoded.encode("utf-8")
    json.loads(encoded, parse_constant=no_json)
    decoded = loads(encoded)
    # Its form is stable: writing what was read changes nothing any more, but for texts that were cut and bytes.
    assert len(decoded) <= len(attributes)
    assert loads(dumps(decoded)).keys() == decoded.keys()


def no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_each_documented_form() -> None:
    def form(value: object) -> object:
        return plain({"k": value})["k"]

    assert form(b"\x00\xff") == {"$bytes": "AP8="}
    assert form(math.nan) == {"$float": "nan"}
    assert form(-math.inf) == {"$float": "-inf"}
    assert math.isnan(loads(dumps({"k": math.nan}))["k"])
    assert form((1, (2, None))) == [1, [2, None]]
    assert form({1: "a", "$bytes": 2}) == {"1": "a", "$$bytes": 2}
    assert loads(dumps({"k": {"$bytes": 2}})) == {"k": {"$bytes": 2}}
    assert form("x" * (MAX_TEXT + 3)) == "x" * MAX_TEXT + "…[+3 characters]"
    cut = form(bytes(MAX_TEXT + 3))
    assert isinstance(cut, dict)
    assert cut["length"] == MAX_TEXT + 3
    assert form(10**5000) == hex(10**5000)
    assert form(Odd()) == "<Odd>"
    assert loads(dumps({"a\ud800b": "c\udfff"})) == {"a?b": "c?"}
    assert dumps({"k": 1.5, "n": None, "b": True, "i": 7}) == '{"k":1.5,"n":null,"b":true,"i":7}'


def test_depth_circles_and_size_are_bounded() -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    assert len(dumps({"circle": circle})) < 3_000_000
    deep: Any = "bottom"
    for _ in range(100):
        deep = [deep]
    shown = plain({"deep": deep})["deep"]
    for _ in range(MAX_DEPTH):
        (shown,) = shown
    assert shown == {"$cut": "list"}
    wide = {f"k{number}": "x" * MAX_TEXT for number in range(1000)}
    encoded = dumps(wide)
    assert len(encoded) < 1_200_000
    assert loads(encoded)["k999"] == {"$cut": "str"}
    assert len(dumps({"numbers": list(range(10**6))})) < 2_000_000
