from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from spanwell._versions import NotPlain, satisfies

numbers = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
two = st.lists(st.integers(0, 12), min_size=2, max_size=4).map(lambda parts: ".".join(map(str, parts)))
spaces = st.sampled_from(["", " "])
operators = st.sampled_from(["==", "!=", "<=", ">=", "<", ">"])
clauses = st.one_of(
    st.builds(
        lambda op, gap, version: op + gap + version,
        st.sampled_from(["==", "!=", "<=", ">=", "<", ">"]),
        spaces,
        numbers,
    ),
    st.builds(lambda version: "~=" + version, two),
)
specs = st.builds(lambda gap, found: gap + ",".join(found), spaces, st.lists(clauses, max_size=3))


@given(specs, numbers)
def test_plain_requirements_mean_what_packaging_says(spec: str, installed: str) -> None:
    requirement = f"shop-kit{spec}"
    assert satisfies(requirement, lambda _: installed) == Requirement(requirement).specifier.contains(installed)


@pytest.mark.parametrize(
    "requirement",
    [
        "a[extra] >= 1",
        "a >= 1; python_version > '3'",
        "a == 1.*",
        "a >= 1.0rc1",
        "a === 1",
        "a ~= 1",
        "a >= 1,",
        "a @ https://example.org/a.zip",
        "a (>= 1)",
        "a >= v1",
        "a >= 1!1",
        "a >= 1.0+local",
        "",
        ">= 1",
        "ä >= 1",
        "a >= " + "9" * 5000,
    ],
)
def test_what_is_not_plain_is_left_to_packaging(requirement: str) -> None:
    with pytest.raises(NotPlain):
        satisfies(requirement, lambda _: "1.0")


@pytest.mark.parametrize("installed", ["1.0rc1", "1.0.dev1", "2.0+cpu", "1.0.post1", "", "1..2", "x", "9" * 5000])
def test_so_is_an_installed_version_that_is_not_plain(installed: str) -> None:
    with pytest.raises(NotPlain):
        satisfies("a >= 1", lambda _: installed)


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(LookupError):
        satisfies("a >= 1", {}.__getitem__)


@given(st.text())
def test_any_text_is_understood_or_not_plain(text: str) -> None:
    try:
        satisfies(text, lambda _: "1.0")
    except NotPlain:
        pass
