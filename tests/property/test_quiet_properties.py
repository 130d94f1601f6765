"""Telling from any attributes whether a span is quiet, or who sent it, neither raises nor takes long."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags

from spanwell.enrich import quiet, traffic

NAMES = st.sampled_from(
    (
        *("url.path", "url.full", "http.url", "http.target", "http.method"),
        *("user_agent.original", "http.user_agent", "user_agent.synthetic.type"),
        *("rpc.method", "rpc.service"),
    )
)
TEXTS = st.text() | st.sampled_from(
    ("/health", "http://169.254.169.254/", "ReceiveMessage", "AssumeRole", "STS", "SQS")
)
VALUES = (
    TEXTS | st.integers() | st.booleans() | st.none() | st.binary() | st.lists(st.text(), max_size=2) | st.floats()
)
ATTRIBUTES = st.none() | st.dictionaries(NAMES, VALUES)
PARENTS = st.sampled_from(
    (None, INVALID_SPAN_CONTEXT, SpanContext(1, 2, True, TraceFlags(1)), SpanContext(1, 2, True))
)
RULES = quiet.Rules(quiet.DEFAULT, ["/a*b*c*d"], ["Pinger"], ["vault.test"])


@given(st.sampled_from(list(SpanKind)), ATTRIBUTES)
def test_any_attributes_have_a_label_or_none(kind: SpanKind, attributes: dict[str, Any] | None) -> None:
    assert RULES.label(kind, attributes) in ("", *quiet.DEFAULT)


@given(ATTRIBUTES, PARENTS)
def test_any_attributes_have_a_sender_or_none(attributes: dict[str, Any] | None, parent: Any) -> None:
    found = traffic.describe(attributes, parent)
    assert found is None or found["spanwell.traffic"] in ("canary", "rum", "user")


@given(st.lists(st.text(max_size=20)))
def test_any_setting_is_read_or_said(words: list[str]) -> None:
    said: list[str] = []
    quiet.parse(words, said.append)
    assert len(said) <= len(words)


def test_a_hostile_path_costs_no_time_worth_telling() -> None:
    for path in ("/a" * 100_000, "/health" + "." * 100_000, "/a" + "b" * 200 + "c" * 200):
        assert RULES.label(SpanKind.SERVER, {"url.path": path}) == ""
