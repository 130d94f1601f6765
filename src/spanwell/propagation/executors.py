"""The context follows work into thread pools and process pools of the standard library.

Threads get the OpenTelemetry context itself, as upstream's instrumentor of threading does it. Processes get its
headers: the function that is sent to a worker is wrapped in a `Carried`, which pickles by reference to this module,
with the function inside pickled as it would have been. Without a context, functions are sent as they are.

asyncio needs nothing: tasks and `to_thread` copy the context, `run_in_executor` submits to a pool.
"""

from __future__ import annotations

import functools
import sys

from spanwell import _guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Wrap = Callable[[Any, Callable[..., Any]], Callable[..., Any]]

_POOL = ("apply_async", "map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered")
_UPSTREAM = "opentelemetry.instrumentation.threading"
_patched: list[tuple[type, str, Any, Any]] = []


class Carried:
    """Calls `function` with the trace context that `headers` name; it may be pickled if `function` may."""

    __slots__ = ("function", "headers")

    def __init__(self, function: Callable[..., Any], headers: dict[str, str]) -> None:
        self.function = function
        self.headers = headers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = _attach(self.headers)
        try:
            return self.function(*args, **kwargs)
        finally:
            _detach(token)

    def __reduce__(self) -> tuple[Any, ...]:
        return Carried, (self.function, self.headers)

    def __repr__(self) -> str:
        return repr(self.function)


class Here:
    """Calls `function` in `context`, in another thread of this process."""

    __slots__ = ("context", "function")

    def __init__(self, function: Callable[..., Any], context: Any) -> None:
        self.function = function
        self.context = context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from opentelemetry.context import attach, detach

        token = attach(self.context)
        try:
            return self.function(*args, **kwargs)
        finally:
            detach(token)

    def __repr__(self) -> str:
        return repr(self.function)


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a callable that takes the current trace context along to another process.

    For pools that spanwell does not know: ``pool.submit(spanwell.carried(work), item)``. It pickles where `function`
    does and spanwell is installed. Without a current context it is `function` itself. Never raises.
    """
    if isinstance(function, Carried):
        return function
    headers: dict[str, str] = {}
    with _guard.guard("the context for another process"):
        from opentelemetry.propagate import inject

        inject(headers)
    return Carried(function, headers) if headers else function


def here(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a callable that runs in the current context in whichever thread calls it."""
    from opentelemetry.context import get_current

    context = get_current()
    if not context or getattr(function, "__module__", "") == _UPSTREAM:  # that one does the same
        return function
    return Here(function, context)


# --- the pools ------------------------------------------------------------------------------------------------------


def follow_threads() -> None:
    """ThreadPoolExecutor."""
    from concurrent.futures.thread import ThreadPoolExecutor

    _patch(ThreadPoolExecutor, "submit", lambda pool, function: function if _interprets(pool) else here(function))


def follow_processes() -> None:
    """ProcessPoolExecutor, whose `map` submits."""
    from concurrent.futures.process import ProcessPoolExecutor

    _patch(ProcessPoolExecutor, "submit", lambda pool, function: carried(function))


def follow_pools() -> None:
    """multiprocessing's Pool and ThreadPool."""
    from multiprocessing.pool import Pool, ThreadPool

    def wrap(pool: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(function, (Carried, Here)):
            return function
        return here(function) if isinstance(pool, ThreadPool) else carried(function)

    for name in _POOL:
        _patch(Pool, name, wrap)


def unfollow() -> None:
    """Undo all of it; what somebody else wrapped meanwhile stays."""
    while _patched:
        owner, name, ours, original = _patched.pop()
        if vars(owner).get(name) is ours:
            setattr(owner, name, original)


def _patch(owner: type, name: str, wrap: Wrap) -> None:
    if any(row[0] is owner and row[1] == name for row in _patched):
        return
    original = vars(owner).get(name)
    if original is None:
        return

    @functools.wraps(original)
    def with_context(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if args:
            return original(self, wrap(self, args[0]), *args[1:], **kwargs)
        if "func" in kwargs and name != "submit":
            kwargs["func"] = wrap(self, kwargs["func"])
        return original(self, **kwargs)

    setattr(owner, name, with_context)
    _patched.append((owner, name, with_context, original))


def _interprets(pool: Any) -> bool:
    """Whether the pool is Python 3.14's InterpreterPoolExecutor, which pickles what a ThreadPoolExecutor does not."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(pool, module.InterpreterPoolExecutor)


def _attach(headers: dict[str, str]) -> Any:
    with _guard.guard("the context from another process"):
        from opentelemetry.context import attach
        from opentelemetry.propagate import extract

        return attach(extract(headers))
    return None


def _detach(token: Any) -> None:
    if token is not None:
        from opentelemetry.context import detach

        detach(token)
