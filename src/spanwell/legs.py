"""What spanwell adds to the instrumentors: before the first of them, and once one is active."""

from __future__ import annotations

import os

from spanwell.exit import end_process
from spanwell.lazy import Instrumentors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwell.settings import Settings


def make_instrumentors(settings: Settings) -> Instrumentors:
    """The instrumentors as `settings` want them; the semantic conventions are chosen before the first is applied."""
    _choose_semantic_conventions(settings)
    return Instrumentors(
        lazy=settings.lazy_instrumentation,
        disabled=settings.disabled_instrumentations,
        unneeded=unneeded_instrumentors(settings),
        after=after_instrumentors(settings),
    )


def after_instrumentors(settings: Settings) -> dict[str, Callable[[], None]]:
    """Instrumentor name -> what to do next.

    With botocore comes the context in SQS messages; with logging the application's own output is put right; with
    celery its worker processes, which end with os._exit, export before they do.
    """

    def messages() -> None:
        if settings.sqs_context or settings.sqs_process_spans:
            from spanwell.propagation import botocore_hooks

            botocore_hooks.install(send=settings.sqs_context, process=settings.sqs_process_spans)

    def logs() -> None:
        from spanwell._otel import sdk

        sdk.keep_console_logging(exported=any(name != "none" for name in settings.logs_exporter))

    def workers() -> None:
        from celery.signals import worker_process_shutdown

        worker_process_shutdown.connect(lambda **_: end_process(), weak=False)

    return {"botocore": messages, "aiobotocore": messages, "logging": logs, "celery": workers}


def unneeded_instrumentors(settings: Settings) -> dict[str, str]:
    """Instrumentor name -> why it would do nothing here: logging's, with no log record exported or marked.

    It replaces the record factory of every log call and imports 4 ms of handlers.
    """
    if settings.log_correlation or settings.config_file or any(name != "none" for name in settings.logs_exporter):
        return {}
    return {"logging": "not needed: OTEL_LOGS_EXPORTER=none"}


def _choose_semantic_conventions(settings: Settings) -> None:
    """The stable conventions, unless the user chose. Instrumentors read the variable at the first `instrument`."""
    if not settings.chosen(type(settings).semconv_opt_in):
        os.environ[type(settings).semconv_opt_in.variable] = settings.semconv_opt_in
