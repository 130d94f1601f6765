"""Which operations hand work to somebody else, and how their parameters take the context along.

A row says: service and operation, the option it belongs to, and the function `change(params, carrier, shape)` that
gives the parameters their context, named by module so that it is loaded at the operation's first call. `carrier` is
what the codec writes for the current span, `shape` botocore's model of the parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.baggage import get_all
from opentelemetry.context import get_current
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import get_current_span

from spanwell import incoming
from spanwell._guard import warn_once
from spanwell._otel.botocore import is_client_span, make_producer
from spanwell.propagation.carried import TRACEPARENT, TRACESTATE
from spanwell.propagation.xray import HEADER, header_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Params = dict[str, Any]
    Carrier = dict[str, str]
    Change = Callable[[Params, Carrier, Any], Params]

DEFAULTS = frozenset(("sqs", "sns", "eventbridge", "stepfunctions", "lambda", "kinesis_spans"))
OPT_INS = frozenset(("sqs_attributes", "eventbridge_detail", "kinesis", "firehose"))


class Sends(NamedTuple):
    """An operation that sends messages: `messaging.system`, the parameter (or that of an entry) that names where to,
    and the parameter that holds the messages of a batch."""

    system: str
    destination: str
    batch: str = ""


class _Row(NamedTuple):
    option: str
    change: str


_SQS = "QueueUrl"
SENDS: dict[tuple[str, str], Sends] = {
    ("sqs", "SendMessage"): Sends("aws_sqs", _SQS),
    ("sqs", "SendMessageBatch"): Sends("aws_sqs", _SQS, "Entries"),
    ("sns", "Publish"): Sends("aws.sns", "TopicArn"),
    ("sns", "PublishBatch"): Sends("aws.sns", "TopicArn", "PublishBatchRequestEntries"),
    ("events", "PutEvents"): Sends("aws_eventbridge", "EventBusName", "Entries"),
    ("kinesis", "PutRecord"): Sends("aws_kinesis", "StreamName"),
    ("kinesis", "PutRecords"): Sends("aws_kinesis", "StreamName", "Records"),
    ("firehose", "PutRecord"): Sends("aws_firehose", "DeliveryStreamName"),
    ("firehose", "PutRecordBatch"): Sends("aws_firehose", "DeliveryStreamName", "Records"),
}
_ROWS: dict[tuple[str, str], tuple[_Row, ...]] = {
    ("sqs", "SendMessage"): (
        _Row("sqs", "sqs:with_header"),
        _Row("sqs_attributes", "message_attributes:send_message"),
    ),
    ("sqs", "SendMessageBatch"): (
        _Row("sqs", "sqs:batch_with_header"),
        _Row("sqs_attributes", "message_attributes:send_message_batch"),
    ),
    ("sns", "Publish"): (_Row("sns", "message_attributes:publish"),),
    ("sns", "PublishBatch"): (_Row("sns", "message_attributes:publish_batch"),),
    ("events", "PutEvents"): (
        _Row("eventbridge", "own_fields:put_events"),
        _Row("eventbridge_detail", "json_payloads:put_events"),
    ),
    ("kinesis", "PutRecord"): (_Row("kinesis", "json_payloads:kinesis_record"),),
    ("kinesis", "PutRecords"): (_Row("kinesis", "json_payloads:kinesis_records"),),
    ("firehose", "PutRecord"): (_Row("firehose", "json_payloads:firehose_record"),),
    ("firehose", "PutRecordBatch"): (_Row("firehose", "json_payloads:firehose_records"),),
    ("stepfunctions", "StartExecution"): (_Row("stepfunctions", "own_fields:start_execution"),),
    ("stepfunctions", "StartSyncExecution"): (_Row("stepfunctions", "own_fields:start_execution"),),
    ("lambda", "Invoke"): (_Row("lambda", "own_fields:invoke"),),
    ("lambda", "InvokeWithResponseStream"): (_Row("lambda", "own_fields:invoke"),),
}
OPERATIONS = frozenset(_ROWS)
# What a header alone is enough for: the codec's other two are not written.
_HEADER_ONLY = frozenset(("sqs", "eventbridge", "stepfunctions"))


def chosen(words: Iterable[str]) -> frozenset[str]:
    """The options that are on: DEFAULTS, with the opt-ins named in `words` and without those with a "-" in front.

    A word that is no option is said once and left out.
    """
    options = set(DEFAULTS)
    for word in words:
        name = word.lower().removeprefix("-")
        if name not in DEFAULTS and name not in OPT_INS:
            known = ", ".join([*sorted(OPT_INS), *(f"-{each}" for each in sorted(DEFAULTS))])
            warn_once(
                f"message context {name}",
                "spanwell: SPANWELL_MESSAGE_CONTEXT: %r is left out: it is none of %s",
                word,
                known,
            )
        elif word.startswith("-"):
            options.discard(name)
        else:
            options.add(name)
    return frozenset(options)


class Leg:
    """One operation with the options that are on."""

    __slots__ = ("_attributes", "_changes", "_rows", "header_only")

    def __init__(self, rows: Iterable[_Row]) -> None:
        self._rows = tuple(rows)
        self._changes: tuple[Change, ...] | None = None
        self.header_only = all(row.option in _HEADER_ONLY for row in self._rows)
        self._attributes = any(row.option == "sns" for row in self._rows)

    def apply(self, params: Params, carrier: Carrier, shape: Any) -> Params:
        """`params` as they are to be sent; the same object when there is nothing to add."""
        if self._changes is None:
            self._changes = tuple(_load(row.change) for row in self._rows)
        if self._attributes:
            carrier = as_propagated(carrier)
        for change in self._changes:
            params = change(params, carrier, shape)
        return params


def legs(options: frozenset[str]) -> dict[tuple[str, str], Leg]:
    """What is to be done with which operation."""
    found = {}
    for operation, rows in _ROWS.items():
        on = [row for row in rows if row.option in options]
        if on:
            found[operation] = Leg(on)
    return found


def _load(name: str) -> Change:
    from importlib import import_module

    module, _, function = name.partition(":")
    return getattr(import_module(f"spanwell.propagation.{module}"), function)  # type: ignore[no-any-return]


def current_headers() -> Carrier | None:
    """The current span in every form, as the codec writes it, Lineage kept; None without a valid span.

    Not through the codec's `inject`, which takes half as long again to find the span and to serve any carrier.
    """
    context = get_current()
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return None
    trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    carrier = {TRACEPARENT: f"00-{trace_id}-{span_id}-{span.trace_flags:02x}"}
    if span.trace_state:
        carrier[TRACESTATE] = span.trace_state.to_header()
    carrier[HEADER] = header_text(span, trace_id, span_id, incoming.of(context))
    return carrier


def as_propagated(carrier: Carrier) -> Carrier:
    """What of `carrier` OTEL_PROPAGATORS lets out, and the baggage if it names that. Changes `carrier`.

    SNS's attributes are no opt-in, and X-Ray's form needs none: SNS hands the request's X-Amzn-Trace-Id on by itself.
    """
    fields = propagated()
    if TRACEPARENT in fields:
        carrier.pop(HEADER, None)
    else:
        carrier.clear()
    if "baggage" in fields and get_all():
        from opentelemetry.baggage.propagation import W3CBaggagePropagator

        W3CBaggagePropagator().inject(carrier)
    return carrier


_textmap: tuple[Any, frozenset[str]] = (None, frozenset())


def propagated() -> frozenset[str]:
    """The header names that the global propagator writes. Composed once for each: it adds sets up at every call."""
    global _textmap
    textmap = get_global_textmap()
    if _textmap[0] is not textmap:
        _textmap = textmap, frozenset(textmap.fields)
    return _textmap[1]


def mark_sent(operation: tuple[str, str], params: Params) -> None:
    """The current span sent messages that carry its context: PRODUCER, with the attributes of messaging.

    Its kind was CLIENT when it started, which is what samplers saw. A span of the application's stays as it is.
    """
    sends = SENDS.get(operation)
    span: Any = get_current_span()
    if sends is None or not is_client_span(span):
        return
    make_producer(span)
    attributes: dict[str, Any] = {"messaging.operation.type": "send", "messaging.operation.name": "send"}
    own = span.attributes
    if "messaging.system" not in own:
        attributes["messaging.system"] = sends.system
    entries = params.get(sends.batch) if sends.batch else None
    if entries is not None:
        attributes["messaging.batch.message_count"] = len(entries)
    if "messaging.destination.name" not in own:
        name = _destination(sends, params, entries)
        if name:
            attributes["messaging.destination.name"] = name
    span.set_attributes(attributes)


def _destination(sends: Sends, params: Params, entries: Any) -> str:
    """The name of the queue, stream or bus; of several buses, or of none (the default one), no name."""
    if sends.system == "aws_eventbridge":
        names = {entry.get(sends.destination) for entry in entries if isinstance(entry, dict)} if entries else ()
        name = names.pop() if len(names) == 1 else None
    else:
        name = params.get(sends.destination) or params.get("StreamARN")
    if not isinstance(name, str):
        return ""
    return name.rstrip("/").rpartition("/")[2].rpartition(":")[2]
