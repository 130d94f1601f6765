"""No text and no tree makes the adaptive configuration raise, and what it gives can be used."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.sampling.adaptive_config import Config, read

_leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["both", "neither", "^5\\d\\d$", "(", "1.0", "sampling-boost", "GET /"]),
)
_any = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
_condition = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("errorCodeRegex", "operations", "highLatencyMs", "usage", "operation", "x"), _any)
)
_tree = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1.0) | _any,
        "anomalyConditions": st.lists(_condition | _any, max_size=4) | _any,
        "anomalyCaptureLimit": st.fixed_dictionaries({}, optional={"anomalyTracesPerSecond": _any}) | _any,
        "more": _any,
    },
)


def _check(text: str) -> Config | None:
    said: list[str] = []
    config = read(text, said.append)
    for line in said:
        assert line.startswith("AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG: ")
        assert "\n" not in line
        assert len(line) < 2000
    if config is None:
        assert said or not text.strip()
        return None
    assert config.traces_per_second >= 0
    for condition in config.conditions:
        assert condition.holds("500", 10**18) in (True, False)
    return config


@given(_tree)
def test_any_json(tree: dict[str, Any]) -> None:
    _check(json.dumps(tree))


@given(_tree)
@settings(max_examples=50)
def test_any_yaml(tree: dict[str, Any]) -> None:
    import yaml

    _check(yaml.safe_dump(tree))


@given(st.text() | st.text(alphabet="{}[]:,-&*!|>%@`'\"# \nab1.\\"))
def test_any_text(text: str) -> None:
    _check(text)


@given(
    st.lists(
        st.fixed_dictionaries({"highLatencyMs": st.integers(0, 10**6), "usage": st.sampled_from(["both", "neither"])})
    )
)
def test_good_conditions_all_stay(given_conditions: list[dict[str, Any]]) -> None:
    config = _check(json.dumps({"version": 1.0, "anomalyConditions": [*given_conditions, 5]}))
    assert config is not None
    assert [each.slow_ns for each in config.conditions] == [each["highLatencyMs"] * 1e6 for each in given_conditions]
