"""Events as AWS documents them (tests/data/events, invented ids): what each is, and the context in it."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from spanwell import _guard, incoming
from spanwell.propagation.carried import LONGEST_TEXT, MOST_MESSAGES, Carried, Extracted
from spanwell.propagation.carriers import contexts, extract
from spanwell.propagation.codec import TraceHeadersPropagator

EVENTS = Path(__file__).parents[1] / "data" / "events"
TRACE = 0x5759E988BD862E3FE1BE46A994272793
R = "Root=1-5759e988-bd862e3fe1be46a994272793"
A, B, C = 0x53995C3F42CD8AD8, 0x00F067AA0BA902B7, 0xA3CE929D0E0E4736
X = f"{R};Parent=53995c3f42cd8ad8;Sampled=1"
W = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"

# trigger, kind, source, method, route, path, the carrier's parent, the messages' parents
KNOWN = {
    "apigateway_v1": ("http", "apigateway_v1", "a1b2c3d4e5", "GET", "/pets/{id}", "/pets/17", A),
    "apigateway_v2": ("http", "apigateway_v2", "f6g7h8i9j0", "GET", "/pets/{id}", "/prod/pets/17", A),
    "apigateway_websocket_connect": ("http", "apigateway_websocket", "p6q7r8s9t0", "", "$connect", "", A),
    "apigateway_websocket_message": ("http", "apigateway_websocket", "p6q7r8s9t0", "", "sendMessage", "", 0),
    "function_url": ("http", "function_url", "k1l2m3n4o5", "GET", "", "/pets/17", A),
    "alb": ("http", "alb", "shop-lambda", "GET", "", "/pets/17", A),
    "alb_multi_value": ("http", "alb", "shop-lambda", "GET", "", "/pets/17", A),
    "appsync": ("http", "appsync", "", "", "Query.getPet", "", A),
    "appsync_batch": ("http", "appsync", "", "", "Query.getPet", "", A),
    "appsync_authorizer": ("http", "appsync_authorizer", "u1v2w3x4y5", "", "", "", A),
    "sqs": ("pubsub", "sqs", "orders", "", "", "", 0, A, B, 0, 0, C),
    "sns_sqs": ("pubsub", "sns_sqs", "orders", "", "", "", 0, A, B, C),
    "sns_sqs_raw": ("pubsub", "sqs", "orders", "", "", "", 0, A),
    "eventbridge_sqs": ("pubsub", "eventbridge_sqs", "orders", "", "OrderPlaced", "", 0, A, B, 0),
    "eventbridge_sns_sqs": ("pubsub", "sns_sqs", "orders", "", "", "", 0, A),
    "pipe_sqs": ("pubsub", "sqs", "orders", "", "", "", 0, A, 0),
    "sns": ("pubsub", "sns", "prices", "", "", "", 0, A),
    "eventbridge_sns": ("pubsub", "sns", "prices", "", "", "", 0, B),
    "eventbridge": ("pubsub", "eventbridge", "com.example.shop", "", "OrderPlaced", "", 0, A),
    "kinesis": ("pubsub", "kinesis", "clicks", "", "", "", 0, A, 0, B, 0),
    "pipe_kinesis": ("pubsub", "kinesis", "clicks", "", "", "", 0, A),
    "firehose": ("pubsub", "firehose", "clicks-to-s3", "", "", "", 0, A, 0),
    "dynamodb": ("datasource", "dynamodb", "orders", "", "", "", 0),
    "s3": ("datasource", "s3", "amzn-s3-demo-bucket", "", "", "", 0),
    "schedule": ("timer", "schedule", "every-night", "", "", "", 0),
    "scheduler": ("timer", "schedule", "every-night", "", "", "", 0),
    "stepfunctions_context": ("other", "stepfunctions", "checkout", "", "Charge", "", A),
    "stepfunctions_payload": ("other", "stepfunctions", "checkout", "", "Charge", "", A),
    "stepfunctions_token": ("other", "stepfunctions", "", "", "", "", 0),
    "cognito": ("other", "cognito", "eu-west-1_xmplPool1", "", "PreSignUp_SignUp", "", 0),
    "cognito_sync": ("other", "cognito", "eu-west-1:1a2b-xmpl", "", "SyncTrigger", "", 0),
    "iot_rule": ("other", "other", "", "", "", "", A),
    "iot_lifecycle": ("other", "iot_lifecycle", "", "", "connected", "", 0),
    "iot_events": ("other", "iot_events", "press_pressure", "", "", "", 0),
    "iot_1click": ("other", "iot_1click", "button", "", "", "", 0),
    "iot_button": ("other", "iot_button", "", "", "", "", 0),
    "cloudwatch_logs": ("other", "cloudwatch_logs", "", "", "", "", 0),
    "cloudwatch_alarm": ("other", "cloudwatch_alarm", "orders-late", "", "", "", 0),
    "direct": ("other", "other", "", "", "", "", 0),
    "direct_with_context": ("other", "other", "", "", "", "", A),
}


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    incoming.forget_root()
    yield
    incoming.forget_root()


def event(name):
    return json.loads((EVENTS / f"{name}.json").read_text())


def parent(carrier):
    return get_current_span(TraceHeadersPropagator().extract(dict(carrier), Context())).get_span_context().span_id


def test_every_event_has_its_row():
    assert {path.stem for path in EVENTS.glob("*.json")} == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_the_event_is_recognised_with_its_context(name):
    given = event(name)
    before = copy.deepcopy(given)
    found = extract(given)
    said = found.trigger, found.kind, found.source, found.method, found.route, found.path
    assert (*said, parent(found.carrier), *(parent(each.carrier) for each in found.messages)) == KNOWN[name]
    assert [each.span_id for each in contexts(found)] == [each for each in KNOWN[name][7:] if each]
    assert given == before


def test_what_cannot_be_read_in_one_message_has_a_reason_and_the_others_keep_theirs():
    problems = [each.problem for each in extract(event("sqs")).messages]
    assert problems == ["", "", "", "unreadable X-Amzn-Trace-Id", "unreadable traceparent"]
    assert [each.problem for each in extract(event("kinesis")).messages] == ["", "", "", "unreadable traceparent"]


def test_a_request_whose_header_is_corrupt_says_so():
    given = event("alb")
    given["headers"]["traceparent"] = "00-" + "0" * 52
    given["headers"]["tracestate"] = "a=1"
    found = extract(given)
    assert found.problem == "unreadable traceparent"
    assert {"traceparent", "tracestate"}.isdisjoint(found.carrier)


def test_the_context_of_a_message_is_whole():
    (_, second, *_) = contexts(extract(event("sqs")))
    assert second.trace_id == TRACE
    assert second.is_remote
    assert second.trace_flags == 1
    assert dict(second.trace_state) == {"a": "1"}


def test_lists_of_header_values_are_joined_where_they_mean_one_list():
    for name in ("apigateway_v1", "alb_multi_value"):
        assert extract(event(name)).carrier["tracestate"] == "a=1,b=2"


def test_the_names_of_headers_are_in_lower_case_but_x_rays():
    assert set(extract(event("apigateway_v1")).carrier) > {"X-Amzn-Trace-Id", "traceparent", "user-agent", "host"}


def test_lineage_comes_along():
    found = TraceHeadersPropagator().extract(extract(event("function_url")).carrier, Context())
    assert incoming.of(found).lineage == "1:a87bd80c:0"


def test_attributes_follow_the_conventions():
    found = extract(event("apigateway_v1"))
    assert found.attributes == {
        "http.request.method": "GET",
        "http.route": "/pets/{id}",
        "url.path": "/pets/17",
        "url.scheme": "https",
        "server.address": "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com",
        "client.address": "192.0.2.7",
        "user_agent.original": "curl/8.5.0",
        "aws.request_id": "77375676-xmpl-4b79-853a-f982474efe18",
    }
    assert extract(event("alb")).attributes["client.address"] == "192.0.2.7"
    assert extract(event("appsync")).attributes["graphql.operation.type"] == "query"
    found = extract(event("sns_sqs"))
    assert found.source_arn == "arn:aws:sqs:eu-west-1:123456789012:orders"
    assert found.attributes == {
        "messaging.system": "aws_sqs",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.batch.message_count": 3,
        "aws.sns.topic.arn": "arn:aws:sns:eu-west-1:123456789012:prices",
    }
    assert extract(event("sns")).attributes["messaging.message.id"] == "95df01b4-xmpl-5cb9-9903-000000000001"
    assert extract(event("kinesis")).attributes["aws.kinesis.stream_name"] == "clicks"
    assert extract(event("dynamodb")).attributes["faas.document.operation"] == "insert"
    assert extract(event("s3")).attributes["aws.s3.key"] == "invoices/17.pdf"
    assert extract(event("schedule")).attributes == {"faas.time": "2026-03-10T00:03:59Z"}


def test_the_ids_of_messages_are_the_service_s():
    ids = [each.message_id for each in extract(event("firehose")).messages]
    assert ids == ["record1", "record2"]


def test_changes_of_several_kinds_have_no_operation():
    given = event("dynamodb")
    given["Records"][1]["eventName"] = "REMOVE"
    assert "faas.document.operation" not in extract(given).attributes
    given = event("s3")
    given["Records"][0]["eventName"] = "ObjectRemoved:Delete"
    assert extract(given).attributes["faas.document.operation"] == "delete"


def test_two_traces_in_one_message_are_both_linked_once():
    other = X.replace("5759e988", "5759e989")
    attributes = {"traceparent": {"stringValue": W, "dataType": "String"}}
    record = {"eventSource": "aws:sqs", "attributes": {"AWSTraceHeader": other}, "messageAttributes": attributes}
    found = contexts(extract({"Records": [record, record]}))
    assert [each.trace_id for each in found] == [TRACE, TRACE + (1 << 96)]


def test_a_root_alone_is_no_link_and_leaves_no_word_for_the_next_span():
    record = {"eventSource": "aws:sqs", "attributes": {"AWSTraceHeader": R}}
    incoming.expect_root(7, 0.0)
    assert contexts(extract({"Records": [record]})) == []
    assert incoming.take_root(lambda: 0.0) == 7


def test_another_propagator_reads_what_it_knows():
    class Own(TextMapPropagator):
        fields = {"x-own"}

        def inject(self, carrier, context=None, setter=None):
            raise NotImplementedError

        def extract(self, carrier, context=None, getter=None):
            span = SpanContext(1, int(carrier["x-own"]), True)
            return set_span_in_context(NonRecordingSpan(span), context)

    record = {"eventSource": "aws:sqs", "messageAttributes": {"X-Own": {"stringValue": "5", "dataType": "String"}}}
    assert [each.span_id for each in contexts(extract({"Records": [record]}), Own())] == [5]


# --- bad input and bounds --------------------------------------------------------------------------------------


class Raising(dict):
    """A dict to isinstance, and an error to whoever looks."""

    def get(self, key, default=None):
        raise ZeroDivisionError

    __contains__ = __getitem__ = items = keys = get


class Angry:
    def __hash__(self):
        return hash("Records")

    def __eq__(self, other):
        raise ZeroDivisionError


def cyclic():
    made = {"Records": [{"eventSource": "aws:sqs"}], "detail": {}}
    made["Records"][0]["messageAttributes"] = made["Records"][0]["attributes"] = made["detail"]["detail"] = made
    made["Records"].append(made)
    return made


def deep():
    made = {}
    for _ in range(100_000):
        made = {"context": made, "event": made, "detail": made}
    return made


UNKNOWN = [
    *(
        None,
        5,
        "text",
        b"bytes",
        [],
        [1],
        [[]],
        (),
        {},
        {1: 2, None: 3},
        object(),
        Raising(Records=[1]),
        {Angry(): 1},
    ),
    *({"Records": records} for records in ([], [None], {}, [{"eventSource": ["aws:sqs"]}], [{"eventSource": "x"}])),
    *({"requestContext": each} for each in (None, {}, {"elb": 5, "http": [], "connectionId": 1})),
    *({"info": {}, "arguments": 1}, {"deliveryStreamArn": "a", "records": {}}, {"detail-type": 1, "source": 2}),
    *({"event": {"payload": {"detector": []}}}, {"awslogs": []}, {"alarmArn": 1}, deep()),
]


@pytest.mark.parametrize("given", UNKNOWN, ids=lambda given: type(given).__name__)
def test_an_event_of_no_known_shape_is_other(given):
    found = extract(given)
    assert (found.trigger, found.kind, found.carrier, found.messages) == ("other", "other", {}, ())
    assert contexts(found) == []


def test_a_hostile_record_costs_its_own_context_only():
    good = {"eventSource": "aws:sqs", "attributes": {"AWSTraceHeader": X}}
    found = extract({"Records": [good, Raising(good), None, cyclic(), {**good, "attributes": Raising()}, good]})
    assert [bool(each.carrier) for each in found.messages] == [True, False, False, False, False, True]
    assert found.messages[1:3] == (
        Carried(problem="unreadable record (ZeroDivisionError)"),
        Carried(problem="not a record"),
    )
    assert extract(cyclic()).kind == "sqs"


def test_the_number_of_records_is_bounded():
    record = {"eventSource": "aws:sqs", "attributes": {"AWSTraceHeader": X}}
    assert len(extract({"Records": [record] * (MOST_MESSAGES + 5)}).messages) == MOST_MESSAGES


def envelope(message="", **attributes):
    entries = {name: {"Type": "String", "Value": value} for name, value in attributes.items()}
    topic = "arn:aws:sns:eu-west-1:123456789012:prices"
    return {"Type": "Notification", "TopicArn": topic, "Message": message, "MessageAttributes": entries}


def of_body(body):
    return extract({"Records": [{"eventSource": "aws:sqs", "body": body}]})


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded."""
    texts = []
    monkeypatch.setattr(json, "loads", texts.append)
    return texts


def test_a_body_that_is_too_long_is_not_decoded_and_says_so(decoded):
    body = json.dumps(envelope("x" * LONGEST_TEXT, traceparent=W))
    (message,) = of_body(body).messages
    assert message.carrier == {}
    assert "64 kB" in message.problem
    assert of_body(body.replace("traceparent", "colour")).messages == (Carried(),)
    assert of_body("x" * 2_000_000).messages == (Carried(),)
    assert decoded == []


def test_no_body_is_decoded_without_need(decoded):
    given, streamed = (
        json.JSONDecoder().decode((EVENTS / f"{name}.json").read_text()) for name in ("sqs", "kinesis")
    )
    given["Records"][2]["body"] = json.dumps({"traceparent": W, "order": 17})  # the application's own
    given["Records"][1]["body"] = json.dumps(envelope(traceparent=W))  # its attributes hold a context already
    text = streamed["Records"][1]
    other = {**text, "kinesis": {"data": base64.b64encode(b'{"page": "/"}').decode()}}
    assert extract(given).kind == "sqs"
    assert [each.carrier for each in extract({"Records": [text, other]}).messages] == [{}, {}]
    assert decoded == []


@pytest.mark.parametrize("body", ['{"TopicArn"', '{"TopicArn":' * 5000, '["TopicArn"]', "{}"])
def test_a_body_that_only_looks_like_an_envelope_is_a_body(body):
    found = of_body(body + " traceparent")
    assert (found.kind, found.messages) == ("sqs", (Carried(),))


@pytest.mark.parametrize("data", [None, 5, "e", "e===", "e!\u00e9", "eyJ0cmFjZXBhcmVudCI6", "e" * 1_000_000])
def test_data_that_is_no_json_is_no_context(data):
    found = extract({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": data}}]})
    assert found.messages == (Carried(),)


def test_headers_of_every_kind_are_bounded():
    many = {f"h{number}": "x" for number in range(100_000)}
    found = extract(
        {"requestContext": {"elb": {}}, "headers": {5: "x", "n": 5, "l": [], "m": [1], "x" * 1000: "", **many}}
    )
    assert len(found.carrier) <= 128
    assert max(map(len, found.carrier)) < 10
    found = extract({"requestContext": {"elb": {}}, "headers": {"traceparent": W + "-" + "x" * 5_000_000}})
    assert found.problem == "unreadable traceparent"


def test_nothing_is_imported_before_it_is_used():
    code = "import sys; before = set(sys.modules); import spanwell; print(*set(sys.modules) - before)"
    source = str(Path(__file__).parents[2] / "src")
    run = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {source!r}); {code}"]
    assert subprocess.run(run, capture_output=True, text=True, timeout=60).stdout.split() == ["spanwell"]


def test_the_package_has_its_late_names_and_no_others():
    import spanwell
    from spanwell.propagation.polling import messages

    assert spanwell.messages is messages
    with pytest.raises(AttributeError, match="spanwell"):
        _ = spanwell.nothing
    assert isinstance(extract({}), Extracted)
