"""`spanwell.messages`: a span per message in loops that spanwell's own hooks do not see."""

from __future__ import annotations

from spanwell import __version__
from spanwell._guard import guard
from spanwell.propagation import carried
from spanwell.propagation.messages import Messages
from spanwell.propagation.process import ProcessSpans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.trace import TracerProvider

    from spanwell.propagation.carried import Carried


def messages(response: Any, destination: str = "", *, tracer_provider: TracerProvider | None = None) -> Any:
    """The messages of `response`, as a list that opens a CONSUMER span `process` for each in a loop over it:

        for message in spanwell.messages(sqs.receive_message(QueueUrl=url)):
            handle(message)  # the span is current here

    response: what SQS's ReceiveMessage or Kinesis' GetRecords returned, a list of such messages or records, or one of
    boto3's `Message` resources. destination: the queue's or stream's name, for the spans. tracer_provider: by default
    the global one.

    The span is a child of the current span if there is one, else of the message's own context, and links to that in
    both cases. A message carries it in `Attributes` (ask for AWSTraceHeader), in `MessageAttributes`, in the envelope
    that SNS or EventBridge put around its body, or in JSON data. A response without messages gives an empty list,
    and anything else is given back as it is; never raises.
    """
    with guard("messages of a response"):
        return _messages(response, destination, tracer_provider)
    return response


def _messages(response: Any, destination: str, provider: TracerProvider | None) -> Any:
    items = response
    if items is None:
        return []
    if isinstance(items, dict):
        items = items.get("Messages") or items.get("Records") or []
    if isinstance(items, Messages) or not isinstance(items, (list, tuple)):
        return items  # already opens spans, or no batch
    if not items:
        return []
    from opentelemetry.trace import get_tracer

    tracer = get_tracer("spanwell.propagation", __version__, provider)
    first = items[0]
    if isinstance(first, dict) and "Data" in first:
        attributes: dict[str, Any] = {"aws.kinesis.stream_name": destination} if destination else {}
        opener = ProcessSpans(tracer, "aws_kinesis", destination, attributes, carried.kinesis_polled)
    else:
        opener = ProcessSpans(tracer, "aws_sqs", destination, {}, _sqs)
    return Messages(items, opener, [None] * len(items))


def _sqs(message: Any, header: str | None) -> Carried:
    if not isinstance(message, dict):
        message = message.meta.data  # a resource of boto3 keeps what the service said there
    return carried.sqs_polled(message, header)
