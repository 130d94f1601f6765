"""CPU of one span's way to the bytes of an OTLP request: `encoding.py upstream|spanwell COUNT`.

Spans are made before the clock runs. Of "varied" ones every span comes once: three of its five attributes are new.
"""

import gc
import json
import sys
import time

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind

BATCH = 512


class Kept(SpanProcessor):
    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)


def made(shape, count):
    kept = Kept()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "host.name": "a"}), shutdown_on_exit=False)
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("bench", "1.0")
    for n in range(count):
        number = n if shape == "varied" else 7
        attributes = {
            "http.request.method": "GET",
            "url.path": f"/orders/{number}",
            "user.id": f"user-{number * 7919}",
            "http.response.status_code": 200,
            "size": 1000 + number,
        }
        with tracer.start_as_current_span("GET /orders", kind=SpanKind.SERVER, attributes=attributes) as span:
            if shape == "events":
                span.add_event("cache miss", {"key": "orders", "tries": 2})
    return kept.spans


def encoder(who):
    if who == "upstream":
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        return lambda spans: encode_spans(spans).SerializeToString()
    from spanwell.export.otlp_protobuf import encode_span, request

    return lambda spans: request([(span.resource, span.instrumentation_scope, encode_span(span)) for span in spans])


def main(who, count):
    encode = encoder(who)
    found = {}
    for shape in ("repeated", "varied", "events"):
        batches = [made(shape, BATCH) for _ in range(2)] if shape != "varied" else []
        if shape == "varied":
            spans = made(shape, count)
            batches = [spans[at : at + BATCH] for at in range(0, count, BATCH)]
        for batch in batches[:1]:
            encode(batch)
        times = []
        gc.collect()
        for turn in range(max(len(batches) - 1, count // BATCH)):
            batch = batches[1 + turn % (len(batches) - 1)]
            begin = time.thread_time()
            encode(batch)
            times.append((time.thread_time() - begin) / len(batch))
        found[shape] = sorted(times)[len(times) // 2]
    print(json.dumps(found))


main(sys.argv[1], int(sys.argv[2]))
