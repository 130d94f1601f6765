"""CPU of a span and of a SERVER+CLIENT pair: `spans.py PIPELINE COUNT`.

PIPELINE: `api` (no SDK), `sdk` (no processor), `batch` (BatchSpanProcessor), `configured` (the distro and the
configurator of this environment, as auto-instrumentation runs them). Two figures go to an exporter that does
nothing; `pair_exported` to the real one, each batch flushed before the queue can overflow.
"""

import json
import os
import sys
import time

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

START = {
    "http.request.method": "GET",
    "server.address": "orders.example",
    "server.port": 443,
    "network.protocol.version": "1.1",
    "url.scheme": "https",
}
SERVER = {
    **START,
    "url.path": "/orders/7",
    "http.route": "/orders/<ident>",
    "user_agent.original": "bench/1.0",
    "client.address": "127.0.0.1",
}
CLIENT = {**START, "url.full": "https://orders.example/price"}
SPANS_A_FLUSH = 400


class Nowhere:
    """An exporter that takes everything at no cost."""

    def export(self, spans):
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.SUCCESS

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30000):
        return True


def one(tracer):
    with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=START):
        pass


def pair(tracer):
    with tracer.start_as_current_span("GET /orders/<ident>", kind=SpanKind.SERVER, attributes=SERVER) as server:
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=CLIENT) as client:
            client.set_attribute("http.response.status_code", 200)
            client.set_status(Status(StatusCode.UNSET))
        server.set_attribute("http.response.status_code", 200)


def cpu(function, tracer, count):
    """Seconds of CPU, all threads, for one call; the median of five blocks."""
    blocks = []
    for _ in range(5):
        begin = time.process_time()
        for _ in range(count // 5):
            function(tracer)
        blocks.append((time.process_time() - begin) / (count // 5))
    return sorted(blocks)[2]


def exported(tracer, provider, count):
    """Seconds of CPU for one pair with its way to the collector."""
    provider.force_flush()
    begin = time.process_time()
    for _ in range(count // SPANS_A_FLUSH):
        for _ in range(SPANS_A_FLUSH // 2):
            pair(tracer)
        provider.force_flush()
    return (time.process_time() - begin) / (count // SPANS_A_FLUSH * SPANS_A_FLUSH // 2)


def sdk_provider(processor):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    if processor == "batch":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def configured_provider():
    from opentelemetry.instrumentation.auto_instrumentation import _load

    _load._load_distro().configure()
    _load._load_configurators()


def silence(holder, depth=0, seen=None):
    """Put `Nowhere` in the place of every exporter below `holder`; how many were replaced."""
    seen = set() if seen is None else seen
    if depth > 6 or id(holder) in seen:
        return 0
    seen.add(id(holder))
    found = 0
    for name in [*getattr(holder, "__dict__", ()), *getattr(type(holder), "__slots__", ())]:
        value = getattr(holder, name, None)
        if name.lstrip("_") in ("exporter", "span_exporter") and hasattr(value, "export"):
            setattr(holder, name, Nowhere())
            if hasattr(holder, "encode"):  # ours would go on encoding for the one that is gone
                holder.encode = None
            found += 1
        else:
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if type(part).__module__.split(".")[0] in ("opentelemetry", "amazon", "spanwell"):
                    found += silence(part, depth + 1, seen)
    return found


def main(pipeline, count):
    if pipeline == "configured":
        configured_provider()
    elif pipeline != "api":
        sdk_provider(pipeline)
    provider, tracer = trace.get_tracer_provider(), trace.get_tracer("bench")
    answer = {}
    one(tracer)
    if pipeline in ("batch", "configured"):
        answer["pair_exported"] = exported(tracer, provider, count // 2)
        provider.force_flush()
        # With sampling off nothing was exported, and an exporter of ours is not even made.
        assert silence(provider) or os.environ.get("OTEL_TRACES_SAMPLER") == "always_off", "no exporter to replace"
    for _ in range(500):
        pair(tracer)
    answer["span"] = cpu(one, tracer, count)
    answer["pair"] = cpu(pair, tracer, count // 2)
    print(json.dumps(answer))


main(sys.argv[1], int(sys.argv[2]))
