"""Whether a read of a cache found anything: `spanwell.cache.hit`, true or false.

Redis: the instrumentor's public response hook. It names spans by their command. Within a pipeline nobody says which
answer belongs to which command, so it gets no attribute.
memcached: the instrumentor of pymemcache has no hooks, and leaves a method alone that looks wrapped. So the methods
of the client are replaced by plain functions before it wraps them.
"""

from __future__ import annotations

import functools

from spanwell._guard import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.trace import Span

HIT = "spanwell.cache.hit"

_ONE = frozenset(("GET", "GETEX", "GETDEL", "GETRANGE", "HGET", "JSON.GET"))
_MANY = frozenset(("MGET", "HMGET", "HGETEX", "JSON.MGET"))
_WHOLE = frozenset(("HGETALL", "SMEMBERS", "LRANGE", "ZRANGE"))
_READS = frozenset(("get", "gets", "get_many", "get_multi", "gets_many"))  # as the instrumentor of pymemcache says
_EMPTY = (None, b"", "")


def redis_response(span: Span, instance: object, response: Any) -> None:
    """A `response_hook` for RedisInstrumentor. A read of several keys is a hit if all were found."""
    with guard("cache hits"):
        if not span.is_recording():
            return
        command = getattr(span, "name", "").upper()
        if command in _ONE:
            hit = response not in _EMPTY if command == "GETRANGE" else response is not None
        elif command in _MANY and isinstance(response, (list, tuple)):
            hit = bool(response) and None not in response
        elif command in _WHOLE and hasattr(response, "__len__"):
            hit = len(response) > 0
        else:
            return
        span.set_attribute(HIT, hit)


def redis_options() -> dict[str, Any]:
    """What to pass to `RedisInstrumentor().instrument`."""
    return {"response_hook": redis_response}


def pymemcache_options() -> dict[str, Any]:
    """Prepare pymemcache's client; call before its instrumentor is applied, which takes no options."""
    from pymemcache.client.base import Client  # type: ignore[import-not-found,unused-ignore]

    for name, found in (
        ("get", _found_one),
        ("gets", _found_pair),
        ("get_many", _found_all),
        ("gets_many", _found_all),
    ):
        original = Client.__dict__.get(name)
        if original is not None and not hasattr(original, "__wrapped__") and not hasattr(original, "spanwell"):
            setattr(Client, name, _watched(original, found))
    many = Client.__dict__.get("get_many")
    if hasattr(many, "spanwell"):
        Client.get_multi = many  # its other name
    return {}


def _watched(original: Callable[..., Any], found: Callable[..., bool]) -> Callable[..., Any]:
    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        with guard("cache hits"):
            from opentelemetry.trace import get_current_span

            span = get_current_span()
            # Only the instrumentor's own span; the application's may be current while it is switched off.
            if span.is_recording() and getattr(span, "name", "") in _READS:
                span.set_attribute(HIT, found(answer, args, kwargs))
        return answer

    functools.update_wrapper(read, original)
    del read.__dict__["__wrapped__"]  # it would look wrapped
    read.spanwell = True  # type: ignore[attr-defined]
    return read


def _found_one(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    default = args[1] if len(args) > 1 else kwargs.get("default")
    return answer is not default


def _found_pair(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return _found_one(answer[0], args, kwargs)


def _found_all(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    keys = args[0] if args else kwargs.get("keys", ())
    return bool(answer) and (not hasattr(keys, "__len__") or len(answer) >= len(keys))
