"""Our samplers under another configurator: at the first decision they find the provider, and what exports there."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from functools import partial

from spanwell._guard import guard, warn_once
from spanwell._otel import api, sdk, spans
from spanwell.enrich.processor import FusedProcessor
from spanwell.sampling.parentbased import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.sampling.parentbased import RootSampler

    Promote = Callable[[ReadableSpan], None]

TRIES = 1000
"""Decisions at which the provider is looked for."""

EXIT = 0.3
"""Seconds that a sampler gets at exit for what it still has to send."""

_connected: weakref.WeakSet[RootSampler] = weakref.WeakSet()
_lock = threading.Lock()


def to_global_provider(sampler: RootSampler) -> None:
    """Connect `sampler` to the SDK's global provider: its resource, its exporters, its spans, its end.

    The samplers' `first_use`. Until there is a provider with an exporter it is tried again at the next decisions;
    after `TRIES` of them the sampler learns that there is none.
    """
    _try(TRIES, sampler)


def promoter(provider: Any) -> Promote | None:
    """Exports an ended unsampled span through the exporters of `provider`; None where it has none that we know.

    Our batch processors take the span as it is. The SDK's let only sampled spans pass: they get a copy that says so.
    """
    if not _takers(provider):
        return None

    def promote(span: ReadableSpan) -> None:
        for take in _takers(provider):
            take(span)

    return promote


def _try(left: int, sampler: RootSampler) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    provider = api.current_provider("traces")
    ready = isinstance(provider, TracerProvider)
    promote = promoter(provider) if ready else None
    if promote is None and left > 0:
        warn_once(
            "attach",
            "spanwell: the sampler %s finds no OpenTelemetry SDK provider with an exporter; until there is one it "
            "knows no resource, and keeps nothing for how it ends",
            sampler.get_description(),
        )
        sampler.first_use = partial(_try, left - 1)
        return
    with _lock:
        if sampler in _connected:  # by another thread
            return
        _connected.add(sampler)
    _connect(sampler, provider if ready else None, promote)


def _connect(sampler: RootSampler, provider: Any, promote: Promote | None) -> None:
    edits = provider is not None and sdk.keeps_order(provider)
    around = Surroundings(lambda: {} if provider is None else provider.resource.attributes, promote, edits=edits)
    sampler.connect(around)
    if around.stages and provider is not None:
        sdk.add_first(provider, FusedProcessor(around.stages))
    atexit.register(_end, weakref.ref(sampler))


def _takers(provider: Any) -> list[Promote]:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    found: list[Promote] = []
    for each in sdk.span_processors(provider):
        ours = getattr(each, "promote", None)
        if ours is not None:
            found.append(ours)
        elif isinstance(each, (BatchSpanProcessor, SimpleSpanProcessor)):
            found.append(partial(_hand_over, each))
    return found


def _hand_over(processor: Any, span: ReadableSpan) -> None:
    processor.on_end(spans.sampled_copy(span))


def _end(reference: weakref.ref[RootSampler]) -> None:
    sampler = reference()
    if sampler is not None:
        with guard("sampler at exit"):
            sampler.begin_shutdown()
            sampler.finish(EXIT)


def _renew() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
