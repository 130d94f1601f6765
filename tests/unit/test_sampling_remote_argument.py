"""What OTEL_TRACES_SAMPLER_ARG makes of `xray`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision

from spanwell.sampling.build import Making, make
from spanwell.sampling.local import RulesSampler
from spanwell.sampling.outcome import REASON, RULE
from spanwell.sampling.ratio import RatioSampler
from spanwell.sampling.remote import XRaySampler
from spanwell.testing import FakeClock

KEPT = (1 << 127) | (1 << 56) - 1


def made(argument: str, adaptive: str = "") -> tuple[XRaySampler, list[str]]:
    said: list[str] = []
    sampler = make("xray", argument, Making(said.append, adaptive=adaptive, clock=FakeClock()))
    assert isinstance(sampler, XRaySampler)
    sampler.poller.idle = False
    return sampler, said


def reasons(sampler: XRaySampler, number: int = 1) -> list[object]:
    return [(sampler.should_sample(Context(), KEPT, "x").attributes or {}).get(REASON) for _ in range(number)]


def test_nothing_given() -> None:
    before = threading.active_count()
    sampler, said = made("")
    assert said == []
    assert sampler.get_description() == "xray{http://127.0.0.1:2000}"
    assert threading.active_count() == before
    assert reasons(sampler) == ["fallback"]


def test_everything_given(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('[{"RuleName": "mine", "URLPath": "/mine", "FixedRate": 1, "ReservoirSize": 0}]')
    sampler, said = made(
        f"endpoint=aws,region=eu-west-1,polling_interval=60,rules_file={rules},fallback=(ratio;0)", "version: 1.0"
    )
    assert said == []
    assert sampler.get_description() == "xray{aws}"
    mine = sampler.should_sample(Context(), KEPT, "x", None, {"url.path": "/mine"})
    assert ((mine.attributes or {})[RULE], (mine.attributes or {})[REASON]) == ("mine", "rate")
    assert sampler.should_sample(Context(), KEPT, "x", None, {"url.path": "/"}).decision is Decision.DROP
    (file,) = sampler.nested()
    assert isinstance(file, RulesSampler)
    assert isinstance(file.nested()[0], RatioSampler)


@pytest.mark.parametrize("fallback", ["always_on", "(ratio;1)", "ratio", "(xray_local;rules_file=/no/such/file)"])
def test_whatever_the_fallback_its_roots_have_a_reason(fallback: str) -> None:
    sampler, _ = made(f"fallback={fallback}")
    assert None not in reasons(sampler)


@pytest.mark.parametrize(
    ("argument", "field", "remedy"),
    [
        ("polling_interval=5", "polling_interval=5", "using 10"),
        ("polling_interval=0", "polling_interval=0", "using 10"),
        ("polling_interval=86400", "polling_interval=86400", "using 1800"),
        ("polling_interval=soon", "polling_interval='soon'", "a number of seconds"),
        ("polling_interval=-1", "polling_interval='-1'", "a number of seconds"),
        ("endpoint=ftp://x", "endpoint='ftp://x'", "http://127.0.0.1:2000"),
        ("fallback=nobody", "nobody", "using"),
        ("fallback=(ratio;7)", "ratio", "using"),
        ("enpoint=aws", "enpoint", "endpoint="),
        ("aws", "aws", "endpoint"),
    ],
)
def test_what_cannot_be_used_is_said_and_the_rest_applies(argument: str, field: str, remedy: str) -> None:
    sampler, said = made(f"{argument},region=x")
    assert len(said) == 1, said
    assert field in said[0]
    assert remedy in said[0]
    assert "\n" not in said[0]
    assert reasons(sampler) == ["fallback"]


def test_a_rules_file_that_is_not_there_is_said() -> None:
    sampler, said = made("rules_file=/no/such/file,region=x")
    assert said
    assert "/no/such/file" in said[0]
    assert reasons(sampler) == ["fallback"]


def test_a_bad_adaptive_configuration_is_said_and_sampling_goes_on() -> None:
    sampler, said = made("", "version: [")
    assert len(said) == 1
    assert "AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG" in said[0]
    assert reasons(sampler) == ["fallback"]
