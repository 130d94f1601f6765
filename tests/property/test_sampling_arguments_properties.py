"""The argument grammar: it never raises, and what is nested comes out as it went in."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from spanwell.sampling import arguments
from spanwell.sampling.arguments import Nested, nested, number, parse, whole
from spanwell.sampling.budget import from_argument
from spanwell.sampling.build import Making

KNOWN = {
    "rate": number(0, 1),
    "count": whole(1, 1000),
    "on": arguments.boolean,
    "head": nested,
    "text": str,
    "many": lambda raw: [raw],
}
near = st.lists(
    st.one_of(
        st.sampled_from(
            [*KNOWN, "=", ",", ";", "(", ")", "xray", "1", "0.5", "true", " ", "nan", "inf", "-1", "1e999"]
        ),
        st.text(max_size=4),
    ),
    max_size=20,
).map("".join)
words = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=8)
plain = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="=,;()"), min_size=1, max_size=8
)


@st.composite
def samplers(draw: st.DrawFn, depth: int = 3) -> tuple[str, dict[str, object]]:
    """A sampler's name and its arguments, some of them samplers."""
    values: dict[str, object] = {}
    for key in draw(st.lists(words, max_size=3, unique=True)):
        values[key] = draw(samplers(depth - 1)) if depth and draw(st.booleans()) else draw(plain)
    return draw(words), values


def written(sampler: tuple[str, dict[str, object]]) -> str:
    """As `(name;key=value;…)`."""
    name, values = sampler
    return f"({';'.join([name, *(f'{key}={text(value)}' for key, value in values.items())])})"


def text(value: object) -> str:
    return written(value) if isinstance(value, tuple) else str(value)


def check(found: Nested, sampler: tuple[str, dict[str, object]]) -> None:
    name, values = sampler
    said: list[str] = []
    converters = {key: nested if isinstance(value, tuple) else str for key, value in values.items()}
    read = parse(name, found.argument, converters, said.append)
    assert found.name == name
    assert not said
    assert list(read) == list(values)
    for key, value in values.items():
        if isinstance(value, tuple):
            check(read[key], value)
        else:
            assert read[key] == value


@given(samplers())
def test_what_is_nested_comes_out_as_it_went_in(sampler: tuple[str, dict[str, object]]) -> None:
    check(nested(written(sampler)), sampler)


@given(st.one_of(st.text(), near))
@example("head=(xray;endpoint=http://127.0.0.1:2000),rate=0.5")
@example("count=" + "9" * 5000)
@example("count=" + "0" * 5000 + "1")
@example("((((")
@example("))),(((")
def test_nothing_raises_and_every_complaint_is_one_line(argument: str) -> None:
    said: list[str] = []
    values = parse("test", argument, KNOWN, said.append)
    assert set(values) <= set(KNOWN)
    assert 0 <= values.get("rate", 0) <= 1
    assert 1 <= values.get("count", 1) <= 1000
    assert isinstance(values.get("head", Nested("x")), Nested)
    assert all(line.startswith("sampler test: ") and "\n" not in line for line in said)
    assert all(len(line) < 500 for line in said)


@given(st.lists(plain, min_size=1, max_size=5))
def test_lists_add_up(values: list[str]) -> None:
    assert parse("test", ",".join(f"many={value}" for value in values), KNOWN, fail)["many"] == values


def fail(line: str) -> None:
    raise AssertionError(line)


@given(st.floats())
def test_numbers(value: float) -> None:
    said: list[str] = []
    found = parse("test", f"rate={value!r}", KNOWN, said.append)
    if math.isfinite(value) and 0 <= value <= 1:
        assert (found, said) == ({"rate": value}, [])
    else:
        assert found == {}
        assert f"rate={value!r}"[5:] in said[0]


@given(near)
def test_a_budget_is_always_made(argument: str) -> None:
    sampler = from_argument(argument, Making(lambda _line: None))
    assert sampler.get_description().startswith("budget{")
