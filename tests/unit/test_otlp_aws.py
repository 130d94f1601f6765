"""AWS's OTLP endpoints: which URLs are theirs, what they take, what their refusals mean, signatures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.sdk.trace import Event

from spanwell import _guard
from spanwell.export import otlp_aws, otlp_protobuf
from spanwell.export.otlp import OtlpSpanExporter
from spanwell.export.otlp_aws import Endpoint, aws_endpoint
from spanwell.export.otlp_pairs import framed
from support.collector import Collector, Handler, collector
from support.sigv4 import judge
from support.spans import make_span

DAY = 86_400
NOW = 1_795_168_000.0


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://xray.eu-west-1.amazonaws.com/v1/traces", Endpoint("xray", "eu-west-1")),
        ("https://XRAY.eu-west-1.amazonaws.com:443", Endpoint("xray", "eu-west-1")),
        ("https://xray.cn-north-1.amazonaws.com.cn/v1/traces", Endpoint("xray", "cn-north-1")),
        ("https://xray.us-gov-west-1.amazonaws.com/v1/traces", Endpoint("xray", "us-gov-west-1")),
        ("https://xray-fips.us-gov-east-1.amazonaws.com/v1/traces", Endpoint("xray", "us-gov-east-1")),
        ("https://xray.us-east-1.api.aws/v1/traces", Endpoint("xray", "us-east-1")),
        ("https://xray.cn-north-1.api.amazonwebservices.com.cn/", Endpoint("xray", "cn-north-1")),
        ("https://xray.eusc-de-east-1.amazonaws.eu/v1/traces", Endpoint("xray", "eusc-de-east-1")),
        ("https://vpce-0a1b-2c.xray.us-east-1.vpce.amazonaws.com/v1/traces", Endpoint("xray", "us-east-1")),
        ("https://logs.us-east-1.amazonaws.com/v1/logs", Endpoint("logs", "us-east-1")),
        ("https://monitoring.us-east-1.amazonaws.com/v1/metrics", Endpoint("monitoring", "us-east-1")),
        ("https://s3.us-east-1.amazonaws.com/v1/traces", None),
        ("https://xray.amazonaws.com/v1/traces", None),
        ("https://amazonaws.com/", None),
        ("https://xray.us-east-1.amazonaws.com.evil.org/v1/traces", None),
        ("https://xray.us-east-1.evilamazonaws.com/", None),
        ("http://localhost:4318/v1/traces", None),
        ("http://[::1", None),
        ("", None),
    ],
)
def test_whose_endpoint_a_url_is(url: str, found: Endpoint | None) -> None:
    assert aws_endpoint(url) == found


# --- what is taken ----------------------------------------------------------------------------------------------


def exporter(url: str = "https://xray.eu-west-1.amazonaws.com/v1/traces", **options: Any) -> OtlpSpanExporter:
    return OtlpSpanExporter(url, **{"now": lambda: NOW, "jitter": lambda: 0.001, **options})


def spans_in(encoded: bytes) -> Any:
    [span] = ScopeSpans.FromString(encoded).spans
    return span


def test_spans_of_the_wrong_age_are_refused_with_the_reason() -> None:
    made = exporter()
    for age, said in ((15 * DAY, "15 days ago"), (14 * DAY + 60, "14 days"), (-3 * 3600, "3.0 hours from now")):
        with pytest.raises(ValueError, match=said):
            made.encode(make_span(start=int((NOW - age) * 1e9)))
    for age in (0, 14 * DAY - 60, -2 * 3600 + 60):
        made.encode(make_span(start=int((NOW - age) * 1e9)))


def test_an_oversize_span_is_cut_and_says_so_where_it_was() -> None:
    frames = tuple(Event("exception", {"exception.stacktrace": "y" * 90_000}) for _ in range(2))
    attributes = {"db.statement": "x" * 150_000, "short": "kept", "list": ["z" * 20_000, "short"], "number": 7}
    span = make_span(start=int(NOW * 1e9), attributes=attributes, events=frames)
    before = span.to_json()
    item, size = exporter().encode(span)
    assert size == len(item[2]) <= otlp_aws.MAX_SPAN
    made = {each.key: each.value for each in spans_in(item[2]).attributes}
    assert made["db.statement"].string_value.endswith("x…")
    assert made["short"].string_value == "kept"
    assert made["number"].int_value == 7
    assert [len(each.string_value) for each in made["list"].array_value.values] == [16_384, 5]
    assert span.to_json() == before


def test_a_span_that_stays_too_large_is_refused() -> None:
    span = make_span(start=int(NOW * 1e9), attributes={f"k{each}": "x" * 300 for each in range(1000)})
    with pytest.raises(ValueError, match="X-Ray takes 200000"):
        exporter().encode(span)


def test_no_request_has_too_many_spans_or_too_long_a_time() -> None:
    start = int((NOW - 5 * DAY) * 1e9)
    items = [(None, None, b"", start + each * 3600 * 10**9) for each in range(100)]
    groups = list(otlp_aws.groups(items))
    assert sum(map(len, groups)) == 100
    for group in groups:
        assert len(group) <= 24
    many = list(otlp_aws.groups([(None, None, b"x", start)] * 25_000))
    assert [len(group) for group in many] == [10_000, 10_000, 5000]
    assert many[0][0] == (None, None, b"x")


def test_split_as_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    made = exporter()
    items = [made.encode(make_span(start=int(NOW * 1e9), attributes={"k": "x" * 150_000}))[0] for _ in range(70)]
    requests = list(made._split(items))
    assert all(len(body) <= 5_000_000 for body, _ in requests)
    assert sum(len(part) for _, part in requests) == 70
    assert otlp_protobuf.request([items[0][:3]])


# --- what refusals mean -----------------------------------------------------------------------------------------


def status_message(text: str) -> bytes:
    """google.rpc.Status, as the endpoint answers protobuf."""
    return b"\x08\x07" + framed(b"\x12", text.encode())


PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (400, "The OTLP API is supported with CloudWatch Logs as a Trace Segment Destination.", "Transaction Search"),
        (403, "The security token included in the request is invalid.", "AWS_ACCESS_KEY_ID"),
        (403, "The security token included in the request is expired", "renew them"),
        (403, "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z", "clock"),
        (403, "Signature not yet current: 20260101T000000Z is still later than 20250101T000000Z", "clock"),
        (403, "The request signature we calculated does not match the signature you provided.", "SECRET_ACCESS_KEY"),
        (403, "Missing Authentication Token", "AWS_ACCESS_KEY_ID"),
        (
            403,
            "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: xray:PutSpans on resource: *",
            "allow xray:PutSpans in the role's policy",
        ),
        (403, "", "allow xray:PutSpans, xray:PutSpansForIndexing and xray:PutTraceSegments"),
    ],
)
def test_a_refusal_comes_with_its_remedy(status: int, said: str, remedy: str) -> None:
    endpoint = Endpoint("xray", "eu-west-1")
    for headers, body in ((PROTOBUF, status_message(said)), ({"content-type": "application/json"}, _json(said))):
        line = otlp_aws.explain(endpoint, status, headers, body, NOW)
        assert remedy in line
        assert "\n" not in line


def _json(said: str) -> bytes:
    return f'{{"message": "{said}"}}'.encode()


def test_the_size_of_a_wrong_clock_is_told() -> None:
    said = _json("Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z")
    headers = {"date": "Thu, 01 Jan 1970 00:10:00 GMT", "x-amzn-errortype": "InvalidSignatureException"}
    line = otlp_aws.explain(Endpoint("xray", "eu-west-1"), 403, headers, said, 0.0)
    assert line.endswith("-600 s off")


def test_other_answers_need_no_explanation() -> None:
    assert otlp_aws.explain(Endpoint("xray", "eu-west-1"), 429, {}, b"", NOW) == ""
    assert otlp_aws.explain(Endpoint("xray", "eu-west-1"), 400, {}, b"bad", NOW) == ""


# --- signatures -------------------------------------------------------------------------------------------------


class Asked:
    """A request as `sigv4.judge` reads it."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Collector, list[str]]]:
    """A receiver that judges signatures: the access key of each request, or ""."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    _guard._warned.clear()
    keys: list[str] = []

    def behave(handler: Handler) -> None:
        asked = Asked(handler.post.headers, handler.body)
        key = judge(asked, "wJalrXUtnFEMI", "/v1/traces", "eu-west-1", "xray")
        keys.append(key)
        handler.answer(200 if key else 403)

    with collector(behave) as otlp:
        yield otlp, keys


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_attempt_is_signed(signed: tuple[Collector, list[str]], compression: str) -> None:
    otlp, keys = signed
    made = exporter(
        f"{otlp.url}/v1/traces", aws=Endpoint("xray", "eu-west-1"), compression=compression, now=time.time
    )
    item, _ = made.encode(make_span(name="one", start=time.time_ns()))
    assert made.send([item]).reason == ""
    assert made.send([item]).lost == 0
    assert keys == ["AKIDEXAMPLE"] * 2
    assert otlp.connections == 1
    made.shutdown()


def test_a_credential_of_the_user_replaces_the_signature(signed: tuple[Collector, list[str]]) -> None:
    otlp, keys = signed
    made = exporter(f"{otlp.url}/v1/traces", aws=Endpoint("xray", "eu-west-1"), headers={"Authorization": "Bearer x"})
    made.send([made.encode(make_span(start=int(NOW * 1e9)))[0]])
    assert keys == [""]
    assert otlp.posts[0].headers["authorization"] == "Bearer x"


def test_without_credentials_nothing_is_sent(signed: tuple[Collector, list[str]], monkeypatch: Any) -> None:
    otlp, _ = signed
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = exporter(f"{otlp.url}/v1/traces", aws=Endpoint("xray", "eu-west-1"))
    sent = made.send([made.encode(make_span(start=int(NOW * 1e9)))[0]])
    assert (sent.lost, sent.reached) == (1, False)
    assert sent.reason.startswith("signing finds no AWS credentials: give the process a role")
    assert not otlp.posts


def test_credentials_that_were_renewed_are_found_after_a_refusal(
    signed: tuple[Collector, list[str]], monkeypatch: Any
) -> None:
    otlp, keys = signed
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "old")
    made = exporter(f"{otlp.url}/v1/traces", aws=Endpoint("xray", "eu-west-1"))
    item, _ = made.encode(make_span(start=int(NOW * 1e9)))
    assert made.send([item]).lost == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    assert made.send([item]).lost == 0
    assert keys == ["", "AKIDEXAMPLE"]


def test_in_plain_text_nothing_is_signed() -> None:
    made = exporter("http://xray.eu-west-1.amazonaws.com/v1/traces")
    sent = made.send([made.encode(make_span(start=int(NOW * 1e9)))[0]])
    assert sent.lost == 1
    assert sent.reason.endswith("would be sent credentials in plain text: use https://")
