"""Whatever a span or an AWS call carries: nothing raises, nothing of the application changes, names hold no value."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from spanwell import _guard
from spanwell.enrich import aws_hooks
from spanwell.enrich.annotations import annotate
from spanwell.enrich.app_signals import AppSignals
from spanwell.enrich.cache_hits import redis_response
from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.sql_summary import MAX_SUMMARY, summarize
from spanwell.enrich.statements import commands
from support.spans import make_span

KEYS = st.sampled_from(
    [
        *("rpc.system", "rpc.system.name", "rpc.service", "rpc.method", "http.status_code", "retry_attempts"),
        *("aws.s3.bucket", "aws.dynamodb.table_names", "aws.queue_url", "aws.sns.topic.arn", "messaging.message.id"),
        *("aws.secretsmanager.secret.arn", "db.query.text", "db.statement", "db.system", "db.system.name", "db.name"),
        *("url.full", "http.url", "url.path", "http.request.method", "server.address", "server.port", "peer.service"),
        *("user.id", "enduser.id", "aws.xray.annotations", "faas.invoked_name", "graphql.operation.type", "custom"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["aws-api", "S3", "SQS", "DynamoDB", "Lambda", "Invoke", "a://b/c", "SELECT * FROM t", "redis"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=8), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)


@given(
    st.dictionaries(KEYS, VALUES, max_size=12),
    st.sampled_from(list(SpanKind)),
    st.text(max_size=30),
    st.one_of(st.none(), st.text(max_size=60)),
)
def test_hostile_attributes(attributes, kind, name, error):
    before = copy.deepcopy(attributes)
    span = make_span(attributes=attributes, kind=kind, name=name, error=error, parent=7)
    options = {"fixed": {"team": "a"}, "annotations": ["*"], "signals": AppSignals(dict)}
    Ended(parts(**options)).on_end(span)
    after = dict(span.attributes)
    assert repr(attributes) == repr(before)
    # Nothing is lost but ids that are none.
    assert {key for key, value in attributes.items() if value is not None} <= set(after)
    assert len(after["aws.xray.annotations"]) <= 50


@given(
    st.sampled_from(
        ["s3", "sqs", "sns", "dynamodb", "events", "kinesis", "lambda", "secretsmanager", "stepfunctions"]
    ),
    st.sampled_from(["PutEvents", "TransactWriteItems", "SendMessageBatch", "ReceiveMessage", "Invoke", "GetObject"]),
    st.one_of(
        VALUES,
        st.dictionaries(
            st.sampled_from(
                [
                    *("Bucket", "Key", "Entries", "TransactItems", "FunctionName", "SecretId", "StreamARN"),
                    *("executionArn", "Messages", "Successful", "ResponseMetadata", "EventBusName"),
                ]
            ),
            VALUES,
        ),
    ),
)
def test_hostile_parameters_and_responses(service, operation, data):
    before = repr(data)
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        aws_hooks.request_hook(span, service, operation, data)
        aws_hooks.response_hook(span, service, operation, data)
        redis_response(span, None, data)
    assert repr(data) == before


@given(VALUES, VALUES)
def test_annotate_takes_anything(key, value):
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s"):
        annotate(key, value)
        assert trace.get_current_span().is_recording()


SECRET = "hunter2zz"
LITERALS = st.sampled_from(
    [
        f"'{SECRET}'",
        f"'it''s {SECRET}'",
        f"'FROM {SECRET}'",
        f"E'\\' FROM {SECRET}'",
        f"'\\' JOIN {SECRET}'",
        f"$${SECRET} FROM {SECRET}$$",
        f"$a$ ' FROM {SECRET} $a$",
        f"q'[it's FROM {SECRET}]'",
        f"-- it's\n'{SECRET}'",
        f"/* ' */'; FROM {SECRET}'",
        f"# it's FROM {SECRET}\n1",
        f"N'{SECRET}'",
        f"'a', '{SECRET}'",
        f"('x', 'JOIN {SECRET}')",
        f'"{SECRET}"',
        f'"it\'s FROM {SECRET}"',
        f'"a\\" FROM {SECRET}"',
        f'\'"\', "FROM {SECRET}"',
    ]
)
FRAMES = st.sampled_from(
    [
        "SELECT * FROM t WHERE a = {} AND b = {}",
        "SELECT {} , a FROM t, u WHERE b IN ({}, 2)",
        "INSERT INTO t (a, b) VALUES ({}, {})",
        "UPDATE t SET a = {}, b = {} WHERE c = 1",
        "WITH x AS (SELECT {} AS y) SELECT * FROM x JOIN t ON a = {}",
        "CALL p({}, {})",
        "EXEC p {}, {}",
        "SELECT * FROM f({}) g, t WHERE h = {}",
        "MERGE INTO t USING u ON t.a = {} WHEN MATCHED THEN UPDATE SET b = {}",
        "SET x = {}, y = {}",
        "ALTER USER bob IDENTIFIED BY {} {}",
        "COPY t FROM {} {}",
        "DELETE FROM t WHERE a = {} ; SELECT {} FROM u",
    ]
)


@given(FRAMES, LITERALS, LITERALS)
def test_no_value_of_a_statement_gets_into_its_summary(frame, first, second):
    assert SECRET not in summarize(frame.format(first, second))


@given(st.text(max_size=300) | st.text(alphabet="'\"`[]()$#;,-/*\\ aA1.\n", max_size=300))
def test_summaries_are_bounded_for_any_text(text):
    for summary in (summarize(text), summarize(f"SELECT a FROM {text}"), commands(text)):
        assert len(summary) <= MAX_SUMMARY


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "SELECT " + "a," * 100_000,
        "'" * 100_000,
        "/*" * 50_000,
        '"' * 99_999,
        "[a" * 50_000,
        "$a" * 50_000,
    ],
    ids=["parentheses", "columns", "quotes", "comments", "names", "brackets", "dollars"],
)
def test_of_a_huge_statement_only_the_start_is_read(text):
    assert len(summarize(text)) <= MAX_SUMMARY
