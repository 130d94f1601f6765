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
    from contextlib import AbstractContextManager
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


def current_provider(signal: str) -> Any:
    """The global provider of "metrics" or "logs" if the application has set one: the public getters would set ours
    up, or hand out a proxy."""
    import sys

    module, name = {
        "metrics": ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
        "logs": ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
    }[signal]
    return getattr(sys.modules.get(module), name, None)


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


def endpoint_of(exporter: object) -> str:
    """Where one of upstream's OTLP exporters sends to, or ""."""
    found = getattr(exporter, "_endpoint", "")
    return without_credentials(found) if isinstance(found, str) else ""


def without_credentials(url: str) -> str:
    """`url` without user and password, fit for a log."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, slash, path = rest.partition("/")
    return scheme + mark + authority.rpartition("@")[2] + slash + path


def keep_cause(exporter: object, keep: Callable[[str], None]) -> None:
    """Call `keep` with what became of each request of upstream's OTLP/HTTP exporters.

    `export` returns no reason, and what it logs after a single attempt does not tell it either ("due to timeout,
    max retries or shutdown"). Their transport (before 1.45 a requests.Session) knows.
    """
    for owner in (
        getattr(getattr(exporter, "_client", None), "_transport", None),
        getattr(exporter, "_session", None),
    ):
        if hasattr(owner, "request"):
            _watch_requests(owner, keep)
            return


def _watch_requests(transport: Any, keep: Callable[[str], None]) -> None:
    original = transport.request

    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except Exception as error:
            keep(root_cause(error))
            raise
        failed = getattr(result, "error", None)
        status, reason = getattr(result, "status_code", None), getattr(result, "reason", None)
        keep(root_cause(failed) if isinstance(failed, Exception) else f"it answers {status} {reason or ''}".rstrip())
        return result

    transport.request = request


def root_cause(error: BaseException) -> str:
    """What the operating system said ("Connection refused"), out of the wrappings of requests and urllib3."""
    for _ in range(20):
        deeper = error.__cause__ or error.__context__
        if deeper is None:
            break
        error = deeper
    if isinstance(error, TimeoutError) and not error.strerror:
        return "no answer in time"
    said = getattr(error, "strerror", None) or str(error)
    return (said if isinstance(said, str) and said else type(error).__name__)[:500]


_EXPORTER_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.common._internal",
    "opentelemetry.util.re",  # says what is wrong with the headers, once a build
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
        self.last = self.last or _message(record)
        return False


def _message(record: LogRecord) -> str:
    if record.name == "opentelemetry.util.re":  # its own text quotes the header, which may be a secret
        return "OTEL_EXPORTER_OTLP_HEADERS is no list such as name=value,name=value; what is malformed is left out"
    said = record.getMessage()
    # The gRPC exporter wraps its cause: "Transient error … Error details: …; last error: UNKNOWN: … refused".
    for mark in ("rror details: ", "last error: ", "UNKNOWN: "):
        said = said.partition(mark)[2] or said
    return said[:500]


@contextmanager
def quiet_exporters(names: tuple[str, ...] = _EXPORTER_LOGGERS) -> Iterator[_Said]:
    """Upstream's exporters log every attempt; spanwell says once what is lost and why (`_Said.last`)."""
    said = _Said()
    loggers = [getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(said)
    try:
        yield said
    finally:
        for logger in loggers:
            logger.removeFilter(said)


def prepare_grpc() -> None:
    """Import now what the gRPC exporter cannot import when the process ends.

    `opentelemetry.sdk._logs` makes a resource while it is imported, in a thread pool, and a pool takes no work once
    the interpreter shuts down.
    """
    import opentelemetry.sdk._logs  # noqa: F401


@contextmanager
def quiet_config_loader() -> Iterator[None]:
    """The loader of configuration files logs a traceback for what it raises anyway; spanwell says it in one line."""
    logger = getLogger("opentelemetry.configuration.file._loader")
    nothing = Filter("nothing of this name")
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


# --- parts of the SDK that have no public constructor by name ------------------------------------------------------


@contextmanager
def readable_limits() -> Iterator[None]:
    """Hide bad OTEL_*_LIMIT variables: the SDK reads some while it is imported, and raises.

    `Settings` have reported them, and the limits are handed over as values.
    """
    import os

    bad = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") and name.endswith("_LIMIT") and value and not value.isdecimal()
    }
    for name in bad:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(bad)


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
    return find_entry_point(group, name).load()


def find_entry_point(group: str, name: str) -> Any:
    """The entry point `name` of `group`, not loaded; raises LookupError when nothing installed registers it."""
    from opentelemetry.util._importlib_metadata import entry_points

    for entry in entry_points(group=group, name=name):
        return entry
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


def dependency_conflict(instrumentor: Any, version_of: Callable[[str], str] | None) -> Conflict | None:
    """Why `instrumentor` does not fit the installed library, or None if it does.

    `version_of` is a cheap source of versions that raises LookupError where it does not know.
    """
    if version_of is not None and _plainly_fits(instrumentor, version_of):
        return None
    check = getattr(instrumentor, "_check_dependency_conflicts", None)
    conflict = check() if check is not None else None
    return Conflict(conflict) if conflict else None


def _plainly_fits(instrumentor: Any, version_of: Callable[[str], str]) -> bool:
    """Whether every requirement is plain and met; in any other case upstream, with packaging, has the word."""
    from spanwell._versions import NotPlain, satisfies

    try:
        return all(satisfies(each, version_of) for each in instrumentor.instrumentation_dependencies())
    except (NotPlain, LookupError):
        return False


def skip_checks(unneeded: Callable[[Any], bool]) -> None:
    """Let opentelemetry-instrument not check the library's version of the entry points that `unneeded` names.

    It parses every package's requirements at start, installed library or not (up to 32 ms); a deferred
    instrumentor's are checked when it is applied. There is no public hook between its scan and the check.
    """
    from opentelemetry.instrumentation.auto_instrumentation import _load

    finder = getattr(_load, "_EntryPointDistFinder", None)
    if finder is None:
        return
    original = finder.dist_for

    class Unneeded:
        requires = None

    def dist_for(self: Any, entry_point: Any) -> Any:
        return Unneeded if unneeded(entry_point) else original(self, entry_point)

    finder.dist_for = dist_for


# --- imports that a start can do without ---------------------------------------------------------------------------


class _Packaging:
    """Stand-ins for the two names that `opentelemetry.instrumentation.dependencies` takes from packaging."""

    class Requirement:
        pass

    class InvalidRequirement(Exception):
        pass


class _Later:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import importlib

        return getattr(importlib.import_module(self._name), attribute)


# module -> {what its import statements name: what they get instead}. packaging costs 12 ms of CPU and is needed for
# odd requirements only; asyncio 7 ms, needed by wrapt when a coroutine is synchronised.
STAND_INS: dict[str, dict[str, Any]] = {
    "opentelemetry.instrumentation.dependencies": {"packaging.requirements": _Packaging},
    "wrapt.synchronization": {"asyncio": _Later("asyncio")},
}


def begin_stand_ins(module: ModuleType) -> None:
    """Before the code of a module in STAND_INS runs.

    Only that module's own import statements see the stand-ins, through its own `__builtins__`: no other import,
    in no thread, is touched.
    """
    import builtins
    import sys

    instead = {name: value for name, value in STAND_INS[module.__name__].items() if name not in sys.modules}

    def own_import(name: str, *args: Any, **kwargs: Any) -> Any:
        return instead[name] if name in instead else builtins.__import__(name, *args, **kwargs)

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": own_import}


def end_stand_ins(module: Any) -> None:
    """After it: the module gets its builtins back, and packaging as soon as one of its checks is called."""
    import builtins

    module.__dict__["__builtins__"] = vars(builtins)
    if getattr(module, "Requirement", None) is not _Packaging.Requirement:
        return
    for name in ("get_dependency_conflicts", "get_dist_dependency_conflicts"):
        original = getattr(module, name, None)
        if original is not None:
            setattr(module, name, _with_packaging(module, original))


def _with_packaging(module: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    from functools import wraps

    @wraps(original)
    def check(*args: Any, **kwargs: Any) -> Any:
        from packaging import requirements

        module.Requirement = requirements.Requirement
        module.InvalidRequirement = requirements.InvalidRequirement
        return original(*args, **kwargs)

    return check


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


def refresh_in_line() -> None:
    """Let the SDK's providers renew their resource after a fork in the child's own thread.

    They do so in a thread pool. Its module renews its lock after a fork in a hook of its own, and hooks run in the
    order of their registration: where it was imported after the provider was made, every child hangs on that lock.
    """
    import sys

    for name in (
        "opentelemetry.sdk.trace",
        "opentelemetry.sdk.metrics._internal",
        "opentelemetry.sdk._logs._internal",
    ):
        module = sys.modules.get(name)
        if hasattr(module, "_get_process_dependent_resource"):
            module._get_process_dependent_resource = _process_dependent_resource  # type: ignore[union-attr]


def _process_dependent_resource() -> Resource:
    from opentelemetry.sdk import resources

    result = resources.Resource.get_empty()
    with quiet_resources():  # a name that cannot be found was reported at the start
        detectors = resources._build_resource_detectors()
    for detector in detectors:
        if detector.is_process_dependent():
            result = result.merge(detector.detect())
    return result


def quiet_resources() -> AbstractContextManager[_Said]:
    """As `quiet_exporters`, for the resource detectors: the SDK logs a traceback for a name it cannot find."""
    return quiet_exporters(("opentelemetry.sdk.resources",))


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


def collect_last(reader: Any) -> None:
    """Let a PeriodicExportingMetricReader collect and export for the last time, now, in its own thread.

    Its `shutdown` alone would start that only when its turn in the exit comes.
    """
    event = getattr(reader, "_shutdown_event", None)
    if isinstance(event, threading.Event):
        event.set()


def shut_down_metrics(provider: Any, seconds: float) -> None:
    """Shut a MeterProvider down, unless the application did so: a second time it logs a warning."""
    if not getattr(provider, "_shutdown", False):
        provider.shutdown(timeout_millis=seconds * 1000)


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


def keep_console_logging(*, exported: bool) -> None:
    """Give an application without handlers of its own its warnings on stderr back.

    The logging instrumentor puts a handler on the root logger, and with any handler there `logging.lastResort` and
    the `basicConfig` of `logging.warning` are off. Where no log record is `exported`, the handler goes.
    """
    import logging

    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    handler = getattr(LoggingInstrumentor, "_logging_handler", None)
    if handler is None:
        return
    if not exported:
        logging.getLogger().removeHandler(handler)
        return
    emit = handler.emit

    def with_last_resort(record: LogRecord) -> None:
        emit(record)
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not _has_other_handler(record.name, handler):
            last.handle(record)

    handler.emit = with_last_resort


def _has_other_handler(name: str, handler: object) -> bool:
    logger: Any = getLogger(name)
    while logger is not None:
        if any(each is not handler for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


# --- a provider that somebody else built (declarative configuration) -----------------------------------------------


def without_exit_handler(provider: Any) -> None:
    """Take the provider's own exit handler away: spanwell shuts it down within one budget, it would wait 30 s."""
    import atexit

    handler = getattr(provider, "_atexit_handler", None)
    if handler is not None:
        atexit.unregister(handler)
        provider._atexit_handler = None


def add_first(provider: Any, processor: Any) -> None:
    """Add a span processor before the exporters' processors, so that they see what it wrote."""
    provider.add_span_processor(processor)
    multi = getattr(provider, "_active_span_processor", None)
    processors = getattr(multi, "_span_processors", ())
    if multi is not None and processors and processors[-1] is processor:
        multi._span_processors = (processor, *processors[:-1])


def shutdowns(provider: Any) -> Iterator[tuple[Callable[[], None], Callable[[float], None]]]:
    """(begin, finish) for every part of `provider` that exports: end the retries, then shut down in time."""
    for holder, name in (
        ("_active_span_processor", "_span_processors"),
        ("_multi_log_record_processor", "_log_record_processors"),
    ):
        for processor in getattr(getattr(provider, holder, None), name, ()):
            exporter = getattr(getattr(processor, "_batch_processor", None), "_exporter", None)
            yield _stopper(exporter), _batch_finisher(processor)
    readers = getattr(getattr(provider, "_sdk_config", None), "metric_readers", ())
    for reader in readers:
        yield _reader_beginner(reader), _reader_finisher(reader)


def _stopper(exporter: Any) -> Callable[[], None]:
    return lambda: stop_retries(exporter)


def _batch_finisher(processor: Any) -> Callable[[float], None]:
    return lambda seconds: shut_down_batch(processor, seconds)


def _reader_beginner(reader: Any) -> Callable[[], None]:
    def begin() -> None:
        stop_retries(getattr(reader, "_exporter", None))
        collect_last(reader)

    return begin


def _reader_finisher(reader: Any) -> Callable[[float], None]:
    return lambda seconds: reader.shutdown(timeout_millis=seconds * 1000)
