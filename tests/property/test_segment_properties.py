"""Any span gives documents that X-Ray's documentation allows and a datagram holds."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from spanwell._otel import spans
from spanwell.export.segment_cause import cause
from spanwell.export.segment_limits import CUT, MAX_DOCUMENT, fitted
from spanwell.export.segment_names import annotation_key, clean
from spanwell.export.segment_resource import part_of
from spanwell.export.segment_values import encoded
from spanwell.export.segments import drafts, finished
from spanwell.export.udp import HEADER, MAX_DATAGRAM
from support import segment_schema
from support.spans import make_span


def words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


KEYS = st.sampled_from(
    words("""http.request.method http.method http.response.status_code http.status_code url.full http.url url.scheme
    url.path url.query http.target http.host server.address server.port net.host.name net.peer.name net.peer.port
    net.peer.ip client.address network.peer.address http.client_ip user_agent.original http.response.body.size
    rpc.system.name rpc.system rpc.service rpc.method aws.region aws.request_id aws.dynamodb.table_names aws.queue_url
    aws.s3.bucket retry_attempts aws.service aws.operation aws.remote.service aws.local.service aws.span.kind
    peer.service aws.remote.resource.identifier aws.account_id db.system db.system.name db.name db.namespace
    db.statement db.query.text db.user db.connection_string messaging.system messaging.url enduser.id error.type
    aws.xray.annotations aws.xray.metadata.default aws.xray.metadata.mine aws.xray.traced aws.xray.resource_names
    otel.resource.service.name spanwell.throttled aws.trace.flag.sampled exception.message""")
) | st.text(max_size=20)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=30),
    st.text('\ud800x\udfff\u0000"\\\n€😀', max_size=300),
    st.sampled_from(
        words("""aws-api LOCAL_ROOT SERVER postgresql mysql 200 404 429 503 10.0.0.1 ::1 https http://u:p@h:1/x?y#z
        jdbc:postgresql://u:p@db:5432/shop AWS::S3 AWS.SDK.S3 DynamoDB DynamoDB/GetItem {"a":1} [1] {"a":NaN}
        {"otel":{}} not-json""")
    ),
    st.integers(200, 3000).map(lambda n: "long " * n),
)
SCALARS = st.one_of(
    TEXTS,
    st.integers(),
    st.sampled_from((200, 404, 429, 503, -1, 2**63, -(2**70))),
    st.integers(4000, 5000).map(lambda digits: 10**digits),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=20),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4).map(tuple),
    st.dictionaries(
        st.text(max_size=5), st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3)), max_size=3
    ),
    st.lists(KEYS, max_size=60).map(tuple),
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=15)
RESOURCES = st.dictionaries(
    st.sampled_from(
        words("""service.name service.version service.namespace service.instance.id cloud.provider cloud.platform
        host.id cloud.account.id cloud.availability_zone aws.ecs.launchtype aws.log.group.names aws.log.group.arns
        telemetry.sdk.name telemetry.sdk.language telemetry.auto.version k8s.cluster.name container.id""")
    )
    | st.text(max_size=10),
    st.one_of(
        TEXTS, VALUES, st.sampled_from(("aws", "aws_ec2", "aws_ecs", "aws_eks", "aws_elastic_beanstalk", "fargate"))
    ),
    max_size=10,
)
TRACES = st.one_of(
    TEXTS,
    st.lists(
        st.sampled_from(
            (
                "Traceback (most recent call last):",
                '  File "/app/a.py", line 12, in f',
                '  File "a, b.py", line 999999999999999, in <lambda>',
                '  File "<string>", line 1',
                "    work()",
                "    ^^^^^^",
                "  [Previous line repeated 977 more times]",
                "ValueError: bad",
                "KeyError",
                "",
                "The above exception was the direct cause of the following exception:",
                "During handling of the above exception, another exception occurred:",
                "  + Exception Group Traceback (most recent call last):",
                "  | ExceptionGroup: two (2 sub-exceptions)",
                "  +-+---------------- 1 ----------------",
            )
        ),
        max_size=80,
    ).map("\n".join),
)
EVENTS = st.lists(
    st.one_of(
        st.builds(
            lambda kind, message, trace: Event(
                "exception",
                {"exception.type": kind, "exception.message": message, "exception.stacktrace": trace},
                timestamp=1_795_167_973_154_788_998,
            ),
            TEXTS,
            TEXTS,
            TRACES,
        ),
        st.builds(lambda name, value: Event(name, {"v": value}, timestamp=1), TEXTS, st.booleans()),
    ),
    max_size=14,
)
CONTEXTS = st.builds(
    lambda trace, span: SpanContext(trace, span, False, TraceFlags(1)),
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
)


@st.composite
def ended(draw: st.DrawFn) -> ReadableSpan:
    span = make_span(
        trace_id=draw(st.integers(1, 2**128 - 1)),
        span_id=draw(st.integers(1, 2**64 - 1)),
        parent=draw(st.none() | st.integers(0, 2**64 - 1)),
        remote_parent=draw(st.booleans()),
        name=draw(TEXTS),
        kind=draw(st.sampled_from(SpanKind)),
        duration=draw(st.integers(-(10**9), 10**12)),
        error=draw(st.none() | TEXTS),
        events=tuple(draw(EVENTS)),
        links=tuple(Link(context, {"k": "v" * 300}) for context in draw(st.lists(CONTEXTS, max_size=5))),
        resource=Resource({}),
    )
    # Past the SDK's setter: attributes may also come from a span processor, which writes what it likes.
    spans.replace_attributes(span, draw(ATTRIBUTES))
    return span


ODD = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@ODD
@given(ended(), RESOURCES, st.sampled_from((MAX_DOCUMENT, 8_000)))
def test_any_span_gives_documents_as_xray_wants_them(
    span: ReadableSpan, resource: dict[str, Any], limit: int
) -> None:
    made = drafts(span)
    part = part_of(resource)
    assert len(made) in (1, 2)
    found = []
    for draft in made:
        document = finished(draft, part, limit)
        assert len(document) <= limit
        assert len(HEADER + document) <= MAX_DATAGRAM
        found.append(segment_schema.check(document))
    assert span.context is not None
    own = f"{span.context.span_id:016x}"
    assert found[0]["id"] == own
    if len(found) == 2:
        assert found[0]["parent_id"] == found[1]["id"] != own
        assert "type" not in found[1]
        assert found[0]["trace_id"] == found[1]["trace_id"]
        assert [found[0].get(flag) for flag in ("error", "throttle", "fault")] == [
            found[1].get(flag) for flag in ("error", "throttle", "fault")
        ]
    assert drafts(span) == made  # sent again it replaces the first


@ODD
@given(
    st.dictionaries(st.text(max_size=60), st.tuples(st.text(max_size=5), st.integers(0, 40_000)), max_size=6),
    st.integers(2_000, 65_000),
)
def test_what_is_too_long_is_cut_and_says_so(lengths: dict[str, tuple[str, int]], limit: int) -> None:
    values = {"my " + key: text * number for key, (text, number) in lengths.items()}
    span = make_span(kind=SpanKind.SERVER, attributes=dict(values), resource=Resource({"service.name": "shop"}))
    (draft,) = drafts(span, limit)
    whole = finished(draft, part_of(span.resource.attributes), limit)
    assert len(whole) <= limit
    found = segment_schema.check(whole)
    assert found["name"] == "shop"
    kept = found.get("metadata", {}).get("default", {})
    for key, value in values.items():
        assert kept.get(key, "") == value or CUT in kept or not kept or kept[key].endswith("…")


@given(st.text(), st.text(st.characters()))
def test_names_and_keys(name: str, key: str) -> None:
    segment_schema.name("", clean(name))
    assert clean(clean(name)) == clean(name)
    if key:
        segment_schema.annotations("", {annotation_key(key): 1})


@given(VALUES)
@example(math.nan)
@example({"a": {"b": [math.inf, b"\xff", "\ud800", 2**70]}})
def test_any_value_is_strict_json(value: Any) -> None:
    segment_schema.parse(encoded({"value": value}), limit=10**6)


@ODD
@given(TRACES, TEXTS, TEXTS)
def test_any_traceback_is_read(trace: str, kind: str, message: str) -> None:
    event = Event("exception", {"exception.type": kind, "exception.message": message, "exception.stacktrace": trace})
    made, _ = cause(SpanKind.INTERNAL, 7, [event], "error", "", {})
    assert made is not None
    segment_schema.cause("", json.loads(encoded(made)))


@ODD
@given(st.integers(2_000, 64_000), st.integers(0, 128), st.integers(0, 40), st.text(min_size=1, max_size=3))
def test_whatever_is_long_it_fits(limit: int, links: int, frames: int, name: str) -> None:
    document = {
        "trace_id": "1-00000000-000000000000000000000001",
        "id": "0" * 15 + "1",
        "start_time": 1.5,
        "end_time": 1.5,
        "name": clean(name * 200),
        "links": [{"trace_id": "1-00000000-" + "0" * 24, "id": "0" * 16, "attributes": {"a": "€" * 400}}] * links,
        "cause": {
            "exceptions": [
                {"id": f"{n:016x}", "message": "m" * 250, "stack": [{"path": "p" * 250, "line": 1}] * frames}
                for n in range(10)
            ]
        },
        "annotations": {f"k{n}": "€" * 1000 for n in range(50)},
    }
    made = fitted(document, limit)
    assert len(made) <= limit
    segment_schema.check(made)
