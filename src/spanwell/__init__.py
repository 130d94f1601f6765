"""spanwell: an OpenTelemetry distro for Python on AWS.

Importing this package imports nothing else: `spanwell run` and every plug-in start from here.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spanwell.enrich.annotations import annotate
    from spanwell.enrich.log_records import loguru_patcher, structlog_processor
    from spanwell.propagation.executors import carried
    from spanwell.propagation.polling import messages

__all__ = ["__version__", "annotate", "carried", "loguru_patcher", "messages", "structlog_processor"]

__version__ = "0.1.0"

# Public name -> the module that has it, imported when the name is first used.
_LATER = {
    "annotate": "spanwell.enrich.annotations",
    "carried": "spanwell.propagation.executors",
    "loguru_patcher": "spanwell.enrich.log_records",
    "messages": "spanwell.propagation.polling",
    "structlog_processor": "spanwell.enrich.log_records",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name):
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(module), name)
