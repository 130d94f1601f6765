"""Trace context in the calls of botocore and aiobotocore that hand work to somebody else.

Two methods of the client classes are wrapped, once for all clients, also those made before:

- `_emit_api_params` gives the parameters their last form. It runs inside the instrumentor's span, so the
  header names that span; and after every `provide-client-params` and `before-parameter-build` handler, so
  the application's handlers and botocore's Stubber see what the caller passed. Presigned URLs pass it too:
  they are left alone.
- `_make_request` sends the request: after `before-call` handlers, with which botocore writes the headers, and before
  it is signed. It returns the parsed response, before `after-call` handlers and the instrumentor see it.

`_make_api_call` stays alone: the instrumentor wraps and unwraps it, and test suites replace it. Event
handlers would have to be registered with each client. The two wrappers share botocore's own request context
of the call.

`sending` and `_INCOMING` say which operations take part, by service and name.
"""

from __future__ import annotations

import functools
import os
import sys

from spanwell._guard import guard, warn_once
from spanwell._otel import botocore as instrumentors
from spanwell.propagation import call_header, carried, sending, sqs
from spanwell.propagation.messages import Messages
from spanwell.propagation.process import ProcessSpans, current_header, server_attributes
from spanwell.propagation.xray import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opentelemetry.trace import Tracer, TracerProvider

    Params = dict[str, Any]
    Wrapper = Callable[["_Hooks", Callable[..., Any]], Callable[..., Any]]

_RECEIPT = "spanwell.receipt"
_EMIT, _REQUEST = "_emit_api_params", "_make_request"

_RECEIVE, _GET_RECORDS = ("sqs", "ReceiveMessage"), ("kinesis", "GetRecords")
_INCOMING = frozenset((_RECEIVE, _GET_RECORDS))
# Most calls are of other operations: one look at the name passes them on.
_OPERATIONS = frozenset(operation for _, operation in (*sending.OPERATIONS, *_INCOMING))
_RECEIVING = frozenset(operation for _, operation in _INCOMING)


def install(
    *,
    send: bool,
    process: bool,
    context: Iterable[str] = (),
    tracer_provider: TracerProvider | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Wrap botocore's client class, and aiobotocore's if that is imported, and stop what their instrumentors write
    into parameters and headers by themselves. Call again to change the options or after aiobotocore or an
    instrumentor was imported; nothing is wrapped twice.

    `send`: send the trace context in SQS messages, and ask for it on receive if `process`. `process`: open a span per
    message in loops over a response's `Messages`, from `tracer_provider` or the global one. `context`: the opt-ins
    among `sending.OPT_INS`, and what of `sending.DEFAULTS` to leave out ("-sns"). `environ`: where botocore takes
    Lambda's trace header from.
    """
    from botocore.client import BaseClient

    options = sending.chosen(context)
    _hooks.configure(options if send else options - {"sqs"}, process, tracer_provider, environ)
    _hooks.header = instrumentors.stop_injection()
    _patch(BaseClient, {_EMIT: _wrap_emit, _REQUEST: _wrap_request})
    aiobotocore = sys.modules.get("aiobotocore.client")
    if aiobotocore is not None:
        _patch(aiobotocore.AioBaseClient, {_EMIT: _wrap_emit_async, _REQUEST: _wrap_request_async})


def uninstall() -> None:
    """Undo `install`. A wrapper that somebody else wrapped meanwhile stays in place and does nothing."""
    _hooks.configure(frozenset(), False, None, {})
    _hooks.header = False
    instrumentors.restore_injection()
    for owner, name, wrapper, original in _patched:
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, original)
    _patched[:] = [row for row in _patched if vars(row[0]).get(row[1]) is not row[3]]


class _Hooks:
    """What the wrappers do with a call. Each part is guarded: a failure leaves the call as it was."""

    header = False

    def __init__(self) -> None:
        self.configure(frozenset(), False, None, {})

    def configure(
        self,
        options: frozenset[str],
        process: bool,
        tracer_provider: TracerProvider | None,
        environ: Mapping[str, str],
    ) -> None:
        self._legs = sending.legs(options)
        self._ask_for_header = "sqs" in options
        self._ask_for_attributes = "sqs_attributes" in options
        self._processed = {
            operation for operation, on in ((_RECEIVE, process), (_GET_RECORDS, "kinesis_spans" in options)) if on
        }
        self._environ = environ
        self._provider = tracer_provider
        self._tracer: Tracer | None = None

    def outgoing(self, params: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`params` as they are to be sent."""
        model = kwargs["operation_model"] if "operation_model" in kwargs else args[1]
        if model.name not in _OPERATIONS or not isinstance(params, dict):
            return params
        context = kwargs["context"] if "context" in kwargs else args[2]
        if (context or {}).get("is_presign_request") or not _enabled():
            return params
        operation = (model.service_model.service_name, model.name)
        if operation in _INCOMING:
            return self._ask(params, operation, model, context)
        leg = self._legs.get(operation)
        if leg is None:
            return params
        if leg.header_only:
            header = current_header()
            carrier = None if header is None else {HEADER: header}
        else:
            carrier = sending.current_headers()
        if carrier is None:
            return params
        changed = leg.apply(params, carrier, model.input_shape)
        if changed is not params:
            sending.mark_sent(operation, changed)
        return changed

    def _ask(self, params: Params, operation: tuple[str, str], model: Any, context: dict[str, Any]) -> Params:
        if operation not in self._processed:
            return params
        if operation == _GET_RECORDS:
            context[_RECEIPT] = params.get("StreamARN")
            return params
        members = model.input_shape.members
        params, receipt = sqs.receive_message(params, members, ask=self._ask_for_header)
        if self._ask_for_attributes:
            params = sqs.ask_for_attributes(params, receipt)
        context[_RECEIPT] = receipt
        return params

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Write the header of a request that is about to be made."""
        if self.header and _enabled():
            request = kwargs["request_dict"] if "request_dict" in kwargs else args[1]
            call_header.write(request["headers"], self._environ)

    def incoming(self, client: Any, response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Turn the messages of `response` (http, parsed) into `Messages`."""
        model = kwargs["operation_model"] if "operation_model" in kwargs else args[0]
        if model.name not in _RECEIVING:
            return
        context = kwargs["request_context"] if "request_context" in kwargs else args[2]
        if _RECEIPT not in context:
            return
        receipt = context.pop(_RECEIPT)
        if isinstance(receipt, sqs.Receipt):
            self._messages(client, response[1], receipt)
        else:
            self._records(client, response[1], receipt)

    def _messages(self, client: Any, parsed: Any, receipt: sqs.Receipt) -> None:
        messages = parsed.get("Messages")
        if not messages:
            return
        headers = sqs.take_headers(messages, receipt)
        carry = sqs.Taken(messages) if receipt.hide_attributes else carried.sqs_polled
        opener = ProcessSpans(
            self._get_tracer(),
            "aws_sqs",
            sqs.queue_name(receipt.queue_url),
            server_attributes(client.meta.endpoint_url),
            carry,
        )
        parsed["Messages"] = Messages(messages, opener, headers)

    def _records(self, client: Any, parsed: Any, stream_arn: object) -> None:
        records = parsed.get("Records")
        if not records:
            return
        name = stream_arn.rpartition("/")[2] if isinstance(stream_arn, str) else ""
        attributes = server_attributes(client.meta.endpoint_url)
        if name:
            attributes["aws.kinesis.stream_name"] = name
        opener = ProcessSpans(self._get_tracer(), "aws_kinesis", name, attributes, carried.kinesis_polled)
        parsed["Records"] = Messages(records, opener, [None] * len(records))

    def _get_tracer(self) -> Tracer:
        if self._tracer is None:
            from opentelemetry.trace import get_tracer

            from spanwell import __version__

            self._tracer = get_tracer("spanwell.propagation", __version__, self._provider)
        return self._tracer


_hooks = _Hooks()
_patched: list[tuple[type, str, Callable[..., Any], Callable[..., Any]]] = []


def _enabled() -> bool:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    return is_instrumentation_enabled()


def _patch(owner: type, wrappers: dict[str, Wrapper]) -> None:
    for name, wrap in wrappers.items():
        if any(row[0] is owner and row[1] == name for row in _patched):
            continue
        original = vars(owner).get(name)
        if original is None:
            warn_once(
                f"no {owner.__name__}.{name}",
                "spanwell: this version of %s has no %s.%s: no trace context in its messages",
                owner.__module__.partition(".")[0],
                owner.__name__,
                name,
            )
            continue
        wrapper = functools.wraps(original)(wrap(_hooks, original))
        setattr(owner, name, wrapper)
        _patched.append((owner, name, wrapper, original))


def _wrap_emit(hooks: _Hooks, original: Callable[..., Any]) -> Callable[..., Any]:
    def emit_api_params(self: Any, *args: Any, **kwargs: Any) -> Any:
        params = original(self, *args, **kwargs)
        with guard("trace context of an AWS call"):
            return hooks.outgoing(params, args, kwargs)
        return params

    return emit_api_params


def _wrap_emit_async(hooks: _Hooks, original: Callable[..., Any]) -> Callable[..., Any]:
    async def emit_api_params(self: Any, *args: Any, **kwargs: Any) -> Any:
        params = await original(self, *args, **kwargs)
        with guard("trace context of an AWS call"):
            return hooks.outgoing(params, args, kwargs)
        return params

    return emit_api_params


def _wrap_request(hooks: _Hooks, original: Callable[..., Any]) -> Callable[..., Any]:
    def make_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        with guard("trace header of an AWS call"):
            hooks.request(args, kwargs)
        response = original(self, *args, **kwargs)
        with guard("trace context of received messages"):
            hooks.incoming(self, response, args, kwargs)
        return response

    return make_request


def _wrap_request_async(hooks: _Hooks, original: Callable[..., Any]) -> Callable[..., Any]:
    async def make_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        with guard("trace header of an AWS call"):
            hooks.request(args, kwargs)
        response = await original(self, *args, **kwargs)
        with guard("trace context of received messages"):
            hooks.incoming(self, response, args, kwargs)
        return response

    return make_request
