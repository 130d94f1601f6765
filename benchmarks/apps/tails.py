"""`tails.py always|tail COUNT`: CPU of a span in a trace of five spans, and the memory that endless traces hold."""

import json
import os
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import SpanKind

ATTRIBUTES = {
    "http.request.method": "GET",
    "url.path": "/orders/7",
    "url.scheme": "https",
    "server.address": "shop.example.com",
    "server.port": 443,
    "network.protocol.version": "1.1",
    "user_agent.original": "bench/1.0",
}
ENDLESS = 1000
SPANS = 60


class Nothing(SpanProcessor):
    """What every provider has at least: one processor."""


def provider(name):
    if name == "always":
        made = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
        made.add_span_processor(Nothing())
        return made
    from spanwell.enrich.processor import FusedProcessor
    from spanwell.sampling.build import Making, make
    from spanwell.sampling.parentbased import Surroundings

    sampler = make("tail", "", Making(print))
    around = Surroundings(dict, lambda span: None)
    sampler.connect(around)
    made = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    made.add_span_processor(FusedProcessor(around.stages))
    return made


def five(tracer):
    with tracer.start_as_current_span("GET /orders/{id}", kind=SpanKind.SERVER, attributes=ATTRIBUTES):
        for _ in range(4):
            with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=ATTRIBUTES):
                pass


def cpu(tracer, count):
    """Seconds of CPU a span; the median of five blocks."""
    blocks = []
    for _ in range(5):
        begin = time.process_time()
        for _ in range(count // 25):
            five(tracer)
        blocks.append((time.process_time() - begin) / (count // 25 * 5))
    return sorted(blocks)[2]


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held(tracer):
    """Bytes that 1,000 roots without an end, and all that ends within them, leave resident."""
    before = resident()
    roots = [tracer.start_span("root", attributes=ATTRIBUTES) for _ in range(ENDLESS)]
    contexts = [trace.set_span_in_context(root) for root in roots]
    for number in range(SPANS):
        for context in contexts:
            tracer.start_span(f"GET {number}", context, SpanKind.CLIENT, {**ATTRIBUTES, "n": number}).end()
    return resident() - before


def main(name, count):
    tracer = provider(name).get_tracer("bench")
    cpu(tracer, count // 5)
    print(json.dumps({"span": cpu(tracer, count), "held": held(tracer)}))


main(sys.argv[1], int(sys.argv[2]))
