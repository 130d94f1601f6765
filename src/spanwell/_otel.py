"""The only file that touches private or unstable OpenTelemetry names, each with the reason why.

Everything is looked up defensively: where a name is gone, the feature is gone and nothing else.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from logging import Filter, LogRecord, getLogger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType
    from typing import Any

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.sampling import Sampler

# --- late binding of the global providers -------------------------------------------------------------------------


def bind_late(module: ModuleType, getter: str, current: str, ensure: Callable[[], None]) -> None:
    """Make `module.<getter>()` call `ensure` first, for as long as the global `module.<current>` is unset.

    The sanctioned way, OTEL_PYTHON_TRACER_PROVIDER, needs a variable in os.environ that child processes in other
    environments inherit and fail on, an entry-point scan, and builds one provider a thread in a race
    (RATIONALE.md, "Late binding without an environment variable").
    """
    original = getattr(module, getter)

    def late() -> Any:
        if getattr(module, current, None) is None:
            ensure()
        return original()

    late.__name__ = late.__qualname__ = getter
    late.__doc__ = original.__doc__
    setattr(module, getter, late)


def watch_setter(module: ModuleType, setter: str, was_set: Callable[[Any], None]) -> None:
    """Call `was_set(provider)` after `module.<setter>(provider)`: the application may set its own provider."""
    original = getattr(module, setter)

    def watched(provider: Any) -> None:
        original(provider)
        was_set(provider)

    watched.__name__ = watched.__qualname__ = setter
    watched.__doc__ = original.__doc__
    setattr(module, setter, watched)


# --- exporters ----------------------------------------------------------------------------------------------------


@contextmanager
def suppressed() -> Iterator[None]:
    """No instrumentor traces what this thread does in the block (the key has no public name)."""
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        detach(token)


def stop_retries(exporter: object) -> None:
    """Let upstream's OTLP exporters end the running or next export after one attempt.

    They wait between attempts on an event that only their shutdown sets, which also forbids further exports
    (opentelemetry-python #4555: no timeout reaches `export`).
    """
    for owner, name in (
        (getattr(exporter, "_client", None), "_shutdown_event"),
        (exporter, "_shutdown_in_progress"),
    ):
        event = getattr(owner, name, None)
        if isinstance(event, threading.Event):
            event.set()


_EXPORTER_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.common.http",
)


class _Said(Filter):
    """Keeps what upstream's exporters log in this thread, and keeps it from the application's log."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""
        self._thread = threading.get_ident()

    def filter(self, record: LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True
        # The first line tells the cause ("Transient error Connection refused"), later ones only that it went on.
        self.last = self.last or record.getMessage()[:500]
        return False


@contextmanager
def quiet_exporters() -> Iterator[_Said]:
    """Upstream's exporters log every attempt; spanwell says once what is lost and why (`_Said.last`)."""
    said = _Said()
    loggers = [getLogger(name) for name in _EXPORTER_LOGGERS]
    for logger in loggers:
        logger.addFilter(said)
    try:
        yield said
    finally:
        for logger in loggers:
            logger.removeFilter(said)


# --- parts of the SDK that have no public constructor by name ------------------------------------------------------


def known_sampler(name: str, argument: str) -> Sampler | None:
    """The SDK's own sampler `name`, or None if it knows none. Raises ValueError for a bad ratio."""
    from opentelemetry.sdk.trace import sampling

    known: Mapping[str, Any] = getattr(sampling, "_KNOWN_SAMPLERS", {})
    made = known.get(name)
    if made is None or isinstance(made, sampling.Sampler):
        return made
    return made(float(argument) if argument else 1.0)  # type: ignore[no-any-return]


def load_entry_point(group: str, name: str) -> Any:
    """Load the entry point `name` of `group`; raises LookupError when nothing installed registers it."""
    from opentelemetry.util._importlib_metadata import entry_points

    for entry in entry_points(group=group, name=name):
        return entry.load()
    raise LookupError(f"no installed package registers {name!r} in {group}")


def instrumentor_entry_points() -> list[Any]:
    """Every registered instrumentor (the SDK's cached scan, so that packages are read once)."""
    from opentelemetry.util._importlib_metadata import entry_points

    return list(entry_points(group="opentelemetry_instrumentor"))


class Conflict:
    """Why an instrumentor does not fit: `missing` is true where its library is not installed at all."""

    def __init__(self, conflict: Any) -> None:
        self.missing = not (getattr(conflict, "found", None) or getattr(conflict, "found_any", None))
        self.text = str(conflict)


def dependency_conflict(instrumentor: Any) -> Conflict | None:
    """Why `instrumentor` does not fit the installed library, or None if it does."""
    check = getattr(instrumentor, "_check_dependency_conflicts", None)
    conflict = check() if check is not None else None
    return Conflict(conflict) if conflict else None


def entry_point_conflict(entry: Any) -> Conflict | None:
    """As `dependency_conflict`, from the metadata of the distribution that registers `entry`."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    dist = getattr(entry, "dist", None)
    conflict = get_dist_dependency_conflicts(dist) if dist is not None else None
    return Conflict(conflict) if conflict else None


def base_resource(extra: Mapping[str, Any]) -> Resource:
    """SDK, instance id and OTEL_RESOURCE_ATTRIBUTES, over `extra`; as Resource.create does by default, without its
    thread pool, which costs more than all of it."""
    from opentelemetry.sdk import resources

    result = resources._DEFAULT_RESOURCE
    instance = getattr(resources, "ServiceInstanceIdResourceDetector", None)
    if instance is not None:
        result = result.merge(instance().detect())
    return result.merge(resources.Resource(extra)).merge(resources.OTELResourceDetector().detect())


def user_resource() -> Resource:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    return OTELResourceDetector().detect()


# --- metrics and logs -----------------------------------------------------------------------------------------------


def preferences(exporter: Any) -> dict[str, Any]:
    """The temporality and aggregation a MetricExporter prefers, which it keeps to itself and its reader."""
    return {
        "preferred_temporality": getattr(exporter, "_preferred_temporality", None),
        "preferred_aggregation": getattr(exporter, "_preferred_aggregation", None),
    }


def shut_down_batch(processor: Any, timeout: float) -> None:
    """Shut a BatchLogRecordProcessor down within `timeout` seconds: its public method takes no timeout."""
    batch = getattr(processor, "_batch_processor", None)
    if batch is None:
        processor.shutdown()
    else:
        batch.shutdown(timeout_millis=int(timeout * 1000))


def add_logging_handler(provider: Any) -> None:
    """The SDK's deprecated logging handler, for those who still ask for it."""
    from logging import NOTSET

    from opentelemetry.sdk._logs import LoggingHandler

    getLogger().addHandler(LoggingHandler(level=NOTSET, logger_provider=provider))
