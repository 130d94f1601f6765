"""Who sent a request: a canary of CloudWatch Synthetics, a browser that traces (CloudWatch RUM), or a user.

What can be recognised, and what cannot, stands in docs/quiet-and-traffic.md.
"""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from spanwell._otel import spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

TRAFFIC = "spanwell.traffic"
SYNTHETIC = "user_agent.synthetic.type"

# Shared and never changed: whoever gets one copies from it.
_CANARY = {TRAFFIC: "canary", SYNTHETIC: "test"}
_RUM = {TRAFFIC: "rum"}
_USER = {TRAFFIC: "user"}
_MOST_AGENTS = 512
_LONGEST = 1024
_agents: dict[str, str] = {}

# The headers by which CloudFront and API Gateway name a request, as the instrumentors write captured ones.
_HEADERS = {
    "x-amz-cf-id": "aws.cloudfront.request_id",
    "x-amzn-requestid": "aws.request_id",
    "apigw-requestid": "aws.request_id",
    "x-amz-apigw-id": "aws.extended_request_id",
}
_CAPTURED = {
    f"http.request.header.{spelt}": attribute
    for header, attribute in _HEADERS.items()
    for spelt in (header, header.replace("-", "_"))
}


def describe(attributes: Mapping[str, Any] | None, parent: SpanContext | None) -> dict[str, str] | None:
    """What the span of an incoming request, which starts with `attributes`, says about its sender; None: nothing."""
    if not attributes:
        return None
    agent = attributes.get("user_agent.original") or attributes.get("http.user_agent") or ""
    kind = _agents.get(agent) if type(agent) is str else ""
    if kind is None:
        kind = _kind(agent)
    if kind == "canary":
        return _CANARY
    if SYNTHETIC in attributes:  # the instrumentor knows it for a bot or a test
        return None
    if parent is None or not parent.is_valid:
        return _USER
    if kind == "browser" and parent.trace_flags & 1:
        return _RUM
    return None


class Traffic:
    """The stage: `describe` for spans that no sampler of ours saw first, and request ids from captured headers."""

    def __init__(self, *, headers: bool) -> None:
        self._headers = headers

    def on_end(self, span: ReadableSpan) -> None:
        """Write on a local root of kind SERVER what it does not say yet."""
        if span.kind is not SpanKind.SERVER or (span.parent is not None and not span.parent.is_remote):
            return
        attributes = spans.attributes_of(span)
        written: dict[str, str] = {}
        if TRAFFIC not in attributes:
            written.update(describe(attributes, span.parent) or ())
        if self._headers:
            for name, attribute in _CAPTURED.items():
                values = attributes.get(name)
                if values and attribute not in attributes:
                    written.setdefault(attribute, values if isinstance(values, str) else str(values[0]))
        if written:
            spans.write(span, written)


def _kind(agent: str) -> str:
    start = agent[:_LONGEST]
    kind = ""
    if "CloudWatchSynthetics" in start or ":canary:" in start:
        kind = "canary"
    elif start.startswith("Mozilla/"):
        kind = "browser"
    if len(_agents) >= _MOST_AGENTS:
        _agents.clear()
    _agents[agent] = kind
    return kind
