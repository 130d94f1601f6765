"""Trace context in the events that AWS sends to Lambda functions, as one pure function.

    from spanwell.propagation.carriers import contexts, extract

    found = extract(event)
    found.trigger, found.kind  # "pubsub", "sqs"
    parent = propagate.extract(found.carrier)  # what the request itself carries
    links = [Link(each) for each in contexts(found)]  # what created its messages

Nothing is imported but what the event needs, no event is changed, and none makes `extract` raise: one that cannot be
read is of the kind "other". Its work is bounded: 10,000 records, 128 headers and 64 kB of a body.
"""

from __future__ import annotations

from spanwell.propagation import carried
from spanwell.propagation.carried import Carried, Extracted, dict_of, named, resource_name, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import SpanContext

    Event = dict[Any, Any]

__all__ = ["Carried", "Extracted", "contexts", "extract"]


def extract(event: object) -> Extracted:
    """What sent `event` and the trace context in it; never raises."""
    try:
        return _recognised(event)
    except Exception as error:  # an object that only looks like a dict: bad input, not an error of ours
        return Extracted(problem=f"unreadable event ({type(error).__name__})")


def contexts(extracted: Extracted, propagator: TextMapPropagator | None = None) -> list[SpanContext]:
    """The span contexts that the messages of an event were created in: each once, in order, to be linked.

    propagator: reads the carriers; by default W3C's and X-Ray's headers are read, whatever OTEL_PROPAGATORS says.
    """
    return carried.contexts(extracted.messages, propagator)


def _recognised(event: object) -> Extracted:
    if isinstance(event, (list, tuple)):
        return _several(event)
    if not isinstance(event, dict):
        return Extracted()
    for recognise in _SHAPES:
        found = recognise(event)
        if found is not None:
            return found
    carrier: dict[str, str] = {}
    named(carrier, event)
    return _plain("other", carrier)


def _several(events: list[Any] | tuple[Any, ...]) -> Extracted:
    """A list: a batch from EventBridge Pipes, or of AppSync's resolver, whose fields belong to one request."""
    first = events[0] if events else None
    if not isinstance(first, dict):
        return Extracted()
    if "eventSource" in first:
        return _records({"Records": list(events[: carried.MOST_MESSAGES])}) or Extracted()
    return _resolver(first) or Extracted()


def _records(event: Event) -> Extracted | None:
    records = event.get("Records")
    if not isinstance(records, list) or not records:
        return None
    from spanwell.propagation.record_events import batch

    return batch(records)


def _request(event: Event) -> Extracted | None:
    if "requestContext" not in event:
        return None
    from spanwell.propagation.request_events import request

    return request(event)


def _resolver(event: Event) -> Extracted | None:
    if "info" not in event:
        return None
    from spanwell.propagation.request_events import resolver

    return resolver(event)


def _firehose(event: Event) -> Extracted | None:
    if "deliveryStreamArn" not in event:
        return None
    from spanwell.propagation.record_events import firehose

    return firehose(event)


def _eventbridge(event: Event) -> Extracted | None:
    kind, source = event.get("detail-type"), event.get("source")
    if not isinstance(kind, str) or not isinstance(source, str) or "detail" not in event:
        return None
    resources = event.get("resources")
    arn = resources[0] if isinstance(resources, list) and resources and isinstance(resources[0], str) else ""
    if kind == "Scheduled Event" and source in ("aws.events", "aws.scheduler"):
        when = text_of(event, "time")
        attributes = {"faas.time": when} if when else {}
        return Extracted("timer", "schedule", source=resource_name(arn), source_arn=arn, attributes=attributes)
    carrier: dict[str, str] = {}
    named(carrier, event["detail"])
    message = carried.made(event.get("id"), carrier)
    attributes = {"messaging.system": "aws_eventbridge", "messaging.operation.type": "process"}
    if message.message_id:
        attributes["messaging.message.id"] = message.message_id[:256]
    return Extracted(
        trigger="pubsub",
        kind="eventbridge",
        messages=(message,),
        source=source[:2048],
        source_arn=arn,
        route=kind[:2048],
        attributes=attributes,
    )


def _cognito(event: Event) -> Extracted | None:
    if isinstance(event.get("triggerSource"), str) and isinstance(event.get("userPoolId"), str):
        return _plain("cognito", {}, source=text_of(event, "userPoolId"), route=text_of(event, "triggerSource"))
    if isinstance(event.get("identityPoolId"), str) and "datasetName" in event:
        return _plain("cognito", {}, source=text_of(event, "identityPoolId"), route=text_of(event, "eventType"))
    return None


_IOT_LIFECYCLE = frozenset(("connected", "disconnected", "subscribed", "unsubscribed"))


def _iot(event: Event) -> Extracted | None:
    """What AWS IoT itself sends. A rule's event is whatever its SELECT says: see `named`."""
    detector = dict_of(dict_of(dict_of(event, "event"), "payload"), "detector")
    if detector:
        return _plain("iot_events", {}, source=text_of(detector, "detectorModelName"))
    if isinstance(event.get("deviceInfo"), dict) and isinstance(event.get("deviceEvent"), dict):
        return _plain("iot_1click", {}, source=text_of(event["deviceInfo"], "type"))
    if isinstance(event.get("serialNumber"), str) and isinstance(event.get("clickType"), str):
        return _plain("iot_button", {})
    if isinstance(event.get("clientId"), str) and text_of(event, "eventType") in _IOT_LIFECYCLE:
        return _plain("iot_lifecycle", {}, route=text_of(event, "eventType"))
    return None


# Where a state's Parameters put the context object ("$$") and the task token is up to the state machine's author.
_CONTEXT_OBJECTS = ("context", "Context", "_context")
_TOKENS = ("TaskToken", "taskToken", "token")


def _step_functions(event: Event) -> Extracted | None:
    task = next((each for each in (event, *(event.get(key) for key in _CONTEXT_OBJECTS)) if _is_task(each)), None)
    if task is None and not any(len(text_of(event, key)) > 100 for key in _TOKENS) and "traceHeader" not in event:
        return None
    carrier: dict[str, str] = {}
    named(carrier, event)
    machine = dict_of(task, "StateMachine")
    named(carrier, dict_of(task, "Execution").get("Input"))
    arn = text_of(machine, "Id")
    attributes = {"aws.step_functions.state_machine.arn": arn} if arn else {}
    name = text_of(machine, "Name") or resource_name(arn)
    state = text_of(dict_of(task, "State"), "Name")
    return _plain("stepfunctions", carrier, source=name, arn=arn, route=state, attributes=attributes)


def _is_task(event: object) -> bool:
    return isinstance(event, dict) and bool(dict_of(event, "Execution") and dict_of(event, "StateMachine"))


def _cloudwatch(event: Event) -> Extracted | None:
    if isinstance(dict_of(event, "awslogs").get("data"), str):
        return _plain("cloudwatch_logs", {})  # its data is compressed, and holds no context
    if isinstance(event.get("alarmArn"), str) and isinstance(event.get("alarmData"), dict):
        arn = text_of(event, "alarmArn")
        return _plain("cloudwatch_alarm", {}, source=text_of(event["alarmData"], "alarmName"), arn=arn)
    return None


def _plain(
    kind: str,
    carrier: dict[str, str],
    *,
    source: str = "",
    arn: str = "",
    route: str = "",
    attributes: dict[str, Any] | None = None,
) -> Extracted:
    _, carrier_read, problem = carried.made("", carrier)
    return Extracted(
        kind=kind,
        carrier=carrier_read,
        source=source,
        source_arn=arn,
        route=route,
        attributes=attributes or {},
        problem=problem,
    )


# The frequent first; no event is of two shapes.
_SHAPES: tuple[Callable[[Event], Extracted | None], ...] = (
    _records,
    _request,
    _eventbridge,
    _resolver,
    _firehose,
    _cognito,
    _step_functions,
    _iot,
    _cloudwatch,
)
