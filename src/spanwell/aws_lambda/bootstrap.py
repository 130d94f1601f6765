"""What stands on the stack between the runtime client and the function's code.

This file has the name that it has because the runtime client leaves the frames of `…/bootstrap.py` out of the stack
traces that it reports: so errors of the user's look as they do without us.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spanwell.aws_lambda.invocation import Invocations

    Handler = Callable[[Any, Any], Any]


def looking_up(look_up: "Callable[[str], Any]") -> "Callable[[str], Any]":
    """The runtime client's function that turns a handler's name into the handler, which is then wrapped."""

    def _get_handler(handler: str) -> "Any":
        from spanwell.aws_lambda.invocation import initialised, initialising, not_initialised

        initialising()
        try:
            found = look_up(handler)
        except BaseException as error:
            not_initialised(error)
            raise
        invocations = initialised()
        return found if invocations is None else wrapped(found, invocations)

    return _get_handler


def wrapped(handler: "Any", invocations: "Invocations") -> "Any":
    """`handler` inside an invocation of `invocations`: what it is given, returns and raises stays as it is.

    What cannot be called stays itself: the runtime client tells of it.
    """
    if not callable(handler):
        return handler
    begin = invocations.begin

    def invoke(event: "Any", context: "Any") -> "Any":
        running = begin(event, context)
        try:
            result = handler(event, context)
        except BaseException as error:
            running.end(None, error)
            raise
        running.end(result, None)
        return result

    _look_alike(invoke, handler)
    return invoke


def _look_alike(invoke: "Any", handler: "Any") -> None:
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        try:
            setattr(invoke, name, getattr(handler, name))
        except Exception:  # an instance has no name, or a property that raises
            pass
    try:
        invoke.__dict__.update(vars(handler))
    except Exception:
        pass
    invoke.__wrapped__ = handler
