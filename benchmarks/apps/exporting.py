"""CPU of a span from its end to the receiver: `exporting.py upstream|spanwell COUNT`.

COUNT spans of an HTTP server, an HTTP client, SQL and DynamoDB are made before the clock runs and exported 512 at a
time, over loopback, to a receiver in another process; what is timed is the CPU of the whole process. `repeated`: the
same values in every span but ids and times; `varied`: new ones.
"""

import gc
import json
import os
import sys
import time
from copy import copy

from enrichment import shapes
from receiving import Receiver

BATCH = 512


def upstream(url):
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(url + "/v1/traces")


def spanwell(url):
    from spanwell.exporters import trace_exporters
    from spanwell.settings import Settings

    ((_, build),) = trace_exporters(Settings.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": url}))
    return build()


def made(values, count):
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bench", "1.0")
    spans = []
    for number in range(count // 4):
        for name, kind, attributes in shapes(7 if values == "repeated" else number):
            span = tracer.start_span(name, kind=kind, attributes=attributes)
            span.end()
            spans.append(span._readable_span())
    return spans


def timed(exporter, spans):
    blocks = []
    for block in range(5):
        part = [copy(span) for span in spans[block * len(spans) // 5 : (block + 1) * len(spans) // 5]]
        gc.collect()
        begin = time.process_time()
        for start in range(0, len(part), BATCH):
            assert exporter.export(part[start : start + BATCH]).name == "SUCCESS"
        blocks.append((time.process_time() - begin) / len(part))
    return sorted(blocks)[2]


def main(who, count):
    with Receiver(0) as receiver:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        exporter = {"upstream": upstream, "spanwell": spanwell}[who](receiver.url)
        answer = {}
        for values in ("repeated", "varied"):
            spans = made(values, count)
            exporter.export(spans[:BATCH])
            answer[values] = timed(exporter, spans)
        assert receiver.spans() == 2 * (count // 4 * 4 + BATCH), "spans are missing"
        exporter.shutdown()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
