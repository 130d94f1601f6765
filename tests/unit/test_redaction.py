"""Secrets planted in every place a span has, exported for real, and searched for in the exported bytes."""

from __future__ import annotations

import logging
import sqlite3

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from spanwell import _guard
from spanwell.enrich import secret_texts
from spanwell.enrich.processor import FusedProcessor
from spanwell.enrich.redaction import Redaction, _Scan
from spanwell.enrich.secret_names import MARK
from spanwell.export.sqlite import SqliteSpanExporter
from support.spans import make_span

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpQIBAAKCAQEA3Tz2mr7\nhunter2==\n-----END RSA PRIVATE KEY-----"

# (text, what must not be in it afterwards, what must)
SECRETS = [
    ("https://bob:hunter2@db.example.com/path?x=1", ["bob", "hunter2"], ["https://", "@db.example.com/path?x=1"]),
    ("postgresql://appuser:p@ss:hunter2@db:5432/shop", ["appuser", "p@ss", "hunter2"], ["@db:5432/shop"]),
    ("amqp://app:hunt/er2@mq/vhost", ["hunt", "er2"], ["@mq/vhost"]),
    ("redis://:hunter2@cache:6379/0", ["hunter2"], ["@cache:6379/0"]),
    ("https://ghp_hunter2@github.com/a/b", ["ghp_hunter2"], ["@github.com/a/b"]),
    ("/login?next=https%3A%2F%2Fbob%3Ahunter2%40x.example%2F", ["hunter2"], ["/login?next="]),
    (
        f"https://b.s3.amazonaws.com/k.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}%2F20260101"
        "%2Feu-west-1&X-Amz-Date=20260101T000000Z&X-Amz-Security-Token=IQoJhunter&X-Amz-Signature=feedbeef01",
        [KEY_ID, "IQoJhunter", "feedbeef01"],
        ["b.s3.amazonaws.com/k.txt", "X-Amz-Date=20260101T000000Z", "X-Amz-Signature=", "X-Amz-Credential="],
    ),
    (
        f"https://b.s3.amazonaws.com/k?AWSAccessKeyId={KEY_ID}&Expires=1141889120&Signature=vjbyPxybd%3D",
        [KEY_ID, "vjbyPxybd"],
        ["Expires=1141889120", "Signature="],
    ),
    ("https://a.blob.core.windows.net/c/b?sv=2022&sig=hunter2%3D&se=1", ["hunter2"], ["sv=2022", "sig=", "&se=1"]),
    (
        "https://storage.googleapis.com/b/o?X-Goog-Signature=feedbeef01&X-Goog-Expires=9",
        ["feedbeef01"],
        ["Expires=9"],
    ),
    ("GET /x?token=hunter2 HTTP/1.1", ["hunter2"], ["GET /x?token=", " HTTP/1.1"]),
    ("https://x/cb#access_token=hunter2&expires_in=3", ["hunter2"], ["#access_token=", "expires_in=3"]),
    ("https://x/cb?code=SplxlOBeZQQYbYS6WxSbIA&state=ok", ["Splxl"], ["code=", "&state=ok"]),
    ("code=SplxlOBeZQQYbYS6WxSbIA&state=ok", ["Splxl"], ["code=", "&state=ok"]),
    ("?api_key=hunter2&apikey=hunter2&password=hunter2,x&secret=hunter2", ["hunter2"], ["?api_key=", "&secret="]),
    ("/maps?key=AIzaSyA-hunter2-hunter2-hunter2&q=rome", ["hunter2"], ["q=rome"]),
    ("/a?u=https%3A%2F%2Fx%2F%3Ftoken%3Dhunter2%26page%3D1", ["hunter2"], ["%26page%3D1"]),
    ("%7B%22password%22%3A%22hunter2%22%7D", ["hunter2"], ["password"]),
    ("Authorization: Bearer hunter2hunter2", ["hunter2"], ["Authorization: "]),
    ('Authorization: Digest username="bob", response="hunter2"\nHost: x', ["hunter2", "bob"], ["\nHost: x"]),
    ("curl -H 'Authorization: token hunter2' https://x/", ["hunter2"], ["curl -H '", "' https://x/"]),
    ("Cookie: a=hunter2; sid=hunter2", ["hunter2"], ["Cookie: "]),
    ("[(b'host', b'x'), (b'cookie', b'a=hunter2; b=c')]", ["hunter2", "b=c"], ["(b'host', b'x')"]),
    ("{'Set-Cookie': 'a=hunter2; Path=/', 'X-Api-Key': 'hunter2', 'Host': 'x'}", ["hunter2"], ["'Host': 'x'"]),
    ("sent bearer AbCdEf012345 to x", ["AbCdEf012345"], ["sent bearer ", " to x"]),
    ("sent Basic Ym9iOmh1bnRlcjI= to x", ["Ym9iOmh1bnRlcjI"], ["sent Basic ", " to x"]),
    (f"got {JWT}, expired", [JWT, JWT.split(".")[1], JWT.split(".")[2]], ["got ", ", expired"]),
    (f"no access for {KEY_ID}.", [KEY_ID], ["no access for "]),
    ("/users/ASIAIOSFODNN7EXAMPLE/x", ["ASIAIOSFODNN7EXAMPLE"], ["/users/"]),
    ("session IQoJb3JpZ2luX2VjEHUaCWV1LXdlc3QtMSJHMEUCIQ end", ["X2VjEHUaCWV1"], ["session ", " end"]),
    ("push with ghp_16C7e42F292c6912E7710c838347Ae178B4a", ["16C7e42F"], ["push with "]),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ["wJalr", "EXAMPLEKEY"], ["_key = "]),
    ('{"user": "bob", "password": "hunt er2 \\" x", "n": 1}', ["hunt", "er2"], ['"user": "bob"', '"n": 1']),
    ('{\\"password\\":\\"hunt\\\\\\"er2\\",\\"n\\":1}', ["hunt", "er2"], ['\\"n\\":1']),
    ("{'secrets': ['hunter2', 'x9x9'], 'n': 1}", ["hunter2", "x9x9"], ["'n': 1"]),
    ("Server=db;User Id=app;Password=hunter2;Encrypt=yes", ["hunter2"], ["Server=db;", ";Encrypt=yes"]),
    ("params[password]=hunter2", ["hunter2"], ["params[password]="]),
    ("password: 'cut off in the middle of hunter2", ["hunter2"], ["password: '"]),
    (f"key:\n{PEM}\nend", ["MIIEp", "hunter2", "RSA PRIVATE"], ["key:", "\nend"]),
    (PEM[:60], ["MIIEp"], []),
    ("to bob.o'hara+shop@mail.example.co.uk now", ["hara", "mail.example"], ["to ", " now"]),
    ("/users/bob%40example.com/orders", ["bob", "example.com"], ["/users/", "/orders"]),
    ("paid with 4111 1111 1111 1111 123", ["4111 1111", "1111 1111"], ["paid with ", " 123"]),
    ("/cards/5555555555554444/charge", ["5555555555554444"], ["/cards/", "/charge"]),
    ("amount 5000 4111-1111-1111-1111 12-27", ["4111-1111", "1111-1111"], ["amount 5000 ", "12-27"]),
    ("?card=3782+822463+10005&x=1", ["+822463", "822463+"], ["?card=", "&x=1"]),
]

STATEMENTS = [
    (
        "INSERT INTO u (mail, password) VALUES ('bob', 'hunter2')",
        ["hunter2", "'bob'"],
        ["INSERT INTO u (mail, password)"],
    ),
    ('INSERT INTO u (name, password) VALUES ("bob", "hunter2")', ["hunter2"], ["INSERT INTO u"]),
    ("UPDATE u SET password = 'hun\\'ter2' WHERE id = 'a'", ["hun", "ter2"], ["UPDATE u SET password = "]),
    ("UPDATE u SET token='hun''ter2' -- don't", ["hun", "ter2"], ["UPDATE u SET token="]),
    ("SELECT * FROM u WHERE token = 'cut off hunter2", ["hunter2"], ["SELECT * FROM u WHERE token = "]),
    ("ALTER USER x IDENTIFIED BY 'hunter2'", ["hunter2"], ["ALTER USER x IDENTIFIED BY "]),
    ("AUTH default hunter2", ["hunter2"], ["AUTH "]),
    ("CONFIG SET requirepass hunter2", ["hunter2"], ["CONFIG SET requirepass "]),
    (
        "SELECT * FROM u WHERE mail = 'bob@example.com' AND card = 4111111111111111",
        ["bob@", "4111"],
        ["SELECT * FROM u"],
    ),
]

CLEAN = [
    "GET /api/orders/{id}",
    "https://api.example.com/v1/orders/81231?page=2&limit=50&sort=created&code=404&key=a/b",
    "https://api.example.com:8443/@scope/pkg@1.2.3/foo@2x.png",
    "/npm/lodash@4.17.21/lodash.min.js?v=foo@1.0.0.beta",
    "8f14e45f-ceea-467f-9575-1d0b5c3f0a11",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "1-5759e988-bd862e3fe1be46a994272793",
    "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
    "2026-11-20T12:40:02.123456789+00:00 1795167973154788998 1700000000000 20260131123456789",
    "order 4111111111111112, 1234567812345670, 0.4111111111111111, id a4111111111111111b",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/db-AbCdEf",
    "arn:aws:sqs:eu-west-1:123456789012:orders",
    "https://sqs.eu-west-1.amazonaws.com/123456789012/orders?NextToken=abc",
    "SELECT password, token FROM users WHERE password = %s AND token = ? AND key = $1 AND pwd = :pwd",
    "SELECT * FROM keys WHERE name = 'author' AND n = ''",
    "INSERT INTO orders (id, total) VALUES ('a''b', 12)",
    "basic authentication failed; bearer authorization missing; Basic configuration",
    "KeyError: 'order'; expected token; max_tokens=5; token_count: 3; author=bob; signature(x): y",
    "password=None token=null secret=*** password: {password}",
    "git@github.com:acme/shop.git @decorator a@b",
    "eyJ-is-how-they-start, ASIAPACIFIC, 3.141592653589793",
    '{"keys": [1, 2], "code": "E17", "author": "bob"}',
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "",
    "ünïcødé ✓ 日本語",
]


class Bytes(SpanExporter):
    def __init__(self):
        self.spans = []

    def export(self, spans):
        self.spans += spans
        return SpanExportResult.SUCCESS


def exported(work, tmp_path, **options):
    """The spans that `work(tracer)` makes, and all that OTLP and sqlite put into bytes."""
    memory, path = Bytes(), tmp_path / "spans.sqlite"
    sqlite = SqliteSpanExporter(str(path))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FusedProcessor([Redaction(**options)]))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.add_span_processor(SimpleSpanProcessor(sqlite))
    work(provider.get_tracer("t"))
    provider.shutdown()
    message = encode_spans(memory.spans)
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    return memory.spans, message.SerializeToString() + str(message).encode() + dump.encode()


def everywhere(text):
    def work(tracer):
        other = SpanContext(1, 2, True, TraceFlags(1))
        links = [Link(other, {"text": text, "nested": [text]})]
        attributes = {
            "url.full": text,
            "http.url": text,
            "app.note": text,
            "list": [text, "x"],
            "db.query.text": text,
        }
        try:
            with tracer.start_as_current_span(text, links=links, attributes=attributes) as span:
                span.set_attribute("http.request.header.referer", (text,))
                span.set_attribute("messaging.message.body", text)
                span.set_attribute("bytes", text.encode())
                span.add_event(text, {"message": text, "list": ("a", text)})
                span.add_link(other, {"late": text})
                fails(text)
        except ValueError:
            pass

    return work


def fails(text):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError(text) from error


@pytest.mark.parametrize(("text", "gone", "left"), SECRETS, ids=range(len(SECRETS)))
def test_no_secret_reaches_the_exported_bytes(text, gone, left, tmp_path):
    assert all(each in text for each in gone + left)
    spans, data = exported(everywhere(text), tmp_path)
    assert [each for each in gone if each.encode() in data] == []
    for each in left:
        assert each in spans[0].name
        assert each in spans[0].attributes["url.full"]
    assert spans[0].status.description.startswith("ValueError: ")
    assert MARK in spans[0].status.description
    exception = spans[0].events[1].attributes
    assert exception["exception.type"] == "ValueError"
    assert "Traceback (most recent call last)" in exception["exception.stacktrace"]
    assert spans[0].attributes["list"] == (spans[0].name, "x")


@pytest.mark.parametrize(("text", "gone", "left"), STATEMENTS, ids=range(len(STATEMENTS)))
@pytest.mark.parametrize("key", ["db.query.text", "db.statement"])
def test_statements_keep_their_shape(text, gone, left, key):
    redacted = Redaction().attributes({key: text})[key]
    assert [each for each in gone if each in redacted] == []
    assert [each for each in left if each not in redacted] == []


def test_what_an_orm_says_of_a_failed_statement():
    text = (
        "(IntegrityError) can't do that\n[SQL: INSERT INTO u (name, password) VALUES (%s, %s)]\n"
        "[parameters: (\"it's\", 'hunter2')]\n(Background on this error at: https://sqlalche.me/e/20/gkpj)"
    )
    redacted = Redaction().text(text)
    assert "hunter2" not in redacted
    assert "can't do that\n[SQL: INSERT INTO u (name, password) VALUES" in redacted
    assert "sqlalche.me/e/20/gkpj" in redacted


@pytest.mark.parametrize("text", CLEAN)
def test_what_is_no_secret_stays(text, tmp_path):
    redaction = Redaction()
    attributes = {"url.full": text, "app.note": text, "list": (text,), "map": {"a": text}, "b": text.encode()}
    assert redaction.attributes(attributes) is attributes
    span = make_span(name=text, attributes=attributes)
    redaction.on_end(span)
    assert (span.name, span.attributes) == (text, attributes)
    assert secret_texts.redact(text) == text, "the rules themselves, without the tests before them"


@pytest.mark.parametrize("text", [each for each in CLEAN if "; expected token" not in each])
def test_statements_without_a_secret_stay(text):
    attributes = {"db.query.text": text, "db.statement": text}
    assert Redaction().attributes(attributes) is attributes


@pytest.mark.parametrize(
    "key",
    [
        "http.request.header.authorization",
        "http.request.header.proxy-authorization",
        "http.request.header.cookie",
        "http.response.header.set-cookie",
        "http.response.header.set_cookie",
        "http.request.header.x-api-key",
        "http.request.header.x_api_key",
        "http.request.header.X-Amz-Security-Token",
        "rpc.grpc.request.metadata.authorization",
        "db.password",
        "aws.auth.account.access_key",
        "app.apiKey",
        "user.password",
        "payment.card_number",
    ],
)
def test_keys_that_name_a_secret_lose_their_value(key):
    redaction = Redaction()
    assert redaction.attributes({key: "x"})[key] == MARK
    assert redaction.attributes({key: ("x", "y")})[key] == (MARK, MARK)
    assert redaction.attributes({key: 12345})[key] == MARK
    assert redaction.attributes({key: {"a": "x"}})[key] == MARK
    assert redaction.attributes({"outer": ({key: "x", "n": 1},)}) == {"outer": ({key: MARK, "n": 1},)}
    assert redaction.attributes({key: None}) == {key: None}


@pytest.mark.parametrize(
    "key", ["aws.next_token", "gen_ai.usage.input_tokens", "aws.secretsmanager.secret.arn", "code"]
)
def test_keys_that_only_sound_like_one(key):
    attributes = {key: "plain"}
    assert Redaction().attributes(attributes) is attributes


def test_a_user_named_on_purpose_stays_and_a_secret_there_does_not():
    attributes = {"user.email": "bob@example.com", "enduser.id": "bob@example.com", "user.note": KEY_ID}
    assert Redaction().attributes(attributes) == {**attributes, "user.note": MARK}


def test_nested_values_bytes_and_numbers():
    value = {"a": [{"b": f"x {KEY_ID}"}, 7, None, True, 2.5], "c": b"\xff password=hunter2 \xfe"}
    redacted = Redaction().attributes({"v": value})
    assert redacted == {"v": {"a": ({"b": f"x {MARK}"}, 7, None, True, 2.5), "c": b"\xff password=[redacted] \xfe"}}
    assert value["a"][0] == {"b": f"x {KEY_ID}"}
    deep: object = KEY_ID
    for _ in range(200):
        deep = [deep]
    assert KEY_ID not in str(Redaction().attributes({"deep": deep}))


def test_the_application_keeps_its_objects(tmp_path):
    link = Link(SpanContext(1, 2, True, TraceFlags(1)), {"x": KEY_ID})
    error = ValueError(f"password=hunter2 {KEY_ID}")
    attributes = {"list": [KEY_ID], "map": {"k": KEY_ID}}
    held = []

    def work(tracer):
        span = tracer.start_span(KEY_ID, links=[link], attributes=attributes)
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, KEY_ID))
        held.append((span, span.attributes, span.events))
        span.end()

    spans, data = exported(work, tmp_path)
    assert KEY_ID.encode() not in data
    assert attributes == {"list": [KEY_ID], "map": {"k": KEY_ID}}
    assert link.attributes == {"x": KEY_ID}
    assert str(error) == f"password=hunter2 {KEY_ID}"
    span, before, events = held[0]
    assert (span.name, span.status.description) == (KEY_ID, KEY_ID)
    assert before["list"] == (KEY_ID,)
    assert KEY_ID in events[0].attributes["exception.message"]
    assert spans[0].status.status_code is StatusCode.ERROR
    assert spans[0].events[0].timestamp == events[0].timestamp


def test_what_was_dropped_stays_known():
    provider = TracerProvider(shutdown_on_exit=False)
    ended = []

    class Keep(SpanProcessor):
        def on_end(self, span):
            ended.append(span)

    provider.add_span_processor(FusedProcessor([Redaction()]))
    provider.add_span_processor(Keep())
    span = provider.get_tracer("t").start_span("s", attributes={f"a{n}": KEY_ID for n in range(130)})
    for number in range(130):
        span.add_event("e", {f"k{n}": KEY_ID for n in range(129)} if number == 129 else None)
    span.end()
    assert (ended[0].dropped_attributes, ended[0].dropped_events) == (2, 2)
    assert (len(ended[0].attributes), len(ended[0].events)) == (128, 128)
    assert ended[0].events[-1].dropped_attributes == 1
    assert KEY_ID not in str(ended[0].events[-1].attributes)


def test_keys_to_drop_and_to_keep():
    redaction = Redaction(drop_keys=["App.Body", "tmp.*"], keep_keys=["raw.*", "db.password"])
    attributes = {"app.body": 1, "tmp.a": "x", "tmp.b": ("x",), "raw.a": KEY_ID, "db.password": "x", "n": 1}
    assert redaction.attributes(attributes) == {"raw.a": KEY_ID, "db.password": "x", "n": 1}
    assert redaction.attributes({"m": {"tmp.a": 1, "b": 2}}) == {"m": {"b": 2}}
    assert len(attributes) == 6


def test_extra_patterns_with_and_without_a_group():
    redaction = Redaction(patterns=[r"CUST-\d+", r"pin (\d{4})"])
    assert redaction.text("for CUST-123, pin 4711!") == "for [redacted], pin [redacted]!"
    assert redaction.attributes({"error.type": "CUST-1"}) == {"error.type": MARK}
    assert redaction.text(redaction.text("pin 4711")) == "pin [redacted]"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "no regular expression"),
        ("x*", "matches the empty text"),
        ("(a+)+b", "a repeat within a repeat"),
        ("(?:a*){2,}b", "a repeat within a repeat"),
        ("y" * 1001, "longer than 1000"),
    ],
)
def test_a_bad_pattern_is_one_line_and_the_others_work(pattern, why):
    lines: list[str] = []
    redaction = Redaction(patterns=[pattern, "CUST"], report=lines.append)
    assert len(lines) == 1
    assert why in lines[0]
    assert "\n" not in lines[0]
    assert len(lines[0]) < 250
    assert redaction.text("a CUST") == f"a {MARK}"


def test_too_many_patterns_and_the_default_report(caplog):
    with caplog.at_level(logging.WARNING, "spanwell"):
        redaction = Redaction(patterns=[f"CUST{number}x" for number in range(52)])
    assert [record.getMessage()[:26] for record in caplog.records] == ["spanwell: redaction patter"] * 2
    assert redaction.text("CUST49x CUST50x") == f"{MARK} CUST50x"


def test_a_text_that_cannot_be_searched_does_not_get_out(monkeypatch, caplog):
    monkeypatch.setattr(_guard, "strict", False)

    def broken(text, **_):
        raise RecursionError

    monkeypatch.setattr(secret_texts, "redact", broken)
    assert Redaction().attributes({"a": "password=hunter2", "b": "fine"}) == {"a": MARK, "b": "fine"}
    assert _guard.losses.snapshot() == {("errors", "redaction"): 1}


def test_memory_is_bounded():
    redaction = Redaction()
    for number in range(10_000):
        redaction.attributes({f"key.{number}": f"value-{number}"})
    redaction.attributes({"a": "x" * 10_000})
    assert len(redaction._scans) <= 4096
    assert len(redaction._text.clean) <= 4096
    assert max(map(len, redaction._text.clean)) <= 512
    assert redaction.attributes({"key.9999": KEY_ID}) == {"key.9999": MARK}
    assert isinstance(redaction._judged("key.9999"), _Scan)


def test_a_huge_text_is_cut_and_what_was_at_the_cut_is_gone():
    text = "x " * 524_280 + "password=" + "hunter2" * 1000
    redacted = Redaction().text(text)
    assert "hunter2" not in redacted
    assert len(redacted) < secret_texts.MAX_TEXT
    assert redacted.endswith("characters]")
    assert Redaction().text(redacted) == redacted


def test_spans_without_a_processor_are_redacted_too():
    attributes = {"a": KEY_ID}
    span = make_span(name=f"GET {KEY_ID}", error="password=hunter2", attributes=attributes)
    Redaction().on_end(span)
    assert (span.name, span.status.description) == (f"GET {MARK}", f"password={MARK}")
    assert span.attributes == {"a": MARK}
    assert attributes == {"a": KEY_ID}
    Redaction().on_end(make_span(attributes=None))
