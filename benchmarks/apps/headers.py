"""CPU of injecting and extracting the context of one message: `headers.py upstream|spanwell COUNT`."""

import json
import sys
import time

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

TRACE = 0x6913E4F1_ABCDEF0123456789_ABCDEF01
CARRIER = {
    "traceparent": "00-6913e4f1abcdef0123456789abcdef01-0123456789abcdef-01",
    "tracestate": "xrsr=21111e1cbfe6e8fc",
    "x-amzn-trace-id": "Root=1-6913e4f1-abcdef0123456789abcdef01;Parent=0123456789abcdef;Sampled=1",
}


def propagator(name):
    if name == "upstream":
        from opentelemetry.propagators.aws import AwsXRayPropagator
        from opentelemetry.propagators.composite import CompositePropagator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        return CompositePropagator([TraceContextTextMapPropagator(), AwsXRayPropagator()])
    from spanwell.propagators import set_propagators
    from spanwell.settings import Settings

    set_propagators(Settings.from_env({"OTEL_PROPAGATORS": "tracecontext,xray"}))
    return propagate.get_global_textmap()


def cpu(work, count):
    """Seconds of CPU of one call; the median of five blocks."""
    blocks = []
    for _ in range(5):
        begin = time.thread_time()
        for _ in range(count // 5):
            work()
        blocks.append((time.thread_time() - begin) / (count // 5))
    return sorted(blocks)[2]


def main(name, count):
    made = propagator(name)
    empty = Context()
    context = set_span_in_context(
        NonRecordingSpan(SpanContext(TRACE, 7, False, TraceFlags(1), TraceState([("xrsr", "21111e1cbfe6e8fc")]))),
        empty,
    )
    header = {"X-Amzn-Trace-Id" if name == "upstream" else "x-amzn-trace-id": CARRIER["x-amzn-trace-id"]}
    carrier = {**{key: CARRIER[key] for key in ("traceparent", "tracestate")}, **header}
    work = {
        "inject": lambda: made.inject({}, context),
        "extract": lambda: made.extract(carrier, empty),
    }
    for each in work.values():
        cpu(each, count // 10)
    print(json.dumps({metric: cpu(each, count) for metric, each in work.items()}))


main(sys.argv[1], int(sys.argv[2]))
