"""The options of a sampler in a configuration file, as OTEL_TRACES_SAMPLER_ARG has them."""

from __future__ import annotations

from typing import Any

import pytest

from spanwell.declarative import argument
from spanwell.sampling.arguments import nested, parse


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"slow_ms": 500, "errors": True}, "slow_ms=500,errors=true"),
        ({"head": {"ratio": 0.1}}, "head=(ratio;0.1)"),
        ({"head": {"always_off": None}}, "head=(always_off)"),
        (
            {"head": {"xray": {"endpoint": "aws", "fallback": {"ratio": 1}}}},
            "head=(xray;endpoint=aws;fallback=(ratio;1))",
        ),
        ({"attribute": ["user.tier:gold*", "a:b"]}, "attribute=user.tier:gold*,attribute=a:b"),
        ({"head": {}}, "head=()"),
    ],
)
def test_options_become_an_argument(options: dict[str, Any], text: str) -> None:
    assert argument(options) == text


def test_it_is_read_back() -> None:
    text = argument({"head": {"xray": {"endpoint": "aws", "fallback": {"ratio": 1}}}, "slow_ms": 5})
    found = parse("tail", text, {"head": nested, "slow_ms": float}, pytest.fail)
    assert found == {"head": ("xray", "endpoint=aws,fallback=(ratio;1)"), "slow_ms": 5.0}
