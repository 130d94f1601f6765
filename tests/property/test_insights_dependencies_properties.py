"""Detectors of dependencies on traces as they should not be: they find something or nothing, and never raise."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.insights.detectors.latency_degradation import DEFAULTS
from spanwell.insights.drift import MOST_OPERATIONS, Drift
from spanwell.insights.hints import Hints
from spanwell.insights.model import Fragment, Insight, Thresholds
from spanwell.record import EventRecord, SpanRecord
from support.trees import TRACE, tangles, traces

pytestmark = pytest.mark.full


NAMES = ("slow_db", "slow_aws_call", "sequential_calls", "bottleneck", "cold_start", "timeout_near")
DETECTORS = [importlib.import_module(f"spanwell.insights.detectors.{name}") for name in NAMES]
# So low that small times pass them.
LOW = {
    name: 0.0 if name.endswith(("_ms", "ratio")) else default
    for module in DETECTORS
    for name, default in module.DEFAULTS.items()
}
anything = settings(max_examples=250, deadline=None)

_texts = st.sampled_from(
    [
        *("", "aws-api", "GET", "POST", "grpc", "postgresql", "redis", "SELECT a", "select 1 where x", "DynamoDB"),
        *("http://h/a/17?page=2", "://", "http://", "/a?b#c", "DynamoDB/GetItem", "GetItem", "ListThings", "timeout"),
        *("Timeout of 99999999999999999999ms", "timed out after 1s", "true", "\udc80", "a" * 5_000, "504"),
    ]
)
_values = (
    _texts
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.lists(_texts, max_size=2)
    | st.binary(max_size=2)
)
_keys = st.sampled_from(
    [
        *("db.system", "db.system.name", "db.statement", "db.query.text", "db.name", "db.query.summary"),
        *("rpc.system", "rpc.system.name", "rpc.service", "rpc.method", "rpc.grpc.status_code", "retry_attempts"),
        *("http.method", "http.request.method", "http.url", "url.full", "url.path", "http.status_code"),
        *("http.response.status_code", "http.request.resend_count", "server.address", "server.port"),
        *("faas.coldstart", "spanwell.lambda.init_ms", "spanwell.lambda.remaining_ms", "spanwell.timeout_ms"),
        *("error.type", "exception.type", "exception.message", "faas.name", "messaging.system", "url.query"),
        *("aws.dynamodb.table_names", "messaging.operation.type", "spanwell.lambda.initialization_type"),
    ]
)
_attributes: st.SearchStrategy[dict[str, Any]] = st.dictionaries(_keys, _values, max_size=6)


@st.composite
def odd(draw: st.DrawFn) -> list[SpanRecord]:
    return [
        span._replace(
            attributes=draw(_attributes),
            resource=draw(_attributes),
            status_message=draw(_texts),
            events=(EventRecord("exception", 0, draw(_attributes)),),
        )
        for span in draw(traces() | tangles())
    ]


def look(spans: list[SpanRecord], *, whole: bool = False, dropped: int = 0) -> list[Insight]:
    """All detectors with the lowest thresholds, from the root that there is."""
    root = next((span for span in spans if span.parent_id is None), None)
    fragment, thresholds = Fragment(spans, root, whole=whole, dropped=dropped), Thresholds(LOW)
    found = []
    for module in DETECTORS:
        insights = list(module.detect(fragment, thresholds))
        if insights and not whole:
            assert module.may(Hints.of(spans, root, thresholds))
        found += insights
    return found


@anything
@given(odd(), st.booleans(), st.integers(0, 1))
def test_whatever_the_spans(spans: list[SpanRecord], whole: bool, dropped: int) -> None:
    ids = {span.span_id for span in spans}
    for insight in look(spans, whole=whole, dropped=dropped):
        assert insight.type in NAMES
        assert insight.severity in ("info", "warning", "error")
        assert insight.evidence
        assert ids.issuperset(insight.evidence)
        assert len(insight.evidence) <= 10
        assert len(insight.sentence) < 1_500
        assert all(isinstance(part, str) for part in insight.subject)
        insight.fingerprint("shop")


def calls(number: int, *, chain: bool) -> list[SpanRecord]:
    attributes = {"http.request.method": "GET", "url.full": "http://api/a", "server.address": "api"}
    made = [SpanRecord(TRACE, "0", None, "GET /", "server", "shop", 0, number * 10, attributes=attributes)]
    for each in range(1, number):
        parent = str(each - 1) if chain else "0"
        start, end = (each, number * 10 - each) if chain else (each * 10, each * 10 + 9)
        kind = "client" if not chain or each % 2 else "internal"
        own = {**attributes, "url.full": f"http://api/{'ab'[each % 2]}"}
        made.append(SpanRecord(TRACE, str(each), parent, "GET", kind, "shop", start, end, attributes=own))
    return made


@pytest.mark.parametrize("chain", [True, False])
def test_a_hundred_thousand_spans_deep_or_wide(chain: bool) -> None:
    assert any(insight.type == "bottleneck" for insight in look(calls(100_000, chain=chain)))


@anything
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "", "\udc80"]),
            st.lists(st.floats() | st.floats(0, 100), max_size=5),
            st.floats(-1e6, 1e6),
        ),
        max_size=60,
    )
)
def test_whatever_is_observed(requests: list[tuple[str, list[float], float]]) -> None:
    chosen = {f"latency_degradation.{name}": 1.0 for name in ("points", "requests")}
    drift = Drift(Thresholds(DEFAULTS, chosen))
    for operation, seconds, now in requests:
        drift.observe(operation, seconds, now)
        for insight in drift.due(now):
            assert insight.values["now_ms"] >= 0
    assert len(drift._operations) <= MOST_OPERATIONS
