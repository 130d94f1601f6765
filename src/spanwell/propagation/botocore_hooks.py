"""Trace context in the calls of botocore and aiobotocore that hand work to somebody else.

Two methods of the client classes are wrapped, once for all clients, also those made before:

- `_emit_api_params` gives the parameters their last form. It runs inside the instrumentor's span, so the
  header names that span; and after every `provide-client-params` and `before-parameter-build` handler, so
  the application's handlers and botocore's Stubber see what the caller passed. Presigned URLs pass it too:
  they are left alone.
- `_make_request` returns the parsed response, before `after-call` handlers and the instrumentor see it.

`_make_api_call` stays alone: the instrumentor wraps and unwraps it, and test suites replace it. Event
handlers would have to be registered with each client. The two wrappers share botocore's own request context
of the call.

`_OUTGOING` and `_INCOMING` say which operations take part, by service and name.
"""

from __future__ import annotations

import functools
import sys

from spanwell._guard import guard, warn_once
from spanwell.propagation import sqs
from spanwell.propagation.messages import Messages
from spanwell.propagation.process import ProcessSpans, current_header, server_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.trace import Tracer, TracerProvider

    Params = dict[str, Any]
    Wrapper = Callable[["_Hooks", Callable[..., Any]], Callable[..., Any]]

_RECEIPT = "spanwell.receipt"
_EMIT, _REQUEST = "_emit_api_params", "_make_request"

_OUTGOING: dict[tuple[str, str], Callable[[Params, str], Params]] = {
    ("sqs", "SendMessage"): sqs.send_message,
    ("sqs", "SendMessageBatch"): sqs.send_message_batch,
}
_INCOMING = frozenset([("sqs", "ReceiveMessage")])
# Most calls are of other operations: one look at the name passes them on.
_OPERATIONS = frozenset(operation for _, operation in (*_OUTGOING, *_INCOMING))


def install(*, send: bool, process: bool, tracer_provider: TracerProvider | None = None) -> None:
    """Wrap botocore's client class, and aiobotocore's if that is imported. Call again to change the options
    or after aiobotocore was imported; nothing is wrapped twice.

    `send`: send the trace context, and ask for it on receive if `process`. `process`: open a span per message
    in loops over a response's `Messages`, from `tracer_provider` or the global one.
    """
    from botocore.client import BaseClient

    _hooks.configure(send, process, tracer_provider)
    _patch(BaseClient, {_EMIT: _wrap_emit, _REQUEST: _wrap_request})
    aiobotocore = sys.modules.get("aiobotocore.client")
    if aiobotocore is not None:
        _patch(aiobotocore.AioBaseClient, {_EMIT: _wrap_emit_async, _REQUEST: _wrap_request_async})


def uninstall() -> None:
    """Undo `install`. A wrapper that somebody else wrapped meanwhile stays in place and does nothing."""
    _hooks.configure(False, False, None)
    for owner, name, wrapper, original in _patched:
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, original)
    _patched[:] = [row for row in _patched if vars(row[0]).get(row[1]) is not row[3]]


class _Hooks:
    """What the wrappers do with a call. Each part is guarded: a failure leaves the call as it was."""

    send = process = False

    def configure(self, send: bool, process: bool, tracer_provider: TracerProvider | None) -> None:
        self.send, self.process = send, process
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
            return self._ask(params, model, context)
        change = _OUTGOING.get(operation)
        header = current_header() if self.send and change is not None else None
        return params if header is None or change is None else change(params, header)

    def _ask(self, params: Params, model: Any, context: dict[str, Any]) -> Params:
        if not self.process:
            return params
        params, context[_RECEIPT] = sqs.receive_message(params, model.input_shape.members, ask=self.send)
        return params

    def incoming(self, client: Any, response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Turn the messages of `response` (http, parsed) into `Messages`."""
        model = kwargs["operation_model"] if "operation_model" in kwargs else args[0]
        if model.name not in _OPERATIONS:
            return
        context = kwargs["request_context"] if "request_context" in kwargs else args[2]
        receipt = context.pop(_RECEIPT, None)
        messages = response[1].get("Messages") if receipt is not None else None
        if not messages:
            return
        headers = sqs.take_headers(messages, receipt)
        opener = ProcessSpans(
            self._get_tracer(),
            "aws_sqs",
            sqs.queue_name(receipt.queue_url),
            server_attributes(client.meta.endpoint_url),
        )
        response[1]["Messages"] = Messages(messages, opener, headers)

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
        response = original(self, *args, **kwargs)
        with guard("trace context of received messages"):
            hooks.incoming(self, response, args, kwargs)
        return response

    return make_request


def _wrap_request_async(hooks: _Hooks, original: Callable[..., Any]) -> Callable[..., Any]:
    async def make_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        response = await original(self, *args, **kwargs)
        with guard("trace context of received messages"):
            hooks.incoming(self, response, args, kwargs)
        return response

    return make_request
