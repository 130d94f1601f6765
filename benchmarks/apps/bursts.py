"""Spans in a tight loop, or at a steady rate, against a receiver that answers after up to 50 ms.

`bursts.py sdk|spanwell COUNT` ends COUNT spans as fast as it can; `bursts.py sdk-steady|spanwell-steady SECONDS` ends
20,000 a second. Prints how many of them did not arrive, counted by the receiver; how many of those nobody counted;
the CPU and the time of a span in the loop, all threads; and what memory the process had more at its peak.
"""

import json
import logging
import os
import resource
import sys
import time

from receiving import Receiver

RATE = 20_000
TICK = 0.01
DRAIN = 60.0


def values(number):
    return {
        "http.request.method": "GET",
        "server.address": "orders.example",
        "server.port": 443,
        "url.scheme": "https",
        "url.path": f"/orders/{number}",
        "http.route": "/orders/<ident>",
        "http.response.status_code": 200,
    }


def sdk(url):
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(url + "/v1/traces")), lambda: None


def spanwell(url):
    from spanwell._guard import losses
    from spanwell.configurator import Wiring
    from spanwell.pipeline import batches
    from spanwell.settings import Settings

    chosen = {name: value for name, value in os.environ.items() if name.startswith(("SPANWELL_", "OTEL_"))}
    settings = Settings.from_env({**chosen, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_EXPORTER": "otlp"})
    (batch,) = batches(settings, Wiring(settings))
    return batch, lambda: losses.total("spans")


def burst(tracer, count):
    for number in range(count):
        tracer.start_span("GET", attributes=values(number)).end()


def steady(tracer, count):
    begin = time.monotonic()
    done = 0
    while done < count:
        due = min(count, int((time.monotonic() - begin + TICK) * RATE))
        burst(tracer, due - done)
        done = due
        time.sleep(max(0.0, begin + due / RATE - time.monotonic()))


def peak():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024)


def main(who, amount):
    from opentelemetry.sdk.trace import TracerProvider

    make, paced = (sdk if who.startswith("sdk") else spanwell), who.endswith("-steady")
    count = amount * RATE if paced else amount
    logging.disable()
    with Receiver(50) as receiver:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        processor, counted = make(receiver.url)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("bench")
        before, cpu, begin = peak(), time.process_time(), time.monotonic()
        (steady if paced else burst)(tracer, count)
        took = time.monotonic() - begin
        processor.force_flush(int(DRAIN * 1000))
        cpu, arrived, known = time.process_time() - cpu, receiver.spans(), counted()
        print(
            json.dumps(
                {
                    "lost": count - arrived,
                    **({} if known is None else {"uncounted": count - arrived - known}),
                    "cpu": cpu / count,
                    "wall": took / count,
                    "held": peak() - before,
                }
            )
        )
        processor.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
