"""`insights.py batch|insights COUNT`: CPU of a SERVER+CLIENT pair with a no-op exporter, and of a span in short and
in long traces; what live traces hold. `insights`: all detectors and RED metrics, nothing else of ours before them.
"""

import json
import os
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

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
QUERY = {"db.system.name": "postgresql", "db.query.text": "SELECT 1", "server.address": "db"}
LIVE = 10_000


class Nowhere(SpanExporter):
    """Takes everything at no cost."""

    def export(self, spans):
        return SpanExportResult.SUCCESS


def provider(name):
    made = TracerProvider(shutdown_on_exit=False)
    if name == "batch":
        made.add_span_processor(BatchSpanProcessor(Nowhere()))
        return made
    from spanwell.enrich.processor import MeasuredProcessor
    from spanwell.export.batch import BatchProcessor
    from spanwell.export.guarded import GuardedExporter
    from spanwell.insights.buffer import Buffer
    from spanwell.insights.drift import Drift
    from spanwell.insights.loading import load
    from spanwell.insights.red import Red
    from spanwell.insights.stage import Insights

    red, loaded = Red(), load(report=print)
    looks = Insights(
        loaded,
        tell=[lambda insight, fingerprint, context: red.insight(insight.type, insight.severity)],
        over_time=lambda: [Drift(loaded.thresholds)],
    )
    last = [BatchProcessor(GuardedExporter("nowhere", Nowhere))]
    made.add_span_processor(MeasuredProcessor([Buffer(lambda: looks, every=red.spans)], last))
    return made


def pair(tracer):
    with tracer.start_as_current_span("GET /orders/<ident>", kind=SpanKind.SERVER, attributes=SERVER) as server:
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=CLIENT) as client:
            client.set_attribute("http.response.status_code", 200)
        server.set_attribute("http.response.status_code", 200)


def cpu(tracer, count):
    """Seconds of CPU a pair, all threads; the median of nine blocks."""
    blocks = []
    for _ in range(9):
        begin = time.process_time()
        for _ in range(count // 9):
            pair(tracer)
        blocks.append((time.process_time() - begin) / (count // 9))
    return sorted(blocks)[4]


def long(tracer, length):
    """Seconds of CPU a span of traces of `length` spans: queries one after another, which detectors look at."""
    times = []
    for _ in range(max(3, 3_000 // length)):
        begin = time.process_time()
        with tracer.start_as_current_span("import", kind=SpanKind.SERVER):
            for _ in range(length - 1):
                with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT, attributes=QUERY):
                    pass
        times.append((time.process_time() - begin) / length)
    return sorted(times)[len(times) // 2]


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held(tracer):
    """Bytes that 10,000 local roots under way hold with five ended spans each, the roots' own span objects aside."""
    roots = [tracer.start_span("GET /", attributes=SERVER, kind=SpanKind.SERVER) for _ in range(LIVE)]
    contexts = [trace.set_span_in_context(root) for root in roots]
    before = resident()
    for number in range(5):
        for context in contexts:
            tracer.start_span("GET", context, SpanKind.CLIENT, {**CLIENT, "n": number}).end()
    return resident() - before


def main(name, count):
    made = provider(name)
    tracer = made.get_tracer("bench")
    cpu(tracer, count // 4)
    found = cpu(tracer, count)
    answer = {"span": found / 2, "pair": found, "short": long(tracer, 100), "long": long(tracer, 10_000)}
    made.force_flush()
    print(json.dumps({**answer, "held": held(tracer)}))


main(sys.argv[1], int(sys.argv[2]))
