"""What spanwell adds to the instrumentors: before the first of them, and once one is active."""

from __future__ import annotations

import os

from spanwell.exit import end_process
from spanwell.lazy import Instrumentors
from spanwell.where import follows_invocations, handler_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spanwell.settings import Settings


def make_instrumentors(settings: Settings) -> Instrumentors:
    """The instrumentors as `settings` want them; the semantic conventions are chosen before the first is applied."""
    _choose_semantic_conventions(settings)
    return Instrumentors(
        lazy=settings.lazy_instrumentation,
        disabled=settings.disabled_instrumentations,
        unneeded=unneeded_instrumentors(settings),
        after=after_instrumentors(settings),
        options=instrumentor_options(settings),
        handler="" if follows_invocations() else handler_module(os.environ),
        # Most functions start no thread, and to wrap them takes a third of what the SDK takes.
        later={"threading": ("threading", "Thread.start")} if follows_invocations() else None,
    )


def instrumentor_options(settings: Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """Instrumentor name -> the arguments of its `instrument()`: whether a read of a cache found anything, and where
    the parent of a Lambda invocation comes from."""

    def redis() -> dict[str, Any]:
        from spanwell.enrich.cache_hits import redis_options

        return redis_options()

    def pymemcache() -> dict[str, Any]:
        from spanwell.enrich.cache_hits import pymemcache_options

        return pymemcache_options()

    def aws_lambda() -> dict[str, Any]:
        from spanwell.exporters import to_xray
        from spanwell.propagation.lambda_events import EventContext, Meters

        return {"event_context_extractor": EventContext(to_xray=to_xray(settings)), "meter_provider": Meters()}

    return {"redis": redis, "pymemcache": pymemcache, "aws-lambda": aws_lambda}


def after_instrumentors(settings: Settings) -> dict[str, Callable[[], None]]:
    """Instrumentor name -> what to do next.

    With botocore comes the context in messages and AWS calls; with logging the application's own output is put
    right; with celery its worker processes, which end with os._exit, export before they do.
    """

    def messages() -> None:
        from spanwell.propagation import botocore_hooks

        botocore_hooks.install(
            send=settings.sqs_context, process=settings.sqs_process_spans, context=settings.message_context
        )

    def botocore() -> None:
        from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

        from spanwell.enrich import aws_hooks

        instrumentor: Callable[[], object] = BotocoreInstrumentor
        aws_hooks.join(instrumentor())
        messages()

    def aiobotocore() -> None:
        from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor

        from spanwell.enrich import aws_hooks

        instrumentor: Callable[[], object] = AiobotocoreInstrumentor
        aws_hooks.join(instrumentor())
        messages()

    def logs() -> None:
        from spanwell._otel import sdk

        sdk.keep_console_logging(exported=any(name != "none" for name in settings.logs_exporter))

    def workers() -> None:
        from celery.signals import worker_process_shutdown

        worker_process_shutdown.connect(lambda **_: end_process(), weak=False)

    return {"botocore": botocore, "aiobotocore": aiobotocore, "logging": logs, "celery": workers}


def unneeded_instrumentors(settings: Settings) -> dict[str, str]:
    """Instrumentor name -> why it would do nothing here: logging's, with no log record exported or marked, and
    aws-lambda's, where our own wrapper makes the span of an invocation.

    Logging's replaces the record factory of every log call and imports 4 ms of handlers.
    """
    found = {"aws-lambda": "not needed: spanwell traces the invocations"} if follows_invocations() else {}
    marked = settings.log_correlation or settings.config_file
    if not marked and all(name == "none" for name in settings.logs_exporter):
        found["logging"] = "not needed: OTEL_LOGS_EXPORTER=none"
    return found


def _choose_semantic_conventions(settings: Settings) -> None:
    """The stable conventions, unless the user chose. Instrumentors read the variable at the first `instrument`."""
    if not settings.chosen(type(settings).semconv_opt_in):
        os.environ[type(settings).semconv_opt_in.variable] = settings.semconv_opt_in
