"""Canaries, browsers that trace, users; request ids of CloudFront and API Gateway."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags

from spanwell.enrich.traffic import Traffic, describe
from support.spans import make_span

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
CANARY = f"{BROWSER} CloudWatchSynthetics/arn:aws:synthetics:eu-west-1:123456789012:canary:shop"
NONE, SAMPLED, UNSAMPLED = INVALID_SPAN_CONTEXT, SpanContext(1, 2, True, TraceFlags(1)), SpanContext(1, 2, True)


@pytest.mark.parametrize(
    ("agent", "parent", "traffic"),
    [
        (CANARY, NONE, "canary"),
        (CANARY, SAMPLED, "canary"),
        (BROWSER, NONE, "user"),
        (BROWSER, None, "user"),
        ("curl/8.9", NONE, "user"),
        (None, NONE, "user"),
        (BROWSER, SAMPLED, "rum"),
        (BROWSER, UNSAMPLED, None),
        ("python-requests/2.32", SAMPLED, None),
        (b"Mozilla/5.0", SAMPLED, None),
    ],
)
@pytest.mark.parametrize("name", ["user_agent.original", "http.user_agent"])
def test_the_sender_is_told_by_user_agent_and_parent(agent: Any, parent: Any, traffic: str | None, name: str) -> None:
    found = describe({"url.path": "/"} if agent is None else {name: agent}, parent)
    assert (found or {}).get("spanwell.traffic") == traffic
    assert (found or {}).get("user_agent.synthetic.type") == ("test" if traffic == "canary" else None)


def test_what_the_instrumentor_knows_for_a_bot_is_no_user() -> None:
    assert describe({"user_agent.original": "Googlebot/2.1", "user_agent.synthetic.type": "bot"}, NONE) is None
    assert describe({}, NONE) is None
    assert describe(None, NONE) is None


def test_many_agents_are_not_all_remembered() -> None:
    from spanwell.enrich import traffic

    for number in range(2000):
        describe({"user_agent.original": f"agent/{number}"}, NONE)
    assert len(traffic._agents) <= traffic._MOST_AGENTS


def test_the_stage_writes_where_no_sampler_of_ours_was_asked() -> None:
    span = make_span(kind=SpanKind.SERVER, attributes={"user_agent.original": CANARY})
    Traffic(headers=False).on_end(span)
    assert span.attributes is not None
    assert span.attributes["spanwell.traffic"] == "canary"
    for other in (
        make_span(kind=SpanKind.CLIENT, attributes={"user_agent.original": CANARY}),
        make_span(kind=SpanKind.SERVER, parent=4, attributes={"user_agent.original": CANARY}),
    ):
        Traffic(headers=True).on_end(other)
        assert "spanwell.traffic" not in (other.attributes or {})


def test_request_ids_of_captured_headers_become_attributes() -> None:
    span = make_span(
        kind=SpanKind.SERVER,
        attributes={
            "spanwell.traffic": "user",
            "http.request.header.x_amz_cf_id": ["cf-1=="],
            "http.request.header.apigw_requestid": ["gw-1="],
            "http.request.header.x-amz-apigw-id": ["ext-1"],
        },
    )
    Traffic(headers=True).on_end(span)
    assert span.attributes is not None
    assert span.attributes["aws.cloudfront.request_id"] == "cf-1=="
    assert span.attributes["aws.request_id"] == "gw-1="
    assert span.attributes["aws.extended_request_id"] == "ext-1"
    assert span.attributes["spanwell.traffic"] == "user"
