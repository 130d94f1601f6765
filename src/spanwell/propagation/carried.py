"""The trace context that one message carries, wherever in the message it stands.

Pure functions over what AWS delivers: header mappings, message attributes (as Lambda and as boto3 write them), the
envelopes that SNS and EventBridge put around a body, JSON payloads. Text is decoded only when a look at it says that
a context may be inside, and none that is longer than `LONGEST_TEXT`.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from spanwell.incoming import other_parent
from spanwell.propagation import codec, xray
from spanwell.propagation.xray import HEADER, LONGEST_HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import SpanContext

TRACEPARENT, TRACESTATE = codec.TRACEPARENT, codec.TRACESTATE
KEYS = (TRACEPARENT, TRACESTATE, HEADER)
"""The keys that a JSON payload (Kinesis, Firehose, EventBridge's `detail`) holds its context under."""
LONGEST_TEXT = 65536
MOST_HEADERS = 128
MOST_MESSAGES = 10_000
_LONGEST_MESSAGE = 1 << 20
_MOST_PROBLEMS = 5
# Both write the names that tell their envelopes apart first.
_START = 1024
_TOO_LONG = "its body is longer than 64 kB and was not searched for a trace context"
# SNS puts an event of EventBridge into its own envelope: two layers, and never more.
_LAYERS = 2
# Names that mean the X-Ray header, as senders spell them in message attributes and payloads.
_XRAY_NAMES = frozenset(("x-amzn-trace-id", "awstraceheader", "traceheader"))
# Fields that may stand several times in a request and then mean one list.
_LISTS = frozenset((TRACESTATE, "baggage"))


class Carried(NamedTuple):
    """One message's own trace context.

    message_id: the service's id of the message, or "". carrier: what a propagator's `extract` takes; {} without a
    context. problem: "" or, in words, why a context that may have been there is not in `carrier`.
    """

    message_id: str = ""
    carrier: Mapping[str, str] = {}
    problem: str = ""


class Extracted(NamedTuple):
    """What `extract` saw in one event. Texts are "" where an event says nothing.

    trigger: a value of OpenTelemetry's `faas.trigger`: http, pubsub, datasource, timer, other. kind: the precise name
    of the shape, such as "apigateway_v1". carrier: what the request itself carries, for a propagator's `extract`; {}
    if nothing. messages: one `Carried` for each record of a trigger whose records may carry a context of their own.
    source: the name of the queue, topic, stream, table, bucket, rule, target group, API, user pool or state machine;
    source_arn: its ARN. method, route, path: of a request; route is a template, never a value, and for events that
    have no routes what comes closest, as EventBridge's detail type. attributes: all that as span attributes.
    problem: as in `Carried`.
    """

    trigger: str = "other"
    kind: str = "other"
    carrier: Mapping[str, str] = {}
    messages: tuple[Carried, ...] = ()
    source: str = ""
    source_arn: str = ""
    method: str = ""
    route: str = ""
    path: str = ""
    attributes: Mapping[str, Any] = {}
    problem: str = ""


def problems(found: Extracted) -> str:
    """Why contexts that may have been in the event could not be used, the first five; "" mostly."""
    said = dict.fromkeys([found.problem, *(message.problem for message in found.messages)])
    return "; ".join([each for each in said if each][:_MOST_PROBLEMS])


def text_of(mapping: object, key: str) -> str:
    """`mapping[key]` where that is a dict with a text there, at most 2048 characters; else ""."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value[:2048] if isinstance(value, str) else ""


def dict_of(mapping: object, key: str) -> dict[Any, Any]:
    """`mapping[key]` where that is a dict with a dict there; else {}."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, dict) else {}


def resource_name(arn: str) -> str:
    """The last part of an ARN: `orders` of `arn:aws:sqs:eu-west-1:123456789012:orders`."""
    return arn.rpartition(":")[2].rpartition("/")[2]


def made(message_id: object, carrier: dict[str, str], problem: str = "") -> Carried:
    """A `Carried` of what was found, unreadable headers taken out of `carrier` and named."""
    bad = corrupt(carrier)
    for name in bad:
        del carrier[name]
    if TRACEPARENT in bad:
        carrier.pop(TRACESTATE, None)  # it belongs to its traceparent
    if bad:
        problem = "unreadable " + ", ".join(bad)
    return Carried(message_id if isinstance(message_id, str) else "", carrier, problem)


def corrupt(carrier: Mapping[str, str]) -> list[str]:
    """The trace headers of `carrier` that name no context."""
    bad = []
    text = carrier.get(TRACEPARENT)
    if text is not None and (len(text) > LONGEST_HEADER or codec.traceparent(text) is None):
        bad.append(TRACEPARENT)
    text = carrier.get(HEADER)
    if text is not None and xray.parse(text) is None:
        bad.append(HEADER)
    return bad


def headers(*mappings: object) -> dict[str, str]:
    """A carrier of the header fields of a request, names in lower case but X-Ray's, from the first of `mappings` that
    is a dict with something in it. A value may be a list, as load balancers write them; at most 128 are looked at."""
    found: dict[str, str] = {}
    for mapping in mappings:
        if isinstance(mapping, dict) and mapping:
            for name, value in islice(mapping.items(), MOST_HEADERS):
                _add_header(found, name, value)
            break
    return found


def _add_header(found: dict[str, str], name: object, value: object) -> None:
    if not isinstance(name, str) or len(name) > 256:
        return
    key = name.lower()
    if isinstance(value, list):
        texts = [each for each in value[:MOST_HEADERS] if isinstance(each, str)]
        value = (",".join(texts) if key in _LISTS else texts[0]) if texts else None
    if isinstance(value, str):
        found.setdefault(HEADER if key == "x-amzn-trace-id" else key, value)


def attributes(found: dict[str, str], entries: object, value_key: str) -> None:
    """Add message attributes to the carrier `found`: `{name: {value_key: text}}`."""
    if not isinstance(entries, dict):
        return
    for name, entry in islice(entries.items(), MOST_HEADERS):
        value = entry.get(value_key) if isinstance(entry, dict) else None
        if isinstance(name, str) and isinstance(value, str) and len(name) <= 256:
            key = name.lower()
            found.setdefault(HEADER if key in _XRAY_NAMES else key, value)


def named(found: dict[str, str], payload: object) -> None:
    """Add what stands in `payload` under KEYS (or `traceHeader`, Step Functions' name for X-Ray's)."""
    if not isinstance(payload, dict):
        return
    for key in (*KEYS, "traceHeader"):
        value = payload.get(key)
        if isinstance(value, list) and value:
            value = value[0]  # AWS IoT gives the user properties of MQTT as lists
        if isinstance(value, str):
            found.setdefault(HEADER if key == "traceHeader" else key, value)


def inside(found: dict[str, str], text: object) -> str:
    """Add what the envelope or event in `text`, a message's body, carries; the problem met, or ""."""
    for _ in range(_LAYERS):
        # A context of W3C is complete: whatever else is there names the same span or a later hop's.
        if TRACEPARENT in found or not isinstance(text, str) or not _envelope(text) or not _mentions(text):
            return ""
        if len(text) > LONGEST_TEXT:
            return _TOO_LONG
        envelope = opened(text)
        attributes(found, envelope.get("MessageAttributes"), "Value")
        if "detail-type" in envelope:
            named(found, envelope.get("detail"))
        text = envelope.get("Message")
    return ""


def _mentions(text: str) -> bool:
    return any(text.find(key, 0, _LONGEST_MESSAGE) >= 0 for key in (TRACEPARENT, HEADER))


def _envelope(text: str) -> bool:
    """Whether `text` begins as what SNS or EventBridge write."""
    return text.find('"TopicArn"', 0, _START) >= 0 or text.find('"detail-type"', 0, _START) >= 0


def opened(text: object) -> dict[str, Any]:
    """The envelope of SNS or the event of EventBridge that `text` is, or {}."""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT or not _envelope(text):
        return {}
    found = _json(text)
    if found.get("Type") == "Notification" and isinstance(found.get("TopicArn"), str):
        return found
    return found if isinstance(found.get("detail-type"), str) and "detail" in found else {}


def data(found: dict[str, str], blob: object) -> None:
    """Add what the JSON payload `blob` of a stream's record, bytes or base64 text, carries."""
    if isinstance(blob, str):
        blob = _decoded(blob)
    if not isinstance(blob, (bytes, bytearray)) or blob[:1] != b"{" or len(blob) > LONGEST_TEXT:
        return
    if b"traceparent" in blob or b"X-Amzn-Trace-Id" in blob:
        named(found, _json(blob))


def _decoded(text: str) -> bytes:
    # In base64 a text that starts with "{" starts with "e".
    if text[:1] != "e" or len(text) > LONGEST_TEXT * 4 // 3 + 4:
        return b""
    from binascii import a2b_base64

    try:
        return a2b_base64(text)
    except ValueError:
        return b""


def _json(text: str | bytes | bytearray) -> dict[str, Any]:
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def sqs_polled(message: Any, header: str | None = None) -> Carried:
    """A message of a ReceiveMessage response; `header` is its AWSTraceHeader where that was taken out."""
    found: dict[str, str] = {}
    if header:
        found[HEADER] = header
    return _of_queue(message.get, found, ("MessageId", "Attributes", "MessageAttributes", "StringValue", "Body"))


def kinesis_polled(record: Any, _: str | None = None) -> Carried:
    """A record of a GetRecords response."""
    found: dict[str, str] = {}
    data(found, record.get("Data"))
    return made(record.get("SequenceNumber"), found)


def sqs_delivered(record: Any) -> Carried:
    """A record of the event that a queue sends to Lambda or a pipe."""
    return _of_queue(record.get, {}, ("messageId", "attributes", "messageAttributes", "stringValue", "body"))


def _of_queue(get: Any, found: dict[str, str], fields: tuple[str, str, str, str, str]) -> Carried:
    message_id, system, own, value, body = fields
    system_attributes = get(system)
    if isinstance(system_attributes, dict):
        text = system_attributes.get("AWSTraceHeader")
        if isinstance(text, str) and text:
            found.setdefault(HEADER, text)
    attributes(found, get(own), value)
    problem = inside(found, get(body))
    return made(get(message_id), found, problem)


def contexts(messages: Iterable[Carried], propagator: TextMapPropagator | None = None) -> list[SpanContext]:
    """The span contexts to link, each once and in order: what created `messages`.

    propagator: reads the carriers; by default W3C's and X-Ray's headers are read, whatever OTEL_PROPAGATORS says.
    """
    found: dict[tuple[int, int], SpanContext] = {}
    for message in messages:
        if message.carrier:
            for each in _read(message.carrier, propagator):
                found.setdefault((each.trace_id, each.span_id), each)
    return list(found.values())


def _read(carrier: Mapping[str, str], propagator: TextMapPropagator | None) -> list[SpanContext]:
    if propagator is None:
        return codec.parents(dict(carrier))
    from contextvars import copy_context

    # In a copy, because propagators leave word of a Root without a Parent for the next root span.
    return creators(copy_context().run(propagator.extract, carrier, Context()))


def creators(context: Context) -> list[SpanContext]:
    """The remote parents that `context`, just extracted, holds: one, two if its headers named two traces, or none."""
    chosen = get_current_span(context).get_span_context()
    if not chosen.is_valid:
        return []
    other = other_parent(context, chosen.trace_id)
    return [chosen] if other is None else [chosen, other]


def default_propagator() -> TextMapPropagator:
    """Reads and writes what a message carries, whatever OTEL_PROPAGATORS says: W3C's and X-Ray's headers."""
    return _PROPAGATOR


_PROPAGATOR = codec.TraceHeadersPropagator()
