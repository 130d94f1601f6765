"""What the instrumentor of botocore writes into calls by itself, switched off: ours is written in its place."""

from __future__ import annotations

import sys

from opentelemetry.trace import SpanKind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PACKAGE = "opentelemetry.instrumentation.botocore"
_TABLES = ("_BOTOCORE_EXTENSIONS", "_AIOBOTOCORE_EXTENSIONS")
# The services whose extension puts the context into the caller's own parameters.
_SERVICES = ("sns", "lambda")
_originals: list[tuple[dict[str, Any], str, Any]] = []
_propagators: list[tuple[Any, Any]] = []


def is_client_span(span: Any) -> bool:
    """Whether `span` is one that the instrumentor of botocore or aiobotocore made and that is recorded."""
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name.startswith(_PACKAGE) and span.is_recording()


def make_producer(span: Any) -> None:
    """Turn a client span that runs into a PRODUCER one (`_kind`: there is no method for it).

    Its context is put into messages only after it was started, and then it is no client span any more. What is
    exported is made from it when it ends.
    """
    if span.kind is SpanKind.CLIENT:
        span._kind = SpanKind.PRODUCER


def stop_injection() -> bool:
    """Let the instrumentors inject nothing; tell whether the `X-Amzn-Trace-Id` header of a call is ours to write.

    It is not when the application gave an instrumentor a propagator of its own, which then stays. May be called any
    number of times, also before an instrumentor is active.
    """
    if f"{_PACKAGE}.extensions" in sys.modules:
        for name in _TABLES:
            _quiet_extensions(getattr(sys.modules[f"{_PACKAGE}.extensions"], name, None))
    package = sys.modules.get(_PACKAGE)
    found = [getattr(package, name, None) for name in ("BotocoreInstrumentor", "AiobotocoreInstrumentor")]
    ours = [_quiet_header(instrumentor()) for instrumentor in found if instrumentor is not None]
    return all(ours)


def restore_injection() -> None:
    """Undo `stop_injection`."""
    for table, service, loader in _originals:
        table[service] = loader
    for instrumentor, propagator in _propagators:
        if isinstance(instrumentor.propagator, _Nothing):
            instrumentor.propagator = propagator
    _originals.clear()
    _propagators.clear()


def _quiet_extensions(table: Any) -> None:
    """The tables are what an instrumentor looks a service up in: the extension is loaded at the service's first call.

    There is no option against it (`before_service_call` of the two does nothing else): the caller's dict is changed,
    Lambda's payload is rewritten.
    """
    for service in _SERVICES:
        loader = table.get(service) if isinstance(table, dict) else None
        if loader is not None and not isinstance(loader, _Quiet):
            _originals.append((table, service, loader))
            table[service] = _Quiet(loader)


class _Quiet:
    """Loads an extension that injects nothing."""

    def __init__(self, loader: Callable[[], Any]) -> None:
        self._loader = loader
        self._made: Any = None

    def __call__(self) -> Any:
        if self._made is None:
            extension = self._loader()
            if extension is None:
                return None
            self._made = type(extension.__name__, (extension,), {"before_service_call": _nothing})
        return self._made


def _nothing(self: Any, *args: Any) -> None:
    return None


class _Nothing:
    """A propagator for the instrumentors, which write a header of their own whatever OTEL_PROPAGATORS says."""

    def inject(self, carrier: Any, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""


def _quiet_header(instrumentor: Any) -> bool:
    current = getattr(instrumentor, "propagator", None)
    if isinstance(current, _Nothing):
        return True
    if type(current).__name__ != "AwsXRayPropagator":
        return False
    _propagators.append((instrumentor, current))
    instrumentor.propagator = _Nothing()
    return True
