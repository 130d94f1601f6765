from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwell.settings import Settings, display

VARIABLES = [row.variable for row in Settings.rows()]


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text() | st.sampled_from(["nan", "inf", "9" * 5000, "-1"])))
def test_no_environment_makes_it_raise_and_every_problem_tells_all(environ: dict[str, str]) -> None:
    settings = Settings.from_env(environ)
    bad = [row for row in Settings.rows() if environ.get(row.variable, "").strip() and not settings.chosen(row)]
    assert len(settings.problems) == len(bad)
    for row, problem in zip(bad, settings.problems, strict=True):
        assert problem.startswith(f"{row.variable}=")
        assert (
            ascii(environ[row.variable].strip()[:5])[1:-1] in ascii(problem)
            or repr(environ[row.variable].strip())[:5] in problem
        )
        assert problem.endswith(f"using {display(row)}")
        assert "\n" not in problem
        assert settings.value(row) == row.default


@given(st.dictionaries(st.text(), st.text()))
def test_other_variables_do_not_matter(environ: dict[str, str]) -> None:
    kept = {name: value for name, value in environ.items() if name not in VARIABLES}
    assert Settings.from_env(kept).problems == ()
    assert all(not Settings.from_env(kept).chosen(row) for row in Settings.rows())


def test_settings_are_frozen() -> None:
    settings = Settings.from_env({})
    with pytest.raises(AttributeError, match="frozen"):
        settings.shutdown_timeout = 3.0  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        settings.problems = ()
    with pytest.raises(AttributeError):
        settings.anything = 1  # type: ignore[attr-defined]


def test_the_environment_wins_then_the_layers_in_order() -> None:
    row = Settings.shutdown_timeout
    layers = (("first", {row.variable: "2"}), ("second", {row.variable: "3"}))
    settings = Settings.from_env({row.variable: "1"}, layers=layers)
    assert (settings.shutdown_timeout, settings.source(row)) == (1.0, "environment")
    settings = Settings.from_env({row.variable: " "}, layers=layers)
    assert (settings.shutdown_timeout, settings.source(row)) == (2.0, "first")
    settings = Settings.from_env({}, layers=(("empty", {}), *layers[1:]))
    assert (settings.shutdown_timeout, settings.source(row)) == (3.0, "second")
    assert Settings.from_env({}).source(row) == "default"


def test_a_bad_value_hides_the_layers_below_it() -> None:
    row = Settings.shutdown_timeout
    settings = Settings.from_env({row.variable: "x"}, layers=(("file", {row.variable: "3"}),))
    assert (settings.shutdown_timeout, settings.source(row)) == (row.default, "default")
    assert len(settings.problems) == 1


def test_every_variable_stands_once_and_says_something() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES)
    for row in Settings.rows():
        assert row.variable.startswith(("OTEL_", "SPANWELL_", "AWS_"))
        assert row.text.endswith(".")
        assert row.parse.__doc__
        assert display(row)


def test_a_long_value_is_cut_in_the_report() -> None:
    [problem] = Settings.from_env({"SPANWELL_SQLITE_MAX_MB": "x" * 1000}).problems
    assert len(problem) < 250


def test_with_problem() -> None:
    settings = Settings.from_env({"SPANWELL_SQLITE_MAX_MB": "7"}).with_problem("one more")
    assert settings.problems == ("one more",)
    assert settings.sqlite_max_mb == 7
