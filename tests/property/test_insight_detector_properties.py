"""Whatever a trace is made of, the detectors raise nothing, and what they find is well made."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.insights.model import Fragment, Thresholds
from spanwell.record import EventRecord, SpanRecord

DETECTORS = (
    *("slow_trace", "trace_errors", "high_service_count", "retried_call", "n_plus_one", "throttled_dependency"),
    *("suppressed_error", "oversized_trace"),
)
IDS = st.sampled_from(["a", "b", "c", "d", "e", "f", ""])
TEXTS = st.sampled_from(
    ["GET", "", "SELECT * FROM a", "SELECT ((", "aws-api", "http://[", "://", "/", "grpc", "\ud800", "x\ny"]
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    TEXTS,
    st.text(max_size=8),
    st.integers(-5, 600),
    st.none(),
    st.booleans(),
    st.floats(),
    st.lists(TEXTS, max_size=2),
)
NAMES = (
    *("http.method", "http.request.method", "http.url", "url.full", "http.status_code", "http.response.status_code"),
    *("db.system", "db.system.name", "db.statement", "db.query.text", "rpc.system", "rpc.service", "rpc.method"),
    *("rpc.grpc.status_code", "retry_attempts", "http.request.resend_count", "error.type", "messaging.system"),
    *("server.address", "server.port", "aws.dynamodb.table_names", "http.route", "url.path", "spanwell.throttled"),
)
ATTRIBUTES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)
EVENTS = st.tuples(st.just("exception"), st.just(0), ATTRIBUTES).map(lambda parts: EventRecord(*parts))
SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.just("t"),
        "span_id": IDS,
        "parent_id": st.one_of(st.none(), IDS),
        "name": TEXTS,
        "kind": st.sampled_from(["client", "server", "internal", "producer", "consumer", "odd"]),
        "service": st.sampled_from(["shop", "bank", ""]),
        "start_ns": st.integers(-5, 9_000_000_000),
        "end_ns": st.integers(-5, 90_000_000_000),
        "status": st.sampled_from(["error", "error", "ok", "unset"]),
        "status_message": TEXTS,
        "attributes": ATTRIBUTES,
        "events": st.lists(EVENTS, max_size=1).map(tuple),
    }
).map(lambda parts: SpanRecord(**parts))


@pytest.mark.parametrize("name", DETECTORS)
@settings(max_examples=60, deadline=None)
@given(spans=st.lists(SPANS, max_size=14), root=st.integers(0, 20), whole=st.booleans(), low=st.booleans())
def test_detectors_take_anything(name: str, spans: list[SpanRecord], root: int, whole: bool, low: bool) -> None:
    detector = importlib.import_module(f"spanwell.insights.detectors.{name}")
    fragment = Fragment(spans, spans[root] if root < len(spans) else None, dropped=root, whole=whole)
    thresholds = Thresholds(dict.fromkeys(detector.DEFAULTS, 0) if low else detector.DEFAULTS)
    ids = {span.span_id for span in spans}
    seen = set()
    for insight in detector.detect(fragment, thresholds):
        assert insight.type == name
        assert insight.severity in ("info", "warning", "error")
        assert insight.sentence.endswith(".")
        assert len(insight.sentence.splitlines()) == 1
        assert len(insight.evidence) <= 10
        assert ids.issuperset(insight.evidence)
        assert all(isinstance(part, str) for part in insight.subject)
        assert insight.fingerprint("shop") not in seen
        seen.add(insight.fingerprint("shop"))
