"""Secrets planted wherever an application has them, and the bytes that leave the process searched for each."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from support.receiver import otlp_receiver
from support.servers import moto
from support.started import LAUNCHERS, clean, python

pytestmark = [pytest.mark.slow, pytest.mark.full]

# Place -> the secret that is planted there. None may be a part of another, or of what is harmless.
PLANTED = {
    "user_info": "Us3r1nf0-pa55/w0rd",
    "query_token": "qT0ken-7f1d92ab43",
    "server_query": "sQuery-8812f0cc1a",
    "bearer": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJlLXBsYW50ZWQ",
    "basic": "bAsic-pa55-0183",
    "cookie": "sessi0n-c00kie-4242",
    "set_cookie": "set-c00kie-9d1e77",
    "api_key": "k3y-in-a-header-55aa",
    "statement": "st4tement-pa55",
    "statement_insert": "1nsert-pa55",
    "exception": "exc3ption-pa55",
    "cause": "c4use-t0ken-3344",
    "event": "ev3nt-t0ken-aa11",
    "event_text": "ev3nttext-pa55",
    "attribute": "attr1bute-secret-71",
    "nested": "n3sted-secret-72",
    "span_name": "n4me-t0ken-90",
    "link": "l1nk-secret-73",
    "status": "st4tus-pa55-74",
    "baggage": "b4ggage-t0ken-75",
    "fixed": "f1xed-t0ken-76",
    "message_body": "b0dy-pa55-77",
    "message_attribute": "mattr-pa55-78",
    "table_value": "dynam0-pa55-79",
    "email": "planted.person@example.com",
    "card": "4012888888881881",
    "custom": "CUST-778899",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED1234567QX",
    "AWS_SECRET_ACCESS_KEY": "aWsS3cr3tPlanted/1234567890abcdefghijklmn",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEPlantedSessionToken0123456789==",
}

# Where a secret was has to have arrived, else its absence proves nothing: text that is left beside it.
LEFT = (
    "visible-client-url",
    "visible-server-url",
    "visible-header",
    "X-Amz-Signature=[redacted]",
    "&Signature=[redacted]",
    "http.request.header.authorization",
    "http.request.header.cookie",
    "http.response.header.set_cookie",
    "http.request.header.x_api_key",
    "SELECT",
    "the bank refused",
    "the vault refused",
    "visible-event",
    "visible-attribute",
    "visible-name",
    "visible-link",
    "visible-status",
    "shop.session_token",
    "fixed_token",
    "mail of [redacted]",
    "card [redacted]",
    "customer [redacted]",
    "SQS.SendMessage",
    "process secrets",
    "DynamoDB.PutItem",
    "Traceback (most recent call last)",
)

APPLICATION = """
import base64, json, os, sqlite3, threading
import boto3, requests
from botocore.config import Config
from flask import Flask, request
from opentelemetry import trace
from werkzeug.serving import make_server

S = json.loads(os.environ["PLANTED"])
app = Flask("vault")
tracer = trace.get_tracer("vault")
database = sqlite3.connect(":memory:", check_same_thread=False)
sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
queue = sqs.create_queue(QueueName="secrets")["QueueUrl"]

@app.get("/echo")
def echo():
    return "echo", 200, {"Set-Cookie": "session=" + S["set_cookie"], "X-Plain": "visible-header"}

@app.get("/vault")
def vault():
    cursor = database.cursor()
    cursor.execute("CREATE TABLE IF NOT EXISTS users (name TEXT, password TEXT)")
    cursor.execute(f"SELECT name FROM users WHERE password = '{S['statement']}'")
    cursor.execute(f"INSERT INTO users (name, password) VALUES ('x', '{S['statement_insert']}')")
    sqs.send_message(
        QueueUrl=queue,
        MessageBody="password=" + S["message_body"],
        MessageAttributes={"password": {"DataType": "String", "StringValue": S["message_attribute"]}},
    )
    for message in sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    try:
        dynamodb.put_item(TableName="none", Item={"password": {"S": S["table_value"]}})
    except dynamodb.exceptions.ResourceNotFoundException:
        pass
    own()
    try:
        raise ValueError("the vault refused token=" + S["cause"])
    except ValueError as error:
        raise RuntimeError("the bank refused password=" + S["exception"]) from error

def own():
    link = trace.Link(trace.get_current_span().get_span_context(), {"password": S["link"], "plain": "visible-link"})
    with tracer.start_as_current_span("GET /visible-name?token=" + S["span_name"], links=[link]) as span:
        span.add_event("visible-event", {"token": S["event"], "text": "Authorization: Bearer " + S["event_text"]})
        span.set_attributes({"app.password": S["attribute"], "plain": "visible-attribute"})
        span.set_attribute("app.body", json.dumps({"deep": {"client_secret": S["nested"]}}))
        span.set_attribute("app.notes", ["mail of " + S["email"], "card " + S["card"], "customer " + S["custom"]])
        span.set_status(trace.StatusCode.ERROR, "visible-status: passwd=" + S["status"])

server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"127.0.0.1:{server.server_port}"
headers = {
    "Authorization": "Bearer " + S["bearer"],
    "Cookie": "session=" + S["cookie"],
    "X-Api-Key": S["api_key"],
    "X-Plain": "visible-header",
    "baggage": "shop.session_token=" + S["baggage"],
}
answer = requests.get(f"http://{host}/vault?page=visible-server-url&password={S['server_query']}", headers=headers)
assert answer.status_code == 500
requests.get(f"http://{host}/echo?page=visible-client-url&access_token={S['query_token']}", headers=headers)
requests.get(f"http://{host}/echo", auth=("me", S["basic"]))
from urllib.parse import quote
requests.get(f"http://me:{quote(S['user_info'], safe='')}@{host}/echo")
for version in ("s3", "s3v4"):
    client = boto3.client("s3", config=Config(signature_version=version))
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    requests.get(f"http://{host}/echo?" + signed.partition("?")[2])
server.shutdown()
"""


def forms(secret: str) -> set[bytes]:
    """The bytes that give `secret` away, in the encodings that it may travel in."""
    texts = {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
    return {text.encode() for text in texts} | {base64.b64encode(f"me:{secret}".encode())}


def exported(launcher: str, **extra: str) -> bytes:
    """Every byte that the application exports."""
    aws = {name: value for name, value in PLANTED.items() if name.startswith("AWS_")}
    with moto() as endpoint, otlp_receiver() as receiver:
        environment = {
            **aws,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PLANTED": json.dumps(PLANTED),
            "OTEL_SERVICE_NAME": "vault",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint("vault"),
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup,database/dup",
            "SPANWELL_BAGGAGE_KEYS": "*",
            "SPANWELL_SPAN_ATTRIBUTES": f"fixed_token={PLANTED['fixed']}",
            "SPANWELL_ANNOTATIONS": "*",
            "SPANWELL_APPLICATION_SIGNALS": "true",
            "SPANWELL_REDACT_PATTERNS": r"CUST-\d{6}",
            "SPANWELL_RESOURCE_TIMEOUT": "0",
            "SPANWELL_SHUTDOWN_TIMEOUT": "20",
        }
        for side in ("SERVER", "CLIENT"):
            for way in ("REQUEST", "RESPONSE"):
                environment[f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_{side}_{way}"] = ".*"
        done = python(APPLICATION, clean(**{**environment, **extra}), launcher=launcher, timeout=60)
        assert done.code == 0, done.err
        return receiver.received("vault")


def places(received: bytes) -> set[str]:
    """Where the secrets were planted that are in the bytes."""
    return {place for place, secret in PLANTED.items() if any(form in received for form in forms(secret))}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_no_secret_leaves_the_process(launcher: str) -> None:
    received = exported(launcher)
    assert [text for text in LEFT if text.encode() not in received] == []
    assert places(received) == set()


def test_without_redaction_they_do() -> None:
    # So the places are real and the search works. The rest no instrumentor puts on a span.
    never = {"message_body", "message_attribute", "table_value", "AWS_SECRET_ACCESS_KEY"}
    assert places(exported("run", SPANWELL_REDACTION="false")) == PLANTED.keys() - never
